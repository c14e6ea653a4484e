//! PURE. `thing/tsltemplate/get`: the model as the cloud has it.

use super::{Message, Whose};
use serde_json::json;

/// The answer's data has `tslAttributeMap`, `tslMeasurepointMap`, `tslEventMap` and `tslServiceMap`.
#[must_use]
pub fn get(whose: Whose<'_>) -> Message {
    Message::sys(whose, "thing/tsltemplate/get", json!({}))
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{GATEWAY, check};

    #[test]
    fn the_template_is_asked_for_as_the_vendor_does() {
        check(&super::get(GATEWAY), "tsl template get");
    }
}
