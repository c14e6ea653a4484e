//! PURE. What a package may not change of the one that runs.

use super::{Diff, Side};
use crate::diagnostic::{Diagnostic, Place};
use crate::package::assets::AssetKind;
use std::collections::HashMap;

pub(super) fn check(before: Side<'_>, after: Side<'_>, diff: &mut Diff) {
    one_organisation(before, after, diff);
    replaced_not_converted(before, after, diff);
    types_stay(diff);
}

fn refuse(diff: &mut Diff, file: &str, problem: String, help: &str) {
    diff.refused.push(Diagnostic::error(Place::new(&file.into(), 0, 0), problem).help(help));
}

/// R23: a gateway belongs to one organisation unit.
fn one_organisation(before: Side<'_>, after: Side<'_>, diff: &mut Diff) {
    if let (Some(was), Some(is)) = (&before.written.manifest.org, &after.written.manifest.org)
        && was != is
    {
        let problem = format!("the package is of organisation unit {is}, and the one it replaces of {was}");
        refuse(diff, "package.yaml", problem, "a gateway belongs to one organisation unit: use another gateway");
    }
}

/// R19: the cloud knows an asset as a device or as a logic asset, for good.
fn replaced_not_converted(before: Side<'_>, after: Side<'_>, diff: &mut Diff) {
    let mut earlier: HashMap<&str, AssetKind> = HashMap::new();
    for (names, text) in before.site.names.devices.iter().zip(&before.written.devices) {
        earlier.insert(&names.name, text.kind);
        if let Some(id) = &names.asset_id {
            earlier.insert(id, text.kind);
        }
    }
    for (names, text) in after.site.names.devices.iter().zip(&after.written.devices) {
        let found = names.asset_id.as_deref().and_then(|id| earlier.get(id)).or_else(|| earlier.get(&*names.name));
        if let Some(was) = found.filter(|was| **was != text.kind) {
            let word = |kind: AssetKind| if kind == AssetKind::Device { "a device asset" } else { "a logic asset" };
            let problem = format!("{} was {} and would become {}", names.name, word(*was), word(text.kind));
            let help = "an asset is replaced, not converted: give the new one another name (and asset id), and remove this one";
            refuse(diff, "assets.yaml", problem, help);
        }
    }
}

/// R31: a point that has been sent keeps its data type; the cloud stores a column of one type.
fn types_stay(diff: &mut Diff) {
    let templates = diff.templates.clone();
    for (template, devices, changes) in &templates {
        for (point, was, is) in &changes.retyped {
            let problem = format!(
                "measurement point \"{point}\" of template {template} ({devices} devices) changes its data type from {was} to {is}"
            );
            refuse(
                diff,
                "models",
                problem,
                "a point that has been sent keeps its data type: give the new one another id",
            );
        }
    }
}
