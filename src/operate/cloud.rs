//! What the cloud knows of the gateway and its sub-devices, asked through the running link.

use super::{Operation, Refusal};
use crate::model::cloud_ask::Wish;
use serde_json::Value as Json;

/// What can be asked.
pub const WHATS: &[&str] = &["attributes", "tags", "template", "topology", "versions"];

pub(super) const OPERATION: Operation = Operation {
    name: "cloud",
    run: |gateway, arguments| Box::pin(async move { gateway.cloud(wish(arguments)?).await }),
};

fn wish(arguments: &Json) -> Result<Wish, Refusal> {
    let device = arguments["device"].as_str().map(str::to_owned);
    let names = arguments["names"].as_array().into_iter().flatten();
    let names: Vec<String> = names.filter_map(|name| name.as_str().map(str::to_owned)).collect();
    match arguments["what"].as_str().unwrap_or_default() {
        "attributes" => Ok(Wish::Attributes { device, names }),
        "tags" => Ok(Wish::Tags { device, names }),
        "template" => Ok(Wish::Template { device }),
        "topology" => Ok(Wish::Topology),
        "versions" => Ok(Wish::Versions { device }),
        other => {
            let known = crate::diagnostic::did_you_mean(other, WHATS.iter().copied());
            Err(Refusal::new("unknown_question", format!("cloud has no \"{other}\"; {known}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_question_is_known_and_another_names_them() {
        for what in WHATS {
            assert!(wish(&json!({ "what": what })).is_ok(), "{what}");
        }
        let asked = wish(&json!({ "what": "tags", "device": "Meter 1", "names": ["a"] })).unwrap();
        assert_eq!(asked, Wish::Tags { device: Some("Meter 1".to_owned()), names: vec!["a".to_owned()] });
        assert!(wish(&json!({ "what": "tag" })).unwrap_err().message.contains("tags"));
    }
}
