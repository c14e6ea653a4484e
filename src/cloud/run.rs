//! Keeps the link up: connects, converses until the connection is lost, waits, and begins again until the daemon stops.

use super::answers::Answers;
use super::desk::AskDesk;
use super::first_login;
use super::notices::NoticeQueue;
use super::properties::Properties;
use super::publisher::Publisher;
use super::roster::RosterDesk;
use super::session::{End, Link, Session, Storing, stopped};
use super::sign::{self, SecureMode};
use super::status::{State, Status};
use super::sub_devices::{Roster, SubDevices};
use super::templates::Templates;
use super::topics::Topics;
use super::updates::UpdateDesk;
use crate::config::CloudConfig;
use crate::model::accounting::Accounting;
use crate::model::command::NoCommands;
use crate::model::identity::{ClientCertificate, Failed, Fixed, LoginSecret, Proof};
use crate::model::{
    Commands, Credential, DeviceDetails, Field, Identity, LinkPulses, Names, Outlet, Secret, SecretShelf, ThingModel,
    Timestamp,
};
use crate::mqtt::connection::{Connection, Endpoint, Heard, Lost};
use crate::mqtt::reconnect::{Ended, Reconnect};
use crate::mqtt::tls::{self, OwnCertificate};
use crate::telemetry::Counters;
use anyhow::ensure;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

/// The same trouble is told once, and again after this long: an outage of a day is no thousand lines.
pub(super) const REMINDER: Duration = Duration::from_secs(3600);

/// How long the keeper of the identity may take: it reads two small files.
const PROOF_PATIENCE: Duration = Duration::from_secs(30);

/// Until a connection stands or has failed: identity, addresses, TLS, CONNACK, each within less. For the watchdog.
const CONNECTING: Duration = Duration::from_secs(180);

const NOTE_PATIENCE: Duration = Duration::from_secs(1);

/// What the link needs to know of a site.
#[derive(Clone)]
pub struct CloudSite {
    pub names: Arc<Names>,
    /// In the order of `names.devices`.
    pub credentials: Vec<Credential>,
}

/// What the link is joined to.
#[derive(Clone)]
pub struct CloudPorts {
    pub outlet: Arc<dyn Outlet>,
    pub commands: Arc<dyn Commands>,
    pub identity: Arc<dyn Identity>,
    pub counters: Arc<Counters>,
    pub status: Arc<Status>,
    pub extras: CloudExtras,
}

/// What the link can do without.
#[derive(Clone, Default)]
pub struct CloudExtras {
    /// Which devices answer. Without it all are taken to.
    pub field: Option<Arc<dyn Field>>,
    /// Keeps secrets the cloud gives to sub-devices. Without it they last as long as the daemon.
    pub shelf: Option<Arc<dyn SecretShelf>>,
    /// What the gateway tells of itself.
    pub notices: Arc<NoticeQueue>,
    /// What people ask.
    pub desk: Arc<AskDesk>,
    /// What is told of updates.
    pub updates: Arc<UpdateDesk>,
    /// Where another package waits.
    pub rosters: Arc<RosterDesk>,
    /// The models of the package.
    pub models: Vec<Arc<ThingModel>>,
    /// In the order of the names, or empty.
    pub details: Vec<DeviceDetails>,
    /// By when the link means to get on, and what is sent with it. For the watchdog.
    pub pulses: LinkPulses,
}

impl CloudPorts {
    /// Without commands, and with nothing to prove but a secret of the configuration.
    #[must_use]
    pub fn simple(
        outlet: Arc<dyn Outlet>,
        secret: Option<Secret>,
        counters: Arc<Counters>,
        status: Arc<Status>,
    ) -> CloudPorts {
        CloudPorts {
            outlet,
            commands: Arc::new(NoCommands),
            identity: Arc::new(Fixed(secret)),
            counters,
            status,
            extras: CloudExtras::default(),
        }
    }
}

/// Runs until `stop` says true, then finishes what is under way. The network never ends it.
///
/// # Errors
/// When the site is not whole; nothing was begun then.
pub async fn run(
    config: CloudConfig,
    site: CloudSite,
    ports: CloudPorts,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    ensure!(site.credentials.len() == site.names.devices.len(), "every device needs its credential");
    let logic = site.credentials.iter().filter(|c| matches!(c, Credential::Logic)).count();
    if logic > 0 {
        warn!(logic, "logic assets have no mqtt login; what is read for them needs integration:");
    }
    let CloudPorts { outlet, commands, identity, counters, status, extras } = ports;
    let sub_devices = sub_devices(&config, site, &extras);
    status.list(sub_devices.names(), sub_devices.logins());
    let mut reconnect = Reconnect::new(config.sub_device_login);
    let mut link = Link {
        topics: Topics::new(&config.product_key, &config.device_key),
        publisher: Publisher::new(&config),
        config,
        outlet,
        commands,
        answers: Answers::default(),
        identity,
        counters,
        status,
        sub_devices,
        properties: Properties::default(),
        templates: Templates::new(&extras.models),
        extras,
        storing: Storing::default(),
        last_id: 0,
        said: None,
        said_codes: HashMap::new(),
        accounting: Accounting::default(),
        started: Instant::now(),
        may_leave_at: Duration::ZERO,
        certificate_refused: false,
    };
    reconnect.before(&link.identity.connects_before());
    let wait = reconnect.free_at();
    if !wait.is_zero() {
        warn!(
            ?wait,
            "the cloud has seen several connects just before this start; the next one waits, or it would shut us out"
        );
        show_wait(&link.status, wait);
        link.back_in(wait);
        tokio::select! {
            () = stopped(&mut stop) => {
                link.status.update(|s| s.state = State::Stopped);
                return Ok(());
            }
            () = sleep(wait) => {}
        }
    }
    loop {
        let Some(ended) = connect_and_converse(&mut link, &mut reconnect, &mut stop).await else {
            link.status.update(|s| s.state = State::Stopped);
            return Ok(());
        };
        let wait = reconnect.wait(link.started.elapsed(), ended, fastrand::f64());
        show_wait(&link.status, wait);
        link.back_in(wait);
        tokio::select! {
            () = stopped(&mut stop) => {
                link.status.update(|s| s.state = State::Stopped);
                return Ok(());
            }
            () = sleep(wait) => {}
        }
    }
}

fn sub_devices(config: &CloudConfig, site: CloudSite, extras: &CloudExtras) -> SubDevices {
    let roster = Roster { names: site.names, credentials: site.credentials, details: extras.details.clone() };
    let gateway = (config.product_key.clone(), config.device_key.clone());
    let stored = |product_key: &str, device_key: &str| extras.shelf.as_ref()?.find(product_key, device_key);
    SubDevices::new(roster, gateway, config.sub_devices.clone(), config.max_message_bytes, stored)
}

/// One connection. `None` when the daemon stops.
async fn connect_and_converse(
    link: &mut Link,
    reconnect: &mut Reconnect,
    stop: &mut watch::Receiver<bool>,
) -> Option<Ended> {
    link.status.update(|s| {
        if !matches!(s.state, State::Refused { .. }) {
            s.state = State::Connecting;
        }
    });
    let identity = Arc::clone(&link.identity);
    link.back_in(CONNECTING + link.config.reply_timeout);
    let proof = tokio::select! {
        proof = timeout(PROOF_PATIENCE, identity.proof()) => proof,
        () = stopped(stop) => return None,
    };
    let proof = match proof {
        Ok(Ok(proof)) => proof,
        Ok(Err(why)) => return Some(failed(link, &why, Ended::Unreached)),
        Err(_) => return Some(failed(link, &"the disk does not hand out the identity", Ended::Unreached)),
    };
    // Without TLS a certificate is not shown, so nothing is known about it.
    let slot = proof.certificate.as_ref().filter(|_| link.config.tls.is_some()).map(|pair| pair.slot);
    let tell = |outcome: Result<(), Failed>| {
        if let Some(slot) = slot {
            identity.tried(slot, outcome);
        }
    };
    let endpoint = match endpoint(&link.config, &proof, link.sub_devices.len()) {
        Ok(endpoint) => endpoint,
        Err(Unfit { certificate_to_blame, why }) => {
            let reason = format!("{why:#}");
            let ended = failed(link, &reason, Ended::Unreached);
            tell(Err(Failed { certificate_to_blame, suspect: false, reason }));
            return Some(ended);
        }
    };
    let mut connection = Connection::begin(&endpoint).compressed(link.config.compress);
    let connected = tokio::select! {
        connected = wait_for_connack(&mut connection, link) => connected,
        () = stopped(stop) => return None,
    };
    if connection.reached() {
        reconnect.reached(link.started.elapsed());
    }
    if let Err(why) = connected {
        let ended = match why {
            // The keeper may have another pair: the first time, it is tried at once.
            Lost::Certificate(_) if !std::mem::replace(&mut link.certificate_refused, true) => Ended::Left,
            Lost::Refused { .. } | Lost::Certificate(_) => Ended::Refused,
            Lost::Broken(_) if connection.reached() => Ended::Failed,
            Lost::Broken(_) => Ended::Unreached,
        };
        let blamed = matches!(why, Lost::Certificate(_));
        let suspect = connection.reached() && why.is_wordless();
        tell(Err(Failed { certificate_to_blame: blamed, suspect, reason: why.to_string() }));
        if why.is_overload() {
            let now = link.now();
            link.publisher.overloaded(now);
        }
        failed(link, &with_advice(&why, &proof, link.config.tls.is_some()), ended);
        if let Lost::Refused { code, reason } = why {
            // Only these two are about the secret (MQTT 3.1.1, 3.2.2.3).
            if matches!(code, 4 | 5) {
                identity.logged_in(Err(code));
            }
            link.status.update(|s| s.state = State::Refused { code, reason: reason.to_owned(), until: 0 });
        }
        return Some(ended);
    }
    link.certificate_refused = false;
    identity.logged_in(Ok(()));
    if let LoginSecret::Product(_) = proof.secret {
        link.counters.cloud_connects.add(1);
        let end = first_login::run(link, connection, stop).await;
        // Code 746 comes after CONNACK 0: what the connection says of the certificate is known only now.
        return match end {
            first_login::End::Stopped => None,
            first_login::End::Activated => {
                tell(Ok(()));
                Some(Ended::Left)
            }
            first_login::End::Failed(failure) => {
                tell(if failure.certificate_to_blame {
                    Err(Failed { certificate_to_blame: true, suspect: false, reason: failure.why.clone() })
                } else {
                    Ok(())
                });
                Some(failed(link, &failure.why, Ended::Refused))
            }
        };
    }
    tell(Ok(()));
    link.may_leave_at = reconnect.free_at();
    let since = Instant::now();
    link.counters.cloud_connects.add(1);
    // Not news yet: a broker may hang up at once, again and again.
    debug!(host = %link.config.host, port = link.config.port, "connected to the cloud");
    link.extras.desk.set_up(true);
    let end = Session::new(link, connection).run(stop).await;
    link.extras.desk.set_up(false);
    link.properties.lost();
    link.templates.lost();
    link.outlet.link(false);
    let now = link.now();
    link.publisher.lost(now);
    link.answers.lost();
    link.counters.cloud_connected.set(0);
    link.counters.sub_devices_online.set(0);
    link.status.update(|s| s.in_flight = 0);
    match end {
        End::Stopped => None,
        End::Left => {
            reconnect.connected();
            Some(Ended::Left)
        }
        End::Lost { why, delivered } => {
            let held = since.elapsed();
            let ended = if delivered || held >= crate::mqtt::reconnect::STABLE && !is_silence(&why) {
                reconnect.connected();
                Ended::Lost { held }
            } else {
                Ended::Failed
            };
            // EnOS ends the older connection of a device without a word when another one logs in.
            let short = held < crate::mqtt::reconnect::STABLE && why.is_wordless();
            let advice = if short { "; does another gateway log in with the same keys?" } else { "" };
            Some(failed(link, &format!("{why}{advice}"), ended))
        }
    }
}

/// A connection that answers nothing is no good one, however long it stood.
fn is_silence(why: &Lost) -> bool {
    matches!(why, Lost::Broken(text) if text.contains("not acknowledged"))
}

/// The cloud counts the connect from the moment TCP stands, so it is noted then, while CONNACK is on its way.
async fn wait_for_connack(connection: &mut Connection, link: &Link) -> Result<(), Lost> {
    let reached = connection.until_reached();
    let note = async {
        reached.await;
        // Best effort: a disk that is stuck does not keep us from the cloud.
        let _ = timeout(NOTE_PATIENCE, link.identity.connecting()).await;
    };
    tokio::pin!(note);
    let mut noted = !link.config.sub_device_login;
    let connack = loop {
        tokio::select! {
            () = &mut note, if !noted => noted = true,
            heard = connection.next() => match heard {
                Ok(Heard::Connected) => break Ok(()),
                Ok(_) => {}
                Err(lost) => break Err(lost),
            }
        }
    };
    if !noted && connection.reached() {
        note.await;
    }
    connack
}

/// Why there is nothing to connect with.
pub(super) struct Unfit {
    certificate_to_blame: bool,
    pub why: anyhow::Error,
}

pub(super) fn endpoint(config: &CloudConfig, proof: &Proof, sub_devices: usize) -> Result<Endpoint, Unfit> {
    let login = |mode, secret: &Secret| {
        let client = sign::client(&config.device_key, config.compress);
        let (product_key, device_key) = (&config.product_key, &config.device_key);
        sign::login(&client, mode, product_key, device_key, secret.reveal(), Timestamp::now().0)
    };
    let login = match &proof.secret {
        LoginSecret::None => None,
        LoginSecret::Device(secret) => Some(login(SecureMode::Device, secret)),
        LoginSecret::Product(secret) => Some(login(SecureMode::Product, secret)),
    };
    let client_id = login.as_ref().map_or_else(|| config.device_key.clone(), |login| login.client_id.clone());
    Ok(Endpoint {
        host: config.host.clone(),
        port: config.port,
        tls: tls_of(config, proof.certificate.as_ref())?,
        login,
        client_id,
        clean_session: true,
        keep_alive: config.keep_alive,
        largest_message: config.max_message_bytes,
        devices: sub_devices,
        // Beside the window: a few answers to commands and requests, and some subscriptions for each sub-device.
        requests: config.in_flight + 160 + sub_devices / 8,
    })
}

fn tls_of(config: &CloudConfig, pair: Option<&ClientCertificate>) -> Result<Option<Arc<rustls::ClientConfig>>, Unfit> {
    let Some(tls) = &config.tls else { return Ok(None) };
    let own = pair.map(OwnCertificate::parse).transpose().map_err(|why| Unfit { certificate_to_blame: true, why })?;
    tls::client_config_with(tls, own).map(Some).map_err(|why| Unfit { certificate_to_blame: false, why })
}

/// The cloud's words, and what a person can do about them.
pub(super) fn with_advice(why: &Lost, proof: &Proof, tls: bool) -> String {
    let advice = match (why, &proof.secret) {
        (Lost::Refused { code: 5, .. }, _) if tls && proof.certificate.is_none() => {
            "; does the secret belong to these keys, and does the product want mutual authentication (code 746)? Then set \
             client_cert_file and client_key_file, or certificate:"
        }
        (Lost::Refused { code: 4 | 5, .. }, LoginSecret::Product(_)) => {
            "; does product_secret belong to product_key, is dynamic activation enabled for the product, and is this device \
             key registered there?"
        }
        (Lost::Refused { code: 4 | 5, .. }, LoginSecret::Device(_)) => {
            "; does the device secret belong to these keys? An activated one is laid aside with `enos-edge identity forget`"
        }
        (Lost::Certificate(_), _) if proof.certificate.is_none() => {
            "; set client_cert_file and client_key_file: the product may want mutual authentication (code 746)"
        }
        _ => "",
    };
    format!("{why}{advice}")
}

fn failed(link: &mut Link, why: &dyn std::fmt::Display, ended: Ended) -> Ended {
    let why = why.to_string();
    let again = link.said.as_ref().is_some_and(|(said, at)| *said == why && at.elapsed() < REMINDER);
    if again {
        debug!(host = %link.config.host, port = link.config.port, ?ended, why, "still no connection to the cloud");
    } else {
        warn!(host = %link.config.host, port = link.config.port, ?ended, why, "no connection to the cloud; readings wait in the outbox");
        link.said = Some((why.clone(), Instant::now()));
    }
    link.status.update(|s| {
        s.state = State::Waiting { until: 0 };
        s.last_error = Some(why);
    });
    ended
}

fn show_wait(status: &Status, wait: Duration) {
    let millis = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    let at = Timestamp::now().0.saturating_add(millis);
    status.update(|s| match &mut s.state {
        State::Refused { until, .. } | State::Waiting { until } => *until = at,
        other => *other = State::Waiting { until: at },
    });
}
