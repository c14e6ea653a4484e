//! PURE. One publish of a package, and what the cloud is told of it: an event of the gateway's own model with the same
//! fields whatever way the package came. See docs/reference/generations.md.

use super::{Notice, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

/// The event.
pub const EVENT: &str = "packageProgress";

/// What a person reads, and no more of it.
const WORDS: usize = 1000;

/// Which publish it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// The id of the cloud's call, else the source and the time it began.
    pub id: String,
    /// Name of the source, `push` or `local`.
    pub source: String,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A source is asked because of it.
    Begun,
    /// Bytes arrive.
    Progress,
    /// All bytes are here, with the right size and digest.
    Verified,
    /// Signature, content and guards were looked at.
    Checked,
    /// All parts have it.
    Switched,
    /// Its readings are compared with those before.
    Watching,
    /// It stays.
    Kept,
    /// The one before is back.
    RolledBack,
    /// It is not used; what ran before runs on.
    Refused,
    /// It could not be fetched, or not be finished; it may be tried again.
    Failed,
    /// Nothing new: it runs already.
    Unchanged,
    /// Another one was published before its watch was over.
    Replaced,
}

impl Stage {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Stage::Begun => "begun",
            Stage::Progress => "progress",
            Stage::Verified => "verified",
            Stage::Checked => "checked",
            Stage::Switched => "switched",
            Stage::Watching => "watching",
            Stage::Kept => "kept",
            Stage::RolledBack => "rolled_back",
            Stage::Refused => "refused",
            Stage::Failed => "failed",
            Stage::Unchanged => "unchanged",
            Stage::Replaced => "replaced",
        }
    }
}

impl Publish {
    #[must_use]
    pub fn new(id: Option<&str>, source: &str, at: Timestamp) -> Publish {
        let id = id.map_or_else(|| format!("{source}-{}", at.0), |id| id.chars().take(256).collect());
        Publish { id, source: source.to_owned() }
    }

    /// `more` are further fields of the event.
    #[must_use]
    pub fn notice(&self, stage: Stage, message: &str, more: &[(&str, Json)], at: Timestamp) -> Notice {
        let message: String = message.chars().take(WORDS).collect();
        let own = [
            ("publish", json!(self.id)),
            ("source", json!(self.source)),
            ("state", json!(stage.word())),
            ("message", json!(message)),
        ];
        let fields: Map<String, Json> =
            own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Notice { event: EVENT.to_owned(), fields, at, device: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_names_the_publish_and_no_more_words_than_a_person_reads() {
        let publish = Publish::new(Some("17"), "site", Timestamp(5));
        let notice = publish.notice(Stage::RolledBack, &"x".repeat(5000), &[("generation", json!(7))], Timestamp(6));
        assert_eq!(
            (notice.fields["publish"].as_str(), notice.fields["state"].as_str()),
            (Some("17"), Some("rolled_back"))
        );
        assert_eq!((notice.fields["message"].as_str().unwrap().len(), &notice.fields["generation"]), (1000, &json!(7)));
        assert_eq!(Publish::new(None, "push", Timestamp(5)).id, "push-5");
    }
}
