//! Calls a service of a device's model.

use super::write::carry_out;
use super::{Operation, Refusal};
use crate::model::command::What;

pub(super) const OPERATION: Operation = Operation {
    name: "invoke",
    run: |gateway, arguments| {
        Box::pin(async move {
            let id = arguments["service"]
                .as_str()
                .ok_or_else(|| Refusal::new("missing_argument", "invoke wants the id of a service"))?;
            let input = arguments["input"].as_object().cloned().unwrap_or_default();
            carry_out(gateway, arguments, What::Service { id: id.to_owned(), input }).await
        })
    },
};
