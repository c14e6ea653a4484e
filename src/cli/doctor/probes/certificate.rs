//! Certificates and keys on this machine: dates, whether they fit, and who signed whom.

use super::configured;
use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::ground::Ground;
use crate::cli::moments::stamp;
use crate::config::{ClientFiles, Config};
use crate::identity::certificate::{Facts, Slots, facts_of};
use crate::identity::{Certificates, FOLDER};
use crate::mqtt::tls::OwnCertificate;
use crate::store::RealDisk;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DAY_MS: i64 = 86_400_000;
/// Nobody renews these files but a person.
const SOON_DAYS: i64 = 30;

pub(in crate::cli::doctor) fn look(ground: &Ground) -> Vec<Finding> {
    let config = match configured(ground, "certificates") {
        Ok(config) => config,
        Err(unseen) => return unseen,
    };
    let mut findings: Vec<Finding> = pairs(config).iter().map(|(who, files)| pair(who, files, ground.now)).collect();
    findings.extend(authorities(config).iter().map(|(who, file)| authority(who, file, ground.now)));
    findings.extend(kept(ground, config));
    if findings.is_empty() { vec![Finding::ok("no certificate is configured")] } else { findings }
}

fn pairs(config: &Config) -> Vec<(String, ClientFiles)> {
    let cloud = config.cloud.iter().filter_map(|one| Some(("cloud".to_owned(), one.client_files.clone()?)));
    let brokers = config
        .destinations
        .iter()
        .filter_map(|one| Some((format!("destination {}", one.name), one.client_files.clone()?)));
    let sources =
        config.fetch.iter().filter_map(|one| Some((format!("fetch {}", one.name), one.trust.client.clone()?)));
    let push = config.push.iter().filter_map(|push| {
        let (certificate, key) = push.tls.clone()?;
        Some(("push".to_owned(), ClientFiles { certificate, key }))
    });
    cloud.chain(brokers).chain(sources).chain(push).collect()
}

fn authorities(config: &Config) -> Vec<(String, PathBuf)> {
    let cloud = config.cloud.iter().filter_map(|one| Some(("cloud".to_owned(), one.tls.as_ref()?.ca_file.clone()?)));
    let brokers = config
        .destinations
        .iter()
        .filter_map(|one| Some((format!("destination {}", one.name), one.tls.as_ref()?.ca_file.clone()?)));
    let rest = config.rest.iter().filter_map(|one| Some(("rest".to_owned(), one.ca_file.clone()?)));
    let sources =
        config.fetch.iter().filter_map(|one| Some((format!("fetch {}", one.name), one.trust.ca_file.clone()?)));
    let push = config.push.iter().filter_map(|one| Some(("push".to_owned(), one.client_ca_file.clone()?)));
    cloud.chain(brokers).chain(rest).chain(sources).chain(push).collect()
}

fn pair(who: &str, files: &ClientFiles, now: i64) -> Finding {
    let place = format!("{who}, {}", files.certificate.display());
    let loaded = match files.load(0) {
        Ok(loaded) => loaded,
        Err(why) if why.contains("Permission denied") => return Finding::unseen("the pair", why).at(place),
        Err(why) => return Finding::fault(why).at(place).help("name a PEM certificate and its PEM key"),
    };
    if let Err(error) = OwnCertificate::parse(&loaded) {
        return Finding::fault(format!("{error:#}"))
            .at(place)
            .help("put the key that belongs to this certificate there, or a new pair");
    }
    match facts_of(&loaded.chain) {
        Ok(chain) => chained(&chain)
            .unwrap_or_else(|| dated(&chain[0], now, "ask for a new one and replace both files"))
            .at(place),
        Err(why) => Finding::fault(why).at(place),
    }
}

/// Each has to be signed by the next, or the server can not follow.
fn chained(chain: &[Facts]) -> Option<Finding> {
    let broken = chain.windows(2).find(|two| two[0].issuer != two[1].subject)?;
    Some(
        Finding::warning(format!(
            "\"{}\" is followed by \"{}\", who did not sign it",
            broken[0].subject, broken[1].subject
        ))
        .help("order the file: the own certificate first, then the one that signed it, and so on"),
    )
}

fn dated(facts: &Facts, now: i64, remedy: &str) -> Finding {
    let left = (facts.not_after - now) / DAY_MS;
    let until = stamp(facts.not_after);
    if now >= facts.not_after {
        return Finding::fault(format!("\"{}\" ended on {until}", facts.subject)).help(remedy);
    }
    if now < facts.not_before {
        return Finding::fault(format!("\"{}\" counts from {} on only", facts.subject, stamp(facts.not_before)))
            .help("the clock of this machine is behind, or the certificate was made with a wrong one");
    }
    if left < SOON_DAYS {
        return Finding::warning(format!("\"{}\" ends in {left} days, on {until}", facts.subject)).help(remedy);
    }
    Finding::ok(format!("\"{}\" ({}) counts until {until}", facts.subject, facts.key_type))
}

fn authority(who: &str, file: &Path, now: i64) -> Finding {
    let place = format!("{who}, {}", file.display());
    let read = std::fs::read_to_string(file).map_err(|error| error.to_string()).and_then(|text| facts_of(&text));
    match read {
        Err(why) if why.contains("Permission denied") => Finding::unseen("the authority", why),
        Err(why) => Finding::fault(format!("ca_file {why}"))
            .help("name the PEM file of the authority that signed the server's certificate"),
        Ok(all) => {
            let each = all.iter().map(|facts| dated(facts, now, "get the authority's new certificate"));
            each.max_by_key(|finding| finding.level).unwrap_or_else(|| Finding::fault("holds no certificate"))
        }
    }
    .at(place)
}

/// The certificate that the gateway keeps itself.
fn kept(ground: &Ground, config: &Config) -> Vec<Finding> {
    let (Some(_), Some(cloud)) = (&config.certificate, &config.cloud) else { return Vec::new() };
    let folder = config.state_dir.join(FOLDER);
    let status = match ground.status() {
        Some(status) => status["cloud"]["identity"]["certificate"].clone(),
        None => {
            if let Err(error) = std::fs::read_dir(&folder)
                && error.kind() == std::io::ErrorKind::PermissionDenied
            {
                return vec![Finding::unseen("the kept certificate", error).at(folder.display())];
            }
            Slots::open(Arc::new(RealDisk), &folder, &cloud.product_key, &cloud.device_key).status()
        }
    };
    let slots: Vec<&Json> = status["slots"].as_array().into_iter().flatten().collect();
    let current = slots.iter().find(|slot| slot["role"] == "current");
    let mut findings = vec![match current.and_then(|slot| facts(slot)) {
        Some(facts) => {
            dated(&facts, ground.now, "it is renewed by itself: see `enos-edge certificate` for why it is not")
        }
        None => Finding::note("the gateway has no certificate yet that has worked")
            .help("it asks for one over REST: see the login of rest"),
    }];
    findings.extend(slots.iter().filter(|slot| slot["role"] == "set_aside").map(|slot| {
        Finding::warning(format!("a certificate was set aside: {}", slot["reason"].as_str().unwrap_or_default()))
    }));
    findings.extend(status["last_error"].as_str().map(|error| {
        Finding::warning(format!("the last request for a certificate brought none: {error}"))
            .help("check rest:, and that the account may ask for certificates")
    }));
    findings.into_iter().map(|finding| finding.at("certificate:")).collect()
}

fn facts(slot: &Json) -> Option<Facts> {
    let text = |key: &str| slot[key].as_str().unwrap_or_default().to_owned();
    Some(Facts {
        serial: text("serial"),
        subject: text("subject"),
        issuer: text("issuer"),
        not_before: slot["not_before"].as_i64()?,
        not_after: slot["not_after"].as_i64()?,
        key_type: text("key_type"),
    })
}
