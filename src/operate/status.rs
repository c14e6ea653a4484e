//! What the gateway is doing: package, connections, outbox, cloud, counters.

use super::Operation;

pub(super) const OPERATION: Operation =
    Operation { name: "status", run: |gateway, _| Box::pin(async move { Ok(gateway.status()) }) };
