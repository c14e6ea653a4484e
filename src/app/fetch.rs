//! Starts the ways in of packages and joins them to whoever takes the archives.

use super::cloud_link::CloudTask;
use super::packages::Packages;
use super::publishing::Publishing;
use crate::config::Config;
use crate::diagnostic;
use crate::fetch::push::{Push, PushStatus};
use crate::fetch::{self, Desk, Fetching};
use crate::model::notice::NobodyListens;
use crate::model::{Accepted, Arrivals, Notices, Origin, Refused};
use crate::operate::Refusal;
use crate::operate::command::Carrier;
use driver::Answer;
use serde_json::{Value as Json, json};
use std::path::Path;
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
pub(super) async fn start(
    config: &Config,
    cloud: &Option<CloudTask>,
    packages: &Arc<Packages>,
    carrier: &Carrier,
    stopped: &watch::Receiver<bool>,
) -> FetchTasks {
    let notices: Arc<dyn Notices> = match cloud {
        Some(cloud) => Arc::clone(&cloud.oneself.notices) as _,
        None => Arc::new(NobodyListens),
    };
    let arrivals = Arc::new(Installing(Arc::clone(packages)));
    let desk = Arc::new(Desk::new(arrivals, notices));
    let (fetching, mut tasks) = fetch::start(&config.fetch, &config.publish, &config.state_dir, &desk, stopped);
    carrier.offer(Arc::new(Publishing::new(config, Arc::clone(&fetching))));
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

/// What arrives becomes the next generation, or is refused with its faults.
struct Installing(Arc<Packages>);

impl Arrivals for Installing {
    fn arrived<'a>(&'a self, path: &'a Path, from: Origin) -> Answer<'a, Result<Accepted, Refused>> {
        Box::pin(self.0.take_over(path.to_owned(), from))
    }
}
