//! OTA as far as the cloud's side goes: versions reported, upgrades offered, progress kept.

use super::request::{Answer, Request};
use super::world::World;
use serde_json::{Value, json};

/// What the cloud knows of a device's upgrades.
#[derive(Debug, Clone, Default)]
pub struct OtaState {
    /// As the device reported it last.
    pub version: Option<String>,
    /// Upgrades a device gets when it asks: version, signMethod, sign, fileUrl, fileSize.
    pub offered: Vec<Value>,
    /// A push job runs.
    pub job: bool,
    /// Step and description, as they came.
    pub progress: Vec<(String, String)>,
}

impl World {
    /// `ota/device/inform`, `getversion` and `progress`.
    pub fn ota(&mut self, request: &Request<'_>) -> Answer {
        let state = &mut self.registry.devices[request.target as usize].ota;
        let text =
            |name: &str| request.params.get(name).map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        match request.rest {
            "ota/device/inform" => match text("version") {
                Some(version) => {
                    // Reporting the new version is what ends an upgrade.
                    state.job = state.job && state.version.as_ref() == Some(&version);
                    state.version = Some(version);
                    Answer::ok(json!({}))
                }
                None => Answer::refused(1220, "version is missing"),
            },
            "ota/device/getversion" => {
                state.job |= !state.offered.is_empty();
                Answer::ok(Value::Array(state.offered.clone()))
            }
            "ota/device/progress" if !state.job && !state.offered.is_empty() => {
                Answer::refused(765, "the task has not been started")
            }
            "ota/device/progress" if !state.job => Answer::refused(764, "no such task for this device"),
            "ota/device/progress" => {
                state.progress.push((text("step").unwrap_or_default(), text("desc").unwrap_or_default()));
                Answer::ok(json!({}))
            }
            other => Answer::refused(1009, format!("{other} is not known")),
        }
    }
}
