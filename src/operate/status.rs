//! What the gateway is doing: package, connections, outbox, cloud, counters.

use super::Operation;

pub(super) const OPERATION: Operation = Operation {
    name: "status",
    run: |gateway, arguments| {
        Box::pin(async move { Ok(gateway.status(arguments["listings"].as_bool().unwrap_or(true)).await) })
    },
};
