//! The certificate interface: apply, renew, revoke, list.

use super::authority::Authority;
use super::knobs::Wrong;
use super::request::{Answer, Request};
use super::{RestOptions, State};
use enos_edge::model::Timestamp;
use serde_json::{Value as Json, json};
use std::sync::Arc;

const DAY_MS: i64 = 86_400_000;
const BAD_ARGUMENT: i64 = 99_400;

/// One that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    pub serial: u64,
    /// `assetId`, or `productKey/deviceKey`.
    pub device: String,
    /// Milliseconds UTC.
    pub not_after: i64,
    pub standing: Standing,
    pub pem: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Active,
    Revoked,
}

pub(super) struct Certificates {
    authority: Arc<Authority>,
    issued: Vec<Certificate>,
}

impl Certificates {
    pub fn new(authority: Arc<Authority>) -> Certificates {
        Certificates { authority, issued: Vec::new() }
    }

    pub fn all(&self) -> &[Certificate] {
        &self.issued
    }

    /// A certificate that counts and is bound to the device.
    fn valid(&mut self, device: &str, serial: &Json, now: i64) -> Option<&mut Certificate> {
        let serial = serial.as_u64().or_else(|| serial.as_str()?.parse().ok())?;
        let valid = |c: &&mut Certificate| {
            c.serial == serial && c.device == device && c.standing == Standing::Active && now < c.not_after
        };
        self.issued.iter_mut().find(valid)
    }
}

pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    let device = match (request.query("assetId"), request.query("productKey"), request.query("deviceKey")) {
        (Some(asset), _, _) => asset.to_owned(),
        (None, Some(product), Some(device)) => format!("{product}/{device}"),
        _ => return Answer::refused(BAD_ARGUMENT, "assetId, or productKey and deviceKey are missing"),
    };
    let body = request.json();
    let now = Timestamp::now().0;
    match request.query("action") {
        Some("apply") => issue(state, device, &body, now),
        Some("renew") if state.knobs.refuse_renewals => Answer::refused(BAD_ARGUMENT, "the certificate is not bound"),
        Some("renew") => match state.certificates.valid(&device, &body["certSn"], now) {
            Some(_) => issue(state, device, &body, now),
            None => Answer::refused(BAD_ARGUMENT, "the old certificate is not valid or not bound"),
        },
        Some("revoke") => match state.certificates.valid(&device, &body["certSn"], now) {
            Some(certificate) => {
                certificate.standing = Standing::Revoked;
                Answer::data(Json::Null)
            }
            None => Answer::refused(BAD_ARGUMENT, "the certificate is not valid or not bound"),
        },
        Some("list") => {
            let own = state.certificates.issued.iter().filter(|certificate| certificate.device == device);
            let status = |standing| i32::from(standing == Standing::Revoked);
            Answer::data(own.map(|c| json!({"certSN": c.serial.to_string(), "status": status(c.standing)})).collect())
        }
        _ => Answer::refused(BAD_ARGUMENT, "action is not known"),
    }
}

fn issue(state: &mut State, device: String, body: &Json, now: i64) -> Answer {
    let Some(request) = body["csr"].as_str() else { return Answer::refused(BAD_ARGUMENT, "csr is missing") };
    let serial = state.certificates.issued.len() as u64 + 1;
    let (from, to) = life(&state.options, body, now);
    let authority = &state.certificates.authority;
    let made = match state.knobs.wrong {
        None => authority.sign(request, serial, from, to),
        Some(Wrong::OtherKey) => authority.sign_other(serial, from, to),
        Some(Wrong::OtherAuthority) => Authority::new("somebody else").and_then(|a| a.sign(request, serial, from, to)),
        Some(Wrong::NotYet) => authority.sign(request, serial, now + DAY_MS, to + 2 * DAY_MS),
        Some(Wrong::Expired) => authority.sign(request, serial, now - 2 * DAY_MS, now - DAY_MS),
        Some(Wrong::Garbage) => Ok("-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n".into()),
    };
    let pem = match made {
        Ok(pem) => pem,
        Err(error) => return Answer::refused(BAD_ARGUMENT, &format!("{error:#}")),
    };
    let authority_pem = authority.pem().to_owned();
    state.certificates.issued.push(Certificate {
        serial,
        device,
        not_after: to,
        standing: Standing::Active,
        pem: pem.clone(),
    });
    Answer::data(json!({
        "certChainURL": "",
        "caCert": authority_pem,
        "cert": pem,
        "certSN": serial.to_string(),
        "issueAuthority": body["issueAuthority"].as_str().unwrap_or("RSA"),
    }))
}

fn life(options: &RestOptions, body: &Json, now: i64) -> (i64, i64) {
    let days = body["validDay"].as_i64().unwrap_or(730).clamp(1, 36_500);
    let life = options.life.map_or(days * DAY_MS, |life| i64::try_from(life.as_millis()).unwrap_or(DAY_MS));
    // Certificates count in whole seconds; a beginning in our future would be refused by the strict.
    (now - now.rem_euclid(1000) - 1000, now - now.rem_euclid(1000) + life)
}
