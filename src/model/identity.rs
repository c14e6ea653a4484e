//! PURE. How the gateway proves to the cloud who it is. The link asks before each connection and tells what came of it;
//! where secrets and certificates lie, and when they are renewed, is decided behind the trait.

use super::Secret;
use driver::Answer;
use std::time::Duration;

/// What the next connection proves itself with.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    pub secret: LoginSecret,
    pub certificate: Option<ClientCertificate>,
}

/// Which secret signs CONNECT.
#[derive(Clone, Debug, Default)]
pub enum LoginSecret {
    /// A plain broker that takes anybody.
    #[default]
    None,
    /// Secure mode 2.
    Device(Secret),
    /// Secure mode 3: the cloud answers with the device's own secret.
    Product(Secret),
}

/// A certificate with its key, both PEM.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// Tells the pair apart from the other one that is kept; given back in [`Identity::tried`].
    pub slot: u32,
    /// The device's own first, then those that lead to the authority.
    pub chain: String,
    pub key: Secret,
}

/// What dynamic activation brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    pub secret: Secret,
    /// The gateway's asset in the cloud; recommended as the name in its certificate.
    pub asset_id: Option<String>,
}

/// The keeper of secrets and certificates.
pub trait Identity: Send + Sync {
    /// What to prove with now. Asked before each connection, so that a renewed pair counts at once.
    ///
    /// # Errors
    /// In words for a person: what is missing, and what to do.
    fn proof(&self) -> Answer<'_, Result<Proof, String>>;

    /// The cloud sent the device's own secret. When this returns well it is on disk, fsynced; only then the cloud is
    /// answered.
    ///
    /// # Errors
    /// When it could not be stored.
    fn activated(&self, activation: Activation) -> Answer<'_, Result<(), String>>;

    /// CONNACK came: the secret of the last [`Identity::proof`] was taken, or refused with this code.
    fn logged_in(&self, _outcome: Result<(), u8>) {}

    /// A connection with this slot's certificate stood (CONNACK 0), or why it did not. `certificate_to_blame` when the peer
    /// or the local check refused the certificate itself: then the other slot is used next.
    fn tried(&self, slot: u32, outcome: Result<(), Failed>);

    /// Resolves when a connection made now would prove itself better than the one that stands; at once when it is so
    /// already. Asked anew for each connection.
    fn better(&self) -> Answer<'_, ()>;

    /// How long ago the cloud saw connections of this device before the daemon started, the oldest first.
    fn connects_before(&self) -> Vec<Duration> {
        Vec::new()
    }

    /// The cloud sees a connect now. Best effort: it counts them across our restarts.
    fn connecting(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Why a connection with a certificate did not stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub certificate_to_blame: bool,
    /// The peer was reached and hung up without a reason: it may be the certificate.
    pub suspect: bool,
    pub reason: String,
}

/// A secret from the configuration and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Fixed(pub Option<Secret>);

impl Identity for Fixed {
    fn proof(&self) -> Answer<'_, Result<Proof, String>> {
        let secret = self.0.clone().map_or(LoginSecret::None, LoginSecret::Device);
        Box::pin(async { Ok(Proof { secret, certificate: None }) })
    }

    fn activated(&self, _activation: Activation) -> Answer<'_, Result<(), String>> {
        Box::pin(async { Err("the device secret is configured; none is taken from the cloud".to_owned()) })
    }

    fn tried(&self, _slot: u32, _outcome: Result<(), Failed>) {}

    fn better(&self) -> Answer<'_, ()> {
        Box::pin(std::future::pending())
    }
}
