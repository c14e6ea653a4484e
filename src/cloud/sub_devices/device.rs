//! PURE. One sub-device on its way to being online, and where it waits.

use crate::cloud::status::Login;
use crate::config::Secret;
use std::time::Duration;

/// Where a device waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// For nothing.
    Rest,
    Register,
    Add,
    Login,
    /// For a login of its own: the code of the answer is then its own.
    Alone,
    Logout,
    Later(Duration),
    /// For an answer.
    Asked,
    /// For its new secret to be on disk.
    Storing,
}

#[derive(Clone, Debug)]
pub(super) struct Device {
    /// Its index in the names of the package.
    pub(super) index: u32,
    pub(super) secret: Option<Secret>,
    /// Signs the first login of a device that has no secret yet.
    pub(super) product_secret: Option<Secret>,
    pub(super) login: Login,
    pub(super) stage: Stage,
    pub(super) under_us: bool,
    /// The cloud has answered a login of it on this connection.
    pub(super) answered: bool,
    pub(super) alone: bool,
    /// Registered a moment ago: the cloud takes some seconds until all of it knows the device.
    pub(super) fresh: bool,
    pub(super) tries: u32,
    /// The refusal that was told last; the same one is not told at each try.
    pub(super) told: Option<Box<(i64, String)>>,
    /// In the field; until somebody has looked it is taken to answer.
    pub(super) answers: bool,
    /// It is silent, and is logged out at this time.
    pub(super) silent_until: Option<Duration>,
    /// Logged out because it is silent.
    pub(super) away: bool,
    pub(super) flaps: u8,
    pub(super) went_away: Option<Duration>,
}

impl Device {
    pub(super) fn new(index: u32, secret: Option<Secret>, product_secret: Option<Secret>) -> Device {
        Device {
            index,
            secret,
            product_secret,
            login: Login::Waiting,
            stage: Stage::Rest,
            under_us: false,
            answered: false,
            alone: false,
            fresh: false,
            tries: 0,
            told: None,
            answers: true,
            silent_until: None,
            away: false,
            flaps: 0,
            went_away: None,
        }
    }

    /// Neither disabled nor deleted by the cloud.
    pub(super) fn wanted(&self) -> bool {
        !matches!(self.login, Login::Disabled | Login::Deleted)
    }

    /// Its first failure is not told (R39): after ten seconds it is tried again.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh && self.tries == 0
    }

    pub(super) fn login_stage(&self) -> Stage {
        if self.alone { Stage::Alone } else { Stage::Login }
    }
}
