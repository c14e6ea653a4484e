//! PURE. Which devices answer in the field, for those who tell the cloud.

use std::time::Duration;

/// The side that polls, as the cloud link sees it. Costs one pass over all devices, so it is asked every few seconds.
pub trait Field: Send + Sync {
    /// Calls back for each device (its index in the names) that was asked at least once: `None` when it answers,
    /// else how long it has been silent.
    fn silences(&self, report: &mut dyn FnMut(u32, Option<Duration>));
}

/// Where secrets lie that the cloud gave to sub-devices.
pub trait SecretShelf: Send + Sync {
    /// The secret of a device, if one was put away.
    fn find(&self, product_key: &str, device_key: &str) -> Option<super::Secret>;

    /// Puts secrets away: `(product key, device key, secret)`. When this returns well they are on disk, fsynced.
    ///
    /// # Errors
    /// In words for a person.
    fn put(&self, secrets: Vec<(String, String, super::Secret)>) -> driver::Answer<'_, Result<(), String>>;
}
