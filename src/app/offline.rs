//! The packages of a gateway that does not run, for the command line.

use super::boot;
use crate::config::Config;
use crate::diagnostic;
use crate::doors::local::Refused;
use crate::package::generations::{self, Admission, FOLDER, Generations, READY};
use crate::store::{self, RealDisk};
use anyhow::Context;
use serde_json::{Value as Json, json};
use std::path::Path;
use std::sync::Arc;

fn open(config: &Config) -> anyhow::Result<Generations> {
    super::make_state_dir(&config.state_dir)?;
    Generations::open(Arc::new(RealDisk), &config.state_dir).context("open the folder of packages")
}

/// The package that all parts of the running gateway have, as its flag says. `None`: there is no flag.
///
/// # Errors
/// When the flag is there and can not be read.
pub fn ready_package(state_dir: &Path) -> anyhow::Result<Option<Json>> {
    let flag = state_dir.join(FOLDER).join(READY);
    let read = store::read(&RealDisk, &flag).with_context(|| format!("read {}", flag.display()))?;
    read.map(|bytes| serde_json::from_slice(&bytes).with_context(|| format!("read {}", flag.display()))).transpose()
}

/// Makes a package the one the next start runs.
///
/// # Errors
/// Its faults, or the disk's.
pub fn install_offline(config: &Config, path: &Path, force: bool) -> anyhow::Result<Json> {
    let mut generations = open(config)?;
    let old = generations.current().and_then(|facts| boot::load(config, &generations.path(facts.generation)).ok());
    let how = Admission { force, explicit: false };
    let (facts, _) = boot::install(&mut generations, config, path, old.as_ref(), how, &|_| None)
        .map_err(|unfit| Refused { code: "refused".to_owned(), message: diagnostic::joined(&unfit.faults) })?;
    // What edge.yaml names now was there before; only a change of it counts from here on.
    let limits = generations::limits(&config.state_dir);
    let seed = config.package.as_deref().and_then(|seed| generations::content_of(seed, &limits).ok());
    if let Some(content) = seed {
        generations.seeded(&content).context("remember the configured package")?;
    }
    Ok(json!({ "package": facts }))
}

/// Makes an older generation the one the next start runs.
///
/// # Errors
/// When there is none, or the disk's.
pub fn roll_back_offline(config: &Config, to: Option<u64>) -> anyhow::Result<Json> {
    let mut generations = open(config)?;
    let facts = generations.before(to).map_err(|message| Refused { code: "no_generation".to_owned(), message })?;
    boot::load(config, &generations.path(facts.generation)).map_err(|faults| Refused {
        code: "failed".to_owned(),
        message: format!("generation {} can not run:\n{}", facts.generation, diagnostic::joined(&faults)),
    })?;
    generations.go_back(&facts, false, "asked for").context("go back")?;
    Ok(json!({ "package": facts }))
}

/// # Errors
/// When the folder can not be read.
pub fn packages_offline(config: &Config) -> anyhow::Result<Json> {
    let generations = open(config)?;
    Ok(json!({ "current": generations.record().current, "generations": generations.record().generations }))
}

/// # Errors
/// When the folder can not be read.
pub fn package_history_offline(config: &Config) -> anyhow::Result<Json> {
    Ok(json!(open(config)?.history()))
}
