//! Looks at the pulses of a link as the watchdog does.

use enos_edge::model::{LinkPulses, Pulse};
use enos_edge::watchdog::{Act, Rounds, Watched};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// As the watchdog sees a daemon that has nothing else.
struct Only(LinkPulses);

impl Watched for Only {
    fn parts(&self, say: &mut dyn FnMut(&str, &Pulse)) {
        say("link", &self.0.link);
        say("flow", &self.0.flow);
    }

    fn summary(&self) -> String {
        String::new()
    }
}

/// Looks every 5 s of `time`, which is paused, and says who was stuck.
pub async fn watched(pulses: &LinkPulses, time: Duration) -> Vec<Act> {
    let period = Duration::from_secs(5);
    let (mut rounds, only) = (Rounds::new(Duration::from_secs(30), period), Only(pulses.clone()));
    let begun = Instant::now();
    let mut acts = Vec::new();
    while begun.elapsed() < time {
        sleep(period).await;
        acts.extend(rounds.look(Instant::now().into_std(), &only));
    }
    acts.retain(|act| matches!(act, Act::Say(_) | Act::Trigger));
    acts
}
