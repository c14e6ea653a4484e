//! Which package a start runs: the current generation, unless the configuration names something new.

use crate::config::Config;
use crate::diagnostic::{self, Diagnostic};
use crate::model::{Site, Timestamp};
use crate::package::generations::{self, Admission, Facts, Generations, content_of};
use crate::package::source::Source;
use crate::package::trust::{self, Trust};
use crate::south::protocols::Protocols;
use crate::store::RealDisk;
use anyhow::Context;
use std::path::Path;
use std::sync::Arc;

/// A checked package with the secrets of its devices.
pub(super) fn load(config: &Config, path: &Path) -> Result<Site, Vec<Diagnostic>> {
    let (protocols, secrets) = (Protocols::new(&config.state_dir), config.state_dir.join("secrets"));
    crate::package::load_in(path, &protocols.list(), Some(&secrets), &generations::limits(&config.state_dir))
}

/// Takes a package over, checks it, and makes it the current generation.
///
/// # Errors
/// Every reason against it. What ran before is still current then.
pub(super) fn install(
    generations: &mut Generations,
    config: &Config,
    from: &Path,
    old: Option<&Site>,
    how: Admission,
) -> Result<(Facts, Arc<Site>), Vec<Diagnostic>> {
    let trust = Trust::load(&config.package_trust, &config.state_dir)?;
    let how = Admission { explicit: how.explicit || trust.allow_downgrade, ..how };
    let staged = generations.stage(from, &from.display().to_string(), Timestamp::now().0)?;
    let checked = trusted(config, staged.path(), &trust).and_then(|()| load(config, staged.path())).and_then(|site| {
        generations.admit(&staged, &site, old, how)?;
        Ok(site)
    });
    let site = match checked {
        Ok(site) => Arc::new(site),
        Err(faults) => {
            generations.discard(&staged, &faults);
            return Err(faults);
        }
    };
    let published = generations.publish(staged, &site).map_err(|error| {
        let place = driver::Place::new(&from.display().to_string().into(), 0, 0);
        vec![Diagnostic::error(place, format!("can not be made the current package: {error}"))]
    })?;
    Ok((published, site))
}

/// Who signed it is asked before what it says, and of the very bytes that will run.
fn trusted(config: &Config, package: &Path, trust: &Trust) -> Result<(), Vec<Diagnostic>> {
    trust::verify(&Source::open(package, &generations::limits(&config.state_dir))?, trust).map(|_| ())
}

/// The package to run. A configured one that is new becomes a generation first; when it does not pass, what ran before
/// goes on, and it is told. With none at all the gateway waits for one.
///
/// # Errors
/// When what is configured or was installed can not run.
pub(super) fn first(config: &Config) -> anyhow::Result<(Generations, Arc<Site>)> {
    let mut generations =
        Generations::open(Arc::new(RealDisk), &config.state_dir).context("open the folder of packages")?;
    generations::tell_not_ready(&RealDisk, &config.state_dir);
    let usable = generations.usable();
    if let Some(path) = &config.package {
        match seed(&mut generations, config, path, usable.is_empty()) {
            Ok(Some(site)) => return Ok((generations, site)),
            Ok(None) => {}
            Err(faults) => {
                let told = format!("package {} can not be used:\n{}", path.display(), diagnostic::joined(&faults));
                anyhow::ensure!(!usable.is_empty(), "{told}");
                tracing::error!("{told}\nthe generation on disk runs instead");
            }
        }
    }
    for facts in usable {
        match load(config, &generations.path(facts.generation)) {
            Ok(site) => {
                if facts.generation != generations.record().current {
                    generations
                        .go_back(&facts, false, "the current generation can not be loaded")
                        .context("go back")?;
                }
                return Ok((generations, Arc::new(site)));
            }
            Err(faults) => tracing::error!(
                generation = facts.generation,
                "a package on disk can not be loaded:\n{}",
                diagnostic::joined(&faults)
            ),
        }
    }
    // What was there once and can not be loaded is a fault: a new engine that can not read it must not pass its trial.
    anyhow::ensure!(generations.record().current == 0, "no package on disk can be loaded; see above");
    Ok((generations, Arc::new(Site::empty())))
}

/// `package:` of the configuration, if it holds something that was not looked at before.
fn seed(
    generations: &mut Generations,
    config: &Config,
    path: &Path,
    needed: bool,
) -> Result<Option<Arc<Site>>, Vec<Diagnostic>> {
    let content = content_of(path, &generations::limits(&config.state_dir))?;
    if !needed && generations.record().seed.as_ref() == Some(&content) {
        return Ok(None);
    }
    let same = generations.current().is_some_and(|current| current.content == content);
    let site = if same && !needed {
        None
    } else {
        // Guards compare with what ran before, as far as that can still be loaded.
        let old = generations.current().and_then(|facts| load(config, &generations.path(facts.generation)).ok());
        let how = Admission { explicit: true, force: needed };
        Some(install(generations, config, path, old.as_ref(), how)?.1)
    };
    if let Err(error) = generations.seeded(&content) {
        tracing::warn!(%error, "the configured package will be looked at again with the next start");
    }
    Ok(site)
}
