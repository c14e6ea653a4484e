//! A package arrives: it is checked, made a generation, and runs; or it is refused, and what runs goes on.

use super::Packages;
use super::switch::{milliseconds, shown, switched};
use super::told::{Installing, refusal};
use crate::app::boot;
use crate::app::boot::Unfit;
use crate::diagnostic::{self, Diagnostic};
use crate::model::progress::{Progress, Unit};
use crate::model::{Accepted, Origin, Publish, Refused, RefusedAt, Site, Stage, Timestamp};
use crate::operate::Refusal;
use crate::package::generations::Admission;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::time::Instant;

/// Why a package does not run.
enum NotInstalled {
    Faults(RefusedAt, Vec<Diagnostic>),
    Broke,
}

impl NotInstalled {
    fn code(&self) -> &'static str {
        match self {
            NotInstalled::Faults(..) => "refused",
            NotInstalled::Broke => "failed",
        }
    }

    fn words(&self) -> String {
        match self {
            NotInstalled::Faults(_, faults) => diagnostic::joined(faults),
            NotInstalled::Broke => "the installation failed in the middle".to_owned(),
        }
    }
}

impl Packages {
    /// Installs a package. Runs to its end even if whoever asked has gone.
    pub async fn install(self: &Arc<Self>, from: PathBuf, force: bool) -> Result<Json, Refusal> {
        let this = Arc::clone(self);
        let publish = Publish::new(None, "local", Timestamp::now());
        self.publishes.tell(&publish, Stage::Begun, &from.display().to_string(), &[]);
        let how = Admission { force, explicit: false };
        let task = tokio::spawn(async move {
            let shown = from.display().to_string();
            this.installed(from, shown, how, publish).await
        });
        let done = task.await.unwrap_or(Err(NotInstalled::Broke));
        done.map_err(|why| Refusal::new(why.code(), why.words()))
    }

    async fn installed(
        self: Arc<Self>,
        from: PathBuf,
        told_from: String,
        how: Admission,
        publish: Publish,
    ) -> Result<Json, NotInstalled> {
        let asked = Instant::now();
        let mut generations = Arc::clone(&self.generations).lock_owned().await;
        let (this, old) = (Arc::clone(&self), self.site());
        let progress = Progress::seen();
        let _shown = Installing::begin(&self, &progress);
        let seen = progress.clone();
        let prepared = tokio::task::spawn_blocking(move || {
            let foresee = |new: &Site| this.foresee(&old, new);
            let done = boot::install(
                &mut generations,
                &this.parts.config,
                &from,
                &told_from,
                Some(&old),
                how,
                &foresee,
                &seen,
            );
            (generations, done)
        });
        let (generations, done) = prepared.await.map_err(|_| NotInstalled::Broke)?;
        self.publishes.checked(&publish, done.as_ref().err().map_or(&[][..], |unfit| &unfit.faults));
        let (facts, site) = done.map_err(|unfit| self.refused(unfit))?;
        self.publishes.open(&publish, &facts).await;
        let prepared = milliseconds(asked);
        progress.step("switching", 0, Unit::Things);
        let (applied, took) = self.switch(&site, &facts, None).await;
        self.tell("packageInstalled", &facts, "");
        self.publishes.step(Stage::Switched, "", &switched(&applied, took));
        let watched = self.watch(&generations, self.parts.config.package_watch.window);
        if watched {
            let window = self.parts.config.package_watch.window.as_secs();
            self.publishes.step(Stage::Watching, "", &[("window_s", json!(window))]);
        } else {
            self.publishes
                .end(Stage::Kept, "nobody watches: package_watch is off, or there is nothing to go back to", &[])
                .await;
        }
        Ok(json!({ "package": facts, "applied": shown(&applied), "prepared_ms": prepared, "switched_ms": took,
            "watch_s": watched.then(|| self.parts.config.package_watch.window.as_secs()) }))
    }

    /// A package that came by one of the ways in. A fault of the package does not pass by itself. Goes on to its end
    /// when nobody waits any more.
    pub async fn take_over(self: &Arc<Self>, from: PathBuf, origin: Origin) -> Result<Accepted, Refused> {
        let this = Arc::clone(self);
        let publish = origin.publish.clone();
        if let Some(current) = self.current().await.filter(|current| current.sha256 == origin.sha256) {
            let words = format!("runs already as generation {}", current.generation);
            self.publishes.tell(&publish, Stage::Unchanged, &words, &[]);
            return Ok(Accepted { package: format!("{} {}", current.name, current.version), outcome: words });
        }
        if let Err(faults) = boot::is_version(&self.parts.config, &from, origin.version.as_deref()).await {
            self.publishes.checked(&publish, &faults);
            self.refused(Unfit { at: RefusedAt::Check, faults: faults.clone() });
            let reason = "the package was refused".to_owned();
            return Err(Refused { reason, at: RefusedAt::Check, faults, passing: false });
        }
        let how = Admission { force: false, explicit: false };
        let (broken, shown) = (publish.clone(), format!("{}: {}", origin.source, origin.address));
        let task = tokio::spawn(async move { this.installed(from, shown, how, publish).await });
        match task.await {
            Ok(Ok(done)) => Ok(Accepted {
                package: format!(
                    "{} {}",
                    done["package"]["name"].as_str().unwrap_or_default(),
                    done["package"]["version"].as_str().unwrap_or_default()
                ),
                outcome: format!("runs as generation {}", done["package"]["generation"]),
            }),
            Ok(Err(NotInstalled::Faults(at, faults))) => Err(Refused {
                reason: "the package was refused".to_owned(),
                at,
                faults,
                passing: at == RefusedAt::Switch,
            }),
            Ok(Err(NotInstalled::Broke)) | Err(_) => {
                self.publishes.tell(&broken, Stage::Failed, &NotInstalled::Broke.words(), &[]);
                Err(Refused {
                    reason: NotInstalled::Broke.words(),
                    at: RefusedAt::Switch,
                    faults: Vec::new(),
                    passing: true,
                })
            }
        }
    }

    fn refused(&self, unfit: Unfit) -> NotInstalled {
        let Unfit { at, faults } = unfit;
        let words = diagnostic::joined(&faults);
        tracing::warn!("a package was refused; what runs goes on:\n{words}");
        self.told().last_refusal = Some(refusal(&words));
        NotInstalled::Faults(at, faults)
    }
}
