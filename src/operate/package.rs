//! The resource package: installing one, what there is, going back, and what happened.

use super::{Operation, Refusal};
use serde_json::Value as Json;
use std::path::PathBuf;

pub(super) const INSTALL: Operation = Operation {
    name: "package_install",
    run: |gateway, arguments| {
        Box::pin(async move {
            let path = arguments["path"].as_str().map(PathBuf::from).filter(|path| path.is_absolute());
            let path =
                path.ok_or_else(|| Refusal::new("bad_request", "path: the absolute path of a package is needed"))?;
            gateway.install_package(path, arguments["force"] == true).await
        })
    },
};

pub(super) const JOB: Operation = Operation {
    name: "package_job",
    run: |gateway, arguments| {
        Box::pin(async move {
            let job = arguments["job"].as_u64();
            let job = job.ok_or_else(|| Refusal::new("bad_request", "job: a number is needed"))?;
            gateway.package_job(job).await
        })
    },
};

pub(super) const LIST: Operation =
    Operation { name: "package_list", run: |gateway, _| Box::pin(async move { Ok(gateway.packages().await) }) };

pub(super) const HISTORY: Operation = Operation {
    name: "package_history",
    run: |gateway, _| Box::pin(async move { Ok(gateway.package_history().await) }),
};

pub(super) const ROLLBACK: Operation = Operation {
    name: "package_rollback",
    run: |gateway, arguments| {
        Box::pin(async move {
            let to: &Json = &arguments["generation"];
            if !to.is_null() && to.as_u64().is_none() {
                return Err(Refusal::new(
                    "bad_request",
                    "generation: a number is needed, or nothing for the one before",
                ));
            }
            gateway.roll_package_back(to.as_u64()).await
        })
    },
};
