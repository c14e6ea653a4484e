//! What the cloud and the brokers say to a login.
//!
//! EnOS ends the session of a gateway when somebody logs in with its keys, so a running gateway is asked what came of
//! its own login. Only when none runs one login is made here, with the very code and client id of the daemon.

use super::configured;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::{Gateway, Ground};
use crate::cli::moments::relative;
use crate::cloud::{self, Trial};
use crate::config::{CloudConfig, Config, DestinationConfig};
use crate::forward;
use crate::identity::certificate::Slots;
use crate::identity::{FOLDER, Keeper};
use crate::mqtt::connection::Missed;
use crate::rest::{Client, RestError};
use crate::store::{Disk, RealDisk};
use serde_json::Value as Json;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(9);

pub(in crate::cli::doctor) async fn look(ground: Arc<Ground>) -> Vec<Finding> {
    let config = match configured(&ground, "logins") {
        Ok(config) => config,
        Err(unseen) => return unseen,
    };
    let mut findings = match &ground.gateway {
        Gateway::Running(status) => told(config, status, ground.now),
        Gateway::Stopped => tried(&ground, config).await,
        Gateway::Silent(why) => vec![Finding::unseen("logins", format!("the gateway does not answer ({why})"))],
        Gateway::Unknown(why) => vec![
            Finding::unseen("logins", why)
                .help("a login while the gateway runs would end its session, so none was tried"),
        ],
    };
    findings.extend(rest(config).await);
    if findings.is_empty() { vec![Finding::ok("nothing to log in to")] } else { findings }
}

/// What the gateway says of its own logins.
fn told(config: &Config, status: &Json, now: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.cloud.is_some() {
        findings.push(link("cloud", &status["cloud"], now));
        findings.extend(sub_devices(&status["cloud"]));
        let model = status["cloud"]["model_faults"].as_array().into_iter().flatten().filter_map(Json::as_str);
        findings.extend(
            model
                .take(3)
                .map(|fault| Finding::warning(fault).help("make the models of the package and of the cloud the same")),
        );
    }
    for one in status["destinations"].as_array().into_iter().flatten() {
        findings.push(link(&format!("destination {}", one["name"].as_str().unwrap_or_default()), one, now));
    }
    if config.integration.is_some() {
        findings.push(link("integration", &status["integration"], now));
    }
    findings
}

fn link(who: &str, link: &Json, now: i64) -> Finding {
    let text = |key: &str| link[key].as_str().unwrap_or_default();
    let next =
        link["until"].as_i64().map(|until| format!("; next attempt {}", relative(until, now))).unwrap_or_default();
    let why = if text("last_error").is_empty() { String::new() } else { format!(": {}", text("last_error")) };
    let finding = match text("state") {
        "online" => Finding::ok("logged in, says the running gateway"),
        "connecting" if who == "integration" => Finding::note("nothing was sent yet"),
        "connecting" => Finding::note(format!("is just connecting{why}")).help("run it again in a minute"),
        "slowed" => Finding::warning(format!("the cloud asks for fewer messages{why}")),
        "refused" | "not_authorised" => {
            let reason = text("reason");
            let reason = if reason.is_empty() { why } else { format!(": {reason} (code {})", link["code"]) };
            Finding::fault(format!("the login is refused{reason}{next}"))
                .help("check product key, device key and secret, and whether the device is enabled in the cloud")
        }
        state => Finding::fault(format!("is not connected ({state}){why}{next}"))
            .help("see the findings of names and network"),
    };
    finding.at(format!("{who}, {}", text("endpoint")).trim_end_matches(", "))
}

fn sub_devices(cloud: &Json) -> Vec<Finding> {
    let all: Vec<&Json> = cloud["sub_devices"].as_array().into_iter().flatten().collect();
    let bad = |device: &&&Json| matches!(device["login"].as_str(), Some("refused" | "disabled" | "deleted"));
    let refused: Vec<&&Json> = all.iter().filter(bad).collect();
    let mut findings: Vec<Finding> = refused.iter().take(5).map(|device| refused_device(device)).collect();
    if refused.len() > 5 {
        findings.push(
            Finding::fault(format!("{} more sub-devices are not logged in", refused.len() - 5))
                .help("see `enos-edge status --json`"),
        );
    }
    findings
}

fn refused_device(device: &Json) -> Finding {
    let what = match device["login"].as_str() {
        Some("refused") => {
            format!("the cloud refuses it, code {}: {}", device["code"], device["message"].as_str().unwrap_or_default())
        }
        Some("disabled") => "the cloud has disabled it; its readings wait".to_owned(),
        _ => "the cloud has deleted it; its readings wait".to_owned(),
    };
    Finding::fault(what)
        .at(device["device"].as_str().unwrap_or_default())
        .help("check the device's keys and secret in the package, and its state in the cloud")
}

/// One login each, because no gateway runs.
async fn tried(ground: &Ground, config: &Config) -> Vec<Finding> {
    let mut asked = tokio::task::JoinSet::new();
    if let Some(cloud) = config.cloud.clone() {
        let keeper = keeper(config, &cloud);
        // Who is not the daemon must leave no file of his own in its folder.
        let own = ground.daemon() == Some(ground.user);
        asked.spawn(async move { (0, cloud_login(&cloud, &keeper, own).await) });
    }
    for (order, one) in config.destinations.iter().cloned().enumerate() {
        asked.spawn(async move { (order + 1, destination_login(&one).await) });
    }
    let mut found = asked.join_all().await;
    found.sort_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, finding)| finding).collect()
}

fn keeper(config: &Config, cloud: &CloudConfig) -> Keeper {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let keeper = Keeper::open(cloud, &config.state_dir, Arc::clone(&disk));
    if config.certificate.is_none() {
        return keeper;
    }
    let folder = config.state_dir.join(FOLDER);
    keeper.with_certificates(Arc::new(Slots::open(disk, &folder, &cloud.product_key, &cloud.device_key)))
}

async fn cloud_login(cloud: &CloudConfig, keeper: &Keeper, own: bool) -> Finding {
    let finding = match cloud::log_in_once(cloud, keeper, own, PATIENCE).await {
        Trial::Taken => Finding::ok("the login is taken (tried once, as no gateway runs)"),
        Trial::NotTried(why) => Finding::unseen("the login", why),
        Trial::Failed { missed, why } => {
            Finding::fault(format!("the login failed (tried once, as no gateway runs): {why}"))
                .help(remedy(missed, "check product key, device key and secret"))
        }
    };
    finding.at(format!("cloud, {}:{}", cloud.host, cloud.port))
}

/// A secret is not doubted where nobody was asked for it.
fn remedy(missed: Missed, login: &'static str) -> &'static str {
    match missed {
        Missed::Login => login,
        Missed::Link => "see the findings of names and network",
        Missed::Silent => {
            "see the findings of network; if they are in order, check that this is its port for MQTT, with TLS (ssl://) or without              (tcp://) as the url says, and whether the broker hangs"
        }
        Missed::Overload => "the server has too much to do; it is tried again by itself, later and later",
    }
}

async fn destination_login(one: &DestinationConfig) -> Finding {
    let finding = match forward::log_in_once(one, PATIENCE).await {
        Ok(()) => Finding::ok("the login is taken (tried once, with a client id of its own)"),
        Err((missed, why)) => Finding::fault(format!("the login failed: {why}"))
            .help(remedy(missed, "check user, password and what the broker allows")),
    };
    finding.at(format!("destination {}, {}:{}", one.name, one.host, one.port))
}

/// A token is asked for whether the gateway runs or not: several may count at once.
async fn rest(config: &Config) -> Option<Finding> {
    let rest = config.rest.clone()?;
    let place = format!("rest, {}", rest.url);
    let asked = async {
        let client = Client::new(rest)?;
        client.token().await
    };
    let finding = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(())) => Finding::ok("the service account got a token"),
        Ok(Err(error @ RestError::NotAuthorised { .. })) => {
            Finding::fault(error.to_string()).help("check access_key, secret_key and org_id of rest:, and the clock")
        }
        Ok(Err(error)) => Finding::fault(error.to_string()).help("see the findings of network"),
        Err(_) => Finding::fault(format!("no token within {PATIENCE:?}")).help("see the findings of network"),
    };
    Some(finding.at(place))
}
