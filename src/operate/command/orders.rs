//! PURE. What a command asks for, checked against the model before anything is done: which writes, which reads.

use crate::model::command::code;
use crate::model::control::{ServicePlan, StepValue};
use crate::model::{Measurepoint, Outcome, Template, Value, accept};
use serde_json::{Map, Value as Json};

/// Points of one command; a caller with more has several.
const MOST_POINTS: usize = 500;

/// A value for a measurement point of the model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Order {
    pub measurepoint: u32,
    pub id: String,
    pub value: Value,
}

/// What a service shall do and tell.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ServiceOrders {
    pub orders: Vec<Order>,
    pub outputs: Vec<(String, u32)>,
}

/// The writes of a `set`, in the order of the command.
///
/// # Errors
/// The answer, which names every fault.
pub(super) fn set(template: &Template, points: &Map<String, Json>) -> Result<Vec<Order>, Outcome> {
    sensible(points.len())?;
    let mut orders = Vec::with_capacity(points.len());
    let mut faults = Vec::new();
    for (id, value) in points {
        match order(template, id, value) {
            Ok(order) => orders.push(order),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(orders) } else { Err(refused(faults)) }
}

fn sensible(points: usize) -> Result<(), Outcome> {
    match points {
        0 => Err(Outcome::refused(code::MALFORMED, "the command names no measurement point")),
        1..=MOST_POINTS => Ok(()),
        more => {
            Err(Outcome::refused(code::MALFORMED, format!("{more} measurement points are more than {MOST_POINTS}")))
        }
    }
}

/// The first fault's code, and the words of all.
fn refused(faults: Vec<(i64, String)>) -> Outcome {
    let code = faults.first().map_or(code::MALFORMED, |(code, _)| *code);
    let words: Vec<String> = faults.into_iter().map(|(_, words)| words).collect();
    Outcome::refused(code, words.join("; "))
}

/// A measurement point by its id.
pub(super) fn find<'t>(template: &'t Template, id: &str) -> Result<(u32, &'t Measurepoint), (i64, String)> {
    let points = &template.model.measurepoints;
    let known = (0u32..).zip(points).find(|(_, point)| point.id == id);
    known.ok_or_else(|| {
        let short: String = id.chars().take(64).collect();
        (code::UNKNOWN_POINT, format!("model {} has no measurement point \"{short}\"", template.model.id))
    })
}

fn order(template: &Template, id: &str, value: &Json) -> Result<Order, (i64, String)> {
    let (measurepoint, point) = find(template, id)?;
    let limits = template.commands.limits(measurepoint).cloned().unwrap_or_default();
    let mapped = template.controls.iter().any(|control| control.measurepoint == measurepoint);
    if limits.writable == Some(false) || !mapped {
        return Err((code::NOT_WRITABLE, format!("measurement point \"{id}\" can not be written")));
    }
    match accept::accept(Some(point.data_type), &limits, value) {
        Ok(value) => Ok(Order { measurepoint, id: id.to_owned(), value }),
        Err(why) => Err((code::OUT_OF_RANGE, format!("{id}: {why}"))),
    }
}

/// The measurement points of a `get`.
///
/// # Errors
/// The answer, which names every fault.
pub(super) fn get(template: &Template, ids: &[String]) -> Result<Vec<(String, u32)>, Outcome> {
    sensible(ids.len())?;
    let mut wanted: Vec<(String, u32)> = Vec::with_capacity(ids.len());
    let mut faults = Vec::new();
    for id in ids {
        match find(template, id) {
            Ok((measurepoint, _)) if wanted.iter().any(|(_, known)| *known == measurepoint) => {}
            Ok((measurepoint, _)) => wanted.push((id.clone(), measurepoint)),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(wanted) } else { Err(refused(faults)) }
}

/// What a service of the model does on devices of this template.
///
/// # Errors
/// The answer: the service is not known, or an input does not fit.
pub(super) fn service(template: &Template, id: &str, input: &Map<String, Json>) -> Result<ServiceOrders, Outcome> {
    let plan = template.commands.services.iter().find(|plan| plan.id == id).ok_or_else(|| {
        let short: String = id.chars().take(64).collect();
        let words = format!("template {} does not say what service \"{short}\" does", template.name);
        Outcome::refused(code::NOT_IMPLEMENTED, words)
    })?;
    let mut faults = Vec::new();
    for name in input.keys().filter(|name| !plan.inputs.iter().any(|known| known.id == **name)) {
        let short: String = name.chars().take(64).collect();
        faults.push((code::MALFORMED, format!("service {id} has no input \"{short}\"")));
    }
    for known in &plan.inputs {
        match input.get(&known.id) {
            None if !known.optional => faults.push((code::MALFORMED, format!("input \"{}\" is missing", known.id))),
            None => {}
            Some(value) => {
                if let Err(why) = accept::accept(known.data_type, &known.limits, value) {
                    faults.push((code::OUT_OF_RANGE, format!("{}: {why}", known.id)));
                }
            }
        }
    }
    if !faults.is_empty() {
        return Err(refused(faults));
    }
    steps(template, plan, input)
}

fn steps(template: &Template, plan: &ServicePlan, input: &Map<String, Json>) -> Result<ServiceOrders, Outcome> {
    let mut orders = Vec::with_capacity(plan.steps.len());
    let mut faults = Vec::new();
    for step in &plan.steps {
        let value = match &step.value {
            StepValue::Constant(constant) => constant.to_json(),
            StepValue::Input(name) => match input.get(name) {
                Some(value) => value.clone(),
                None => continue,
            },
        };
        let Some(point) = template.model.measurepoints.get(step.measurepoint as usize) else { continue };
        match order(template, &point.id, &value) {
            Ok(order) => orders.push(order),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(ServiceOrders { orders, outputs: plan.outputs.clone() }) } else { Err(refused(faults)) }
}
