//! PURE. `ota/device/{inform,getversion,progress}`: which version runs, which there are, and how an update goes on.

use super::{Message, Whose};
use serde_json::json;

/// Sent after every connect: only a device that has told its version can be put into an update job.
#[must_use]
pub fn inform(whose: Whose<'_>, version: &str) -> Message {
    Message::sys(whose, "ota/device/inform", json!({ "version": version }))
}

/// Asks which versions the device may take; the answer's data is an array.
#[must_use]
pub fn get_version(whose: Whose<'_>) -> Message {
    Message::sys(whose, "ota/device/getversion", json!({}))
}

/// `step` is a percentage, or negative: -1 failed, -2 download, -3 verification, -4 writing, -5 refused by the device.
#[must_use]
pub fn progress(whose: Whose<'_>, step: i32, words: &str) -> Message {
    Message::sys(whose, "ota/device/progress", json!({ "step": step.to_string(), "desc": words }))
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{GATEWAY, check};
    use super::*;

    #[test]
    fn ota_messages_equal_the_documented_ones() {
        check(&inform(GATEWAY, "1.0.0"), "ota inform (report version)");
        check(&get_version(GATEWAY), "ota getversion");
        check(&progress(GATEWAY, 35, "downloading firmware finished"), "ota progress 35");
        check(&progress(GATEWAY, -2, ""), "ota progress failure download");
    }
}
