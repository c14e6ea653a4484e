//! PURE. Which event rules watch which devices, with the devices' own limits.

use super::assets::{AssetKind, Device};
use super::check::cross::Templates;
use super::fields::Faults;
use super::models::Models;
use super::texts::Texts;
use crate::diagnostic::Diagnostic;
use crate::model::event_rule::{EventPlan, EventRule, Limit, Scope, Threshold, Watched};
use serde_json::Value as Json;
use std::collections::HashMap;

/// Deeper trees are loops.
const DEEPEST: usize = 64;

/// Plans the rules of a package without errors.
pub(super) fn plan(
    rules: &[EventRule],
    texts: &Texts,
    templates: &Templates,
    models: &Models,
    faults: &mut Faults,
) -> EventPlan {
    let mut plan = EventPlan { rules: rules.to_vec(), ..EventPlan::default() };
    if rules.iter().all(|rule| !rule.enabled) {
        return plan;
    }
    let parents: HashMap<&str, Option<&str>> = texts
        .assets
        .sites
        .iter()
        .map(|site| (site.id.text.as_str(), site.parent.as_ref().map(|parent| parent.text.as_str())))
        .collect();
    let numbered: Vec<(u32, &EventRule)> = (0..).zip(rules).collect();
    for (at, device) in (0u32..).zip(&texts.assets.devices) {
        let template = device.template.as_ref().and_then(|name| templates.get(&name.text));
        let Some(model) = template.and_then(|template| models.get(&template.model.id)?.as_ref()) else { continue };
        let path = path(device, &parents);
        let for_it = |rule: &&(u32, &EventRule)| {
            rule.1.enabled && model.lineage.contains(&rule.1.model) && is_in(&rule.1.scope, &path)
        };
        let watched: Vec<Watched> =
            numbered.iter().filter(for_it).filter_map(|(number, rule)| watch(*number, rule, device, faults)).collect();
        if !watched.is_empty() {
            plan.sites.insert(at, path.into_iter().map(str::to_owned).collect());
            plan.watched.insert(at, watched);
        }
    }
    plan
}

fn path<'a>(device: &'a Device, parents: &HashMap<&'a str, Option<&'a str>>) -> Vec<&'a str> {
    let first = device.site.as_ref().map(|site| site.text.as_str());
    std::iter::successors(first, |site| parents.get(site).copied().flatten()).take(DEEPEST).collect()
}

fn is_in(scope: &Scope, path: &[&str]) -> bool {
    match scope {
        Scope::All => true,
        Scope::Sites(sites) => path.iter().any(|site| sites.iter().any(|one| one == site)),
    }
}

/// Nothing for a device that can have no such event.
fn watch(number: u32, rule: &EventRule, device: &Device, faults: &mut Faults) -> Option<Watched> {
    let mut complain = |problem: String, help: &str| {
        faults.push(Diagnostic::warning(device.name.place.clone(), problem).help(help));
        None
    };
    if device.kind == AssetKind::Logic {
        let problem = format!("trigger \"{}\" does not watch the logic asset \"{}\"", rule.id, device.name.text);
        return complain(problem, "events are told over mqtt, where logic assets have no login");
    }
    let mut limits = Vec::with_capacity(rule.conditions.len());
    for condition in &rule.conditions {
        limits.push(match &condition.threshold {
            Threshold::Number(number) => Limit::Number(*number),
            Threshold::Text(text) => Limit::Text(text.clone()),
            Threshold::Attribute(id) => match device.details.attributes.get(id).and_then(limit) {
                Some(limit) => limit,
                None => {
                    let name = &device.name.text;
                    let problem =
                        format!("trigger \"{}\" does not watch \"{name}\": it has no attribute {id}", rule.id);
                    return complain(problem, "give the device the attribute, or narrow the trigger's scope");
                }
            },
        });
    }
    Some(Watched { rule: number, limits })
}

fn limit(attribute: &Json) -> Option<Limit> {
    match attribute {
        Json::Number(number) => number.as_f64().map(Limit::Number),
        Json::Bool(flag) => Some(Limit::Number(f64::from(u8::from(*flag)))),
        Json::String(text) => {
            let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
            Some(number.map_or_else(|| Limit::Text(text.clone()), Limit::Number))
        }
        _ => None,
    }
}
