//! One login as the daemon would make it, for somebody who looks for what is wrong while no daemon runs.

use super::run::{endpoint, with_advice};
use crate::config::CloudConfig;
use crate::model::Identity;
use crate::model::identity::LoginSecret;
use crate::mqtt::connection::{Connection, Heard, Lost, Missed};
use crate::mqtt::reconnect::Reconnect;
use std::time::Duration;
use tokio::time::timeout;

/// How long DISCONNECT may take to get out.
const FAREWELL: Duration = Duration::from_millis(500);

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    Taken,
    /// Why nothing was sent.
    NotTried(String),
    Failed {
        missed: Missed,
        why: String,
    },
}

/// Connects, waits for CONNACK and says goodbye. A running gateway with these keys would lose its session: the caller has
/// made sure that there is none. With `note` the connect is written down, so that the next start counts it.
pub async fn log_in_once(config: &CloudConfig, identity: &dyn Identity, note: bool, within: Duration) -> Trial {
    match timeout(within, attempt(config, identity, note)).await {
        Ok(trial) => trial,
        Err(_) => Trial::Failed { missed: Missed::Silent, why: format!("no answer within {within:?}") },
    }
}

async fn attempt(config: &CloudConfig, identity: &dyn Identity, note: bool) -> Trial {
    let mut reconnect = Reconnect::new(config.sub_device_login);
    reconnect.before(&identity.connects_before());
    // The last one that the cloud takes is the daemon's.
    reconnect.reached(Duration::ZERO);
    if !reconnect.free_at().is_zero() {
        return Trial::NotTried(
            "the cloud has seen several connects just now, and would shut the gateway out".to_owned(),
        );
    }
    let proof = match identity.proof().await {
        Ok(proof) => proof,
        Err(why) => return Trial::Failed { missed: Missed::Login, why },
    };
    match &proof.secret {
        LoginSecret::Product(_) => {
            return Trial::NotTried("it would activate the device, and its secret come to nobody".to_owned());
        }
        LoginSecret::None if config.sub_device_login => {
            return Trial::NotTried("the device secret can not be read".to_owned());
        }
        LoginSecret::None | LoginSecret::Device(_) => {}
    }
    let endpoint = match endpoint(config, &proof, 0) {
        Ok(endpoint) => endpoint,
        Err(unfit) => return Trial::Failed { missed: Missed::Login, why: format!("{:#}", unfit.why) },
    };
    let mut connection = Connection::begin(&endpoint);
    let connected = connack(&mut connection).await;
    if note && connection.reached() && config.sub_device_login {
        identity.connecting().await;
    }
    match connected {
        Ok(()) => {
            connection.close(FAREWELL).await;
            Trial::Taken
        }
        Err(why) => Trial::Failed { missed: why.missed(), why: with_advice(&why, &proof, config.tls.is_some()) },
    }
}

async fn connack(connection: &mut Connection) -> Result<(), Lost> {
    while !matches!(connection.next().await?, Heard::Connected) {}
    Ok(())
}
