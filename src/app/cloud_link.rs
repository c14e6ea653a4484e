//! Starts the link to the cloud with all it is joined to.

use super::oneself::Oneself;
use super::{Ground, extras, oneself};
use crate::cloud::{self, AskDesk, CloudExtras, CloudPorts, CloudSite};
use crate::config::{CloudConfig, host_and_port};
use crate::model::{LinkPulses, OnDuty};
use crate::rest::Client;
use crate::south::South;
use std::sync::Arc;

/// The cloud's name as a destination.
pub(super) const ENOS: &str = "enos";

/// The link, running.
pub(super) struct CloudTask {
    pub task: tokio::task::JoinHandle<()>,
    pub status: Arc<cloud::Status>,
    pub desk: Arc<AskDesk>,
    pub oneself: Oneself,
    /// What the watchdog looks at: the link, and what is sent with it.
    pub pulses: LinkPulses,
    /// Where another package waits for the link.
    pub rosters: Arc<cloud::RosterDesk>,
    /// What the cloud is told of updates.
    pub updates: Arc<cloud::UpdateDesk>,
    /// Where the cloud is, for people.
    pub endpoint: String,
}

/// Nothing when no cloud is configured.
pub(super) fn start(ground: &Ground<'_>, south: &Arc<South>) -> Option<CloudTask> {
    let config = ground.config.cloud.clone()?;
    let rest = ground.config.rest.clone().map(|rest| Client::new(rest).map(Arc::new));
    if let Some(Err(error)) = &rest {
        tracing::error!(%error, "the cloud's rest interface can not be used");
    }
    let endpoint = endpoint(&config);
    let oneself = oneself::start(ground.config, &config, rest, ground.counters, ground.stopped);
    let extras = extras::extras(ground.config, ground.site, south);
    let extras = CloudExtras { notices: Arc::clone(&oneself.notices), ..extras };
    let status = Arc::new(cloud::Status::default());
    let pulses = extras.pulses.clone();
    let duty = OnDuty::new(&pulses.link);
    let (desk, rosters) = (Arc::clone(&extras.desk), Arc::clone(&extras.rosters));
    let updates = Arc::clone(&extras.updates);
    let ports = CloudPorts {
        outlet: ground.outbox.outlet(ENOS),
        commands: Arc::clone(ground.commands),
        identity: Arc::clone(&oneself.keeper) as _,
        counters: Arc::clone(ground.counters),
        status: Arc::clone(&status),
        extras,
    };
    let names = CloudSite { names: Arc::clone(&ground.site.names), credentials: ground.site.credentials.clone() };
    let running = cloud::run(config, names, ports, ground.stopped.clone());
    let task = tokio::spawn(async move {
        if let Err(error) = running.await {
            tracing::error!("cloud link ended: {error:#}; readings wait in the outbox");
        }
        duty.done();
    });
    Some(CloudTask { task, status, desk, oneself, pulses, rosters, updates, endpoint })
}

fn endpoint(cloud: &CloudConfig) -> String {
    let scheme = if cloud.tls.is_some() { "ssl" } else { "tcp" };
    format!("{scheme}://{}", host_and_port(&cloud.host, cloud.port))
}
