//! PURE. Messages toward the cloud, one file each.

pub mod keys;
pub mod measurepoints;

use crate::model::Names;
use keys::Keys;
use std::sync::Arc;

/// Packages whose names are kept escaped: the running one and those stored batches still speak of.
const EPOCHS: usize = 4;

/// Escaped names, made when an epoch is first seen.
#[derive(Debug, Default)]
pub struct KeyCache {
    keys: Vec<(u64, Arc<Keys>)>,
}

impl KeyCache {
    pub fn of(&mut self, names: &Names) -> Arc<Keys> {
        if let Some(at) = self.keys.iter().position(|(epoch, _)| *epoch == names.epoch) {
            // The one used last comes first, so the oldest is the one that goes.
            self.keys[..=at].rotate_right(1);
        } else {
            self.keys.truncate(EPOCHS - 1);
            self.keys.insert(0, (names.epoch, Arc::new(Keys::new(names))));
        }
        Arc::clone(&self.keys[0].1)
    }
}
