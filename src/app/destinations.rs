//! Who gets readings: what the outbox must know of each destination, and the tasks that deliver to those beside the cloud.

use super::Ground;
use super::cloud_link::ENOS;
use crate::config::{Config, DestinationConfig, host_and_port};
use crate::forward::integration::{self, IntegrationPorts};
use crate::forward::{self, Feed, FeedDesk, ForwardPorts};
use crate::model::{AssetKind, DeviceNames, LinkPulses, OnDuty, Selection, Site};
use crate::outbox::DestinationSettings;
use std::sync::Arc;

/// Logic assets by REST.
const INTEGRATION: &str = "integration";

/// Those the outbox keeps a cursor for.
pub(super) fn settings(config: &Config) -> Vec<DestinationSettings> {
    let plain = config.destinations.iter().map(|one| DestinationSettings {
        name: one.name.clone(),
        quota_bytes: one.quota_bytes,
        max_age: one.max_age,
        selection: one.selection.clone(),
    });
    let integration = config.integration.iter().map(|one| DestinationSettings {
        name: INTEGRATION.to_owned(),
        quota_bytes: one.quota_bytes,
        max_age: one.max_age,
        selection: one.selection.clone(),
    });
    // With nobody configured the readings still wait for a cloud: configuring it later delivers them.
    let nobody = config.destinations.is_empty() && config.integration.is_none();
    let cloud = (config.cloud.is_some() || nobody).then(|| DestinationSettings {
        // A logic asset must never travel over MQTT (R20).
        selection: Selection::of_kind(AssetKind::Device),
        ..ENOS.into()
    });
    cloud.into_iter().chain(integration).chain(plain).collect()
}

/// What is configured and can not do anything with this package.
pub(super) fn warn_of_idle_filters(destinations: &[DestinationSettings], site: &Site) {
    for one in destinations {
        for glob in one.selection.idle_globs(&site.names) {
            tracing::warn!(destination = %one.name, name = glob.as_str(), "filter names nothing of this package");
        }
    }
    let taken = |device: &DeviceNames| destinations.iter().any(|one| one.selection.takes_device(device));
    let lost = site.names.devices.iter().filter(|device| !taken(device)).count();
    if lost > 0 {
        tracing::warn!(
            devices = lost,
            "readings of some devices go nowhere: no destination takes them; logic assets need integration:"
        );
    }
}

/// The sender of logic assets.
pub(super) struct IntegrationTask {
    pub task: tokio::task::JoinHandle<()>,
    pub status: Arc<integration::Status>,
    pub pulses: LinkPulses,
}

/// A task that ends without being told to is stuck.
fn on_duty(pulses: &LinkPulses, running: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    let duty = OnDuty::new(&pulses.link);
    tokio::spawn(async move {
        running.await;
        duty.done();
    })
}

pub(super) fn start_integration(ground: &Ground<'_>) -> Option<IntegrationTask> {
    let (integration, rest) = ground.config.integration.clone().zip(ground.config.rest.clone())?;
    let status = Arc::new(integration::Status::new(INTEGRATION, rest.integration_url.clone()));
    let pulses = LinkPulses::default();
    let ports = IntegrationPorts {
        outlet: ground.outbox.outlet(INTEGRATION),
        status: Arc::clone(&status),
        pulses: pulses.clone(),
    };
    let running = integration::run(integration, rest, ports, ground.stopped.clone());
    let task = on_duty(&pulses, running);
    Some(IntegrationTask { task, status, pulses })
}

/// The sender to one broker.
pub(super) struct ForwardTask {
    pub task: tokio::task::JoinHandle<()>,
    pub status: Arc<forward::Status>,
    pub name: String,
    pub pulses: LinkPulses,
}

pub(super) fn start(ground: &Ground<'_>, feed: &Arc<FeedDesk>) -> Vec<ForwardTask> {
    let config = ground.config;
    let place = forward::Place {
        gateway: config.cloud.as_ref().map(|cloud| cloud.device_key.clone()).unwrap_or_default(),
        site: Arc::clone(ground.site_name),
    };
    let start = |one: &DestinationConfig| {
        let scheme = if one.tls.is_some() { "ssl" } else { "tcp" };
        let endpoint = format!("{scheme}://{}", host_and_port(&one.host, one.port));
        let status = Arc::new(forward::Status::new(&one.name, endpoint));
        let pulses = LinkPulses::default();
        let ports = ForwardPorts {
            outlet: ground.outbox.outlet(&one.name),
            inlet: Arc::clone(ground.inlet),
            feed: Arc::clone(feed),
            commands: Arc::clone(ground.commands),
            counters: Arc::clone(ground.counters),
            status: Arc::clone(&status),
            pulses: pulses.clone(),
        };
        let task = on_duty(&pulses, forward::run(one.clone(), place.clone(), ports, ground.stopped.clone()));
        ForwardTask { task, status, name: one.name.clone(), pulses }
    };
    config.destinations.iter().map(start).collect()
}

/// The points that brokers may feed.
pub(super) fn feed(site: &Site) -> Feed {
    let mut models = vec![None; site.names.devices.len()];
    for device in site.connections.iter().flat_map(|connection| &connection.devices) {
        if let Some(model) = models.get_mut(device.device as usize) {
            *model = Some(Arc::clone(&device.template.model));
        }
    }
    Feed::new(Arc::clone(&site.names), models)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Standing;

    #[tokio::test]
    async fn a_sender_that_panics_is_stuck_and_one_that_was_told_to_end_is_not() {
        let (well, broken) = (LinkPulses::default(), LinkPulses::default());
        on_duty(&well, async {}).await.unwrap();
        assert_eq!(well.link.standing(), Standing::Resting);
        assert!(on_duty(&broken, async { panic!("a fault in the program") }).await.is_err());
        assert_eq!(broken.link.standing(), Standing::Ended);
    }
}
