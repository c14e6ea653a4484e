//! PURE. `firmware:` of a template: how its devices take a file, as written and resolved.

use super::commands::{self, Made, StepText};
use super::fields::{Faults, Fields, misfit, pairs, scalar};
use super::yaml::{Kind, Node};
use crate::diagnostic::{Diagnostic, Place};
use crate::model::DataType;
use crate::model::control::{Input, Limits};
use crate::model::firmware::{FirmwareRules, INPUT_SIZE, INPUT_VERSION};
use driver::{Parameters, Text};
use std::ops::RangeInclusive;
use std::time::Duration;

const KNOWN: &[&str] =
    &["transfer", "before", "after", "version", "version_within_s", "patience_s", "pause_ms", "description"];
/// Major, minor, patch.
const PARTS: usize = 3;

#[derive(Clone, Debug)]
pub struct FirmwareText {
    pub place: Place,
    /// For the protocol.
    pub transfer: Parameters,
    before: Vec<StepText>,
    after: Vec<StepText>,
    version: Vec<Text>,
    version_within: Duration,
    patience: Duration,
    pause: Duration,
}

/// Reads `firmware:` of a template.
pub fn read(template: &Fields<'_, '_>, faults: &mut Faults) -> Option<FirmwareText> {
    let node = template.node("firmware")?;
    let own = Fields::open(template.file, node, "firmware", KNOWN, faults)?;
    let seconds =
        |key, default, range, faults: &mut Faults| Duration::from_secs(whole(&own, key, default, range, faults));
    Some(FirmwareText {
        place: own.place.clone(),
        transfer: transfer(&own, faults),
        before: commands::steps(&own, "before", faults),
        after: commands::steps(&own, "after", faults),
        version: version(&own, faults),
        version_within: seconds("version_within_s", 120, 1..=86_400, faults),
        patience: seconds("patience_s", 60, 1..=86_400, faults),
        pause: Duration::from_millis(whole(&own, "pause_ms", 0, 0..=60_000, faults)),
    })
}

fn transfer(own: &Fields<'_, '_>, faults: &mut Faults) -> Parameters {
    match own.node("transfer") {
        Some(node @ Node { kind: Kind::Map(_), .. }) => {
            Parameters { entries: pairs(own.file, node, "transfer", faults) }
        }
        _ => {
            let help = "write `transfer: { file: 1 }` with what the protocol needs; see its page";
            faults.push(Diagnostic::error(own.place.clone(), "firmware has no transfer").help(help));
            Parameters::default()
        }
    }
}

fn version(own: &Fields<'_, '_>, faults: &mut Faults) -> Vec<Text> {
    let found: Vec<Text> = match own.node("version") {
        None => Vec::new(),
        Some(node @ Node { kind: Kind::Text(_), .. }) => {
            scalar(own.file, node, "version", faults).into_iter().collect()
        }
        Some(_) => {
            let nodes = own.list("version", faults).iter();
            nodes.filter_map(|node| scalar(own.file, node, "version", faults)).collect()
        }
    };
    if let Some(extra) = found.get(PARTS) {
        faults.push(misfit("version", extra, "name one measurement point, or those of major, minor and patch"));
    }
    found
}

fn whole(own: &Fields<'_, '_>, key: &str, default: u64, range: RangeInclusive<u64>, faults: &mut Faults) -> u64 {
    let Some(text) = own.text(key, faults) else { return default };
    let found = text.text.parse().ok().filter(|number| range.contains(number));
    if found.is_none() {
        let help = format!("write a whole number from {} to {}", range.start(), range.end());
        faults.push(misfit(key, &text, help));
    }
    found.unwrap_or(default)
}

/// Against the measurement points of the template.
pub fn resolve(text: &FirmwareText, made: &Made<'_>, faults: &mut Faults) -> FirmwareRules {
    let input = |id: &str, data_type| Input {
        id: id.to_owned(),
        data_type: Some(data_type),
        limits: Limits::default(),
        optional: false,
    };
    let inputs = [input(INPUT_SIZE, DataType::Int), input(INPUT_VERSION, DataType::String)];
    let mut steps = |steps: &[StepText]| {
        steps.iter().filter_map(|step| commands::resolve_step(step, &inputs, made, faults)).collect()
    };
    let (before, after) = (steps(&text.before), steps(&text.after));
    let mut version = Vec::with_capacity(text.version.len());
    for id in &text.version {
        let Some(point) = commands::find(made.model, id, faults) else { continue };
        if !made.rules.iter().any(|rule| rule.measurepoint == point) {
            let problem = format!("version: measurement point \"{}\" is not collected", id.text);
            faults.push(Diagnostic::error(id.place.clone(), problem).help("give it a mapping"));
        }
        version.push(point);
    }
    let transfer = text.transfer.entries.iter().map(|(key, value)| (key.text.clone(), value.text.clone())).collect();
    FirmwareRules {
        transfer,
        before,
        after,
        version,
        version_within: text.version_within,
        patience: text.patience,
        pause: text.pause,
    }
}
