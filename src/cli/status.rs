//! `enos-edge status`: what a running gateway is doing, for a person or a script.

use super::certificate::days_left;
use super::destinations;
use super::moments::{relative, size, span, stamp};
use super::terminal::{grouped, say, table};
use super::{DoorArguments, failed, status_field};
use crate::doors::local::Visitor;
use crate::model::Timestamp;
use serde_json::{Value as Json, json};
use std::process::ExitCode;

/// Refused sub-devices, gaps and refused values shown on the page; `--json` has more.
const SHOWN: usize = 3;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    door: DoorArguments,
    /// One JSON object for a script.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let asked = arguments.door.path().and_then(|path| Visitor::connect(&path)?.ask("status", &json!({})));
    match asked {
        Ok(status) if arguments.json => say(&format!("{status}\n")),
        Ok(status) => say(&shown(&status, Timestamp::now().0)),
        Err(error) => return failed(&error),
    }
    ExitCode::SUCCESS
}

/// Only what somebody should know of the package: it is watched, was taken back, or one was refused.
fn package(package: &Json, now: i64) -> Vec<String> {
    let mut lines = Vec::new();
    let watch = &package["watch"];
    match watch["state"].as_str() {
        Some("watching") => lines.push(format!("generation {} is watched", text(&package["generation"]))),
        Some("rolled_back" | "failed") => lines.push(format!(
            "generation {} runs; the one after it was taken back: {}",
            text(&package["generation"]),
            text(&watch["why"])
        )),
        _ => {}
    }
    if let Some(why) = package["last_refusal"]["why"].as_str() {
        let when = relative(package["last_refusal"]["at"].as_i64().unwrap_or(now), now);
        // Which one, and its first fault.
        let why = why.lines().take(2).collect::<Vec<_>>().join(" ");
        lines.push(format!("refused {when}: {why}"));
    }
    lines
}

/// Only what somebody should know of the engine: it is on trial, or one was taken back within a day.
fn engine(engine: &Json, now: i64) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(waits_for) = engine["trial"]["waits_for"].as_str() {
        lines.push(format!("on trial in slot {}: {waits_for}", text(&engine["place"])));
    }
    let (last, day) = (&engine["last"], 86_400_000);
    let at = last["at"].as_i64().unwrap_or(0);
    if last["how"] == "rolled_back" && now - at < day {
        lines.push(format!("{} was taken back {}: {}", text(&last["version"]), relative(at, now), text(&last["why"])));
    }
    lines
}

/// The status as a page.
pub(super) fn shown(status: &Json, now: i64) -> String {
    let package_name = match text(&status["package"]["name"]) {
        name if name.is_empty() => "no package yet: enos-edge package install FILE".to_owned(),
        name => format!("package {name} {}", text(&status["package"]["version"])),
    };
    let up = span(status["uptime_s"].as_u64().unwrap_or(0));
    let mut lines = vec![format!("enos-edge {} · up {up} · {package_name}", text(&status["version"]))];
    lines.extend(labelled("engine", engine(&status["engine"], now)));
    lines.extend(labelled("update", super::update::told::lines(&status["update"], now)));
    lines.extend(labelled("package", package(&status["package"], now)));
    lines.extend(labelled("clock", status_field::clock(&status["clock"])));
    lines.extend(labelled("cloud", cloud(&status["cloud"], now)));
    let kept = &status["outbox"]["destinations"];
    let others = status["destinations"].as_array().into_iter().flatten();
    lines.extend(labelled("brokers", others.flat_map(|one| destinations::broker(one, kept, now)).collect()));
    lines.extend(labelled("rest", destinations::integration(&status["integration"], kept, now)));
    let doors = status["doors"].as_array().into_iter().flatten();
    lines.extend(labelled("doors", doors.map(|one| destinations::door(one, now)).collect()));
    lines.extend(labelled("events", status_field::events(&status["events"])));
    lines.extend(labelled("identity", identity(&status["cloud"]["identity"])));
    lines.extend(labelled("cert", certificate(&status["cloud"]["identity"]["certificate"], now)));
    lines.extend(labelled("outbox", outbox(status, now)));
    lines.extend(labelled("gaps", gaps(&status["outbox"]["gaps"])));
    lines.extend(labelled("set aside", set_aside(&status["outbox"]["set_aside_rows"])));
    let connections = || status["south"]["connections"].as_array().into_iter().flatten();
    lines.extend(labelled("learned", connections().flat_map(learned).collect()));
    let rows: Vec<Vec<String>> = connections().flat_map(|connection| connection_rows(connection, now)).collect();
    let header = ["connection", "device", "state", "since", "points", "reads", "timeouts", "last scan", "last error"];
    format!("{}\n\n{}", lines.join("\n"), table(&header, &rows))
}

/// The label stands before the first line only.
fn labelled(label: &str, lines: Vec<String>) -> impl Iterator<Item = String> {
    let labels = std::iter::once(label).chain(std::iter::repeat(""));
    labels.zip(lines).map(|(label, line)| format!("{label:<11}{line}"))
}

fn cloud(cloud: &Json, now: i64) -> Vec<String> {
    if cloud.is_null() {
        return vec!["not configured; readings wait in the outbox".into()];
    }
    let endpoint = text(&cloud["endpoint"]);
    let until = relative(cloud["until"].as_i64().unwrap_or(0), now);
    let next = if until.is_empty() { String::new() } else { format!("; next try {until}") };
    let sub_devices: Vec<&Json> = cloud["sub_devices"].as_array().into_iter().flatten().collect();
    let online = sub_devices.iter().filter(|device| device["login"] == "online").count();
    let mut first = match cloud["state"].as_str().unwrap_or_default() {
        "online" => format!("connected to {endpoint}"),
        "connecting" => format!("connecting to {endpoint}"),
        "waiting" => format!("not connected to {endpoint}{next}"),
        "refused" => format!("{endpoint} refused the login: {}{next}", text(&cloud["reason"])),
        other => format!("{other} · {endpoint}"),
    };
    if cloud["state"] == "online" {
        let in_flight = cloud["in_flight"].as_u64().unwrap_or(0);
        first.push_str(&format!(" · {online} of {} sub-devices logged in", sub_devices.len()));
        first.push_str(&format!(" · {} messages under way", grouped(in_flight)));
    }
    let mut lines = vec![first];
    if let Some(error) = cloud["last_error"].as_str() {
        let label = if cloud["state"] == "online" { "last trouble" } else { "reason" };
        lines.push(format!("{label}: {error}"));
    }
    let troubled = sub_devices.iter().filter(|device| !matches!(device["login"].as_str(), Some("online" | "waiting")));
    lines.extend(first_few(troubled.map(|device| sub_device(device)).collect(), "more sub-devices are not logged in"));
    lines
}

/// How the gateway proves itself: nothing for a broker that takes anybody.
pub(super) fn identity(identity: &Json) -> Vec<String> {
    let at = || identity["activated_at"].as_i64().map_or_else(String::new, |at| format!(" of {}", stamp(at)));
    let mut proofs = match identity["device_secret"].as_str().unwrap_or_default() {
        "configured" => vec!["device secret of the configuration".to_owned()],
        "activated" => vec![format!("activated device secret{}", at())],
        "awaited" => vec!["product secret; waits for the cloud to activate it".to_owned()],
        _ => Vec::new(),
    };
    if !identity["certificate"].is_null() {
        proofs.push("client certificate".to_owned());
    }
    if proofs.is_empty() {
        return Vec::new();
    }
    vec![format!("{} · {}", text(&identity["device_key"]), proofs.join(" · "))]
}

/// Of a certificate that the gateway keeps itself.
fn certificate(certificate: &Json, now: i64) -> Vec<String> {
    let Some(slots) = certificate["slots"].as_array() else { return Vec::new() };
    let find = |role: &str| slots.iter().find(|slot| slot["role"] == role);
    let until = |slot: &Json| {
        let (end, left) = (stamp(slot["not_after"].as_i64().unwrap_or(0)), days_left(slot, now));
        format!("{} until {end} ({left})", text(&slot["serial"]))
    };
    let mut lines = match find("current") {
        Some(current) => vec![until(current)],
        None => vec!["none that has worked yet".to_owned()],
    };
    lines.extend(find("candidate").map(|slot| format!("to be tried: {}", until(slot))));
    lines.extend(
        find("set_aside").map(|slot| format!("set aside: {}: {}", text(&slot["serial"]), text(&slot["reason"]))),
    );
    lines.extend(certificate["last_error"].as_str().map(|error| format!("last error: {error}")));
    lines
}

fn sub_device(device: &Json) -> String {
    let name = text(&device["device"]);
    match device["login"].as_str().unwrap_or_default() {
        "refused" => format!("{name}: refused, code {}: {}", text(&device["code"]), text(&device["message"])),
        "disabled" => format!("{name}: disabled by the cloud; its readings wait"),
        "deleted" => format!("{name}: deleted in the cloud; its readings wait"),
        other => format!("{name}: {other}"),
    }
}

fn outbox(status: &Json, now: i64) -> Vec<String> {
    let (outbox, counters) = (&status["outbox"], &status["counters"]);
    let counter = |name: &str| grouped(counters[name].as_u64().unwrap_or(0));
    let mut first = format!("{} readings wait", counter("outbox_readings"));
    if let Some(oldest) = outbox["oldest_waiting"].as_i64() {
        first.push_str(&format!(", the oldest of {} ({})", stamp(oldest), relative(oldest, now)));
    }
    first.push_str(&format!(" · {} on disk", size(counters["outbox_bytes"].as_u64().unwrap_or(0))));
    let [acknowledged, dropped, set_aside] = ["acknowledged", "dropped", "set_aside"].map(counter);
    let since = format!("since the start: {acknowledged} acknowledged · {dropped} dropped · {set_aside} set aside");
    let mut lines = vec![first, since];
    if let Some(trouble) = outbox["trouble"].as_str() {
        lines.push(format!("the disk takes no writes: {trouble}"));
    }
    if let Some(file) = outbox["quarantine"]["file"].as_str() {
        lines.push(format!("a damaged file was set aside as {file}: {}", text(&outbox["quarantine"]["problem"])));
    }
    lines
}

/// The newest first.
fn gaps(gaps: &Json) -> Vec<String> {
    let line = |gap: &Json| {
        let moment = |key: &str| stamp(gap[key].as_i64().unwrap_or(0));
        let readings = grouped(gap["readings"].as_u64().unwrap_or(0));
        let (reason, destination) = (text(&gap["reason"]), text(&gap["destination"]));
        format!("{readings} readings of {} to {} lost for {destination}: {reason}", moment("from"), moment("to"))
    };
    let all = gaps.as_array().into_iter().flatten().rev().map(line).collect();
    first_few(all, "earlier gaps; see status --json")
}

/// The newest first.
fn set_aside(rows: &Json) -> Vec<String> {
    let line = |row: &Json| {
        let [device, point, value, code, reason] =
            ["device", "point", "value", "code", "reason"].map(|k| text(&row[k]));
        let time = stamp(row["time"].as_i64().unwrap_or(0));
        format!("{device} · {point} = {value} of {time}: code {code}: {reason}")
    };
    let all = rows.as_array().into_iter().flatten().rev().map(line).collect();
    first_few(all, "earlier ones; see status --json")
}

fn learned(connection: &Json) -> Vec<String> {
    let name = text(&connection["name"]);
    connection["learned"].as_array().into_iter().flatten().map(|line| format!("{name}, {}", text(line))).collect()
}

fn first_few(mut lines: Vec<String>, more: &str) -> Vec<String> {
    if lines.len() > SHOWN {
        let rest = lines.len() - SHOWN;
        lines.truncate(SHOWN);
        lines.push(format!("and {rest} {more}"));
    }
    lines
}

fn connection_rows(connection: &Json, now: i64) -> Vec<Vec<String>> {
    let row = |device: &Json| {
        let state = text(&device["state"]).replace('_', " ");
        let scan = device["last_scan_ms"].as_f64().unwrap_or(0.0);
        // A device without a connection has the connection's reason.
        let error = match (&device["last_error"], state.as_str()) {
            (Json::String(error), "silent") => error.clone(),
            (_, "online") => String::new(),
            (own, _) => connection["last_error"].as_str().map_or_else(|| text(own), str::to_owned),
        };
        let count = |key: &str| grouped(device[key].as_u64().unwrap_or(0));
        vec![
            text(&connection["name"]),
            text(&device["name"]),
            state,
            relative(device["since"].as_i64().unwrap_or(0), now),
            count("points"),
            count("reads"),
            count("timeouts"),
            if scan > 0.0 { format!("{scan:.1} ms") } else { String::new() },
            error,
        ]
    };
    connection["devices"].as_array().into_iter().flatten().map(row).collect()
}

/// Text without quotes; nothing for null.
pub(super) fn text(value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(s) => s.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_763_812_990_000;

    fn status() -> Json {
        json!({
            "version": "0.1.0", "uptime_s": 300, "package": {"name": "site", "version": "1.0.0"},
            "cloud": {"endpoint": "mqtt://cloud:1883", "state": "online", "in_flight": 2, "last_error": null, "sub_devices": [
                {"device": "Meter 1", "login": "online"},
                {"device": "Meter 2", "login": "refused", "code": 1202, "message": "no such device"},
            ]},
            "outbox": {"oldest_waiting": NOW - 65_000, "gaps": [
                {"destination": "enos", "reason": "quota", "from": NOW - 7_200_000, "to": NOW - 3_600_000, "readings": 12_000},
            ], "set_aside_rows": [
                {"device": "Meter 1", "point": "U", "value": "230", "time": NOW, "code": 1204, "reason": "not in the model"},
            ]},
            "counters": {"outbox_readings": 1234, "outbox_bytes": 3_456_789, "acknowledged": 99_000, "dropped": 12_000, "set_aside": 1},
            "south": {"connections": [{"name": "line", "last_error": "no route", "learned": ["unit 1: at most 62 registers a request"],
                "devices": [
                    {"name": "Meter 1", "state": "online", "since": NOW - 90_000, "points": 4, "reads": 1500, "timeouts": 0, "last_scan_ms": 1.25, "last_error": "old"},
                    {"name": "Meter 2", "state": "not_connected", "since": NOW - 2000, "points": 4, "reads": 0, "timeouts": 0, "last_scan_ms": 0.0, "last_error": null},
                ]}]},
        })
    }

    #[test]
    fn the_page_says_in_words_what_is_wrong_since_when_and_why() {
        let page = shown(&status(), NOW);
        let expected = "\
enos-edge 0.1.0 · up 5 min · package site 1.0.0
cloud      connected to mqtt://cloud:1883 · 1 of 2 sub-devices logged in · 2 messages under way
           Meter 2: refused, code 1202: no such device
outbox     1 234 readings wait, the oldest of 2025-11-22 12:02:05Z (65 s ago) · 3.5 MB on disk
           since the start: 99 000 acknowledged · 12 000 dropped · 1 set aside
gaps       12 000 readings of 2025-11-22 10:03:10Z to 2025-11-22 11:03:10Z lost for enos: quota
set aside  Meter 1 · U = 230 of 2025-11-22 12:03:10Z: code 1204: not in the model
learned    line, unit 1: at most 62 registers a request

connection  device   state          since     points  reads  timeouts  last scan  last error
line        Meter 1  online         90 s ago  4       1 500  0         1.2 ms
line        Meter 2  not connected  2 s ago   4       0      0                    no route
";
        assert_eq!(page, expected);
    }

    #[test]
    fn the_identity_is_one_line_without_any_secret() {
        let activated = json!({"device_key": "网关-1", "device_secret": "activated", "activated_at": NOW, "certificate": {"file": "c"}});
        let line = "网关-1 · activated device secret of 2025-11-22 12:03:10Z · client certificate";
        assert_eq!(identity(&activated), [line]);
        let awaited = json!({"device_key": "gw", "device_secret": "awaited", "certificate": null});
        assert_eq!(identity(&awaited), ["gw · product secret; waits for the cloud to activate it"]);
        assert!(identity(&json!({"device_key": "gw", "device_secret": "none", "certificate": null})).is_empty());
        assert!(identity(&Json::Null).is_empty());
    }

    #[test]
    fn a_waiting_or_refusing_cloud_is_told_with_the_next_try() {
        let waiting = json!({"endpoint": "mqtts://c:8883", "state": "waiting", "until": NOW + 5000, "last_error": "no answer to TCP"});
        assert_eq!(
            cloud(&waiting, NOW),
            ["not connected to mqtts://c:8883; next try in 5 s", "reason: no answer to TCP"]
        );
        let refused = json!({"endpoint": "mqtt://c:1883", "state": "refused", "code": 4, "reason": "bad user name or sign", "until": NOW + 60_000});
        assert_eq!(cloud(&refused, NOW), ["mqtt://c:1883 refused the login: bad user name or sign; next try in 60 s"]);
        assert_eq!(cloud(&Json::Null, NOW), ["not configured; readings wait in the outbox"]);
    }
}
