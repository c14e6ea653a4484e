//! The packages of a gateway that does not run, for the command line.

use super::boot;
use crate::config::Config;
use crate::diagnostic;
use crate::doors::local::Refused;
use crate::package::generations::{self, Admission, FOLDER, Generations, READY, Record};
use crate::store::{self, RealDisk};
use anyhow::Context;
use serde_json::{Value as Json, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn open(config: &Config) -> anyhow::Result<Generations> {
    super::make_state_dir(&config.state_dir)?;
    // What root writes there the gateway's own user could not read: it would not start any more.
    let owner = std::fs::metadata(&config.state_dir).context("look at the state folder")?.uid();
    anyhow::ensure!(
        owner == 0 || !rustix::process::geteuid().is_root(),
        "{} belongs to user {owner}, and no gateway runs\n  help: start the gateway and ask again, or ask as its user: \
         sudo -u '#{owner}' enos-edge package …",
        config.state_dir.display()
    );
    Generations::open_alone(&config.state_dir).context("open the folder of packages")
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
    let (facts, _) = boot::install_at_rest(&mut generations, config, path, old.as_ref(), how)
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
    let site = boot::load(config, &generations.path(facts.generation)).map_err(|faults| Refused {
        code: "failed".to_owned(),
        message: format!("generation {} can not run:\n{}", facts.generation, diagnostic::joined(&faults)),
    })?;
    generations.go_back(&facts, &site, false, "asked for").context("go back")?;
    Ok(json!({ "package": facts }))
}

/// Only looks, and makes nothing.
///
/// # Errors
/// When the folder can not be read.
pub fn packages_offline(config: &Config) -> anyhow::Result<Json> {
    let record = match Generations::look(&RealDisk, &config.state_dir) {
        Ok((record, _)) => record,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Record::default(),
        Err(error) => return Err(error).context("read the folder of packages"),
    };
    Ok(json!({ "current": record.current, "generations": record.generations }))
}

/// Only looks, and makes nothing.
///
/// # Errors
/// When the folder can not be read.
pub fn package_history_offline(config: &Config) -> anyhow::Result<Json> {
    packages_offline(config)?;
    Ok(json!(generations::events(&RealDisk, &config.state_dir)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(home: &Path) -> Config {
        let path = home.join("edge.yaml");
        std::fs::write(&path, "state_dir: state\n").unwrap();
        crate::config::read(&path).unwrap()
    }

    #[test]
    fn whoever_only_looks_makes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let config = config(home.path());
        assert_eq!(packages_offline(&config).unwrap()["current"], 0);
        assert_eq!(package_history_offline(&config).unwrap(), json!([]));
        assert!(!config.state_dir.exists(), "a folder of root's would keep the gateway from starting");
    }

    #[test]
    fn root_leaves_nothing_in_the_folder_of_another_user() {
        let home = tempfile::tempdir().unwrap();
        let config = config(home.path());
        std::fs::create_dir(&config.state_dir).unwrap();
        if std::os::unix::fs::chown(&config.state_dir, Some(65534), None).is_err() {
            return; // Only root can give a folder away.
        }
        let refused = install_offline(&config, home.path(), false).unwrap_err().to_string();
        assert!(refused.contains("belongs to user 65534") && refused.contains("sudo -u"), "{refused}");
        assert_eq!(std::fs::read_dir(&config.state_dir).unwrap().count(), 0);
    }
}
