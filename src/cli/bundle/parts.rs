//! What goes into a bundle: a table, and how each part is made.

use super::blank;
use crate::cli::doctor::{Report, page, program};
use crate::config::Config;
use crate::diagnostic::{Diagnostic, joined};
use crate::identity::certificate::facts_of;
use crate::package::generations;
use crate::package::source::{Limits, Source};
use crate::store::RealDisk;
use crate::{doors, outbox, yaml};
use driver::Answer;
use serde_json::{Value as Json, json};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Of any log; the archive's own limit comes on top.
const LOG: u64 = 8 << 20;
const ASKED: Duration = Duration::from_secs(10);
/// Lines of the audit, the newest.
const AUDIT: u64 = 2 << 20;
/// Names and values of the state folder.
const LISTED: usize = 5000;

/// What is known when packing begins.
pub(super) struct Scene {
    pub config_path: PathBuf,
    pub config: Option<Config>,
    pub faults: Vec<Diagnostic>,
    pub status: Option<Json>,
    pub report: Report,
    pub since: Duration,
    pub log: Option<PathBuf>,
    pub with_readings: bool,
}

/// Names in the archive, with their text.
type Files = Vec<(String, String)>;

pub(super) struct Part {
    pub name: &'static str,
    pub make: for<'a> fn(&'a Scene) -> Answer<'a, Files>,
}

/// What matters most comes first: the last ones are cut when there is no room.
pub(super) const PARTS: &[Part] = &[
    Part { name: "README", make: |scene| Box::pin(async { readme(scene) }) },
    Part { name: "doctor", make: |scene| Box::pin(async { doctor(scene) }) },
    Part { name: "status", make: |scene| Box::pin(async { status(scene) }) },
    Part { name: "configuration", make: |scene| Box::pin(async { configuration(scene) }) },
    Part { name: "package", make: |scene| Box::pin(async { package(scene) }) },
    Part { name: "outbox", make: |scene| Box::pin(async { outbox(scene) }) },
    Part { name: "certificates", make: |scene| Box::pin(async { certificates(scene) }) },
    Part { name: "state", make: |scene| Box::pin(async { state(scene) }) },
    Part { name: "audit", make: |scene| Box::pin(async { audit(scene) }) },
    Part { name: "system", make: |_| Box::pin(system()) },
    Part { name: "service", make: |_| Box::pin(service()) },
    Part { name: "kernel", make: |scene| Box::pin(kernel(scene)) },
    Part { name: "log", make: |scene| Box::pin(log(scene)) },
];

fn one(name: &str, text: String) -> Files {
    vec![(name.to_owned(), text)]
}

fn pretty(json: &Json) -> String {
    serde_json::to_string_pretty(json).unwrap_or_default() + "\n"
}

fn readme(scene: &Scene) -> Files {
    let readings = if scene.with_readings { "with" } else { "without" };
    one(
        "README.txt",
        format!(
            "Support bundle of enos-edge {}, made {} UTC, {readings} readings.\n\
             Begin with doctor.txt. Secrets are replaced by (removed); comments of edge.yaml are left out.\n\
             Logs that were too long are kept from their end.\n",
            scene.report.version,
            crate::cli::moments::stamp(scene.report.at)
        ),
    )
}

fn doctor(scene: &Scene) -> Files {
    let mut report = json!(scene.report);
    blank::json(&mut report);
    vec![
        ("doctor.txt".to_owned(), blank::text(&page(&scene.report, true))),
        ("doctor.json".to_owned(), pretty(&report)),
    ]
}

/// Without the values that were refused.
fn status(scene: &Scene) -> Files {
    let Some(mut status) = scene.status.clone() else {
        return one("status.txt", format!("the gateway is {}\n", scene.report.gateway));
    };
    blank::json(&mut status);
    if !scene.with_readings {
        blank::leave_out(&mut status["outbox"]["set_aside_rows"], &["value"]);
    }
    let mut files = one("status.json", pretty(&status));
    if let (true, Some(config)) = (scene.with_readings, &scene.config) {
        let asked = doors::local::Visitor::connect(&config.control_socket)
            .and_then(|mut visitor| visitor.ask("values", &json!({})));
        files.push((
            "values.json".to_owned(),
            asked.map_or_else(|error| format!("{error:#}\n"), |values| pretty(&values)),
        ));
    }
    files
}

fn configuration(scene: &Scene) -> Files {
    let faults = blank::text(&joined(&scene.faults));
    let text = match std::fs::read_to_string(&scene.config_path) {
        Ok(text) => match yaml::parse(&"edge.yaml".into(), &text) {
            (Some(node), faults) if faults.is_empty() => blank::yaml(&node),
            // Nobody knows where the secrets of a file are that can not be read.
            _ => "# is no YAML and is left out; see configuration/faults.txt\n".to_owned(),
        },
        Err(error) => format!("# can not be read: {error}\n"),
    };
    vec![("configuration/edge.yaml".to_owned(), text), ("configuration/faults.txt".to_owned(), faults)]
}

fn package(scene: &Scene) -> Files {
    let Some(config) = &scene.config else { return Vec::new() };
    let folder = config.state_dir.join(generations::FOLDER);
    let mut files = Vec::new();
    match generations::Record::read(&RealDisk, &folder) {
        Ok(record) => files.push(("package/generations.json".to_owned(), pretty(&json!(record)))),
        Err(error) => files.push(("package/generations.txt".to_owned(), format!("{error}\n"))),
    }
    let events = generations::events(&RealDisk, &config.state_dir);
    files.push(("package/history.json".to_owned(), blank::text(&pretty(&json!(events)))));
    let current = generations::current(&RealDisk, &config.state_dir).ok().flatten().map(|(_, path)| path);
    if let Some(path) = current.or_else(|| config.package.clone()) {
        files.extend(manifest(&path));
    }
    files
}

/// The manifest, and names, lengths and digests of all files.
fn manifest(path: &Path) -> Files {
    let source = match Source::open(path, &Limits::default()) {
        Ok(source) => source,
        Err(faults) => return one("package/faults.txt", blank::text(&joined(&faults))),
    };
    let mut text = String::new();
    // What can not be read is told by the doctor.
    let _ = source.reader("package.yaml").map(|reader| reader.take(1 << 20).read_to_string(&mut text));
    let shown = match yaml::parse(&"package.yaml".into(), &text) {
        (Some(node), _) => blank::yaml(&node),
        _ => String::new(),
    };
    let line = |name: &str| match source.measure(name) {
        Ok((length, sha256)) => format!("{sha256} {length:>12} {name}\n"),
        Err(fault) => format!("{fault}\n"),
    };
    let list: String = source.files().map(line).collect();
    vec![("package/package.yaml".to_owned(), shown), ("package/files.txt".to_owned(), list)]
}

fn outbox(scene: &Scene) -> Files {
    let (Some(config), None) = (&scene.config, &scene.status) else { return Vec::new() };
    let text = match outbox::inspect(&config.state_dir.join("outbox")) {
        Ok(Some(found)) => {
            let mut found = json!(found);
            if !scene.with_readings {
                blank::leave_out(&mut found, &["value"]);
            }
            pretty(&found)
        }
        Ok(None) => "there is none\n".to_owned(),
        Err(error) => format!("{error}\n"),
    };
    one("outbox.json", text)
}

/// Certificates alone: a file that holds a key too loses it.
fn certificates(scene: &Scene) -> Files {
    let Ok(text) = std::fs::read_to_string(&scene.config_path) else { return Vec::new() };
    let (Some(node), _) = yaml::parse(&"edge.yaml".into(), &text) else { return Vec::new() };
    let mut named = Vec::new();
    named_certificates(&node, String::new(), &mut named);
    let folder = scene.config_path.parent().unwrap_or(Path::new("."));
    let mut files = Vec::new();
    for (key, file) in named {
        let path = folder.join(&file);
        let shown = match std::fs::read_to_string(&path) {
            Ok(text) => public(&text),
            Err(error) => format!("{}: {error}\n", path.display()),
        };
        files.push((format!("certificates/{key}.txt"), format!("{}\n{shown}", path.display())));
    }
    files
}

fn named_certificates(node: &yaml::Node<'_>, place: String, found: &mut Vec<(String, String)>) {
    match &node.kind {
        yaml::Kind::Map(pairs) => {
            for (key, value) in pairs {
                let place = format!("{place}{}", key.text);
                match &value.kind {
                    yaml::Kind::Text(text) if ["ca_file", "cert_file"].iter().any(|end| key.text.ends_with(end)) => {
                        found.push((place, text.to_string()));
                    }
                    _ => named_certificates(value, place + ".", found),
                }
            }
        }
        yaml::Kind::List(items) => {
            for (index, item) in items.iter().enumerate() {
                named_certificates(item, format!("{place}{index}."), found);
            }
        }
        yaml::Kind::Text(_) | yaml::Kind::Null => {}
    }
}

fn public(text: &str) -> String {
    let mut certificates = String::new();
    let mut inside = false;
    for line in text.lines() {
        inside |= line == "-----BEGIN CERTIFICATE-----";
        if inside {
            certificates.push_str(line);
            certificates.push('\n');
        }
        inside &= line != "-----END CERTIFICATE-----";
    }
    match facts_of(&certificates) {
        Ok(facts) => format!("{}{certificates}", pretty(&json!(facts))),
        Err(why) => format!("{why}\n"),
    }
}

/// Names, sizes, rights and times; contents of nothing but the records of updates.
fn state(scene: &Scene) -> Files {
    let Some(config) = &scene.config else { return Vec::new() };
    let mut list = String::new();
    let mut waiting = vec![config.state_dir.clone()];
    let mut seen = 0;
    while let Some(folder) = waiting.pop() {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().map_while(Result::ok);
        for entry in entries.take(LISTED) {
            let Ok(found) = entry.metadata() else { continue };
            seen += 1;
            if seen > LISTED {
                break;
            }
            let name = entry.path();
            let at = crate::cli::moments::stamp(found.mtime().saturating_mul(1000));
            list.push_str(&format!(
                "{:o} {}:{} {:>12} {at} {}\n",
                found.mode(),
                found.uid(),
                found.gid(),
                found.len(),
                name.display()
            ));
            if found.is_dir() {
                waiting.push(name);
            }
        }
    }
    let mut files = one("state.txt", list);
    for folder in ["engines", "update"] {
        files.extend(records(&config.state_dir, folder));
    }
    files
}

/// Of one record.
const RECORD: u64 = 64 << 10;

/// Small JSON records, blanked.
fn records(state: &Path, folder: &str) -> Files {
    let entries = std::fs::read_dir(state.join(folder)).into_iter().flatten().map_while(Result::ok);
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.path()).filter(|path| path.is_file()).take(20) {
        // Of a long history the newest.
        let Some(text) = tail(&path, RECORD) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.push((format!("state/{folder}/{name}.txt"), blank::text(&text)));
    }
    files
}

/// Who commanded what when, and what came of it; without the values.
fn audit(scene: &Scene) -> Files {
    let Some(config) = &scene.config else { return Vec::new() };
    let entries = std::fs::read_dir(config.state_dir.join("audit")).into_iter().flatten().map_while(Result::ok);
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    paths.sort();
    let Some(text) = paths.last().and_then(|path| tail(path, AUDIT)) else { return Vec::new() };
    let line = |line: &str| {
        let mut record: Json = serde_json::from_str(line).ok()?;
        if !scene.with_readings {
            // `what` names the point and holds what was to be written there; messages repeat it.
            blank::leave_out(&mut record, &["message"]);
            if let Some(what) = record["what"].as_object_mut() {
                what.retain(|key, value| ["kind", "service", "points"].contains(&key.as_str()) && !value.is_object());
            } else {
                record["what"] = blank::BLANK.into();
            }
        }
        blank::json(&mut record);
        Some(format!("{record}\n"))
    };
    one("audit.jsonl", text.lines().filter_map(line).collect())
}

fn tail(path: &Path, most: u64) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let from = file.metadata().ok()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Nothing that shows command lines: other programs have secrets there.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("uname", &["-a"]),
    ("getconf", &["GNU_LIBC_VERSION"]),
    ("uptime", &[]),
    ("timedatectl", &["show"]),
    ("df", &["-h"]),
    ("df", &["-i"]),
    ("ip", &["-brief", "address"]),
    ("ip", &["route"]),
    ("ss", &["-tln"]),
    ("ls", &["-lR", "/dev/serial"]),
    ("ps", &["-eo", "pid,user,stat,etimes,rss,nlwp,comm", "--sort=-rss"]),
];
const SYSTEM_FILES: &[&str] = &[
    "/etc/os-release",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/mounts",
    "/proc/net/dev",
    "/etc/resolv.conf",
    "/proc/pressure/io",
    "/proc/tty/driver/serial",
];

async fn system() -> Files {
    let mut text = String::new();
    for file in SYSTEM_FILES {
        let read = std::fs::read_to_string(file).unwrap_or_else(|error| format!("{error}\n"));
        text.push_str(&format!("== {file}\n{}\n", blank::text(&read)));
    }
    for (program, arguments) in PROGRAMS {
        let said = program::said(program, arguments).await.unwrap_or_else(|| "no answer\n".to_owned());
        text.push_str(&format!("== {program} {}\n{}\n", arguments.join(" "), blank::text(&said)));
    }
    one("system.txt", text)
}

/// Properties that hold no environment: that is where people put secrets.
const PROPERTIES: &str = "Id,Names,LoadState,ActiveState,SubState,UnitFileState,FragmentPath,DropInPaths,NRestarts,Result,\
    ExecMainStatus,ExecMainCode,ExecMainStartTimestamp,ExecMainExitTimestamp,MainPID,WatchdogUSec,WatchdogTimestamp,MemoryCurrent,\
    MemoryPeak,TasksCurrent,CPUUsageNSec,LimitNOFILE,User,Group,StateDirectory,DeviceAllow,ActiveEnterTimestamp,InactiveEnterTimestamp";

async fn service() -> Files {
    let mut text = String::new();
    for unit in ["enos-edge.service", "enos-edge.socket", "rauc.service", "swupdate.service"] {
        let said = program::said("systemctl", &["show", unit, "-p", PROPERTIES]).await;
        text.push_str(&format!("== {unit}\n{}\n", blank::text(&said.unwrap_or_else(|| "no answer\n".to_owned()))));
    }
    one("service.txt", text)
}

/// Words of kernel messages that matter to a gateway.
const KERNEL: &[&str] = &[
    "tty",
    "serial",
    "usb",
    "mmc",
    "sd ",
    "nvme",
    "ata",
    "ext4",
    "i/o error",
    "eth",
    "link is",
    "wlan",
    "wwan",
    "oom",
    "out of memory",
    "watchdog",
    "thermal",
    "undervoltage",
    "enos-edge",
    "segfault",
    "read-only",
    "rtc",
    "nand",
    "ubi",
];

async fn kernel(scene: &Scene) -> Files {
    let since = format!("-{}s", scene.since.as_secs());
    let journal =
        program::bounded("journalctl", &["-k", "--no-pager", "-o", "short-iso", "--since", &since], LOG, ASKED).await;
    let said = match journal.filter(|(text, _)| text.lines().count() > 1) {
        Some((text, _)) => Some(text),
        None => program::bounded("dmesg", &["-T"], LOG, ASKED).await.map(|(text, _)| text),
    };
    let Some(said) = said else { return one("kernel.txt", "the kernel's messages can not be read\n".to_owned()) };
    let fits = |line: &&str| {
        let line = line.to_ascii_lowercase();
        KERNEL.iter().any(|word| line.contains(word))
    };
    let lines: Vec<&str> = said.lines().filter(fits).collect();
    one("kernel.txt", blank::text(&lines.join("\n")))
}

/// The journal of the service, a file that is named, or what syslog wrote of it.
async fn log(scene: &Scene) -> Files {
    if let Some(path) = &scene.log {
        let text = tail(path, LOG).unwrap_or_else(|| format!("{} can not be read\n", path.display()));
        return one("log.txt", blank::text(&text));
    }
    let since = format!("-{}s", scene.since.as_secs());
    let unit = crate::cli::doctor::UNIT;
    // The newest lines first, so that the limit cuts the oldest.
    let arguments = ["-u", unit, "--no-pager", "-o", "short-iso-precise", "-r", "--since", &since];
    if let Some((text, more)) = program::bounded("journalctl", &arguments, LOG, ASKED).await
        && text.lines().count() > 1
    {
        let mut lines: Vec<&str> = text.lines().collect();
        if more {
            // It was cut in its middle.
            lines.pop();
        }
        lines.reverse();
        return one("log.txt", blank::text(&lines.join("\n")));
    }
    for path in ["/var/log/syslog", "/var/log/messages", "/var/log/daemon.log"] {
        let Some(text) = tail(Path::new(path), LOG) else { continue };
        let lines: Vec<&str> = text.lines().filter(|line| line.contains("enos-edge")).collect();
        if !lines.is_empty() {
            return one("log.txt", blank::text(&lines.join("\n")));
        }
    }
    one("log.txt", "no log is found: name it with --log FILE\n".to_owned())
}
