//! The service account and its token. One question about a token is under way at a time; who waits for it takes what comes
//! of it, good or bad.

use super::answer::{self, Verdict};
use super::token::{Need, Token, need};
use super::{RestError, sign, transport};
use crate::config::RestConfig;
use crate::model::{Secret, Timestamp};
use serde_json::json;
use std::time::Instant;
use tokio::sync::Mutex;

const GET: &str = "/apim-token-service/v2.0/token/get";
const REFRESH: &str = "/apim-token-service/v2.0/token/refresh";

/// Holds the token.
pub(super) struct Account {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// Of the last question, for those who waited meanwhile.
    failed: Option<(Instant, RestError)>,
}

/// Whom to ask, and how.
#[derive(Clone, Copy)]
pub(super) struct Door<'a> {
    pub http: &'a reqwest::Client,
    pub config: &'a RestConfig,
    pub host: &'a str,
}

impl Account {
    pub fn new() -> Account {
        Account { state: Mutex::new(State::default()) }
    }

    /// A token that counts. The lock is held while the cloud is asked: that is what keeps the question single.
    pub async fn token(&self, door: Door<'_>) -> Result<Secret, RestError> {
        let came = Instant::now();
        let mut state = self.state.lock().await;
        if let Some((at, error)) = &state.failed
            && *at >= came
        {
            return Err(error.clone());
        }
        let renewed = match (need(state.token.as_ref(), Instant::now()), state.token.as_mut()) {
            (Need::Nothing, Some(token)) => return Ok(token.text.clone()),
            (Need::Refresh, Some(token)) => {
                let old = token.text.clone();
                token.pause(Instant::now());
                match ask(door, REFRESH, Some(&old)).await {
                    Ok(token) => Ok(token),
                    Err(error) => {
                        tracing::debug!(%error, "token is not refreshed; the old one still counts");
                        return Ok(old);
                    }
                }
            }
            _ => ask(door, GET, None).await,
        };
        match renewed {
            Ok(token) => {
                let text = token.text.clone();
                *state = State { token: Some(token), failed: None };
                Ok(text)
            }
            Err(error) => {
                *state = State { token: None, failed: Some((Instant::now(), error.clone())) };
                Err(error)
            }
        }
    }

    /// The cloud does not take this token any more. Another one that came meanwhile stays.
    pub async fn forget(&self, stale: &Secret) {
        let mut state = self.state.lock().await;
        if state.token.as_ref().is_some_and(|token| token.text == *stale) {
            state.token = None;
        }
    }
}

async fn ask(door: Door<'_>, path: &str, old: Option<&Secret>) -> Result<Token, RestError> {
    let Door { http, config, host } = door;
    let timestamp = Timestamp::now().0.to_string();
    let mut body = json!({
        "appKey": config.access_key,
        "encryption": sign::of_token(&config.access_key, &timestamp, config.secret_key.reveal()),
        "timestamp": timestamp,
    });
    if let Some(old) = old {
        body["accessToken"] = json!(old.reveal());
    }
    let asked = Instant::now();
    let request = http.post(format!("{}{path}", config.url)).json(&body);
    let (status, body) = transport::exchange(host, request).await?;
    match answer::read(host, status, &body) {
        Verdict::Data(data) => Token::read(host, &data, asked),
        // Whatever words the service chooses: without a token this account may do nothing.
        Verdict::Failed(RestError::Refused { code, message }) => Err(RestError::NotAuthorised { code, message }),
        Verdict::StaleToken(error) | Verdict::Failed(error) => Err(error),
    }
}
