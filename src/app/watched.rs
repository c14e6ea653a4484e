//! The running daemon as the watchdog sees it, and what it says of itself in one line.

use super::packages::Packages;
use crate::model::Pulse;
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

/// Everything that has a pulse.
pub(super) struct Parts {
    runtime: Arc<Pulse>,
    pub packages: Arc<Packages>,
    pub south: Arc<South>,
    pub outbox: Arc<Outbox>,
    /// The link to the cloud and what is sent with it, when one is configured.
    pub cloud: Option<[Arc<Pulse>; 2]>,
    pub counters: Arc<Counters>,
}

impl Parts {
    /// Begins to show that the runtime gets round. Must be called within it.
    pub fn new(
        packages: Arc<Packages>,
        south: Arc<South>,
        outbox: Arc<Outbox>,
        cloud: Option<[Arc<Pulse>; 2]>,
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
        Parts { runtime, packages, south, outbox, cloud, counters }
    }
}

impl Watched for Parts {
    fn parts(&self, say: &mut dyn FnMut(&str, &Pulse)) {
        say(RUNTIME, &self.runtime);
        say("the outbox", self.outbox.pulse());
        if let Some([link, flow]) = &self.cloud {
            say("the cloud link", link);
            say("sending to the cloud", flow);
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
        let cloud = match (self.cloud.is_some(), self.counters.cloud_connected.get()) {
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
