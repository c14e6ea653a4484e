//! Latest values of all points, as last read.

use super::Operation;

pub(super) const OPERATION: Operation = Operation {
    name: "values",
    run: |gateway, arguments| {
        Box::pin(async move { Ok(gateway.values(arguments["filter"].as_str().unwrap_or_default())) })
    },
};
