//! Holds the promises of ARCHITECTURE.md that no compiler holds: direction, purity, one owner, file shape.

use std::fs;
use std::path::{Path, PathBuf};

/// What each folder (or file) below src/ may use of the crate. `app` and `cli` may use everything.
const MAY_USE: &[(&str, &[&str])] = &[
    ("diagnostic", &[]),
    ("telemetry", &[]),
    ("shutdown", &[]),
    ("logs", &[]),
    ("heap", &[]),
    ("privacy", &[]),
    ("systemd", &[]),
    ("watchdog", &["model", "systemd"]),
    ("store", &[]),
    ("version", &[]),
    ("yaml", &["diagnostic"]),
    ("model", &["diagnostic"]),
    ("config", &["diagnostic", "logs", "model", "yaml"]),
    ("mapping", &["diagnostic", "model"]),
    ("trigger", &["diagnostic", "model"]),
    ("package", &["config", "diagnostic", "model", "store", "trigger", "yaml", "version"]),
    ("south", &["diagnostic", "mapping", "model", "telemetry"]),
    ("outbox", &["config", "diagnostic", "model", "telemetry"]),
    ("mqtt", &["config", "model"]),
    ("rest", &["config", "model", "version"]),
    ("identity", &["config", "diagnostic", "model", "rest", "store", "telemetry"]),
    ("cloud", &["config", "diagnostic", "model", "mqtt", "telemetry", "version"]),
    ("forward", &["config", "diagnostic", "model", "mqtt", "rest", "telemetry"]),
    ("fetch", &["config", "diagnostic", "model", "version"]),
    ("update", &["config", "diagnostic", "fetch", "model", "package", "store", "telemetry", "yaml", "version"]),
    ("engine", &["config", "diagnostic", "model", "package", "shutdown", "store", "telemetry", "update", "version"]),
    ("operate", &["config", "diagnostic", "model", "telemetry"]),
    ("doors", &["config", "diagnostic", "logs", "model", "mqtt", "operate", "systemd", "version"]),
];

/// What a PURE file can not hold.
const IMPURE: &[&str] =
    &["tokio", "std::fs", "std::net", "SystemTime::now", "Instant::now", "Timestamp::now", "std::thread"];

/// Things with one owner: text, the files below src/ that may hold it.
const OWNERS: &[(&str, &[&str])] = &[
    ("Connection::open_", &["outbox/store.rs"]),
    ("AsyncClient::", &["mqtt/connection.rs"]),
    ("std::process::exit", &[]),
];

/// Marks that no file of the project may carry: paths of somebody's machine.
const FOREIGN: &[&str] = &["/work/", "/root/", "../shared"];

#[test]
fn folders_lean_only_the_way_the_architecture_says() {
    let mut wrong = Vec::new();
    for file in sources("src") {
        let Some(owner) = owner(&file) else { continue };
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == owner) else {
            if !["app", "cli", "main", "lib"].contains(&owner.as_str()) {
                wrong.push(format!("{}: src/{owner} is not in the table of directions", file.display()));
            }
            continue;
        };
        for (number, line) in code_lines(&file) {
            for target in crate_uses(&line) {
                if target != owner && !allowed.contains(&target.as_str()) {
                    wrong.push(format!("{}:{number}: {owner} may not use crate::{target}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_files_hold_no_runtime_no_files_and_no_clock() {
    let mut wrong = Vec::new();
    let mut pure = 0;
    for file in sources("src").into_iter().chain(sources("protocols")) {
        let text = read(&file);
        let head: String = text.lines().take_while(|l| l.starts_with("//!")).collect();
        if !head.contains("PURE") {
            continue;
        }
        pure += 1;
        for (number, line) in code_lines(&file) {
            for word in IMPURE.iter().filter(|word| line.contains(*word)) {
                wrong.push(format!("{}:{number}: a PURE file holds {word}", file.display()));
            }
        }
    }
    assert!(pure >= 10, "only {pure} files are marked PURE: the mark has been lost");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_has_one_owner_is_touched_by_no_other_file() {
    let mut wrong = Vec::new();
    for file in sources("src") {
        let name = file.strip_prefix(root().join("src")).expect("below src").display().to_string();
        for (number, line) in code_lines(&file) {
            for (text, owners) in OWNERS {
                if line.contains(text) && !owners.contains(&name.as_str()) {
                    wrong.push(format!("{name}:{number}: {text} belongs to {owners:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn protocols_depend_on_the_contract_and_not_on_the_daemon() {
    for manifest in
        ["driver", "modbus", "opcua", "virtual"].map(|p| root().join("protocols").join(p).join("Cargo.toml"))
    {
        let text = read(&manifest);
        let depends =
            text.lines().filter(|l| !l.starts_with("name")).any(|l| l.contains("enos-edge") || l.contains("../.."));
        assert!(!depends, "{} depends on the daemon", manifest.display());
    }
}

#[test]
fn every_file_opens_with_what_it_is_for_and_stays_short() {
    let mut wrong = Vec::new();
    for file in ["src", "protocols", "examples", "tests", "packaging"].iter().flat_map(|d| sources(d)) {
        let text = read(&file);
        if !text.starts_with("//! ") {
            wrong.push(format!("{}: does not open with `//! what it is for`", file.display()));
        }
        let lines = text.lines().count();
        if lines > 600 {
            wrong.push(format!("{}: {lines} lines; a file with a second subject has a file inside it", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_architecture_names_whatever_lies_in_src() {
    let page = read(&root().join("ARCHITECTURE.md"));
    let names = fs::read_dir(root().join("src")).expect("src is there").map(|entry| entry.expect("an entry"));
    let names = names.map(|entry| (entry.file_name().display().to_string(), entry.path().is_dir()));
    let shown = |name: &str| page.split([' ', '\n']).any(|word| word == name);
    let missing: Vec<String> = names
        .map(|(name, is_folder)| if is_folder { format!("{name}/") } else { name })
        // The folder beside a file of its name is told with it.
        .filter(|name| !shown(name) && !shown(&format!("{}.rs", name.trim_end_matches('/'))) && name != "lib.rs")
        .filter(|name| !shown(&format!("{}/", name.trim_end_matches(".rs"))))
        .collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not tell what these are for: {missing:?}");
}

#[test]
fn nothing_names_somebodys_machine() {
    let mut wrong = Vec::new();
    for file in all_files(&root()) {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        if file.ends_with("tests/tidy.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if let Some(mark) = FOREIGN.iter().find(|mark| line.contains(*mark)) {
                wrong.push(format!("{}:{}: {mark}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_counter_is_documented() {
    let text = read(&root().join("docs/reference/counters.md"));
    for (name, _) in enos_edge::telemetry::Counters::default().all() {
        assert!(text.contains(&format!("`{name}`")), "docs/reference/counters.md does not name {name}");
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The folder or file right below src/ that a source belongs to.
fn owner(file: &Path) -> Option<String> {
    let below = file.strip_prefix(root().join("src")).ok()?;
    let first = below.components().next()?.as_os_str().to_str()?;
    Some(first.trim_end_matches(".rs").to_owned())
}

/// Lines before the tests of the file, without comments.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    read(file)
        .lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(i, line)| (i + 1, line.to_owned()))
        .collect()
}

/// Every `crate::name` in the line.
fn crate_uses(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for part in line.split("crate::").skip(1) {
        if let Some(list) = part.strip_prefix('{') {
            let list = list.split('}').next().unwrap_or_default();
            names.extend(list.split(',').map(|n| n.trim().split("::").next().unwrap_or_default().to_owned()));
        } else {
            names.push(part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        all_files(&root().join(folder)).into_iter().filter(|f| f.extension().is_some_and(|e| e == "rs")).collect();
    files.sort();
    assert!(!files.is_empty(), "no sources below {folder}");
    files
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("folder of the project") {
        let path = entry.expect("entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if path.is_dir() {
            if !["target", "__pycache__"].contains(&name) && !name.starts_with(".git") {
                files.extend(all_files(&path));
            }
        } else if name != ".git" {
            files.push(path);
        }
    }
    files
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}
