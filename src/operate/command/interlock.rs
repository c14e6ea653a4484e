//! PURE. Whether the state of a device allows a command now.

use super::field::Latest;
use super::orders::Order;
use crate::model::Template;
use crate::model::control::{Condition, Interlock};

/// Checks every interlock that guards one of the points or the service. `latest` gives the last value of a measurement
/// point by its id; `now` is in milliseconds since 1970.
///
/// # Errors
/// Which interlock holds the command back and why.
pub(super) fn check(
    template: &Template,
    orders: &[Order],
    service: Option<&str>,
    now: i64,
    latest: impl Fn(&str) -> Option<Latest>,
) -> Result<(), String> {
    for interlock in &template.commands.interlocks {
        if guards(interlock, orders, service) {
            allows(template, interlock, now, &latest).map_err(|why| match &interlock.message {
                Some(message) => format!("{message} ({why})"),
                None => why,
            })?;
        }
    }
    Ok(())
}

fn guards(interlock: &Interlock, orders: &[Order], service: Option<&str>) -> bool {
    let all = interlock.points.is_empty() && interlock.services.is_empty();
    all || orders.iter().any(|order| interlock.points.contains(&order.measurepoint))
        || service.is_some_and(|service| interlock.services.iter().any(|guarded| guarded == service))
}

fn allows(
    template: &Template,
    interlock: &Interlock,
    now: i64,
    latest: &impl Fn(&str) -> Option<Latest>,
) -> Result<(), String> {
    for condition in &interlock.only_when {
        let (holds, words) = state(template, condition, now, latest)?;
        if !holds {
            return Err(format!("allowed only while {words}"));
        }
    }
    let mut forbidding = Vec::new();
    for condition in &interlock.never_when {
        let (holds, words) = state(template, condition, now, latest)?;
        if !holds {
            return Ok(());
        }
        forbidding.push(words);
    }
    if forbidding.is_empty() { Ok(()) } else { Err(format!("not allowed while {}", forbidding.join(" and "))) }
}

/// Whether the condition holds, and its words. What is not known is an error: it holds back.
fn state(
    template: &Template,
    condition: &Condition,
    now: i64,
    latest: &impl Fn(&str) -> Option<Latest>,
) -> Result<(bool, String), String> {
    let id = template.model.measurepoints.get(condition.measurepoint as usize).map_or("?", |point| point.id.as_str());
    let Some(latest) = latest(id) else {
        return Err(format!("the state of {id} is not known"));
    };
    let Some(value) = &latest.value else {
        return Err(format!("the state of {id} is not known: {}", latest.why));
    };
    if let Some(max_age) = condition.max_age {
        let age = now.saturating_sub(latest.time);
        if age > i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX) {
            return Err(format!("the state of {id} is {} s old", age / 1000));
        }
    }
    let words = format!("{id} {} {}", condition.operator.word(), condition.value);
    match condition.value.holds(condition.operator, value) {
        Some(holds) => Ok((holds, format!("{words}; it is {value}"))),
        None => Err(format!("{id} is {value}, which can not be compared with {}", condition.value)),
    }
}
