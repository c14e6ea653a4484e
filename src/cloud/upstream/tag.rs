//! PURE. `thing/tag/{update,query,delete}`: words people put on a device, key and value.

use super::{Message, Whose};
use serde_json::{Value, json};

/// Sets them; at most [`super::MOST_PROPERTIES`] at a time.
#[must_use]
pub fn update<'t>(whose: Whose<'_>, tags: impl IntoIterator<Item = (&'t str, &'t str)>) -> Message {
    let each: Vec<Value> = tags.into_iter().map(|(key, value)| json!({ "tagKey": key, "tagValue": value })).collect();
    Message::sys(whose, "thing/tag/update", Value::Array(each))
}

/// Asks for these, or for all when there are none. The answer's data is an object.
#[must_use]
pub fn query(whose: Whose<'_>, keys: &[String]) -> Message {
    Message::sys(whose, "thing/tag/query", json!({ "tags": keys }))
}

/// Takes these away; none takes nothing away.
#[must_use]
pub fn delete(whose: Whose<'_>, keys: &[String]) -> Message {
    Message::sys(whose, "thing/tag/delete", json!({ "tags": keys }))
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{GATEWAY, check};
    use super::*;

    #[test]
    fn tags_equal_the_vendors() {
        check(&update(GATEWAY, [("k1", "v1"), ("k2", "v2")]), "tag update");
        check(&query(GATEWAY, &["k1".to_owned()]), "tag query one");
        check(&query(GATEWAY, &[]), "tag query all");
        check(&delete(GATEWAY, &["k1".to_owned()]), "tag delete");
    }
}
