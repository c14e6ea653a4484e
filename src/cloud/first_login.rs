//! A connection in secure mode 3: it waits for the device's own secret, has it stored, answers, and ends. No data flows.

use super::activation::{self, Message};
use super::session::{Link, stopped};
use crate::model::Identity;
use crate::model::identity::Activation;
use crate::mqtt::connection::{Connection, Heard, Lost};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};

/// How long the disk may take. The cloud is told when it took longer, and sends the secret again at the next connect.
const STORE_PATIENCE: Duration = Duration::from_secs(20);
/// How long the answer may take to reach the cloud. Without it the cloud only does not know that we know.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Messages before the one that fits.
const UNFIT: usize = 16;

/// The token of our answer; nothing else is sent on this connection.
const ANSWER: u16 = 1;

/// How it ended.
pub(super) enum End {
    Stopped,
    /// The device secret is on disk.
    Activated,
    Failed(Failure),
}

/// Why no secret came.
pub(super) struct Failure {
    pub why: String,
    /// The product wants a client certificate, or another one (code 746).
    pub certificate_to_blame: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure { why, certificate_to_blame: false }
    }
}

/// Waits for the secret as long as for any answer of the cloud.
pub(super) async fn run(link: &Link, mut connection: Connection, stop: &mut watch::Receiver<bool>) -> End {
    let deadline = Instant::now() + link.config.reply_timeout;
    let activated = tokio::select! {
        activated = timeout_at(deadline, activate(link, &mut connection)) => activated,
        () = stopped(stop) => return End::Stopped,
    };
    let end = match activated {
        Ok(Ok(())) => End::Activated,
        Ok(Err(problem)) => End::Failed(problem),
        Err(_) => End::Failed(
            "the cloud took the product secret and sent no device secret; is dynamic activation enabled for the product, \
             and has this device not been activated before? (then configure its device_secret)"
                .to_owned()
                .into(),
        ),
    };
    connection.close(Duration::from_millis(500)).await;
    end
}

async fn activate(link: &Link, connection: &mut Connection) -> Result<(), Failure> {
    let topic = &link.topics.activation;
    connection.subscribe(std::slice::from_ref(topic)).map_err(|e| e.to_string())?;
    let mut last = String::new();
    for _ in 0..UNFIT {
        let payload = message(connection, topic).await.map_err(|lost| lost.to_string())?;
        match activation::read(&payload, &link.config.product_key, &link.config.device_key) {
            Message::Secret { id, activation } => {
                let stored = store(&*link.identity, activation).await;
                let answer = activation::answer(&id, &stored);
                publish(connection, topic, answer).await;
                return Ok(stored?);
            }
            Message::Unfit { answer, problem } => {
                warn!(problem, "an activation message is not taken");
                // Best effort: what counts is the message that fits.
                let _ = connection.publish(None, &activation::answers(topic), answer);
                last = problem;
            }
            Message::Refused { code, problem } => {
                return Err(Failure { why: problem, certificate_to_blame: code == 746 });
            }
        }
    }
    Err(last.into())
}

async fn message(connection: &mut Connection, wanted: &str) -> Result<bytes::Bytes, Lost> {
    loop {
        if let Heard::Message { topic, payload, .. } = connection.next().await?
            && topic == wanted
        {
            return Ok(payload);
        }
    }
}

pub(super) async fn store(identity: &dyn Identity, activation: Activation) -> Result<(), String> {
    match timeout(STORE_PATIENCE, identity.activated(activation)).await {
        Ok(stored) => stored,
        Err(_) => Err("the disk does not take the device secret in time".to_owned()),
    }
}

/// The secret is safe; that the cloud hears of it is best effort.
async fn publish(connection: &mut Connection, topic: &str, answer: Vec<u8>) {
    if connection.publish(Some(ANSWER), &activation::answers(topic), answer).is_err() {
        return;
    }
    let acknowledged = timeout(ANSWER_PATIENCE, async {
        while let Ok(heard) = connection.next().await {
            if matches!(heard, Heard::Acknowledged(ANSWER)) {
                return;
            }
        }
    });
    if acknowledged.await.is_err() {
        info!("the cloud has not acknowledged our answer to the activation; it may send the secret again");
    }
}
