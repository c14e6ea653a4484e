//! Writes measurement points of a device: the local door to commands.

use super::{DOOR, Gateway, Operation, Refusal};
use crate::model::command::{Data, Target, What};
use crate::model::{Command, Timestamp};
use serde_json::{Value as Json, json};
use std::time::Duration;

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

/// What can not be understood is refused: without its id a command could be carried out twice, without its time late.
fn id(id: &Json) -> Result<Option<String>, Refusal> {
    match id {
        Json::Null => Ok(None),
        // An empty one tells nothing apart.
        Json::String(id) => Ok(Some(id.clone()).filter(|id| !id.is_empty())),
        Json::Number(id) => Ok(Some(id.to_string())),
        _ => Err(Refusal::new("bad_argument", "id is neither a text nor a number")),
    }
}

fn issued_at(time: &Json) -> Result<Option<Timestamp>, Refusal> {
    let problem = || Refusal::new("bad_argument", format!("issued_at: {time} is no number of milliseconds since 1970"));
    match time {
        Json::Null => Ok(None),
        time => time.as_i64().map(|time| Some(Timestamp(time))).ok_or_else(problem),
    }
}

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
        door: arguments[DOOR].as_str().unwrap_or_default().to_owned(),
        id: id(&arguments["id"])?,
        target: Target::Name(device.to_owned()),
        what,
        issued_at: issued_at(&arguments["issued_at"])?,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_or_a_time_that_is_none_is_refused_and_not_left_out() {
        let known = |value: Json| id(&value).ok();
        assert_eq!(known(json!("a")), Some(Some("a".to_owned())));
        assert_eq!(known(json!(5)), Some(Some("5".to_owned())));
        assert_eq!((known(json!("")), known(json!(null))), (Some(None), Some(None)));
        assert_eq!((known(json!({})), known(json!([1])), known(json!(true))), (None, None, None));
        let issued = |value: Json| issued_at(&value).ok();
        assert_eq!((issued(json!(5)), issued(json!(null))), (Some(Some(Timestamp(5))), Some(None)));
        assert_eq!((issued(json!("x")), issued(json!(1.5)), issued(json!(u64::MAX))), (None, None, None));
    }
}
