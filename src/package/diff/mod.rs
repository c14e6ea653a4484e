//! What a new package changes, before anyone applies it; and what it may not change.

pub mod report;
mod template;
#[cfg(test)]
mod tests;

pub use template::{Change, Changes, TemplateDiff};

use super::check::Checked;
use super::check::written::{DeviceWritten, Written};
use super::forecast::Forecast;
use super::guards::{self, Before, Named, Types, identity};
use crate::diagnostic::Diagnostic;
use crate::model::{Site, Template};
use crate::trigger::EventRule;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What two packages differ in.
#[derive(Debug, Default)]
pub struct Diff {
    /// Name and version.
    pub old: (String, String),
    pub new: (String, String),
    pub devices: Changes,
    pub connections: Changes,
    /// Connections that are opened anew; the others keep their sessions.
    pub restarted: Vec<String>,
    pub kept: usize,
    /// Each pair of templates that devices change between, and how many devices.
    pub templates: Vec<(String, usize, Arc<TemplateDiff>)>,
    pub models: Changes,
    pub triggers: Changes,
    /// What a gateway that runs the old package refuses.
    pub refused: Vec<Diagnostic>,
    pub forecast: (Option<Forecast>, Option<Forecast>),
}

/// One sound package.
#[derive(Clone, Copy)]
struct Side<'a> {
    site: &'a Site,
    written: &'a Written,
    triggers: &'a [EventRule],
}

impl<'a> Side<'a> {
    fn named(self) -> Named<'a> {
        let package = &self.site.package;
        Named { name: &package.name, version: &package.version, org: self.written.manifest.org.as_deref() }
    }
}

fn side(checked: &Checked) -> Option<Side<'_>> {
    Some(Side { site: checked.site.as_ref()?, written: checked.written.as_ref()?, triggers: &checked.triggers })
}

/// What the gateway remembers beside the package that runs.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Of all packages that ever ran; `None`: the old package is all that is known.
    pub types: Option<Types>,
    pub taken_back: bool,
    /// Older versions are let in.
    pub older: bool,
}

/// Compares two packages; `None` when one of them is faulty.
#[must_use]
pub fn compare(old: &Checked, new: &Checked, memory: &Memory) -> Option<Diff> {
    let (before, after) = (side(old)?, side(new)?);
    let name = |side: Side<'_>| (side.site.package.name.clone(), side.site.package.version.clone());
    let mut diff = Diff {
        old: name(before),
        new: name(after),
        forecast: (old.forecast.clone(), new.forecast.clone()),
        models: models(before, after),
        triggers: triggers(before.triggers, after.triggers),
        ..Diff::default()
    };
    devices(before, after, &mut diff);
    connections(before, after, &mut diff);
    diff.refused = refused(before, after, memory);
    Some(diff)
}

/// What a gateway that runs the old package would say to the new one.
fn refused(before: Side<'_>, after: Side<'_>, memory: &Memory) -> Vec<Diagnostic> {
    let types = memory.types.clone().unwrap_or_else(|| {
        let mut types = Types::new();
        guards::learn(&mut types, before.site);
        types
    });
    let ran =
        Before { running: Some(before.named()), site: Some(before.site), types: &types, taken_back: memory.taken_back };
    guards::refuse(&ran, after.named(), after.site, memory.older, &after.written.places)
}

type Pairs = HashMap<(*const Template, *const Template), (String, usize, Arc<TemplateDiff>)>;

/// The template of each device, by its place in the package.
fn templates(site: &Site) -> HashMap<u32, &Arc<Template>> {
    site.connections.iter().flat_map(|c| &c.devices).map(|device| (device.device, &device.template)).collect()
}

fn devices(before: Side<'_>, after: Side<'_>, diff: &mut Diff) {
    let old: HashMap<_, usize> =
        before.site.names.devices.iter().enumerate().map(|(at, names)| (identity(names), at)).collect();
    let (old_templates, new_templates) = (templates(before.site), templates(after.site));
    let mut kept = vec![false; before.site.names.devices.len()];
    let mut pairs = Pairs::new();
    for (at, names) in after.site.names.devices.iter().enumerate() {
        let Some(was) = old.get(&identity(names)).copied() else {
            diff.devices.added.push(names.name.clone());
            continue;
        };
        kept[was] = true;
        let mut changes = written_changes(&before.written.devices[was], &after.written.devices[at]);
        let earlier = &before.site.names.devices[was];
        if earlier.name != names.name {
            changes.push(format!("name {} -> {}", earlier.name, names.name));
        }
        if before.site.details[was] != after.site.details[at] {
            changes.push("attributes, tags or description".to_owned());
        }
        let index = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        if let (Some(a), Some(b)) = (old_templates.get(&index(was)), new_templates.get(&index(at))) {
            if a.name != b.name {
                changes.push(format!("template {} -> {}", a.name, b.name));
            }
            let pair = pairs.entry((Arc::as_ptr(a), Arc::as_ptr(b))).or_insert_with(|| {
                let shown = if a.name == b.name { b.name.clone() } else { format!("{} -> {}", a.name, b.name) };
                (shown, 0, Arc::new(template::compare(a, b)))
            });
            pair.1 += 1;
        }
        if !changes.is_empty() {
            diff.devices.changed.push((names.name.clone(), changes));
        }
    }
    let gone = before.site.names.devices.iter().zip(&kept).filter(|(_, kept)| !**kept);
    diff.devices.removed = gone.map(|(names, _)| names.name.clone()).collect();
    diff.templates = pairs.values().filter(|(_, _, changes)| !changes.is_empty()).cloned().collect();
    diff.templates.sort_by(|a, b| a.0.cmp(&b.0));
}

fn written_changes(was: &DeviceWritten, is: &DeviceWritten) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut note = |what: &str, was: &str, is: &str| {
        if was != is {
            changes.push(format!("{what} {was} -> {is}"));
        }
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    note("connection", &was.connection, &is.connection);
    note("address", &text(&was.address), &text(&is.address));
    note("site", &text(&was.site), &text(&is.site));
    if was.offsets != is.offsets {
        changes.push("offsets".to_owned());
    }
    changes
}

fn connections(before: Side<'_>, after: Side<'_>, diff: &mut Diff) {
    let old: BTreeMap<&str, _> = before.site.connections.iter().map(|c| (c.name.as_str(), c)).collect();
    let new: BTreeMap<&str, _> = after.site.connections.iter().map(|c| (c.name.as_str(), c)).collect();
    diff.connections.removed = old.keys().filter(|name| !new.contains_key(*name)).map(|n| (*n).to_owned()).collect();
    for (name, is) in &new {
        let Some(was) = old.get(name) else {
            diff.connections.added.push((*name).to_owned());
            continue;
        };
        let mut changes = Vec::new();
        if was.protocol != is.protocol {
            changes.push(format!("protocol {} -> {}", was.protocol, is.protocol));
        }
        changes.extend(parameter_changes(before.written.parameters.get(*name), after.written.parameters.get(*name)));
        // What the switch itself asks.
        if !is.continues(&was.running()) {
            diff.restarted.push((*name).to_owned());
        } else {
            diff.kept += 1;
        }
        if !changes.is_empty() {
            diff.connections.changed.push(((*name).to_owned(), changes));
        }
    }
}

/// Values of passwords are not shown.
fn parameter_changes(was: Option<&BTreeMap<String, String>>, is: Option<&BTreeMap<String, String>>) -> Vec<Change> {
    let empty = BTreeMap::new();
    let (was, is) = (was.unwrap_or(&empty), is.unwrap_or(&empty));
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let mut changes = Vec::new();
    for key in keys {
        let (a, b) = (was.get(key), is.get(key));
        if a == b {
            continue;
        }
        if key.contains("password") || key.contains("secret") {
            changes.push(format!("{key} (not shown)"));
        } else {
            let text = |value: Option<&String>| value.map_or("nothing", String::as_str).to_owned();
            changes.push(format!("{key} {} -> {}", text(a), text(b)));
        }
    }
    changes
}

/// Models that devices use.
fn models(before: Side<'_>, after: Side<'_>) -> Changes {
    let by_id = |side: Side<'_>| -> BTreeMap<String, Arc<crate::model::ThingModel>> {
        let templates = templates(side.site).into_values().map(|t| (t.model.id.clone(), Arc::clone(&t.model)));
        templates.collect()
    };
    let (old, new) = (by_id(before), by_id(after));
    let mut changes = keys(&old, &new);
    for (id, is) in &new {
        let Some(was) = old.get(id).filter(|was| *was != is) else { continue };
        let ids = |model: &crate::model::ThingModel| -> BTreeSet<String> {
            model.measurepoints.iter().map(|point| point.id.clone()).collect()
        };
        let (a, b) = (ids(was), ids(is));
        let count = |n: usize, word: &str| (n > 0).then(|| format!("{n} measurement points {word}"));
        let mut told: Vec<Change> =
            [count(b.difference(&a).count(), "added"), count(a.difference(&b).count(), "removed")]
                .into_iter()
                .flatten()
                .collect();
        let earlier: HashMap<&str, _> = was.measurepoints.iter().map(|p| (p.id.as_str(), p)).collect();
        let differ = |p: &&crate::model::Measurepoint| earlier.get(p.id.as_str()).is_some_and(|was| *was != *p);
        told.extend(count(is.measurepoints.iter().filter(differ).count(), "changed"));
        changes.changed.push((id.clone(), told));
    }
    changes
}

fn triggers(old: &[EventRule], new: &[EventRule]) -> Changes {
    let by_id = |rules: &[EventRule]| -> BTreeMap<String, EventRule> {
        rules.iter().map(|rule| (format!("{} of {}", rule.id, rule.model), rule.clone())).collect()
    };
    let (old, new) = (by_id(old), by_id(new));
    let mut changes = keys(&old, &new);
    let differ = new.iter().filter(|(id, rule)| old.get(*id).is_some_and(|was| was != *rule));
    changes.changed = differ.map(|(id, _)| (id.clone(), vec!["its rule".to_owned()])).collect();
    changes
}

fn keys<T>(old: &BTreeMap<String, T>, new: &BTreeMap<String, T>) -> Changes {
    let only = |here: &BTreeMap<String, T>, there: &BTreeMap<String, T>| {
        here.keys().filter(|key| !there.contains_key(*key)).cloned().collect()
    };
    Changes { added: only(new, old), removed: only(old, new), changed: Vec::new() }
}
