//! What was commanded, by whom, and what came of it; or whether the record of it is whole.

use super::command::audit::{Query, query, verify};
use super::{Operation, Refusal};
use serde_json::{Value as Json, json};

pub(super) const OPERATION: Operation = Operation {
    name: "audit",
    run: |gateway, arguments| {
        let folder = gateway.audit();
        let since = match &arguments["since"] {
            Json::Null => Ok(None),
            since => since.as_i64().map(Some).ok_or_else(|| {
                Refusal::new("bad_argument", format!("since: {since} is no number of milliseconds since 1970"))
            }),
        };
        let wanted = Query {
            since: since.as_ref().ok().copied().flatten(),
            device: arguments["device"].as_str().map(str::to_owned),
            door: arguments["door"].as_str().map(str::to_owned),
        };
        let whole = arguments["verify"].as_bool().unwrap_or(false);
        Box::pin(async move {
            since?;
            let look = move || -> std::io::Result<Json> {
                if whole { Ok(json!(verify(&folder)?)) } else { Ok(Json::Array(query(&folder, &wanted)?)) }
            };
            let looked = tokio::task::spawn_blocking(look).await;
            let failed = |why: String| Refusal::new("unreadable", format!("the audit can not be read: {why}"));
            looked.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))
        })
    },
};
