//! A device's points, read now from the device and not from memory.

use super::{Operation, Refusal};

pub(super) const OPERATION: Operation = Operation {
    name: "read",
    run: |gateway, arguments| {
        Box::pin(async move {
            let device = arguments["device"]
                .as_str()
                .ok_or_else(|| Refusal::new("missing_argument", "read wants the name of a device"))?;
            gateway.read(device, arguments["point"].as_str()).await
        })
    },
};
