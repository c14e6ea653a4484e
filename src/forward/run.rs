//! Keeps one destination served: connects, converses until the connection is lost, waits, and begins again until the
//! daemon stops. A destination has its own end of the outbox, so a dead one delays nobody.

use super::composer::{Composer, TopicCache};
use super::inbound::FeedDesk;
use super::ledger::Ledger;
use super::payload::Form;
use super::session::{End, MOST_JOBS, Session, Traffic, stopped};
use super::status::{State, Status};
use super::topics::Place;
use crate::config::DestinationConfig;
use crate::model::{Commands, Inlet, Lane, LinkPulses, Outlet, Timestamp};
use crate::mqtt::connection::{Connection, Endpoint, Heard, Login, Lost, Missed};
use crate::mqtt::reconnect::{Ended, Reconnect, STABLE};
use crate::mqtt::tls::{self, OwnCertificate};
use crate::telemetry::Counters;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

/// The same trouble is told once, and again after this long.
pub(super) const REMINDER: Duration = Duration::from_secs(3600);
/// A broker that takes its time gets more of it, up to this.
pub(super) const LONGEST_PATIENCE: Duration = Duration::from_secs(600);

/// Until a connection stands or has failed: addresses, TLS, CONNACK, each within less. For the watchdog.
const CONNECTING: Duration = Duration::from_secs(180);

/// What a destination is joined to.
#[derive(Clone)]
pub struct ForwardPorts {
    pub outlet: Arc<dyn Outlet>,
    /// Where readings made of the broker's messages go.
    pub inlet: Arc<dyn Inlet>,
    pub feed: Arc<FeedDesk>,
    pub commands: Arc<dyn Commands>,
    pub counters: Arc<Counters>,
    pub status: Arc<Status>,
    /// For the watchdog.
    pub pulses: LinkPulses,
}

/// What outlives a connection.
pub(super) struct Link {
    pub config: DestinationConfig,
    pub ports: ForwardPorts,
    pub traffic: Traffic,
    /// Commands under way, with their answers to be.
    pub jobs: JoinSet<(String, Vec<u8>)>,
    /// How long a PUBACK may take.
    pub patience: Duration,
    /// The last trouble that was told, so that it is not told at each try.
    pub said: Option<(String, Instant)>,
    /// Reasons for refused messages, and when each was told.
    pub said_refusals: HashMap<String, Instant>,
    /// When each point (device, measurement point) was last fed by a message without a time.
    pub fed: HashMap<(u32, u32), Timestamp>,
    /// Zero of all times given to pure code.
    pub started: Instant,
}

/// Runs until `stop` says true, then finishes what is under way. The network never ends it.
pub async fn run(config: DestinationConfig, place: Place, ports: ForwardPorts, mut stop: watch::Receiver<bool>) {
    for wrong in ports.feed.now().unknown(&config.subscribe) {
        warn!(destination = %config.name, "a subscription can feed nothing: {wrong}");
    }
    let form = Arc::new(Form::new(config.payload.clone(), config.join, place.clone()));
    let composer = |lane| Composer::new(lane, Arc::clone(&form), config.gzip, config.max_message_bytes);
    let traffic = Traffic::new(
        &config,
        [composer(Lane::Live), composer(Lane::Backlog)],
        TopicCache::new(config.topic.clone(), place),
        Ledger::default(),
    );
    let mut link = Link {
        patience: config.reply_timeout,
        config,
        ports,
        traffic,
        jobs: JoinSet::new(),
        said: None,
        said_refusals: HashMap::new(),
        fed: HashMap::new(),
        started: Instant::now(),
    };
    // A plain broker counts no connects.
    let mut reconnect = Reconnect::new(false);
    while let Some(ended) = connect_and_converse(&mut link, &mut reconnect, &mut stop).await {
        let wait = reconnect.wait(link.started.elapsed(), ended, fastrand::f64());
        let until = Timestamp::now().0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        link.ports.status.update(|s| s.state = State::Waiting { until });
        link.ports.pulses.back_in(Instant::now().into_std(), wait);
        tokio::select! {
            () = stopped(&mut stop) => break,
            () = sleep(wait) => {}
        }
    }
    link.ports.status.update(|s| s.state = State::Stopped);
}

/// One connection. `None` when the daemon stops.
async fn connect_and_converse(
    link: &mut Link,
    reconnect: &mut Reconnect,
    stop: &mut watch::Receiver<bool>,
) -> Option<Ended> {
    link.ports.status.update(|s| s.state = State::Connecting);
    link.ports.pulses.back_in(Instant::now().into_std(), CONNECTING);
    let endpoint = match endpoint(&link.config) {
        Ok(endpoint) => endpoint,
        Err(error) => return Some(failed(link, &format!("{error:#}"), Ended::Unreached)),
    };
    let mut connection = Connection::begin(&endpoint);
    let connected = tokio::select! {
        connected = wait_for_connack(&mut connection) => connected,
        () = stopped(stop) => return None,
    };
    if let Err(why) = connected {
        let ended = match why {
            Lost::Refused { .. } | Lost::Certificate(_) => Ended::Refused,
            Lost::Broken(_) if connection.reached() => Ended::Failed,
            Lost::Broken(_) => Ended::Unreached,
        };
        return Some(failed(link, &in_words(&why), ended));
    }
    let since = Instant::now();
    // Not news yet: a broker may hang up at once, again and again.
    debug!(destination = %link.config.name, "connected");
    link.ports.outlet.link(true);
    let end = Session::new(link, connection).run(stop).await;
    link.ports.outlet.link(false);
    // What is ready waits for a broker now, and that is no hang.
    link.ports.pulses.flow.rests();
    link.ports.status.update(|s| s.in_flight = 0);
    match end {
        End::Stopped => {
            link.traffic.lost(false, false);
            None
        }
        End::Lost { why, delivered, silent } => {
            link.traffic.lost(!silent, delivered);
            let held = since.elapsed();
            if silent {
                link.patience = (link.patience * 2).min(LONGEST_PATIENCE.max(link.config.reply_timeout));
            }
            let ended = if delivered || held >= STABLE && !silent {
                reconnect.connected();
                Ended::Lost { held }
            } else {
                Ended::Failed
            };
            Some(failed(link, &in_words(&why), ended))
        }
    }
}

/// One login for somebody who looks for what is wrong: with a client id of its own and a session that ends with it, so that
/// nothing that waits for the gateway is taken away.
///
/// # Errors
/// Why not, in words.
pub async fn log_in_once(config: &DestinationConfig, within: Duration) -> Result<(), (Missed, String)> {
    let client_id = format!("{}-doctor", config.client_id);
    let config = DestinationConfig { client_id, clean_session: true, ..config.clone() };
    let endpoint = endpoint(&config).map_err(|error| (Missed::Login, format!("{error:#}")))?;
    let mut connection = Connection::begin(&endpoint);
    let connected = tokio::time::timeout(within, wait_for_connack(&mut connection)).await;
    match connected {
        Ok(Ok(())) => connection.close(Duration::from_millis(500)).await,
        Ok(Err(why)) => return Err((why.missed(), in_words(&why))),
        Err(_) => return Err((Missed::Silent, format!("no answer within {within:?}"))),
    }
    Ok(())
}

async fn wait_for_connack(connection: &mut Connection) -> Result<(), Lost> {
    while !matches!(connection.next().await?, Heard::Connected) {}
    Ok(())
}

fn endpoint(config: &DestinationConfig) -> anyhow::Result<Endpoint> {
    let login = config.user.as_ref().map(|user| Login {
        client_id: config.client_id.clone(),
        user_name: user.clone(),
        password: config.password.as_ref().map(|secret| secret.reveal().to_owned()).unwrap_or_default(),
    });
    Ok(Endpoint {
        host: config.host.clone(),
        port: config.port,
        tls: tls_of(config)?,
        login,
        client_id: config.client_id.clone(),
        clean_session: config.clean_session,
        keep_alive: config.keep_alive,
        largest_message: config.max_message_bytes,
        devices: 0,
        // Beside the window: subscriptions and answers to commands.
        requests: config.in_flight + 16 + MOST_JOBS,
    })
}

/// All files are read anew for every connection, so renewed ones count at once.
fn tls_of(config: &DestinationConfig) -> anyhow::Result<Option<Arc<rustls::ClientConfig>>> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let pair = config.client_files.as_ref().map(|files| files.load(0)).transpose().map_err(anyhow::Error::msg)?;
    let own = pair.as_ref().map(OwnCertificate::parse).transpose()?;
    tls::client_config_with(tls, own).map(Some)
}

fn in_words(why: &Lost) -> String {
    match why {
        Lost::Refused { code, reason } => format!("the broker refused the login: {reason} (code {code})"),
        Lost::Certificate(why) => format!("the broker refused the client certificate: {why}"),
        Lost::Broken(why) => why.clone(),
    }
}

fn failed(link: &mut Link, why: &str, ended: Ended) -> Ended {
    let again = link.said.as_ref().is_some_and(|(said, at)| said == why && at.elapsed() < REMINDER);
    if again {
        debug!(destination = %link.config.name, ?ended, why, "still no connection to the destination");
    } else {
        warn!(destination = %link.config.name, host = %link.config.host, port = link.config.port, ?ended, why,
            "no connection to the destination; readings wait in the outbox");
        link.said = Some((why.to_owned(), Instant::now()));
    }
    link.ports.status.update(|s| s.last_error = Some(why.to_owned()));
    ended
}
