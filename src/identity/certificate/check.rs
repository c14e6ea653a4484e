//! PURE. Whether what the cloud issued may be tried: it is for our key, it counts now, it leads to the authority, and it is
//! no step back.

use super::facts::{Facts, Parsed, parse, pem};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, Error, RootCertStore};
use std::sync::Arc;
use std::time::Duration;

/// A gateway's clock may be this much behind the authority's.
const SLOW_CLOCK_MS: i64 = 5 * 60 * 1000;

/// What the check goes by.
pub(super) struct Expected<'a> {
    /// Of our key.
    pub public: &'a [u8],
    /// PEM of the authority; `None`: what came with the certificate.
    pub authority: Option<&'a str>,
    /// The end of the certificate in use, unless that has passed.
    pub current_end: Option<i64>,
    /// Milliseconds UTC.
    pub now: i64,
}

/// What came: the certificate, perhaps with others, and the authority's.
pub(super) struct Came<'a> {
    pub certificate: &'a str,
    pub authority: Option<&'a str>,
}

/// The chain to show, our own first, and its facts.
///
/// # Errors
/// Why it must not be used, in words.
pub(super) fn check(came: &Came<'_>, expected: &Expected<'_>) -> Result<(String, Facts), String> {
    let mut all = parse(came.certificate).map_err(|problem| format!("the answer {problem}"))?;
    let others = match came.authority.filter(|text| !text.trim().is_empty()) {
        Some(text) => parse(text).map_err(|problem| format!("the authority's certificate in the answer {problem}"))?,
        None => Vec::new(),
    };
    let position = all.iter().position(|certificate| certificate.public == expected.public);
    let own = all.remove(position.ok_or("the certificate is for another key")?);
    all.extend(others);
    in_time(&own.facts, expected)?;
    leads_to_authority(&own, &all, expected)?;
    // Roots are known to whoever trusts them; what stands between is shown.
    let between = all.iter().filter(|certificate| !certificate.self_signed);
    Ok((pem(std::iter::once(&own).chain(between)), own.facts))
}

fn in_time(facts: &Facts, expected: &Expected<'_>) -> Result<(), String> {
    if facts.not_after <= facts.not_before {
        return Err("the certificate ends before it begins".to_owned());
    }
    if facts.not_before > expected.now.saturating_add(SLOW_CLOCK_MS) {
        let days = (facts.not_before - expected.now) / 86_400_000;
        return Err(format!("the certificate does not count yet ({days} days to go); is this machine's clock right?"));
    }
    if facts.not_after <= expected.now {
        return Err("the certificate has expired already; is this machine's clock right?".to_owned());
    }
    if expected.current_end.is_some_and(|end| facts.not_after <= end) {
        return Err("the certificate does not live longer than the one in use".to_owned());
    }
    Ok(())
}

fn leads_to_authority(own: &Parsed, others: &[Parsed], expected: &Expected<'_>) -> Result<(), String> {
    let configured = expected.authority.map(parse).transpose().map_err(|problem| format!("ca_file {problem}"))?;
    let trusted: Vec<&Parsed> = match &configured {
        Some(authority) => authority.iter().collect(),
        None => others.iter().filter(|certificate| certificate.self_signed).collect(),
    };
    if trusted.is_empty() {
        // Nobody to hold it against; the connection that tries it decides.
        return Ok(());
    }
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        let added = roots.add(CertificateDer::from(certificate.der.clone()));
        added.map_err(|error| format!("the authority can not be used: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| format!("the authority can not be used: {error}"))?;
    let between: Vec<CertificateDer<'_>> =
        others.iter().map(|other| CertificateDer::from(other.der.as_slice())).collect();
    // Our clock may be a little behind its beginning, which was looked at above.
    let moment = expected.now.max(own.facts.not_before);
    let now = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(moment).unwrap_or(0)));
    match verifier.verify_client_cert(&CertificateDer::from(own.der.as_slice()), &between, now) {
        Ok(_) => Ok(()),
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            Err("the certificate does not lead to the authority of ca_file".to_owned())
        }
        Err(error) => Err(format!("the certificate is no good for a client: {error}")),
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
