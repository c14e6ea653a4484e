//! The service account: tokens and signatures, reckoned here apart from the gateway's own code.

use super::State;
use super::request::{Answer, Request};
use super::routes::Proof;
use ring::digest::{SHA256, digest};
use serde_json::{Value as Json, json};
use std::time::Instant;

/// The tokens that count.
#[derive(Debug, Default)]
pub(super) struct Account {
    tokens: Vec<(String, Instant)>,
    last: u64,
}

/// More would be a client that asks for each call anew.
const MOST: usize = 1000;

impl Account {
    pub fn forget(&mut self) {
        self.tokens.clear();
    }

    fn counts(&self, token: &str) -> bool {
        self.tokens.iter().any(|(known, end)| known == token && Instant::now() < *end)
    }
}

pub(super) fn get(state: &mut State, request: &Request) -> Answer {
    let body = request.json();
    if let Some(refused) = check(state, &body) {
        return refused;
    }
    give(state)
}

pub(super) fn refresh(state: &mut State, request: &Request) -> Answer {
    let body = request.json();
    if let Some(refused) = check(state, &body) {
        return refused;
    }
    if !state.account.counts(body["accessToken"].as_str().unwrap_or_default()) {
        return Answer { status: 200, body: json!({"status": 401, "msg": "the token to be refreshed is not known"}) };
    }
    give(state)
}

fn give(state: &mut State) -> Answer {
    let (account, life) = (&mut state.account, state.options.token_life);
    account.last += 1;
    let token = format!("token-{}-{:08x}", account.last, fastrand::u32(..));
    account.tokens.truncate(MOST);
    account.tokens.insert(0, (token.clone(), Instant::now() + life));
    let data = json!({"accessToken": token, "expire": life.as_secs()});
    Answer { status: 200, body: json!({"status": 0, "msg": "SUCCESS", "business": "apim-token-service", "data": data}) }
}

fn check(state: &State, body: &Json) -> Option<Answer> {
    let key = body["appKey"].as_str().unwrap_or_default();
    let timestamp = match &body["timestamp"] {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let expected = sha256(&format!("{key}{timestamp}{}", state.options.secret_key));
    let good = key == state.options.access_key && body["encryption"] == expected;
    (!good).then(|| Answer { status: 200, body: json!({"status": 10_010, "msg": "access key or encryption is wrong"}) })
}

/// `None` when the caller has proved itself.
pub(super) fn prove(state: &State, request: &Request, proof: Proof) -> Option<Answer> {
    if proof == Proof::Nothing {
        return None;
    }
    let token = request.header("apim-accesstoken");
    if !state.account.counts(token) {
        return Some(Answer { status: 401, body: json!({"code": 401, "msg": "invalid access token"}) });
    }
    if request.query("orgId") != Some(&state.options.org_id) {
        return Some(Answer::refused(99_403, "no permission for this organisation"));
    }
    let body = String::from_utf8_lossy(&request.body);
    let timestamp = request.header("apim-timestamp");
    let mut query = request.query.clone();
    query.sort();
    let query: String = query.into_iter().map(|(name, value)| name + &value).collect();
    let expected = sha256(&format!("{token}{query}{body}{timestamp}{}", state.options.secret_key));
    let good = proof == Proof::Token || request.header("apim-signature") == expected;
    (!good).then(|| Answer::refused(99_401, "the signature is wrong"))
}

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
