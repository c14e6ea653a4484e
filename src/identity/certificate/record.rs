//! One pair of key and certificate as it lies on disk. Three places hold what is in use, what was before it, and what is
//! asked for or tried; each is replaced as a whole, so a power cut leaves the old pair or the new one.
//!
//! The key is on disk before anybody is asked for a certificate: what the cloud issues is never lost with it.

use crate::identity::activation::{Keys, hex};
use crate::identity::connects::Moment;
use crate::model::Secret;
use crate::store::{self, Disk};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How many places there are.
pub(super) const PLACES: usize = 3;
const FORMAT: u32 = 1;

/// How far a pair has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// A key without a certificate yet.
    Asked,
    /// Issued, and not yet tried with success.
    Candidate,
    /// A connection has stood with it.
    Works,
    /// Set aside, with the reason.
    Refused,
}

/// One pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// Grows with every key; tells pairs apart in [`crate::model::identity::ClientCertificate::slot`].
    pub number: u32,
    pub stage: Stage,
    pub key: Secret,
    /// PEM, our own first; empty while it is asked for.
    pub chain: String,
    /// The serial number as the cloud writes it in answers and wants it in requests.
    pub cloud_serial: Option<String>,
    /// When it was last asked for, or when it was issued.
    pub at: Moment,
    pub reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    product_key: String,
    device_key: String,
    number: u32,
    stage: Stage,
    key: String,
    chain: String,
    cloud_serial: Option<String>,
    at: Moment,
    reason: Option<String>,
    /// SHA-256 of all above: a torn or worn file is no identity.
    digest: String,
}

impl Stored {
    fn sum(&self) -> String {
        let all = serde_json::json!([
            self.format,
            self.product_key,
            self.device_key,
            self.number,
            self.stage,
            self.key,
            self.chain,
            self.cloud_serial,
            self.at,
            self.reason
        ]);
        hex(all.to_string().as_bytes())
    }
}

fn name(keys: &Keys, place: usize) -> String {
    keys.name(&format!("certificate-{place}"))
}

/// On disk when it returns well.
///
/// # Errors
/// In words; what was in this place before is still there then, or the new pair is.
pub(super) fn store(disk: &dyn Disk, folder: &Path, keys: &Keys, place: usize, pair: &Pair) -> Result<(), String> {
    let mut stored = Stored {
        format: FORMAT,
        product_key: keys.product_key.clone(),
        device_key: keys.device_key.clone(),
        number: pair.number,
        stage: pair.stage,
        key: pair.key.reveal().to_owned(),
        chain: pair.chain.clone(),
        cloud_serial: pair.cloud_serial.clone(),
        at: pair.at.clone(),
        reason: pair.reason.clone(),
        digest: String::new(),
    };
    stored.digest = stored.sum();
    let bytes = serde_json::to_vec_pretty(&stored).expect("plain strings and numbers");
    store::replace(disk, folder, &name(keys, place), &bytes)
        .map_err(|error| format!("store a certificate in {}: {error}", folder.display()))
}

/// `None` when the place is empty.
///
/// # Errors
/// When what lies there is torn, of another device or unreadable.
pub(super) fn load(disk: &dyn Disk, folder: &Path, keys: &Keys, place: usize) -> Result<Option<Pair>, String> {
    let path = folder.join(name(keys, place));
    let told = |problem: String| format!("{} can not be used: {problem}", path.display());
    let Some(bytes) = store::read(disk, &path).map_err(|e| told(e.to_string()))? else { return Ok(None) };
    // The text of the parser's error may quote the file.
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|_| told("it is torn or of another version".into()))?;
    if stored.format != FORMAT || stored.digest != stored.sum() {
        return Err(told("its digest does not fit".into()));
    }
    if (&stored.product_key, &stored.device_key) != (&keys.product_key, &keys.device_key) {
        return Err(told(format!("it belongs to device {} of product {}", stored.device_key, stored.product_key)));
    }
    Ok(Some(Pair {
        number: stored.number,
        stage: stored.stage,
        key: Secret::new(stored.key),
        chain: stored.chain,
        cloud_serial: stored.cloud_serial,
        at: stored.at,
        reason: stored.reason,
    }))
}
