//! PURE. `thing/attribute/{update,query,delete}`: what the cloud keeps of a device beside its readings.

use super::{Message, Whose};
use serde_json::{Map, Value, json};

/// Sets them; at most [`super::MOST_PROPERTIES`] at a time. An attribute the model does not know draws 1204 or 1207.
#[must_use]
pub fn update(whose: Whose<'_>, attributes: &Map<String, Value>) -> Message {
    Message::sys(whose, "thing/attribute/update", json!({ "attributes": attributes }))
}

/// Asks for these, or for all when there are none. The answer's data is an object.
#[must_use]
pub fn query(whose: Whose<'_>, names: &[String]) -> Message {
    Message::sys(whose, "thing/attribute/query", json!({ "attributes": names }))
}

/// Takes these away; none takes nothing away.
#[must_use]
pub fn delete(whose: Whose<'_>, names: &[String]) -> Message {
    Message::sys(whose, "thing/attribute/delete", json!({ "attributes": names }))
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{GATEWAY, check};
    use super::*;

    #[test]
    fn attributes_equal_the_vendors() {
        let values = json!({ "a": 1, "b": "x" });
        check(&update(GATEWAY, values.as_object().unwrap()), "attribute update");
        check(&query(GATEWAY, &["a".to_owned()]), "attribute query one");
        check(&query(GATEWAY, &[]), "attribute query all");
        check(&delete(GATEWAY, &["a".to_owned()]), "attribute delete");
    }
}
