//! PURE. Where a package says what a guard refuses, so that the engineer's finger can land there.

use super::assets::Assets;
use super::models::ModelText;
use crate::diagnostic::Place;
use std::collections::HashMap;

/// Lines of points and devices. What is not known has the file alone.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Model -> its parent, and its own points.
    models: HashMap<String, (Option<String>, HashMap<String, Place>)>,
    devices: HashMap<String, Place>,
}

/// As deep as models inherit from each other.
const LEVELS: usize = 64;

impl Places {
    #[must_use]
    pub fn new(models: &[ModelText], assets: Option<&Assets>) -> Places {
        let model = |text: &ModelText| {
            let (parent, points) = text.point_places();
            (text.id.text.clone(), (parent.map(str::to_owned), points))
        };
        let devices = assets.into_iter().flat_map(|assets| &assets.devices);
        Places {
            models: models.iter().map(model).collect(),
            devices: devices.map(|device| (device.name.text.clone(), device.name.place.clone())).collect(),
        }
    }

    /// Where the type of a measurement point is said, in the model or in one it inherits from.
    #[must_use]
    pub fn point(&self, model: &str, point: &str) -> Place {
        let mut model = Some(model);
        for _ in 0..LEVELS {
            let Some((parent, points)) = model.and_then(|model| self.models.get(model)) else { break };
            if let Some(place) = points.get(point) {
                return place.clone();
            }
            model = parent.as_deref();
        }
        whole("models")
    }

    #[must_use]
    pub fn device(&self, name: &str) -> Place {
        self.devices.get(name).cloned().unwrap_or_else(|| whole("assets.yaml"))
    }
}

pub(super) fn whole(file: &str) -> Place {
    Place::new(&file.into(), 0, 0)
}
