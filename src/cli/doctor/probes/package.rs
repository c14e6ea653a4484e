//! The resource package: is it whole, signed by somebody trusted, and sound?

use super::configured;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::Ground;
use crate::cli::moments::relative;
use crate::config::Config;
use crate::diagnostic::{Diagnostic, Severity};
use crate::package::generations::{self, Facts};
use crate::package::source::{Limits, Source};
use crate::package::trust::{self, Trust};
use crate::package::{self};
use crate::south::protocols::Protocols;
use crate::store::{Disk, RealDisk};
use std::path::Path;

/// Faults shown; `enos-edge check` shows all.
const SHOWN: usize = 5;
/// A refusal that is older is history.
const RECENT_MS: i64 = 7 * 86_400_000;

pub(in crate::cli::doctor) fn look(ground: &Ground) -> Vec<Finding> {
    let config = match configured(ground, "the package") {
        Ok(config) => config,
        Err(unseen) => return unseen,
    };
    let mut findings = Vec::new();
    let folder = config.state_dir.join(generations::FOLDER);
    if let Err(error) = std::fs::read_dir(&folder)
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        return vec![Finding::unseen("the package", error).at(folder.display())];
    }
    match (generations::current(&RealDisk, &config.state_dir), &config.package) {
        (Ok(Some((facts, path))), _) => findings.extend(generation(ground, config, &facts, &path)),
        (Ok(None), Some(path)) if is_missing(path) => findings.push(
            Finding::fault("the package that edge.yaml names is not there")
                .at(path.display())
                .help("put it there, mend `package:` in edge.yaml, or install one: `enos-edge package install FILE`"),
        ),
        (Ok(None), Some(path)) => findings.extend(sound(ground, config, path)),
        (Ok(None), None) => findings.push(
            Finding::fault("there is no package to run")
                .help("install one: `enos-edge package install FILE`, or name it in `package:`"),
        ),
        (Err(error), _) => findings.push(
            Finding::fault(format!("the list of generations can not be read: {error}"))
                .at(folder.display())
                .help("the next start makes it anew from what lies there; install the package again if it does not"),
        ),
    }
    findings.extend(trusted(config));
    findings.extend(refusals(ground, config));
    findings.extend(watched(ground));
    findings
}

fn is_missing(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn generation(ground: &Ground, config: &Config, facts: &Facts, path: &Path) -> Vec<Finding> {
    let place = path.display();
    match RealDisk.digest(path) {
        Ok(digest) if digest == facts.sha256 => {
            let mut findings = sound(ground, config, path);
            findings.insert(
                0,
                Finding::ok(format!("{} {}, generation {}, is whole", facts.name, facts.version, facts.generation))
                    .at(place),
            );
            findings
        }
        Ok(_) => vec![
            Finding::fault(format!("generation {} is damaged: its digest does not fit", facts.generation))
                .at(place)
                .help("the next start runs the one before; install the package again, and check the disk"),
        ],
        Err(error) => vec![
            Finding::fault(format!("generation {} can not be read: {error}", facts.generation))
                .at(place)
                .help("install the package again, and check the disk"),
        ],
    }
}

/// What `enos-edge check` would say, with the secrets of devices.
fn sound(ground: &Ground, config: &Config, path: &Path) -> Vec<Finding> {
    let protocols = Protocols::new(&config.state_dir);
    match package::load(path, &protocols.list(), Some(&config.state_dir.join("secrets"))) {
        Ok(site) => vec![
            Finding::ok(format!(
                "{} devices behind {} connections, without a fault",
                site.names.devices.len(),
                site.connections.len()
            ))
            .at(path.display()),
        ],
        Err(faults) => told(ground, path, &faults),
    }
}

fn told(ground: &Ground, path: &Path, faults: &[Diagnostic]) -> Vec<Finding> {
    // The daemon may read what this user can not.
    let closed = faults.iter().find(|fault| fault.problem.contains("Permission denied"));
    if let Some(fault) = closed.filter(|_| ground.user != 0) {
        return vec![Finding::unseen("the package", &fault.problem).at(path.display()).help("run it as root")];
    }
    let errors: Vec<&Diagnostic> = faults.iter().filter(|fault| fault.severity == Severity::Error).collect();
    let mut findings: Vec<Finding> = errors
        .iter()
        .take(SHOWN)
        .map(|fault| Finding::fault(&fault.problem).at(&fault.place).help(fault.help.clone().unwrap_or_default()))
        .collect();
    if errors.len() > SHOWN {
        let what = format!("{} more faults", errors.len() - SHOWN);
        findings.push(
            Finding::fault(what).at(path.display()).help(format!("see them all: `enos-edge check {}`", path.display())),
        );
    }
    findings
}

/// Where a key has to be.
fn to_trust(config: &Config) -> String {
    format!("(*.pub) into {}, or name it in `package_trust.keys`", config.state_dir.join(trust::FOLDER).display())
}

fn trusted(config: &Config) -> Vec<Finding> {
    let trust = match Trust::load(&config.package_trust, &config.state_dir) {
        Ok(trust) => trust,
        Err(faults) => {
            let each = faults.iter().map(|fault| Finding::fault(&fault.problem).at(&fault.place));
            return each
                .map(|finding| finding.help("replace the key file: no package is taken while it is bad"))
                .collect();
        }
    };
    if !trust.requires_signature() {
        return vec![
            Finding::note("packages need no signature here").help(format!(
                "to take signed ones only, put the public key of whoever makes them {}",
                to_trust(config)
            )),
        ];
    }
    if trust.keys.is_empty() {
        return vec![
            Finding::fault("a signature is required and no key is trusted")
                .help(format!("put the public key of whoever makes the packages {}", to_trust(config))),
        ];
    }
    let mut findings = vec![Finding::ok(format!("{} keys are trusted", trust.keys.len()))];
    let Ok(Some((_, path))) = generations::current(&RealDisk, &config.state_dir) else { return findings };
    match Source::open(&path, &Limits::default()).and_then(|source| trust::verify(&source, &trust)) {
        Ok(_) => findings.push(Finding::ok("the package is signed by one of them")),
        // It was let in before the key was installed, or somebody insisted.
        Err(faults) => findings.extend(faults.iter().take(1).map(|fault| {
            Finding::warning(format!("the package that runs would not be let in now: {}", fault.problem))
                .help("have it signed and install it again")
        })),
    }
    findings
}

fn refusals(ground: &Ground, config: &Config) -> Option<Finding> {
    let events = generations::events(&RealDisk, &config.state_dir);
    let last = events.iter().rev().find(|event| event.event == "refused")?;
    let later =
        events.iter().rev().take_while(|event| event.event != "refused").any(|event| event.event == "installed");
    if later || ground.now - last.at > RECENT_MS {
        return None;
    }
    let why = last.why.lines().next().unwrap_or_default();
    Some(
        Finding::warning(format!(
            "{} {} was refused {}: {why}",
            last.name,
            last.version,
            relative(last.at, ground.now)
        ))
        .help("mend the package; see `enos-edge package history` for the rest"),
    )
}

fn watched(ground: &Ground) -> Option<Finding> {
    let package = &ground.status()?["package"];
    match package["watch"]["state"].as_str()? {
        "watching" => Some(Finding::note(format!(
            "generation {} is watched: it must show that it reads as well as the one before",
            package["generation"]
        ))),
        "rolled_back" | "failed" => Some(
            Finding::warning(format!(
                "a newer package was taken back: {}",
                package["watch"]["why"].as_str().unwrap_or_default()
            ))
            .help("mend it before it is published again"),
        ),
        _ => None,
    }
}
