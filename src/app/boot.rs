//! Which package a start runs: the current generation, unless the configuration names something new.

use crate::config::Config;
use crate::diagnostic::{self, Diagnostic, Severity};
use crate::model::progress::{Progress, Unit};
use crate::model::{RefusedAt, Site, Timestamp};
use crate::package::generations::{self, Admission, Facts, Generations, Watch, content_of};
use crate::package::manifest;
use crate::package::source::{Limits, Source};
use crate::package::trust::{self, Trust};
use crate::south::protocols::Protocols;
use crate::store::RealDisk;
use anyhow::Context;
use std::path::Path;
use std::sync::Arc;

/// A package that ran here before, checked, with the secrets of its devices.
pub(super) fn load(config: &Config, path: &Path) -> Result<Site, Vec<Diagnostic>> {
    load_in(config, path, &Limits { needed: true, ..generations::limits(&config.state_dir) })
}

fn load_in(config: &Config, path: &Path, limits: &Limits) -> Result<Site, Vec<Diagnostic>> {
    let (protocols, secrets) = (Protocols::new(&config.state_dir), config.state_dir.join("secrets"));
    crate::package::load_in(path, &protocols.list(), Some(&secrets), limits)
}

/// Why a package does not become the current generation.
pub(super) struct Unfit {
    pub at: RefusedAt,
    pub faults: Vec<Diagnostic>,
}

impl Unfit {
    fn at(at: RefusedAt) -> impl Fn(Vec<Diagnostic>) -> Unfit {
        move |faults| Unfit { at, faults }
    }

    /// What the disk did not take may be taken later; anything else stays as it is.
    fn staged(faults: Vec<Diagnostic>) -> Unfit {
        Unfit { at: if is_of_machine(&faults) { RefusedAt::Switch } else { RefusedAt::Check }, faults }
    }
}

fn is_of_machine(faults: &[Diagnostic]) -> bool {
    faults.iter().any(|fault| fault.machine)
}

/// How a sound package will be judged, if it will.
pub(super) type Foresee<'a> = dyn Fn(&Site) -> Option<Watch> + 'a;

/// Takes a package over, checks it, and makes it the current generation.
///
/// # Errors
/// Every reason against it. What ran before is still current then.
#[expect(clippy::too_many_arguments, reason = "what comes, how, after what, and who is told")]
pub(super) fn install(
    generations: &mut Generations,
    config: &Config,
    from: &Path,
    shown: &str,
    old: Option<&Site>,
    how: Admission,
    foresee: &Foresee<'_>,
    progress: &Progress,
) -> Result<(Facts, Arc<Site>), Unfit> {
    let trust = Trust::load(&config.package_trust, &config.state_dir).map_err(Unfit::at(RefusedAt::Signature))?;
    let how = Admission { explicit: how.explicit || trust.allow_downgrade, ..how };
    generations.report_to(progress);
    let staged = generations.stage(from, shown, Timestamp::now().0).map_err(Unfit::staged)?;
    let limits = Limits { progress: progress.clone(), ..generations::limits_for_new(&config.state_dir) };
    let check = || {
        progress.step("verifying", 0, Unit::Things);
        trusted(&limits, staged.path(), &trust).map_err(Unfit::at(RefusedAt::Signature))?;
        generations.admit_by_name(&staged, how).map_err(Unfit::at(RefusedAt::Check))?;
        let site = load_in(config, staged.path(), &limits).map_err(Unfit::staged)?;
        generations.admit(&staged, &site, old, how).map_err(Unfit::at(RefusedAt::Check))?;
        Ok(site)
    };
    let checked: Result<Site, Unfit> = check();
    let site = match checked {
        Ok(site) => Arc::new(site),
        Err(mut unfit) => {
            // Warnings did not keep it from running.
            if unfit.faults.iter().any(|fault| fault.severity == Severity::Error) {
                unfit.faults.retain(|fault| fault.severity == Severity::Error);
            }
            generations.discard(&staged, &unfit.faults);
            return Err(unfit);
        }
    };
    progress.step("preparing", 0, Unit::Things);
    let published = generations.publish(staged, &site, foresee(&site)).map_err(|error| {
        let place = driver::Place::new(&shown.into(), 0, 0);
        let problem = format!("can not be made the current package: {error}");
        Unfit { at: RefusedAt::Switch, faults: vec![Diagnostic::error(place, problem)] }
    })?;
    Ok((published, site))
}

/// Who signed it is asked before what it says, and of the very bytes that will run.
fn trusted(limits: &Limits, package: &Path, trust: &Trust) -> Result<(), Vec<Diagnostic>> {
    trust::verify(&Source::open(package, limits)?, trust).map(|_| ())
}

/// Whether it is the version that somebody says it is.
///
/// # Errors
/// When it is another one, or no package.
pub(super) async fn is_version(config: &Config, path: &Path, wanted: Option<&str>) -> Result<(), Vec<Diagnostic>> {
    let Some(wanted) = wanted.map(str::to_owned) else { return Ok(()) };
    let (path, limits) = (path.to_owned(), generations::limits(&config.state_dir));
    let look = tokio::task::spawn_blocking(move || {
        let (manifest, faults) = manifest::read(&Source::open(&path, &limits)?);
        let Some(manifest) = manifest else { return Err(faults) };
        let found = manifest.version.to_string();
        if found == wanted {
            return Ok(());
        }
        let place = driver::Place::new(&"package.yaml".into(), 0, 0);
        Err(vec![
            Diagnostic::error(place, format!("the version is {found}, and {wanted} was published"))
                .help("publish the archive that belongs to the version, or leave the version out"),
        ])
    });
    // A reader that breaks over it is told by whoever reads it next.
    look.await.unwrap_or(Ok(()))
}

/// What a start begins with.
pub(super) struct First {
    pub generations: Generations,
    pub site: Arc<Site>,
    /// Why there is no package to run although there should be one.
    pub waits: Option<String>,
}

/// The package to run. A configured one that is new becomes a generation first; when it does not pass, what ran before
/// goes on, and it is told. With none at all the gateway waits for one. `patient`: it waits as well when what is there can
/// not run, for whoever starts it would only start it again.
///
/// # Errors
/// When what is configured or was installed can not run.
pub(super) fn first(config: &Config, patient: bool) -> anyhow::Result<First> {
    let mut waits = None;
    let mut generations = Generations::open_alone(&config.state_dir).context("open the folder of packages")?;
    generations::tell_not_ready(&RealDisk, &config.state_dir);
    let usable = generations.usable();
    if let Some(path) = &config.package {
        match seed(&mut generations, config, path, usable.is_empty()) {
            Ok(Some(site)) => return Ok(First { generations, site, waits }),
            Ok(None) => {}
            Err(faults) => {
                let told = format!("package {} can not be used:\n{}", path.display(), diagnostic::joined(&faults));
                if usable.is_empty() && is_of_machine(&faults) {
                    match in_place(config, path) {
                        Ok(site) => {
                            tracing::error!(
                                "{told}\nit runs from where it lies; a start with room on the disk takes it over"
                            );
                            return Ok(First { generations, site: Arc::new(site), waits: None });
                        }
                        Err(faults) => {
                            let told = format!("{told}\nnor where it lies:\n{}", diagnostic::joined(&faults));
                            anyhow::ensure!(patient, "{told}");
                            waits = Some(told);
                        }
                    }
                } else if usable.is_empty() {
                    anyhow::ensure!(patient, "{told}");
                    waits = Some(told);
                } else {
                    tracing::error!("{told}\nthe generation on disk runs instead");
                }
            }
        }
    }
    for facts in usable {
        match load(config, &generations.path(facts.generation)) {
            Ok(site) => {
                if facts.generation != generations.record().current {
                    generations
                        .go_back(&facts, &site, false, "the current generation can not be loaded")
                        .context("go back")?;
                }
                return Ok(First { generations, site: Arc::new(site), waits });
            }
            Err(faults) => {
                let words = diagnostic::joined(&faults);
                tracing::error!(generation = facts.generation, "a package on disk can not be loaded:\n{words}");
                let number = facts.generation;
                waits.get_or_insert_with(|| format!("generation {number} can not be loaded:\n{words}"));
            }
        }
    }
    // What was there once and can not be loaded is a fault: a new engine that can not read it must not pass its trial.
    let lost = generations.record().current != 0;
    anyhow::ensure!(patient || !lost, "no package on disk can be loaded; see above");
    if lost {
        waits.get_or_insert_with(|| "the packages on disk are gone or damaged".to_owned());
    }
    Ok(First { generations, site: Arc::new(Site::empty()), waits })
}

/// A configured package that the disk does not take: read from where it lies, and held to the same trust.
fn in_place(config: &Config, path: &Path) -> Result<Site, Vec<Diagnostic>> {
    let limits = Limits { needed: true, ..generations::limits_for_new(&config.state_dir) };
    trusted(&limits, path, &Trust::load(&config.package_trust, &config.state_dir)?)?;
    load_in(config, path, &limits)
}

/// As [`install`], while nothing runs: no readings to hold it against, and nobody who watches it come.
pub(super) fn install_at_rest(
    generations: &mut Generations,
    config: &Config,
    path: &Path,
    old: Option<&Site>,
    how: Admission,
) -> Result<(Facts, Arc<Site>), Unfit> {
    install(generations, config, path, &path.display().to_string(), old, how, &|_| None, &Progress::default())
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
        Some(install_at_rest(generations, config, path, old.as_ref(), how).map_err(|unfit| unfit.faults)?.1)
    };
    if let Err(error) = generations.seeded(&content) {
        tracing::warn!(%error, "the configured package will be looked at again with the next start");
    }
    Ok(site)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn only_who_is_started_again_and_again_waits_with_a_package_that_can_not_run() {
        let home = tempfile::tempdir().unwrap();
        let (file, site) = (home.path().join("edge.yaml"), home.path().join("site"));
        std::fs::create_dir(&site).unwrap();
        std::fs::write(site.join("package.yaml"), "format: 1\nname: x\nversion: 1.0.0\nengine: 0.1.0\nmoon: full\n")
            .unwrap();
        std::fs::write(&file, "state_dir: state\npackage: site\n").unwrap();
        let config = config::read_with(&file, config::Overrides::default()).unwrap();
        std::fs::create_dir(&config.state_dir).unwrap();
        let refused = first(&config, false).err().unwrap().to_string();
        assert!(refused.contains("package.yaml:5:1"), "{refused}");
        let first = first(&config, true).unwrap();
        assert!(first.site.is_empty() && first.waits.unwrap().contains("package.yaml:5:1"));
    }
}
