//! `enos-edge certificate`: the pairs a running gateway keeps, and asking for a new one.

use super::moments::stamp;
use super::status::text;
use super::terminal::{say, table};
use super::{DoorArguments, failed};
use crate::doors::local::{Refused, Visitor};
use crate::model::Timestamp;
use serde_json::{Value as Json, json};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    door: DoorArguments,
    /// One JSON object for a script.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Ask the cloud for a new certificate now; it is tried with the next connection.
    Renew,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let operation = match arguments.action {
        None => "certificate",
        Some(Action::Renew) => "certificate_renew",
    };
    let asked = arguments.door.path().and_then(|path| Visitor::connect(&path)?.ask(operation, &json!({})));
    match asked {
        Ok(answer) if arguments.json => say(&format!("{answer}\n")),
        Ok(answer) => match arguments.action {
            None => say(&shown(&answer, Timestamp::now().0)),
            Some(Action::Renew) => say(&renewed(&answer)),
        },
        Err(error) => {
            let status = failed(&error);
            // The gateway answered: it was done, and brought nothing.
            let no_certificate =
                error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == "no_certificate");
            return if no_certificate { ExitCode::FAILURE } else { status };
        }
    }
    ExitCode::SUCCESS
}

fn renewed(answer: &Json) -> String {
    let until = stamp(answer["not_after"].as_i64().unwrap_or(0));
    format!("issued: serial {}, until {until}; it is tried with the next connection\n", text(&answer["serial"]))
}

fn shown(answer: &Json, now: i64) -> String {
    let slots = || answer["slots"].as_array().into_iter().flatten();
    let row = |slot: &Json| {
        let moment = |key: &str| slot[key].as_i64().map(stamp).unwrap_or_default();
        vec![
            state(slot),
            text(&slot["serial"]),
            text(&slot["subject"]),
            text(&slot["issuer"]),
            moment("not_before"),
            moment("not_after"),
            days_left(slot, now),
            text(&slot["key_type"]),
            text(&slot["reason"]),
        ]
    };
    let header = ["state", "serial", "subject", "issuer", "not before", "not after", "left", "key", "reason"];
    let rows: Vec<Vec<String>> = slots().map(row).collect();
    let mut page = if rows.is_empty() { "there is no certificate yet\n".to_owned() } else { table(&header, &rows) };
    if let Some(error) = answer["last_error"].as_str() {
        page.push_str(&format!("last error: {error}\n"));
    }
    if let Some(next) = answer["next_request"].as_i64().filter(|next| *next > now) {
        page.push_str(&format!("next request: {}\n", stamp(next)));
    }
    page
}

fn state(slot: &Json) -> String {
    let role = text(&slot["role"]).replace('_', " ");
    if slot["in_use"] == true { format!("{role}, connected") } else { role }
}

/// `12 days`, below two days `31 h`, or `expired`.
pub(super) fn days_left(slot: &Json, now: i64) -> String {
    const HOUR_MS: i64 = 3_600_000;
    let left = slot["not_after"].as_i64().unwrap_or(0).saturating_sub(now);
    match left / HOUR_MS {
        _ if left <= 0 => "expired".to_owned(),
        hours @ 0..48 => format!("{hours} h"),
        hours => format!("{} days", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_763_812_990_000;

    #[test]
    fn both_slots_are_shown_with_what_is_wrong() {
        let day = 86_400_000;
        let answer = json!({
            "slots": [
                {"role": "current", "serial": "0a", "subject": "CN=g", "issuer": "CN=ca", "not_before": NOW - day,
                 "not_after": NOW + 30 * day, "key_type": "ECC 256", "in_use": true, "reason": null},
                {"role": "set_aside", "serial": "0b", "subject": "CN=g", "issuer": "CN=ca", "not_before": NOW,
                 "not_after": NOW - 1, "key_type": "ECC 256", "in_use": false, "reason": "unknown ca"},
            ],
            "last_error": "not authorised", "next_request": NOW + 60_000,
        });
        let page = shown(&answer, NOW);
        for expected in [
            "current, connected",
            "30 days",
            "set aside",
            "expired",
            "unknown ca",
            "last error: not authorised",
            "next request: ",
        ] {
            assert!(page.contains(expected), "{expected} is missing in\n{page}");
        }
        assert!(shown(&json!({"slots": []}), NOW).contains("no certificate yet"));
    }
}
