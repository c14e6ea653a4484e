//! Starts the ways in of packages and joins them to whoever takes the archives.

use super::cloud_link::CloudTask;
use crate::config::Config;
use crate::diagnostic;
use crate::fetch::push::{Push, PushStatus};
use crate::fetch::{self, Desk, Fetching};
use crate::model::notice::NobodyListens;
use crate::model::{Accepted, Arrivals, Notices, Origin, Refused};
use crate::operate::Refusal;
use crate::package::check;
use crate::south::protocols::Protocols;
use driver::Answer;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// At work.
pub(super) struct FetchTasks {
    pub shown: Shown,
    pub tasks: Vec<JoinHandle<()>>,
}

/// As operations see it.
#[derive(Clone)]
pub(super) struct Shown {
    fetching: Arc<Fetching>,
    push: Option<PushStatus>,
}

/// A listener that can not be opened is told and does not keep the gateway from starting.
pub(super) async fn start(config: &Config, cloud: &Option<CloudTask>, stopped: &watch::Receiver<bool>) -> FetchTasks {
    let notices: Arc<dyn Notices> = match cloud {
        Some(cloud) => Arc::clone(&cloud.oneself.notices) as _,
        None => Arc::new(NobodyListens),
    };
    let arrivals = Arc::new(Checked { state_dir: config.state_dir.clone() });
    let desk = Arc::new(Desk::new(arrivals, notices));
    let (fetching, mut tasks) = fetch::start(&config.fetch, &config.state_dir, &desk, stopped);
    let mut push = None;
    if let Some(wanted) = config.push.clone() {
        match Push::open(wanted, &config.state_dir, desk).await {
            Ok(listener) => {
                push = Some(listener.status());
                tasks.push(listener.serve(stopped.clone()));
            }
            Err(error) => tracing::error!("packages can not be pushed: {error:#}"),
        }
    }
    FetchTasks { shown: Shown { fetching, push }, tasks }
}

impl Shown {
    pub fn sources(&self) -> Json {
        self.fetching.snapshot()
    }

    pub fn push(&self) -> Json {
        json!(self.push.as_ref().map(PushStatus::snapshot))
    }

    pub fn ask(&self, name: Option<&str>, look: bool) -> Result<Json, Refusal> {
        let known: Vec<&str> = self.fetching.names().collect();
        if known.is_empty() {
            return Err(Refusal::new(
                "not_configured",
                "no source of packages is configured; write one below `fetch:`",
            ));
        }
        if let Some(name) = name.filter(|name| !known.contains(name)) {
            let known = diagnostic::did_you_mean(name, known.iter().copied());
            return Err(Refusal::new("unknown_source", format!("source \"{name}\" is not configured; {known}")));
        }
        if look {
            self.fetching.look_now(name);
        }
        let mut all = self.fetching.snapshot();
        if let Some(list) = all.as_array_mut() {
            list.retain(|source| name.is_none_or(|name| source["name"] == name));
        }
        Ok(all)
    }
}

/// Checks what arrives and keeps a good archive beside the running package, for the next start.
struct Checked {
    state_dir: PathBuf,
}

impl Arrivals for Checked {
    fn arrived<'a>(&'a self, path: &'a Path, _from: Origin) -> Answer<'a, Result<Accepted, Refused>> {
        let (state_dir, path) = (self.state_dir.clone(), path.to_owned());
        Box::pin(async move {
            let checked = tokio::task::spawn_blocking(move || checked(&state_dir, &path)).await;
            checked.unwrap_or_else(|error| Err(refused(format!("the check did not end: {error}"), Vec::new(), true)))
        })
    }
}

fn checked(state_dir: &Path, path: &Path) -> Result<Accepted, Refused> {
    let found = check(path, &Protocols::new(state_dir).list());
    let faults = found.diagnostics;
    if faults.iter().any(|fault| fault.severity == diagnostic::Severity::Error) {
        return Err(refused("the package does not pass the check".to_owned(), faults, false));
    }
    let keep = state_dir.join(fetch::FOLDER).join("checked.package");
    std::fs::rename(path, &keep).map_err(|error| refused(format!("keep the package: {error}"), Vec::new(), true))?;
    Ok(Accepted { package: "package".to_owned(), outcome: format!("checked and kept as {}", keep.display()) })
}

fn refused(reason: String, faults: Vec<diagnostic::Diagnostic>, passing: bool) -> Refused {
    Refused { reason, faults, passing }
}
