//! PURE. `thing/model/up_raw`: bytes as they are, for a product whose data type is custom; a script in the cloud reads them.

use super::{Body, Message, Whose};

/// Has no id: its answer is known by its topic alone.
#[must_use]
pub fn up_raw(whose: Whose<'_>, bytes: Vec<u8>) -> Message {
    let topic = format!("/sys/{}/{}/thing/model/up_raw", whose.product_key, whose.device_key);
    Message { topic, body: Body::Raw(bytes) }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{GATEWAY, row};
    use super::*;

    #[test]
    fn raw_bytes_travel_untouched() {
        let theirs = row("model up raw");
        let hex = theirs["payload_hex"].as_str().unwrap();
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let ours = up_raw(GATEWAY, bytes.clone());
        assert_eq!(ours.topic, theirs["topic"]);
        assert_eq!(ours.reply_topic(), "/sys/gwPK01/gwDK01/thing/model/up_raw_reply");
        assert_eq!(ours.encode(9), bytes);
    }
}
