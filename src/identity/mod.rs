//! Who the gateway is toward the cloud: its secrets, its certificate, and what of them lies on disk.
//!
//! [`Keeper`] stands behind [`Identity`], which is all that the link knows. Where a certificate comes from is behind
//! [`Certificates`]: two files of the configuration, or the slots that are kept and renewed.

pub mod activation;
pub mod certificate;
pub mod connects;
pub mod device_secrets;
mod files;
mod turns;

use crate::config::CloudConfig;
use crate::model::Secret;
use crate::model::identity::{Activation, ClientCertificate, Failed, Identity, LoginSecret, Proof};
use crate::store::Disk;
use activation::{Keys, Known};
use connects::Connects;
use driver::Answer;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::{info, warn};
use turns::{Turn, Turns};

pub use files::Files;

/// The folder of `state_dir` where everything of an identity lies, 0700.
pub const FOLDER: &str = "identity";

/// Where the client certificate comes from.
pub trait Certificates: Send + Sync {
    /// What to present now.
    ///
    /// # Errors
    /// In words for a person: what is missing, and what to do. There is no connection then.
    fn current(&self) -> Answer<'_, Result<ClientCertificate, String>>;
    /// As [`Identity::tried`].
    fn tried(&self, slot: u32, outcome: Result<(), Failed>);
    /// As [`Identity::better`].
    fn better(&self) -> Answer<'_, ()>;
    /// For `enos-edge status`: no keys, no secrets.
    fn status(&self) -> Json;
}

/// Keeps the secrets and hands them to the link.
pub struct Keeper {
    inner: Arc<Inner>,
    certificates: Option<Arc<dyn Certificates>>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    keys: Keys,
    /// Of the configuration; nothing is taken from the cloud then.
    device_secret: Option<Secret>,
    product_secret: Option<Secret>,
    known: Mutex<Known>,
    turns: Mutex<Turns>,
    connects: Mutex<Connects>,
}

impl Keeper {
    /// Looks at what lies in `state_dir/identity`. What can not be read there is told and counts as absent.
    #[must_use]
    pub fn open(config: &CloudConfig, state_dir: &std::path::Path, disk: Arc<dyn Disk>) -> Keeper {
        let folder = state_dir.join(FOLDER);
        let keys = Keys::new(&config.product_key, &config.device_key);
        let (known, troubles) = Known::load(&*disk, &folder, &keys);
        for trouble in troubles {
            warn!(folder = %folder.display(), "{trouble}");
        }
        let connects = Connects::load(&*disk, &folder, &keys);
        let inner = Inner {
            disk,
            folder,
            keys,
            device_secret: config.device_secret.clone(),
            product_secret: config.product_secret.clone(),
            known: Mutex::new(known),
            turns: Mutex::default(),
            connects: Mutex::new(connects),
        };
        let certificates = config.client_files.clone().map(|files| Arc::new(Files(files)) as Arc<dyn Certificates>);
        Keeper { inner: Arc::new(inner), certificates }
    }

    /// With certificates that are kept and renewed, instead of two files.
    #[must_use]
    pub fn with_certificates(mut self, certificates: Arc<dyn Certificates>) -> Keeper {
        self.certificates = Some(certificates);
        self
    }

    /// The gateway's asset in the cloud, when activation has told it.
    #[must_use]
    pub fn asset_id(&self) -> Option<String> {
        lock(&self.inner.known).current.as_ref()?.asset_id.clone()
    }

    /// How the gateway proves itself, without what it proves itself with.
    #[must_use]
    pub fn status(&self) -> Json {
        let known = lock(&self.inner.known);
        let turn = self.inner.turn(&known);
        let secret = match turn {
            Turn::None => "none",
            Turn::Configured => "configured",
            Turn::Current | Turn::Previous => "activated",
            Turn::Product => "awaited",
        };
        json!({
            "product_key": self.inner.keys.product_key,
            "device_key": self.inner.keys.device_key,
            "secure_mode": turn.secure_mode(),
            "device_secret": secret,
            "activated_at": known.current.as_ref().map(|record| record.at),
            "asset_id": known.current.as_ref().and_then(|record| record.asset_id.clone()),
            "certificate": self.certificates.as_ref().map(|certificates| certificates.status()),
        })
    }
}

impl Identity for Keeper {
    fn proof(&self) -> Answer<'_, Result<Proof, String>> {
        Box::pin(async {
            let secret = self.inner.secret();
            let certificate = match &self.certificates {
                Some(certificates) => Some(certificates.current().await?),
                None => None,
            };
            Ok(Proof { secret, certificate })
        })
    }

    fn activated(&self, activation: Activation) -> Answer<'_, Result<(), String>> {
        let inner = Arc::clone(&self.inner);
        // The disk may be stuck; the link goes on meanwhile.
        Box::pin(async move {
            let stored = tokio::task::spawn_blocking(move || inner.activated(&activation));
            stored.await.map_err(|e| format!("store the device secret: {e}"))?
        })
    }

    fn logged_in(&self, outcome: Result<(), u8>) {
        let known = lock(&self.inner.known);
        let mut turns = lock(&self.inner.turns);
        let choices = self.inner.choices(&known);
        let before = turns.turn(&choices);
        turns.answered(&choices, outcome.is_ok());
        let after = turns.turn(&choices);
        if let (Err(code), true) = (outcome, before != after) {
            warn!(
                code,
                refused = before.words(),
                next = after.words(),
                "the cloud does not take this secret; it is kept, and the next try is made with another"
            );
        }
    }

    fn tried(&self, slot: u32, outcome: Result<(), Failed>) {
        if let Some(certificates) = &self.certificates {
            certificates.tried(slot, outcome);
        }
    }

    fn better(&self) -> Answer<'_, ()> {
        match &self.certificates {
            Some(certificates) => certificates.better(),
            None => Box::pin(std::future::pending()),
        }
    }

    fn connects_before(&self) -> Vec<Duration> {
        lock(&self.inner.connects).ages()
    }

    fn connecting(&self) -> Answer<'_, ()> {
        let inner = Arc::clone(&self.inner);
        let note = move || {
            let mut connects = lock(&inner.connects);
            connects.add(connects::Moment::now());
            // Best effort: without it a gateway that crashes again and again may be shut out for five minutes.
            if let Err(error) = connects.save(&*inner.disk, &inner.folder, &inner.keys) {
                tracing::debug!(%error, "connects are not remembered");
            }
        };
        // It does not panic, and if it did there would be no note.
        Box::pin(async { drop(tokio::task::spawn_blocking(note).await) })
    }
}

impl Inner {
    fn choices(&self, known: &Known) -> Vec<Turn> {
        if self.device_secret.is_some() {
            return vec![Turn::Configured];
        }
        let all = [
            (known.current.is_some(), Turn::Current),
            (known.previous.is_some(), Turn::Previous),
            (self.product_secret.is_some(), Turn::Product),
        ];
        all.into_iter().filter(|(there, _)| *there).map(|(_, turn)| turn).collect()
    }

    fn turn(&self, known: &Known) -> Turn {
        lock(&self.turns).turn(&self.choices(known))
    }

    fn secret(&self) -> LoginSecret {
        let known = lock(&self.known);
        let of = |record: &Option<activation::Record>| record.as_ref().map(|r| LoginSecret::Device(r.secret.clone()));
        let secret = match self.turn(&known) {
            Turn::None => None,
            Turn::Configured => self.device_secret.clone().map(LoginSecret::Device),
            Turn::Current => of(&known.current),
            Turn::Previous => of(&known.previous),
            Turn::Product => self.product_secret.clone().map(LoginSecret::Product),
        };
        secret.unwrap_or_default()
    }

    fn activated(&self, activation: &Activation) -> Result<(), String> {
        if let Some(configured) = &self.device_secret {
            return if *configured == activation.secret {
                Ok(())
            } else {
                Err("the device secret is configured; none is taken from the cloud".to_owned())
            };
        }
        let mut known = lock(&self.known);
        let news = known.store(&*self.disk, &self.folder, &self.keys, activation)?;
        lock(&self.turns).begin();
        if news {
            info!(device_key = %self.keys.device_key, "activated: the cloud has sent the device secret, and it is on disk");
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change is made by one assignment: what is found is whole whatever happened to the thread that held it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
