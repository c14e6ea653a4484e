//! Writes measurement points of a device: the local door to commands.

use super::{Gateway, Operation, Refusal};
use crate::model::command::{Data, Target, What};
use crate::model::{Command, Timestamp};
use serde_json::{Value as Json, json};
use std::time::Duration;

/// Commands of people at this machine are told from those of other doors by this name.
const DOOR: &str = "local";
/// The door waits 30 s, and the device has 5 s of them.
const LONGEST: u64 = 24_000;
const DEFAULT: u64 = 20_000;

pub(super) const OPERATION: Operation = Operation {
    name: "write",
    run: |gateway, arguments| {
        Box::pin(async move {
            let points = arguments["points"].as_object().ok_or_else(|| {
                Refusal::new("missing_argument", "write wants points: an object of points and values")
            })?;
            carry_out(gateway, arguments, What::Set(points.clone())).await
        })
    },
};

/// Makes the command and tells its outcome: `{"code","message","data"}`, whatever it is.
pub(super) async fn carry_out(gateway: &dyn Gateway, arguments: &Json, what: What) -> Result<Json, Refusal> {
    let device = arguments["device"]
        .as_str()
        .ok_or_else(|| Refusal::new("missing_argument", "a command wants the name of a device"))?;
    let time_to_live = match &arguments["ttl_ms"] {
        Json::Null => DEFAULT,
        ttl => ttl.as_u64().filter(|ttl| (1..=LONGEST).contains(ttl)).ok_or_else(|| {
            Refusal::new("bad_argument", format!("ttl_ms: {ttl} is no number of milliseconds from 1 to {LONGEST}"))
        })?,
    };
    let command = Command {
        door: DOOR.to_owned(),
        id: arguments["id"].as_str().map(str::to_owned),
        target: Target::Name(device.to_owned()),
        what,
        issued_at: arguments["issued_at"].as_i64().map(Timestamp),
        time_to_live: Some(Duration::from_millis(time_to_live)),
        retained: false,
        again: false,
    };
    let outcome = gateway.command(command).await;
    let data = match outcome.data {
        Data::Nothing => Json::Null,
        Data::Json(data) => data,
        Data::Raw(bytes) => json!(bytes),
    };
    Ok(json!({"code": outcome.code, "message": outcome.message, "data": data}))
}
