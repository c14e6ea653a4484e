//! PURE. A forecast in words and as JSON.

use super::{Forecast, Line, Range};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Lines shown to people: the busiest.
const LINES: usize = 8;

/// A few lines of text.
#[must_use]
pub fn text(forecast: &Forecast) -> String {
    let mut out =
        String::from("forecast, from a plant that stands still to one where every value changes at each scan:\n");
    let _ = writeln!(out, "  values/s read    {}", number(forecast.values_per_s));
    for (label, range) in [
        ("readings/s up", forecast.readings_per_s),
        ("messages/day up", forecast.messages_per_day),
        ("bytes/day up", forecast.bytes_per_day),
        ("hours offline", forecast.outbox_hours),
    ] {
        let _ = writeln!(out, "  {label:<16} {}", span(range));
    }
    let told = forecast.lines.iter().filter(|line| line.busy.is_some());
    for line in told.clone().take(LINES) {
        let _ = writeln!(out, "  line {}", line_text(line));
    }
    let more = told.count().saturating_sub(LINES);
    if more > 0 {
        let _ = writeln!(out, "  … and {more} lines less busy");
    }
    out
}

fn line_text(line: &Line) -> String {
    let requests = number(line.requests_per_s.unwrap_or_default());
    let busy = line.busy.unwrap_or_default() * 100.0;
    let mut out = format!("{} ({}): {requests} requests/s", line.connection, line.endpoint);
    if busy > 0.0 {
        let _ = write!(out, ", {busy:.0} % taken");
    }
    for missed in &line.missed {
        let _ = write!(out, "; period {:?} can not be met, {:.1?} at best", missed.period, missed.becomes);
    }
    if let Some(within) = line.answer_within {
        let _ = write!(out, "; holds if answers come within {within:.1?}");
    }
    out
}

fn span(range: Range) -> String {
    let (least, most) = (number(range.least), number(range.most));
    if least == most { most } else { format!("{least} … {most}") }
}

/// Whole from ten up, with a tenth below, thousands apart.
#[must_use]
pub fn number(x: f64) -> String {
    if x < 10.0 {
        let text = format!("{x:.1}");
        return text.strip_suffix(".0").map_or(text.clone(), str::to_owned);
    }
    let digits = format!("{x:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Numbers rounded to a thousandth: what is beyond is noise.
fn round(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}

#[must_use]
pub fn to_json(forecast: &Forecast) -> Value {
    let range = |range: Range| json!({ "least": round(range.least), "most": round(range.most) });
    let line = |line: &Line| {
        json!({
            "connection": line.connection,
            "endpoint": line.endpoint,
            "requests_per_s": line.requests_per_s.map(round),
            "bytes_per_s": line.bytes_per_s.map(round),
            "busy": line.busy.map(round),
            "answer_within_ms": line.answer_within.map(|within| round(within.as_secs_f64() * 1000.0)),
            "missed": line.missed.iter().map(|missed| json!({
                "period_ms": missed.period.as_millis() as u64, "becomes_ms": missed.becomes.as_millis() as u64,
            })).collect::<Vec<_>>(),
        })
    };
    json!({
        "values_per_s": round(forecast.values_per_s),
        "readings_per_s": range(forecast.readings_per_s),
        "messages_per_day": range(forecast.messages_per_day),
        "bytes_per_day": range(forecast.bytes_per_day),
        "outbox_hours": range(forecast.outbox_hours),
        "lines": forecast.lines.iter().map(line).collect::<Vec<_>>(),
    })
}
