//! Who may read the secrets, and whether the daemon may use what is its own.

use super::configured;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::Ground;
use crate::cli::doctor::people::{self, Wish};
use crate::yaml::{self, Kind, Node};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files looked at below the state folder; more of them say the same.
const MOST: usize = 20_000;
/// Named one by one; the rest is counted.
const SHOWN: usize = 3;

pub(in crate::cli::doctor) fn look(ground: &Ground) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(daemon) = ground.daemon() else {
        return vec![Finding::unseen("rights", "nobody knows yet who runs the gateway: there is no state folder")];
    };
    findings.extend(named_files(ground, daemon));
    match configured(ground, "the state folder") {
        Ok(config) => findings.extend(state(ground, &config.state_dir, daemon)),
        Err(unseen) => findings.extend(unseen),
    }
    if findings.is_empty() {
        let name = people::user_name(&ground.root, daemon);
        findings.push(Finding::ok(format!("{name} may read the configuration and what it names, and owns the state")));
    }
    findings
}

/// The configuration and every file that a key `…_file` names.
fn named_files(ground: &Ground, daemon: u32) -> Vec<Finding> {
    let mut files = vec![ground.config_path.clone()];
    if let Ok(text) = std::fs::read_to_string(&ground.config_path) {
        let name = ground.config_path.display().to_string().into();
        if let (Some(node), _) = yaml::parse(&name, &text) {
            let folder = ground.config_path.parent().unwrap_or(Path::new("."));
            walk(&node, &mut |path| files.push(folder.join(path)));
        }
    }
    files.iter().filter_map(|file| one(ground, file, daemon)).collect()
}

fn walk(node: &Node<'_>, found: &mut dyn FnMut(&str)) {
    match &node.kind {
        Kind::Map(pairs) => {
            for (key, value) in pairs {
                match &value.kind {
                    Kind::Text(text) if key.text.ends_with("_file") => found(text),
                    _ => walk(value, found),
                }
            }
        }
        Kind::List(items) => items.iter().for_each(|item| walk(item, found)),
        Kind::Text(_) | Kind::Null => {}
    }
}

fn one(ground: &Ground, file: &Path, daemon: u32) -> Option<Finding> {
    // What is missing is told by the configuration.
    let found = std::fs::metadata(file).ok()?;
    if people::may_open(&ground.root, daemon, &found, Wish::Read) {
        return None;
    }
    let name = people::user_name(&ground.root, daemon);
    let who = people::user_name(&ground.root, found.uid());
    Some(
        Finding::fault(format!(
            "{name}, who runs the gateway, may not read it ({who}, mode {:o})",
            found.mode() & 0o7777
        ))
        .at(file.display())
        .help(format!("chgrp {name} {0} && chmod 640 {0}", file.display())),
    )
}

/// Everything below belongs to the daemon and to nobody else.
fn state(ground: &Ground, folder: &Path, daemon: u32) -> Vec<Finding> {
    let mut findings = Vec::new();
    let found = match std::fs::metadata(folder) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Finding::note("is not there yet; the first start makes it").at(folder.display())];
        }
        Err(error) => return vec![Finding::unseen("the state folder", error).at(folder.display())],
    };
    if daemon != 0 && found.uid() == daemon && found.mode() & 0o700 != 0o700 {
        let name = people::user_name(&ground.root, daemon);
        let what = format!(
            "{name}, who runs the gateway, may not write its state (mode {:o}): it does not start",
            found.mode() & 0o777
        );
        findings.push(Finding::fault(what).at(folder.display()).help(format!("chmod 700 {}", folder.display())));
    } else if found.mode() & 0o077 != 0 {
        let what = format!("others may look into the state folder (mode {:o})", found.mode() & 0o777);
        findings.push(Finding::warning(what).at(folder.display()).help(format!("chmod 700 {}", folder.display())));
    }
    let (mut foreign, mut open, mut closed) = (Vec::new(), Vec::new(), Vec::new());
    if found.uid() != daemon {
        foreign.push(folder.to_owned());
    }
    each(folder, &mut |path, found| {
        match found {
            None => closed.push(path),
            Some(found) if found.uid() != daemon => foreign.push(path),
            // A secret in a folder that is closed is closed too, but folders are copied.
            Some(found) if found.is_file() && found.mode() & 0o077 != 0 && is_secret(folder, &path) => open.push(path),
            Some(_) => {}
        }
    });
    let name = people::user_name(&ground.root, daemon);
    if !foreign.is_empty() {
        let what = format!("{} belong to somebody else than {name}, who runs the gateway", shown(&foreign));
        findings.push(Finding::fault(what).at(folder.display()).help(format!("chown -R {name}: {}", folder.display())));
    }
    if !open.is_empty() {
        let what = format!("{} hold secrets and can be read by others", shown(&open));
        findings.push(Finding::fault(what).at(folder.display()).help(format!("chmod -R go= {}", folder.display())));
    }
    if !closed.is_empty() {
        findings.push(
            Finding::unseen("the state", format!("this user may not open {}", shown(&closed))).at(folder.display()),
        );
    }
    findings
}

fn is_secret(state: &Path, file: &Path) -> bool {
    let first = file.strip_prefix(state).ok().and_then(|below| below.components().next());
    let first = first.map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    ["identity", "secrets", "pki"].contains(&first.as_str())
}

/// Without following links; `None` for what this user may not look at.
fn each(folder: &Path, look: &mut dyn FnMut(PathBuf, Option<Metadata>)) {
    let (mut waiting, mut seen) = (vec![folder.to_owned()], 0);
    while let Some(folder) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            look(folder, None);
            continue;
        };
        for entry in entries.map_while(Result::ok) {
            seen += 1;
            if seen > MOST {
                return;
            }
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                waiting.push(entry.path());
            }
            look(entry.path(), Some(found));
        }
    }
}

fn shown(paths: &[PathBuf]) -> String {
    let first: Vec<String> = paths.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    let more = paths.len().saturating_sub(SHOWN);
    if more == 0 { first.join(", ") } else { format!("{} and {more} more", first.join(", ")) }
}
