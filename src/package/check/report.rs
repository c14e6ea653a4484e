//! PURE. What a check found, as text for people and as one JSON object for scripts.

use super::Checked;
use crate::diagnostic::{Diagnostic, Severity};
use crate::package::forecast;
use serde_json::json;
use std::io::{self, Write};
use std::path::Path;

/// `file:line:column: problem`, its help, and a summary at the end.
///
/// # Errors
/// When `out` does not take it.
pub fn write_text(out: &mut impl Write, package: &Path, checked: &Checked, colour: bool) -> io::Result<()> {
    for fault in &checked.diagnostics {
        if colour { write_coloured(out, fault)? } else { writeln!(out, "{fault}")? }
    }
    let counts = &checked.counts;
    let (errors, warnings) = (checked.errors(), checked.warnings());
    let verdict = match (errors, warnings) {
        (0, 0) => "sound".to_owned(),
        (0, _) => format!("sound, {}", plural(warnings, "warning")),
        (_, 0) => plural(errors, "error"),
        _ => format!("{}, {}", plural(errors, "error"), plural(warnings, "warning")),
    };
    writeln!(
        out,
        "{}: {verdict} ({}, {}, {})",
        package.display(),
        plural(counts.devices, "device"),
        plural(usize::try_from(counts.points).unwrap_or(usize::MAX), "point"),
        plural(counts.connections, "connection"),
    )?;
    match &checked.forecast {
        Some(forecast) => out.write_all(forecast::report::text(forecast).as_bytes()),
        None => Ok(()),
    }
}

fn write_coloured(out: &mut impl Write, fault: &Diagnostic) -> io::Result<()> {
    let (colour, kind) = match fault.severity {
        Severity::Error => ("31", ""),
        Severity::Warning => ("33", "warning: "),
    };
    writeln!(out, "\x1b[1m{}:\x1b[0m \x1b[{colour}m{kind}{}\x1b[0m", fault.place, fault.problem)?;
    match &fault.help {
        Some(help) => writeln!(out, "  \x1b[2mhelp:\x1b[0m {help}"),
        None => Ok(()),
    }
}

fn plural(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

/// The whole report as one object.
#[must_use]
pub fn to_json(package: &Path, checked: &Checked) -> serde_json::Value {
    let diagnostic = |fault: &Diagnostic| {
        json!({
            "file": &*fault.place.file,
            "line": fault.place.line,
            "column": fault.place.column,
            "severity": match fault.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "problem": fault.problem,
            "help": fault.help,
        })
    };
    let counts = &checked.counts;
    json!({
        "package": package.display().to_string(),
        "errors": checked.errors(),
        "warnings": checked.warnings(),
        "sites": counts.sites,
        "devices": counts.devices,
        "models": counts.models,
        "templates": counts.templates,
        "connections": counts.connections,
        "points": counts.points,
        "triggers": counts.triggers,
        "forecast": checked.forecast.as_ref().map(forecast::report::to_json),
        "diagnostics": checked.diagnostics.iter().map(diagnostic).collect::<Vec<_>>(),
    })
}
