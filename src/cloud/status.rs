//! What people may know about the link: shared, cheap to read, without secrets.

use crate::model::Names;
use crate::model::accounting::Shown;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One instance, written by the link and read by whoever shows it.
#[derive(Debug, Default)]
pub struct Status(Mutex<Inner>);

/// Texts of devices are looked up when somebody asks: a change of one login costs one entry.
#[derive(Debug, Default)]
struct Inner {
    link: Snapshot,
    names: Option<Arc<Names>>,
    logins: BTreeMap<u32, Login>,
}

/// The link at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    #[serde(flatten)]
    pub state: State,
    /// Messages sent and not yet acknowledged.
    pub in_flight: usize,
    /// Why the link was last lost or refused.
    pub last_error: Option<String>,
    /// Bytes a second the cloud is thought to take, while that is less than agreed.
    pub slowed_to: Option<u64>,
    pub accounting: Shown,
    pub sub_devices: Vec<SubDevice>,
    /// Where models of the package and of the cloud differ.
    pub model_faults: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    #[default]
    Connecting,
    Online,
    /// The cloud refused the gateway's login.
    Refused {
        code: u8,
        reason: String,
        until: i64,
    },
    /// The next try comes at this time, in milliseconds UTC.
    Waiting {
        until: i64,
    },
    Stopped,
}

/// What became of one sub-device's login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SubDevice {
    pub device: String,
    pub product_key: String,
    pub device_key: String,
    #[serde(flatten)]
    pub login: Login,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "login", rename_all = "snake_case")]
pub enum Login {
    /// Not asked yet, or the answer is out.
    Waiting,
    Online,
    /// Silent in the field, so logged out.
    Away,
    Refused {
        code: i64,
        message: String,
    },
    /// The cloud asked us to send nothing for it.
    Disabled,
    Deleted,
}

impl Status {
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        let mut snapshot = inner.link.clone();
        let names = inner.names.as_ref().map_or(&[][..], |names| &names.devices);
        snapshot.sub_devices.extend(inner.logins.iter().filter_map(|(index, login)| {
            let names = names.get(*index as usize)?;
            Some(SubDevice {
                device: names.name.clone(),
                product_key: names.product_key.clone(),
                device_key: names.device_key.clone(),
                login: login.clone(),
            })
        }));
        snapshot
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock().link);
    }

    /// The devices there are.
    pub(super) fn list(&self, names: &Arc<Names>, logins: impl Iterator<Item = (u32, Login)>) {
        let mut inner = self.lock();
        inner.names = Some(Arc::clone(names));
        inner.logins = logins.collect();
    }

    /// Logins that have changed, by the devices' index in the names.
    pub(super) fn logins(&self, changed: Vec<(u32, Login)>) {
        if !changed.is_empty() {
            self.lock().logins.extend(changed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A snapshot is whole whatever happened to the thread that held it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_reads_as_flat_json() {
        let status = Status::default();
        status.update(|s| {
            s.state = State::Refused { code: 5, reason: "not authorized".to_owned(), until: 9 };
            s.sub_devices.push(SubDevice {
                device: "Meter 1".to_owned(),
                product_key: "pk".to_owned(),
                device_key: "m1".to_owned(),
                login: Login::Refused { code: 740, message: "no sub-device".to_owned() },
            });
        });
        let json = serde_json::to_value(status.snapshot()).unwrap();
        assert_eq!(json["state"], "refused");
        assert_eq!(json["code"], 5);
        assert_eq!(json["sub_devices"][0]["login"], "refused");
        assert_eq!(json["sub_devices"][0]["code"], 740);
    }
}
