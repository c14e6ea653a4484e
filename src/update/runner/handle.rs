//! The way to the task of updates: what people and the cloud ask, and its answers.

use super::Shelf;
use crate::model::Outcome;
use crate::model::command::{Data, code};
use crate::model::update::{Offer, Offers};
use driver::Answer;
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// For a place in the queue. The task answers in milliseconds, unless the disk is in trouble.
const PATIENCE: Duration = Duration::from_secs(10);

/// What people ask.
pub(super) enum Wanted {
    Offer(Box<Offer>, bool),
    Install { file: PathBuf, now: bool, device: Option<String> },
    Cancel,
    RollBack,
}

pub(super) struct Request {
    pub(super) wanted: Wanted,
    pub(super) answer: oneshot::Sender<Result<Json, Refused>>,
}

/// Why something is not done: a code for programs, words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: &'static str,
    pub words: String,
}

/// The way to the task.
#[derive(Clone)]
pub struct Updates {
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) shown: Arc<Mutex<Json>>,
    pub(super) shelf: Shelf,
}

impl Updates {
    /// Takes an update file of this machine; `device`: for this sub-device.
    ///
    /// # Errors
    /// Why not.
    pub async fn install(&self, file: PathBuf, now: bool, device: Option<String>) -> Result<Json, Refused> {
        self.ask(Wanted::Install { file, now, device }).await
    }

    /// # Errors
    /// When there is nothing that can be cancelled.
    pub async fn cancel(&self) -> Result<Json, Refused> {
        self.ask(Wanted::Cancel).await
    }

    /// Brings back what ran before the last update.
    ///
    /// # Errors
    /// When there is nothing to go back to.
    pub async fn roll_back(&self) -> Result<Json, Refused> {
        self.ask(Wanted::RollBack).await
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> Json {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How earlier jobs ended, the oldest first.
    #[must_use]
    pub fn history(&self) -> Json {
        json!(self.shelf.history().unwrap_or_default())
    }

    async fn ask(&self, wanted: Wanted) -> Result<Json, Refused> {
        let refused = |code, words: &str| Refused { code, words: words.to_owned() };
        let (answer, told) = oneshot::channel();
        // Many offers of one update at once are one update: none of them is refused for the others.
        self.requests
            .send_timeout(Request { wanted, answer }, PATIENCE)
            .await
            .map_err(|_| refused("busy", "too many ask at once, or the gateway stops"))?;
        told.await.unwrap_or_else(|_| Err(refused("stopped", "the gateway stops")))
    }
}

impl Offers for Updates {
    fn offered(&self, offer: Offer, gateway: bool) -> Answer<'static, Outcome> {
        let this = self.clone();
        Box::pin(async move {
            match this.ask(Wanted::Offer(Box::new(offer), gateway)).await {
                Ok(_) => Outcome::done(Data::Json(json!({}))),
                Err(refused) => {
                    let code = if refused.code == "busy" { code::BUSY } else { code::UPDATE_REFUSED };
                    Outcome::refused(code, refused.words)
                }
            }
        })
    }
}
