//! PURE. A difference in words and as JSON.

use super::{Changes, Diff};
use crate::package::forecast::{Forecast, Range, report::number};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Entries of a list shown to people.
const SHOWN: usize = 20;

/// Text for people.
#[must_use]
pub fn text(diff: &Diff) -> String {
    let mut out = format!("{} {} -> {} {}\n", diff.old.0, diff.old.1, diff.new.0, diff.new.1);
    list(&mut out, "device", "", &diff.devices);
    list(&mut out, "connection", "", &diff.connections);
    for (template, devices, changes) in &diff.templates {
        let plural = if *devices == 1 { "" } else { "s" };
        let _ = writeln!(out, "template {template} ({devices} device{plural}):");
        list(&mut out, "point", "  ", &changes.points);
        list(&mut out, "measurement point", "  ", &changes.measurepoints);
        if changes.reordered {
            out.push_str("  points stand in another order\n");
        }
    }
    list(&mut out, "model", "", &diff.models);
    list(&mut out, "trigger", "", &diff.triggers);
    if out.lines().count() == 1 {
        out.push_str("nothing changes\n");
    }
    let restarted = match diff.restarted.len() {
        0 => "none".to_owned(),
        n if n > SHOWN => format!("{n} ({} …)", diff.restarted[..SHOWN].join(", ")),
        n => format!("{n} ({})", diff.restarted.join(", ")),
    };
    let _ = writeln!(out, "connections opened anew: {restarted}; kept as they are: {}", diff.kept);
    if let (Some(old), Some(new)) = &diff.forecast {
        forecast(&mut out, old, new);
    }
    for refused in &diff.refused {
        let _ = writeln!(out, "refused: {refused}");
    }
    out
}

fn list(out: &mut String, what: &str, indent: &str, changes: &Changes) {
    let mut show = |sign: char, entries: &mut dyn ExactSizeIterator<Item = String>| {
        let count = entries.len();
        for entry in entries.take(SHOWN) {
            let _ = writeln!(out, "{indent}{sign} {what} {entry}");
        }
        if count > SHOWN {
            let _ = writeln!(out, "{indent}{sign} … and {} more {what}s", count - SHOWN);
        }
    };
    show('-', &mut changes.removed.iter().cloned());
    show('+', &mut changes.added.iter().cloned());
    show('~', &mut changes.changed.iter().map(|(name, told)| format!("{name}: {}", told.join(", "))));
}

fn forecast(out: &mut String, old: &Forecast, new: &Forecast) {
    let mut row = |label: &str, was: f64, is: f64| {
        let sign = if is >= was { "+" } else { "-" };
        let change = if was == is { String::new() } else { format!(" ({sign}{})", number((is - was).abs())) };
        let _ = writeln!(out, "  {label:<26} {} -> {}{change}", number(was), number(is));
    };
    row("values/s read", old.values_per_s, new.values_per_s);
    let most = |range: Range| range.most;
    row("readings/s up, at most", most(old.readings_per_s), most(new.readings_per_s));
    row("messages/day up, at most", most(old.messages_per_day), most(new.messages_per_day));
    row("bytes/day up, at most", most(old.bytes_per_day), most(new.bytes_per_day));
    row("hours offline, at least", old.outbox_hours.least, new.outbox_hours.least);
    for line in new.lines.iter().filter(|line| !line.missed.is_empty()) {
        let _ = writeln!(
            out,
            "  line {} can not keep its periods: {:.0} % taken",
            line.connection,
            line.busy.unwrap_or_default() * 100.0
        );
    }
}

/// Everything, without a cap.
#[must_use]
pub fn to_json(diff: &Diff) -> Value {
    let changes = |changes: &Changes| {
        let changed = changes.changed.iter().map(|(name, told)| json!({ "name": name, "changes": told }));
        json!({ "added": changes.added, "removed": changes.removed, "changed": changed.collect::<Vec<_>>() })
    };
    let package = |package: &(String, String)| json!({ "name": package.0, "version": package.1 });
    let forecast = |forecast: &Option<Forecast>| forecast.as_ref().map(crate::package::forecast::report::to_json);
    json!({
        "old": package(&diff.old),
        "new": package(&diff.new),
        "devices": changes(&diff.devices),
        "connections": changes(&diff.connections),
        "restarted": diff.restarted,
        "kept": diff.kept,
        "templates": diff.templates.iter().map(|(name, devices, diff)| json!({
            "template": name,
            "devices": devices,
            "points": changes(&diff.points),
            "measurepoints": changes(&diff.measurepoints),
            "reordered": diff.reordered,
        })).collect::<Vec<_>>(),
        "models": changes(&diff.models),
        "triggers": changes(&diff.triggers),
        "refused": diff.refused.iter().map(|fault| json!({
            "file": &*fault.place.file, "problem": fault.problem, "help": fault.help,
        })).collect::<Vec<_>>(),
        "forecast": { "old": forecast(&diff.forecast.0), "new": forecast(&diff.forecast.1) },
    })
}
