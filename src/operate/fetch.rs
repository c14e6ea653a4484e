//! Where packages come from: what each source did last, and asking one now.

use super::Operation;

pub(super) const OPERATION: Operation = Operation {
    name: "package_fetch",
    run: |gateway, arguments| {
        Box::pin(async move { gateway.fetch(arguments["name"].as_str(), arguments["look"].as_bool().unwrap_or(false)) })
    },
};
