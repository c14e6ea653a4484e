//! PURE. What is said at an outward door: lines of JSON, with a proof in front where a key is configured.
//!
//! ```text
//! line  := json | proof ' ' json
//! proof := 64 hex digits, HMAC-SHA256 of the key over `session '\n' json`
//! ```

use crate::config::Right;
use ring::hmac;
use serde::Deserialize;
use serde_json::{Value as Json, json};

/// A request is a line of at most so many bytes.
pub(super) const LONGEST: usize = 64 << 10;
/// Digits of a proof.
const PROOF: usize = 64;

/// What somebody asks.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    /// Answers carry it.
    #[serde(default)]
    pub n: Option<u64>,
    pub operation: String,
    #[serde(default)]
    pub arguments: Json,
}

/// Why a line is not listened to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unheard {
    /// Somebody who does not know the key, or repeats what another said: the conversation ends.
    #[error("{0}")]
    Unproven(&'static str),
    #[error("not a request: {0}")]
    Malformed(String),
}

/// Tells requests of those who may ask from all else. One for each conversation.
pub(super) struct Listener {
    key: Option<hmac::Key>,
    session: String,
    last: Option<u64>,
}

impl Listener {
    /// `session` was made for this conversation and no other, so nothing said in another counts here.
    pub fn new(key: Option<&str>, session: &str) -> Listener {
        let key = key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()));
        Listener { key, session: session.to_owned(), last: None }
    }

    pub fn hear(&mut self, line: &[u8]) -> Result<Request, Unheard> {
        let json = match &self.key {
            None => line,
            Some(key) => proven(key, &self.session, line).ok_or(Unheard::Unproven("the proof of the line is wrong"))?,
        };
        let request: Request = serde_json::from_slice(json).map_err(|error| Unheard::Malformed(error.to_string()))?;
        if self.key.is_some() {
            let Some(n) = request.n else { return Err(Unheard::Malformed("n is missing".to_owned())) };
            // What was said once is not heard twice.
            if self.last.is_some_and(|last| n <= last) {
                return Err(Unheard::Unproven("n does not rise"));
            }
            self.last = Some(n);
        }
        Ok(request)
    }
}

fn proven<'a>(key: &hmac::Key, session: &str, line: &'a [u8]) -> Option<&'a [u8]> {
    let (proof, rest) = line.split_at_checked(PROOF)?;
    let json = rest.strip_prefix(b" ")?;
    let proof = from_hex(proof)?;
    let said = [session.as_bytes(), b"\n", json].concat();
    hmac::verify(key, &said, &proof).ok().map(|()| json)
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// Bytes as lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What each operation needs. One that is not in the table needs the most.
const NEEDS: &[(&str, Right)] = &[
    ("status", Right::Look),
    ("values", Right::Look),
    ("audit", Right::Look),
    ("certificate", Right::Look),
    ("package_list", Right::Look),
    ("package_history", Right::Look),
    ("package_job", Right::Look),
    ("update_status", Right::Look),
    ("update_history", Right::Look),
    ("watch", Right::Look),
    ("stop", Right::Look),
    ("alive", Right::Look),
    ("read", Right::Test),
    ("write", Right::Control),
    ("invoke", Right::Control),
];

/// What is needed for it.
pub(super) fn needed(operation: &str, arguments: &Json) -> Right {
    // What went over the wire may hold what no measurement point shows.
    if operation == "watch" && arguments["what"] == "frames" {
        return Right::Test;
    }
    // Without `look` it only tells what was.
    if operation == "package_fetch" && arguments["look"] != true {
        return Right::Look;
    }
    NEEDS.iter().find(|(name, _)| *name == operation).map_or(Right::Manage, |(_, right)| *right)
}

pub(super) fn answered(n: Option<u64>, data: Json) -> Json {
    json!({ "n": n, "ok": true, "data": data })
}

pub(super) fn refused(n: Option<u64>, code: &str, message: &str) -> Json {
    json!({ "n": n, "ok": false, "error": { "code": code, "message": message } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operate::OPERATIONS;
    use proptest::prelude::*;

    fn said(key: &str, session: &str, json: &str) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        let proof = hmac::sign(&key, format!("{session}\n{json}").as_bytes());
        format!("{} {json}", hex(proof.as_ref())).into_bytes()
    }

    #[test]
    fn only_who_knows_the_key_is_heard_and_only_once_in_this_conversation() {
        let line = said("a key of the plant", "s1", r#"{"n":5,"operation":"status"}"#);
        let mut here = Listener::new(Some("a key of the plant"), "s1");
        assert_eq!(here.hear(&line).unwrap().operation, "status");
        assert_eq!(here.hear(&line).unwrap_err(), Unheard::Unproven("n does not rise"));
        let hear = |key, session, line: &[u8]| Listener::new(Some(key), session).hear(line).unwrap_err();
        let wrong = Unheard::Unproven("the proof of the line is wrong");
        assert_eq!(hear("a key of the plant", "s2", &line), wrong);
        assert_eq!(hear("another key of it", "s1", &line), wrong);
        assert_eq!(hear("a key of the plant", "s1", br#"{"n":5,"operation":"status"}"#), wrong);
        for at in 0..line.len() {
            let mut bent = line.clone();
            bent[at] ^= 1;
            assert!(Listener::new(Some("a key of the plant"), "s1").hear(&bent).is_err(), "bit of byte {at}");
        }
        let nameless = said("a key of the plant", "s1", r#"{"operation":"status"}"#);
        assert_eq!(hear("a key of the plant", "s1", &nameless), Unheard::Malformed("n is missing".to_owned()));
    }

    #[test]
    fn what_changes_something_needs_more_than_looking() {
        let need = |operation: &str| needed(operation, &Json::Null);
        assert_eq!((need("status"), need("read"), need("write")), (Right::Look, Right::Test, Right::Control));
        assert_eq!(needed("watch", &json!({"what": "frames"})), Right::Test);
        assert_eq!(need("package_fetch"), Right::Look);
        assert_eq!(needed("package_fetch", &json!({"look": true})), Right::Manage);
        for name in OPERATIONS.iter().map(|operation| operation.name) {
            let changes = ["install", "roll", "cancel", "renew", "cloud"].iter().any(|word| name.contains(word));
            assert!(!changes || need(name) == Right::Manage, "{name}");
        }
        assert_eq!(need("what nobody knows"), Right::Manage);
    }

    proptest! {
        #[test]
        fn no_line_does_more_than_be_refused(line in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Listener::new(Some("a key of the plant"), "s").hear(&line).is_err());
            let _ = Listener::new(None, "s").hear(&line);
        }
    }
}
