//! Keeps the REST integration served until the daemon stops: several messages under way, each with the client's dead-line,
//! slower when the cloud asks for it, and away from memory while nobody answers.

use super::status::{State, Status};
use super::work::{Job, Work};
use crate::config::{IntegrationConfig, RestConfig};
use crate::model::accounting::Kind;
use crate::model::{Lane, LinkPulses, Outlet, Timestamp};
use crate::rest::{Client, Part, RestError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

const PATH: &str = "/connect-service/v2.1/integration";
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The same trouble is told once, and again after this long.
const REMINDER: Duration = Duration::from_secs(3600);
/// How many bytes of JSON one byte of a batch becomes, about.
const EXPANSION: usize = 5;
/// Codes and words by which the cloud asks for patience. Neither is documented; the HTTP statuses are the common ones.
const BUSY_CODES: &[i64] = &[429, 500, 502, 503, 504, 99429, 99500];
const BUSY_WORDS: &[&str] = &["rate limit", "too many", "flow control", "throttl", "overload", "busy", "限流", "频繁"];

/// What the integration is joined to.
#[derive(Clone)]
pub struct IntegrationPorts {
    pub outlet: Arc<dyn Outlet>,
    pub status: Arc<Status>,
    /// For the watchdog.
    pub pulses: LinkPulses,
}

/// What an answer means.
#[derive(Debug)]
enum Answer {
    Taken,
    /// Send it again, later.
    Busy(String),
    /// Something in it.
    Refused {
        code: i64,
        reason: String,
    },
    NotAuthorised {
        code: i64,
        reason: String,
    },
    /// Nobody answers, or in no language we know.
    Away(String),
}

/// A token, the message, and both once more with a new token; each ends within the client's dead-line.
const CALLS: u32 = 4;

struct Link {
    config: IntegrationConfig,
    /// Within this a message is answered, well or not.
    patience: Duration,
    ports: IntegrationPorts,
    work: Work,
    flights: JoinSet<(Job, usize, Answer)>,
    backlog_in_flight: usize,
    up: bool,
    /// Nothing is sent before.
    pause: Instant,
    failures: u32,
    /// One message until the first is taken.
    trusted: bool,
    last_id: u64,
    said: Option<(String, Instant)>,
}

/// Runs until `stop` says true. The network never ends it.
pub async fn run(
    config: IntegrationConfig,
    rest: RestConfig,
    ports: IntegrationPorts,
    mut stop: watch::Receiver<bool>,
) {
    let now = Instant::now();
    let mut link = Link {
        config,
        patience: rest.timeout * CALLS,
        ports,
        work: Work::default(),
        flights: JoinSet::new(),
        backlog_in_flight: 0,
        up: false,
        pause: now,
        failures: 0,
        trusted: false,
        last_id: 0,
        said: None,
    };
    // The authority file may come later: it is looked for again with each try.
    let mut client = None;
    while !*stop.borrow() {
        if client.is_none() && Instant::now() >= link.pause {
            match Client::new(rest.clone()) {
                Ok(made) => client = Some(Arc::new(made)),
                Err(error) => link.fall(&error.to_string(), |until| State::Waiting { until }),
            }
        }
        if let Some(client) = &client {
            link.go_on(client);
        }
        link.tell_pulses();
        link.wait(&mut stop).await;
    }
    link.ports.pulses.flow.rests();
    link.flights.abort_all();
    link.ports.outlet.link(false);
    link.ports.status.update(|s| s.state = State::Stopped);
}

impl Link {
    /// Takes the link up again when its time has come, and sends what may be sent.
    fn go_on(&mut self, client: &Arc<Client>) {
        if Instant::now() < self.pause {
            return;
        }
        if !self.up {
            self.up = true;
            self.ports.outlet.link(true);
        }
        let limit = self.config.max_message_bytes;
        while self.flights.len() < self.slots() {
            self.last_id += 1;
            let Some((job, text)) = self.work.next(self.last_id, limit) else { break };
            self.backlog_in_flight += usize::from(job.lane == Lane::Backlog);
            let readings: u64 = job.pieces.iter().map(|piece| u64::from(piece.batch.count)).sum();
            let kind = if job.lane == Lane::Live { Kind::Post } else { Kind::Resume };
            self.ports.status.sent(kind, text.len(), readings);
            self.flights.spawn(send(Arc::clone(client), job, text));
        }
        self.settle();
    }

    fn slots(&self) -> usize {
        if self.trusted { self.config.in_flight } else { 1 }
    }

    /// A quarter of the slots stays free for live data.
    fn backlog_slots(&self) -> usize {
        (self.slots() - self.slots() / 4).min(self.slots().saturating_sub(1)).max(1)
    }

    /// By when something has to happen: nothing has to while the outbox has nothing for it.
    fn tell_pulses(&self) {
        let (now, pulses) = (Instant::now(), &self.ports.pulses);
        if !self.flights.is_empty() {
            pulses.back_in(now.into_std(), self.patience);
        } else if self.pause > now {
            pulses.link.back_by(self.pause.into_std());
        } else {
            pulses.link.rests();
        }
        // A cloud that is away, refuses or wants patience sets a pause.
        let idle = !self.up || self.pause > now || !self.flights.is_empty() || self.work.waiting_bytes() == 0;
        pulses.tell_flow(idle, None, now.into_std());
    }

    async fn wait(&mut self, stop: &mut watch::Receiver<bool>) {
        let now = Instant::now();
        let worth = (self.config.max_message_bytes / EXPANSION).max(1);
        let room = self.up && now >= self.pause && self.flights.len() < self.slots() && self.work.waiting_bytes() == 0;
        let backlog_room = room && self.backlog_in_flight < self.backlog_slots();
        let outlet = Arc::clone(&self.ports.outlet);
        let parcels = tokio::select! {
            // Whoever held the sender has gone: so must we.
            changed = stop.changed() => {
                if changed.is_err() {
                    sleep_until(now + LONGEST_WAIT).await;
                }
                return;
            }
            Some(done) = self.flights.join_next(), if !self.flights.is_empty() => {
                if let Ok((job, bytes, answer)) = done {
                    self.answered(job, bytes, answer);
                }
                return;
            }
            () = sleep_until(self.pause), if self.pause > now => return,
            parcels = outlet.live(worth), if room => parcels,
            parcels = outlet.backlog(worth), if backlog_room => parcels,
        };
        let wall = Timestamp::now();
        let late = i64::try_from(self.config.late_after.as_millis()).unwrap_or(i64::MAX);
        self.work.take(parcels, Timestamp(wall.0.saturating_sub(late)), wall);
        self.settle();
    }

    fn answered(&mut self, job: Job, bytes: usize, answer: Answer) {
        self.backlog_in_flight = self.backlog_in_flight.saturating_sub(usize::from(job.lane == Lane::Backlog));
        debug!(bytes, ?answer, "integration answered");
        match answer {
            Answer::Taken => {
                if !self.trusted {
                    info!("the rest integration takes readings of logic assets");
                }
                (self.trusted, self.failures) = (true, 0);
                self.work.delivered(&job, Timestamp::now());
                self.ports.status.update(|s| {
                    (s.state, s.last_error) = (State::Online, None);
                    s.messages_acknowledged += 1;
                });
                self.settle();
            }
            Answer::Busy(reason) => {
                self.work.send_again(job);
                self.slow(&reason);
            }
            Answer::Refused { code, reason } => {
                if !self.work.refused(job, code, &reason) {
                    let words = format!("everything is refused with code {code}: {reason}");
                    self.fall(&words, |until| State::Refused { code, until });
                }
            }
            Answer::NotAuthorised { code, reason } => self.fall(&reason, |until| State::NotAuthorised { code, until }),
            Answer::Away(reason) => self.fall(&reason, |until| State::Waiting { until }),
        }
    }

    /// What is done leaves the outbox: refused values are noted first.
    fn settle(&mut self) {
        let effects = self.work.effects();
        for refused in effects.set_aside {
            warn!(code = refused.code, reason = %refused.reason, readings = refused.batch.count, "values of logic assets are set aside");
            self.ports.outlet.set_aside(refused);
        }
        if !effects.acknowledge.is_empty() {
            self.ports.outlet.acknowledge(&effects.acknowledge);
        }
        let in_flight = self.flights.len();
        self.ports.status.update(|s| s.in_flight = in_flight);
    }

    /// The cloud has too much: what is under way ends, the next message waits.
    fn slow(&mut self, reason: &str) {
        // Messages that were sent together are refused together: that is one sign, not many.
        if Instant::now() < self.pause {
            return;
        }
        let until = self.pause_longer();
        self.trusted = false;
        self.say(reason);
        let reason = reason.to_owned();
        self.ports.status.update(|s| (s.state, s.last_error) = (State::Slowed { until }, Some(reason)));
    }

    /// Nobody is there for us: everything goes back to the outbox, which keeps it on disk meanwhile.
    fn fall(&mut self, reason: &str, state: impl FnOnce(i64) -> State) {
        self.flights = JoinSet::new();
        self.backlog_in_flight = 0;
        self.work.clear();
        (self.up, self.trusted) = (false, false);
        self.ports.outlet.link(false);
        let state = state(self.pause_longer());
        self.say(reason);
        let reason = reason.to_owned();
        self.ports.status.update(|s| (s.state, s.last_error, s.in_flight) = (state, Some(reason), 0));
    }

    /// Doubles from a second to a minute, with a little chance in it. Returns the end in milliseconds UTC.
    fn pause_longer(&mut self) -> i64 {
        let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(10)).min(LONGEST_WAIT);
        self.failures += 1;
        let wait = wait.mul_f64(0.75 + fastrand::f64() / 4.0);
        self.pause = Instant::now() + wait;
        Timestamp::now().0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
    }

    fn say(&mut self, reason: &str) {
        let again = self.said.as_ref().is_some_and(|(said, at)| said == reason && at.elapsed() < REMINDER);
        if again {
            return debug!(reason, "still no readings of logic assets to the cloud");
        }
        warn!(reason, "the rest integration takes no readings of logic assets now; they wait in the outbox");
        self.said = Some((reason.to_owned(), Instant::now()));
    }
}

/// One call. It ends within the client's dead-line.
async fn send(client: Arc<Client>, job: Job, text: Vec<u8>) -> (Job, usize, Answer) {
    let query = [("action", "postMeasurepoint"), ("orgId", client.org_id())];
    let part = Part { name: "enos-message", file_name: None, content_type: "application/json", content: &text };
    let answer = answer(client.multipart(PATH, &query, &[part]).await.map(drop));
    (job, text.len(), answer)
}

fn answer(result: Result<(), RestError>) -> Answer {
    let error = match result {
        // Its siblings over MQTT answer 200 for well.
        Ok(()) | Err(RestError::Refused { code: 200, .. }) => return Answer::Taken,
        Err(error) => error,
    };
    let words = error.to_string();
    match error {
        RestError::Refused { code, message } => {
            let folded = message.to_lowercase();
            if BUSY_CODES.contains(&code) || BUSY_WORDS.iter().any(|word| folded.contains(word)) {
                return Answer::Busy(words);
            }
            Answer::Refused { code, reason: message }
        }
        RestError::NotAuthorised { code, .. } => Answer::NotAuthorised { code, reason: words },
        RestError::Status { status: 408 | 429 | 500.., .. } => Answer::Busy(words),
        // Larger than a proxy on the way lets through, or not to its taste: smaller parts may pass.
        RestError::Status { status: status @ (400 | 413 | 422), .. } => {
            Answer::Refused { code: i64::from(status), reason: words }
        }
        RestError::Status { .. }
        | RestError::Setup(_)
        | RestError::Unreachable { .. }
        | RestError::Tls { .. }
        | RestError::Silent { .. }
        | RestError::Garbled { .. } => Answer::Away(words),
    }
}
