//! What people and clouds may ask of a running gateway. One file an operation, one line in the table; every door offers the table.

mod audit;
mod certificate;
mod cloud;
pub mod command;
mod fetch;
mod invoke;
mod package;
mod read;
mod status;
mod update;
mod values;
mod write;

pub use update::UpdateWish;

use crate::model::cloud_ask::Wish;
use crate::model::{Command, Outcome};
use driver::Answer;
use serde::Serialize;
use serde_json::Value as Json;
use std::path::PathBuf;

/// The running gateway as operations see it; `app.rs` joins the parts.
pub trait Gateway: Send + Sync {
    /// Everything `enos-edge status` shows. Without `listings` the disk is not asked for gaps and refused values.
    fn status(&self, listings: bool) -> Answer<'_, Json>;
    /// Latest values of the points whose device or point name contains `filter`; empty: all.
    fn values(&self, filter: &str) -> Json;
    /// The raw frames of a connection from now on.
    ///
    /// # Errors
    /// When the connection is not known.
    fn frames(&self, connection: &str) -> Result<Box<dyn Frames>, Refusal>;
    /// Carries out a command of whoever asks.
    fn command(&self, command: Command) -> Answer<'static, Outcome>;
    /// The folder of the audit.
    fn audit(&self) -> PathBuf;
    /// The certificates that are kept.
    ///
    /// # Errors
    /// When the gateway keeps none itself.
    fn certificate(&self) -> Result<Json, Refusal>;
    /// Asks for a new certificate now.
    fn renew_certificate(&self) -> Answer<'_, Result<Json, Refusal>>;
    /// Reads all points of a device now, between the scans that are due.
    fn read<'a>(&'a self, device: &'a str, point: Option<&'a str>) -> Answer<'a, Result<Json, Refusal>>;
    /// Checks a package and goes on with it, if it passes.
    fn install_package(&self, from: PathBuf, force: bool) -> Answer<'_, Result<Json, Refusal>>;
    /// Goes back to an older generation; none named: the one before.
    fn roll_package_back(&self, to: Option<u64>) -> Answer<'_, Result<Json, Refusal>>;
    /// What became of an installation or a going back that took longer than its caller waited.
    fn package_job(&self, job: u64) -> Answer<'_, Result<Json, Refusal>>;
    /// The generations on disk.
    fn packages(&self) -> Answer<'_, Json>;
    /// What happened to the package, the newest last.
    fn package_history(&self) -> Answer<'_, Json>;
    /// Asks the cloud through the running link.
    fn cloud(&self, wish: Wish) -> Answer<'_, Result<Json, Refusal>>;
    /// Updates of the engine and of firmware.
    fn update(&self, wish: UpdateWish) -> Answer<'_, Result<Json, Refusal>>;
    /// Sources of packages; with `look`, one of them or all are asked now.
    ///
    /// # Errors
    /// When none is configured, or none has this name.
    fn fetch(&self, name: Option<&str>, look: bool) -> Result<Json, Refusal>;
}

/// Somebody listening to raw frames.
pub trait Frames: Send {
    /// The next one as `{"direction","time","hex"}`, or how many were lost as `{"lost"}`, or that the
    /// connection is `{"gone"}`. Cancel-safe.
    fn next(&mut self) -> Answer<'_, Json>;
}

/// Why an operation was not done: a code for programs, words for people.
#[derive(Clone, Debug, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }
}

/// Code of a read that the device did not answer: everything asked for exists, and something is wrong.
pub const NO_ANSWER: &str = "no_answer";

/// One line of the table.
pub struct Operation {
    pub name: &'static str,
    pub run: for<'a> fn(&'a dyn Gateway, &'a Json) -> Answer<'a, Result<Json, Refusal>>,
}

/// The argument that names where somebody came in; no visitor sets it.
const DOOR: &str = "@door";

/// Everything that can be asked.
pub const OPERATIONS: &[Operation] = &[
    status::OPERATION,
    values::OPERATION,
    read::OPERATION,
    write::OPERATION,
    invoke::OPERATION,
    audit::OPERATION,
    cloud::OPERATION,
    certificate::SHOW,
    certificate::RENEW,
    fetch::OPERATION,
    package::INSTALL,
    package::JOB,
    package::LIST,
    package::HISTORY,
    package::ROLLBACK,
    update::INSTALL,
    update::STATUS,
    update::HISTORY,
    update::CANCEL,
    update::ROLL_BACK,
];

/// Finds the operation and runs it for whoever asks at that door.
///
/// # Errors
/// The operation's own refusal, or `unknown_operation`.
pub async fn perform(gateway: &dyn Gateway, door: &str, name: &str, arguments: Json) -> Result<Json, Refusal> {
    let mut arguments = arguments;
    if arguments.is_null() {
        arguments = Json::Object(serde_json::Map::new());
    }
    let Json::Object(all) = &mut arguments else {
        return Err(Refusal::new("bad_argument", "arguments are no object"));
    };
    // Whatever the visitor says of himself: the audit and the ids of commands go by where he came in.
    all.insert(DOOR.to_owned(), Json::String(door.to_owned()));
    match OPERATIONS.iter().find(|o| o.name == name) {
        Some(operation) => (operation.run)(gateway, &arguments).await,
        None => {
            let known = crate::diagnostic::did_you_mean(name, OPERATIONS.iter().map(|o| o.name));
            Err(Refusal::new("unknown_operation", format!("operation \"{name}\" is not known; {known}")))
        }
    }
}
