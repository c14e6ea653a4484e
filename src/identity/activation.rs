//! The device secret that dynamic activation brought: how it lies on disk, and how it is found there again.
//!
//! A record carries the keys it belongs to and lies below a name made of them, so that another device key never meets
//! this secret, and the first one finds it again. It lies there twice, and a secret that a newer one took the place of
//! stays beside it: nothing the cloud sends, and no worn flash, takes away a secret that worked.

use crate::model::identity::Activation;
use crate::model::{Secret, Timestamp};
use crate::store::{self, Disk};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Which device an identity is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub product_key: String,
    pub device_key: String,
}

impl Keys {
    #[must_use]
    pub fn new(product_key: &str, device_key: &str) -> Keys {
        Keys { product_key: product_key.to_owned(), device_key: device_key.to_owned() }
    }

    /// A file name of these keys, which may hold any character.
    #[must_use]
    pub fn name(&self, what: &str) -> String {
        let text = format!("{}\n{}", self.product_key, self.device_key);
        format!("{what}-{}.json", &hex(text.as_bytes())[..16])
    }
}

/// What is known of the device secret.
#[derive(Debug, Default)]
pub struct Known {
    pub current: Option<Record>,
    /// The one before, until it is known that the newest works for good.
    pub previous: Option<Record>,
}

/// One secret and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub secret: Secret,
    pub asset_id: Option<String>,
    /// Milliseconds UTC.
    pub at: i64,
}

const CURRENT: &str = "device";
const COPY: &str = "device-copy";
const PREVIOUS: &str = "device-previous";
const FORGOTTEN: &str = "device-forgotten";

impl Known {
    /// What lies on the disk, and what is wrong with it.
    #[must_use]
    pub fn load(disk: &dyn Disk, folder: &Path, keys: &Keys) -> (Known, Vec<String>) {
        let mut troubles = Vec::new();
        let mut one = |what: &str| {
            load_one(disk, folder, keys, what).unwrap_or_else(|e| {
                troubles.push(e);
                None
            })
        };
        let current = one(CURRENT);
        let copy = one(COPY);
        let previous = one(PREVIOUS);
        (Known { current: current.or(copy), previous }, troubles)
    }

    /// Stores a secret; false when it was there already. On disk when it returns well.
    ///
    /// # Errors
    /// When it could not be stored; the one before is still in force then.
    pub fn store(
        &mut self,
        disk: &dyn Disk,
        folder: &Path,
        keys: &Keys,
        activation: &Activation,
    ) -> Result<bool, String> {
        let news =
            Record { secret: activation.secret.clone(), asset_id: activation.asset_id.clone(), at: Timestamp::now().0 };
        let known = self.current.as_ref().is_some_and(|r| r.secret == news.secret);
        if known && load_one(disk, folder, keys, CURRENT).ok().flatten() == self.current {
            return Ok(false);
        }
        let write = |what: &str, record: &Record| {
            store::replace(disk, folder, &keys.name(what), &record.bytes(keys))
                .map_err(|e| format!("store the device secret in {}: {e}", folder.display()))
        };
        if let Some(before) = self.current.as_ref().filter(|_| !known) {
            write(PREVIOUS, before)?;
            self.previous = Some(before.clone());
        }
        write(CURRENT, &news)?;
        self.current = Some(news.clone());
        if let Err(error) = write(COPY, &news) {
            // The secret itself is safe; its copy is for worn flash.
            tracing::warn!("{error}; it has no copy");
        }
        Ok(!known)
    }

    /// Lays the secret aside, so that the next start activates anew. False when there is none.
    ///
    /// # Errors
    /// When a step failed; calling it again goes on from there.
    pub fn forget(disk: &dyn Disk, folder: &Path, keys: &Keys) -> Result<bool, String> {
        let told = |error: std::io::Error| format!("forget the device secret in {}: {error}", folder.display());
        let (known, _) = Known::load(disk, folder, keys);
        if let Some(record) = known.current.or(known.previous) {
            store::replace(disk, folder, &keys.name(FORGOTTEN), &record.bytes(keys)).map_err(told)?;
        }
        let mut any = false;
        for what in [CURRENT, COPY, PREVIOUS] {
            match disk.remove(&folder.join(keys.name(what))) {
                Ok(()) => any = true,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(told(error)),
            }
        }
        if any {
            disk.sync_folder(folder).map_err(told)?;
        }
        Ok(any)
    }
}

/// As it lies on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    product_key: String,
    device_key: String,
    device_secret: String,
    asset_id: Option<String>,
    at: i64,
    /// SHA-256 of all above: a torn or worn file is no secret.
    digest: String,
}

impl Stored {
    fn sum(&self) -> String {
        let text = serde_json::json!([
            self.format,
            self.product_key,
            self.device_key,
            self.device_secret,
            self.asset_id,
            self.at
        ]);
        hex(text.to_string().as_bytes())
    }
}

impl Record {
    fn bytes(&self, keys: &Keys) -> Vec<u8> {
        let mut stored = Stored {
            format: 1,
            product_key: keys.product_key.clone(),
            device_key: keys.device_key.clone(),
            device_secret: self.secret.reveal().to_owned(),
            asset_id: self.asset_id.clone(),
            at: self.at,
            digest: String::new(),
        };
        stored.digest = stored.sum();
        serde_json::to_vec_pretty(&stored).expect("plain strings and numbers")
    }
}

fn load_one(disk: &dyn Disk, folder: &Path, keys: &Keys, what: &str) -> Result<Option<Record>, String> {
    let path = folder.join(keys.name(what));
    let told = |problem: String| format!("{} can not be used: {problem}", path.display());
    let Some(bytes) = store::read(disk, &path).map_err(|e| told(e.to_string()))? else { return Ok(None) };
    // The text of the parser's error may quote the file.
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|_| told("it is torn or of another version".into()))?;
    if stored.format != 1 || stored.digest != stored.sum() {
        return Err(told("its digest does not fit".into()));
    }
    if (&stored.product_key, &stored.device_key) != (&keys.product_key, &keys.device_key) {
        return Err(told(format!("it belongs to device {} of product {}", stored.device_key, stored.product_key)));
    }
    let secret = Secret::new(stored.device_secret);
    Ok(Some(Record { secret, asset_id: stored.asset_id, at: stored.at }))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing into a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[path = "activation_tests.rs"]
mod tests;
