//! The running daemon as the watchdog sees it, and what it says of itself in one line.

use super::cloud_link::CloudTask;
use super::destinations::{ForwardTask, IntegrationTask};
use super::packages::Packages;
use crate::model::{LinkPulses, Pulse};
use crate::outbox::Outbox;
use crate::south::South;
use crate::telemetry::Counters;
use crate::watchdog::{RUNTIME, Watched};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often the runtime shows that it gets round.
const BEAT: Duration = Duration::from_secs(5);
/// First scans are spread over two seconds; a connection that has not begun by then is waited for no longer.
const BEGUN: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(20);

/// A link, and what is sent with it, as they are named when they are stuck.
pub(super) struct Watch {
    link: String,
    flow: String,
    pulses: LinkPulses,
}

/// Every way out.
#[derive(Default)]
pub(super) struct Links {
    watches: Vec<Watch>,
    has_cloud: bool,
}

impl Links {
    pub fn of(cloud: Option<&CloudTask>, brokers: &[ForwardTask], integration: Option<&IntegrationTask>) -> Links {
        let watch = |link: &str, flow: &str, pulses: &LinkPulses| Watch {
            link: link.to_owned(),
            flow: flow.to_owned(),
            pulses: pulses.clone(),
        };
        let mut watches = Vec::new();
        watches.extend(cloud.map(|cloud| watch("the cloud link", "sending to the cloud", &cloud.pulses)));
        watches.extend(brokers.iter().map(|one| {
            let (link, flow) =
                (format!("the link to broker \"{}\"", one.name), format!("sending to broker \"{}\"", one.name));
            watch(&link, &flow, &one.pulses)
        }));
        let rest =
            |one: &IntegrationTask| watch("the rest integration", "sending to the rest integration", &one.pulses);
        watches.extend(integration.map(rest));
        Links { watches, has_cloud: cloud.is_some() }
    }
}

/// Everything that has a pulse.
pub(super) struct Parts {
    runtime: Arc<Pulse>,
    pub packages: Arc<Packages>,
    pub south: Arc<South>,
    pub outbox: Arc<Outbox>,
    pub links: Vec<Watch>,
    pub has_cloud: bool,
    pub counters: Arc<Counters>,
}

impl Parts {
    /// Begins to show that the runtime gets round. Must be called within it.
    pub fn new(
        packages: Arc<Packages>,
        south: Arc<South>,
        outbox: Arc<Outbox>,
        links: Links,
        counters: Arc<Counters>,
    ) -> Parts {
        let runtime = Arc::new(Pulse::default());
        let beaten = Arc::clone(&runtime);
        tokio::spawn(async move {
            loop {
                let next = Instant::now() + BEAT;
                beaten.back_by(next.into_std());
                tokio::time::sleep_until(next).await;
            }
        });
        Parts { runtime, packages, south, outbox, has_cloud: links.has_cloud, links: links.watches, counters }
    }
}

impl Watched for Parts {
    fn parts(&self, say: &mut dyn FnMut(&str, &Pulse)) {
        say(RUNTIME, &self.runtime);
        say("the outbox", self.outbox.pulse());
        for watch in &self.links {
            say(&watch.link, &watch.pulses.link);
            say(&watch.flow, &watch.pulses.flow);
        }
        let mut name = String::new();
        self.south.now().pulses(&mut |connection, pulse| {
            name.clear();
            name.extend(["connection \"", connection, "\""]);
            say(&name, pulse);
        });
    }

    fn summary(&self) -> String {
        let waiting = self.counters.outbox_readings.get();
        let cloud = match (self.has_cloud, self.counters.cloud_connected.get()) {
            (false, _) => "no cloud configured",
            (true, 0) => "cloud out of reach",
            (true, _) => "cloud online",
        };
        if self.packages.is_awaited() {
            let what = match self.packages.missing() {
                Some(why) => format!("waiting for a good package: {why}"),
                None => "waiting for a package".to_owned(),
            };
            return format!("{what}; {cloud}; {waiting} readings wait");
        }
        let (online, all) = self.south.now().online();
        let untimed = self.counters.untimed.get();
        if untimed > 0 {
            return format!(
                "the clock is not set: {untimed} readings wait in memory; {online} of {all} sub-devices answer"
            );
        }
        format!("{online} of {all} sub-devices answer; {cloud}; {waiting} readings wait")
    }
}

/// Every connection has really begun, or there is none, or one takes its time.
pub(super) async fn begun(south: &South) {
    let _ = tokio::time::timeout(BEGUN, async {
        while !south.now().has_begun() {
            sleep(LOOK).await;
        }
    })
    .await;
}
