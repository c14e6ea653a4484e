//! Updates of the engine and of firmware: taking a file, how it stands, giving it up, going back.

use super::{Operation, Refusal};
use std::path::PathBuf;

/// What is wanted of updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateWish {
    /// `now`: window and conditions are not waited for.
    Install {
        file: PathBuf,
        now: bool,
        /// The sub-device it is for.
        device: Option<String>,
    },
    Status,
    History,
    Cancel,
    RollBack,
}

pub(super) const INSTALL: Operation = Operation {
    name: "update_install",
    run: |gateway, arguments| {
        Box::pin(async move {
            let file = arguments["path"].as_str().map(PathBuf::from).filter(|path| path.is_absolute());
            let file =
                file.ok_or_else(|| Refusal::new("bad_request", "path: the absolute path of an update file is needed"))?;
            let device = arguments["device"].as_str().map(str::to_owned);
            gateway.update(UpdateWish::Install { file, now: arguments["now"] == true, device }).await
        })
    },
};

pub(super) const STATUS: Operation = Operation {
    name: "update_status",
    run: |gateway, _| Box::pin(async move { gateway.update(UpdateWish::Status).await }),
};

pub(super) const HISTORY: Operation = Operation {
    name: "update_history",
    run: |gateway, _| Box::pin(async move { gateway.update(UpdateWish::History).await }),
};

pub(super) const CANCEL: Operation = Operation {
    name: "update_cancel",
    run: |gateway, _| Box::pin(async move { gateway.update(UpdateWish::Cancel).await }),
};

pub(super) const ROLL_BACK: Operation = Operation {
    name: "update_roll_back",
    run: |gateway, _| Box::pin(async move { gateway.update(UpdateWish::RollBack).await }),
};
