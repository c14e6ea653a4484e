//! PURE. How long a token counts and when the next one is asked for.

use super::RestError;
use crate::model::Secret;
use serde_json::Value as Json;
use std::time::{Duration, Instant};

/// A token is refreshed this long before its end, as the vendor's client does.
const AHEAD: Duration = Duration::from_secs(600);
/// Of a token with a short life the last quarter.
const SHORT: u32 = 4;
/// When a refresh fails or changes nothing, so long nobody tries again: the token still counts.
const PAUSE: Duration = Duration::from_secs(30);
/// No token counts longer, whatever the cloud says.
const LONGEST: u64 = 30 * 24 * 3600;

/// A token and its times, of the clock that never jumps.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub text: Secret,
    refresh: Instant,
    end: Instant,
}

/// What is to be done for a call at this moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    /// The token counts, but not for long.
    Refresh,
    Get,
}

impl Token {
    /// Reads `data` of the token service. `asked`: when the question went out, so that the token ends sooner here than there.
    pub fn read(host: &str, data: &Json, asked: Instant) -> Result<Token, RestError> {
        let garbled = |reason: &str| RestError::Garbled { host: host.to_owned(), reason: reason.to_owned() };
        let text = data["accessToken"].as_str().filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| garbled("the token is missing"))?;
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(garbled("the token holds what no header can carry"));
        }
        let expire = &data["expire"];
        let seconds = expire.as_u64().or_else(|| expire.as_str().and_then(|text| text.parse().ok()));
        let seconds = seconds.filter(|seconds| *seconds > 0).ok_or_else(|| garbled("the token has no life"))?;
        let life = Duration::from_secs(seconds.min(LONGEST));
        let end = asked + life;
        Ok(Token { text: Secret::new(text.to_owned()), refresh: end - AHEAD.min(life / SHORT), end })
    }

    /// The next refresh is a while away.
    pub fn pause(&mut self, now: Instant) {
        self.refresh = self.refresh.max(now + PAUSE);
    }
}

pub(super) fn need(token: Option<&Token>, now: Instant) -> Need {
    match token {
        Some(token) if now < token.refresh.min(token.end) => Need::Nothing,
        Some(token) if now < token.end => Need::Refresh,
        Some(_) | None => Need::Get,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn token(expire: Json, asked: Instant) -> Result<Token, RestError> {
        Token::read("h", &json!({"accessToken": "t", "expire": expire}), asked)
    }

    #[test]
    fn a_token_is_refreshed_ten_minutes_before_its_end() {
        let start = Instant::now();
        let mut token = token(json!(7200), start).unwrap();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(need(Some(&token), at(6599)), Need::Nothing);
        assert_eq!(need(Some(&token), at(6600)), Need::Refresh);
        token.pause(at(6600));
        assert_eq!(need(Some(&token), at(6629)), Need::Nothing);
        assert_eq!(need(Some(&token), at(6630)), Need::Refresh);
        token.pause(at(7199));
        assert_eq!(need(Some(&token), at(7200)), Need::Get);
        assert_eq!(need(None, start), Need::Get);
    }

    #[test]
    fn a_short_life_does_not_mean_a_refresh_for_every_call() {
        let start = Instant::now();
        let token = token(json!("60"), start).unwrap();
        assert_eq!(need(Some(&token), start + Duration::from_secs(44)), Need::Nothing);
        assert_eq!(need(Some(&token), start + Duration::from_secs(45)), Need::Refresh);
    }

    #[test]
    fn a_token_nobody_can_use_is_refused() {
        let now = Instant::now();
        for expire in [json!(0), json!(-1), json!(null), json!("soon")] {
            assert!(token(expire.clone(), now).is_err(), "{expire}");
        }
        assert!(token(json!(u64::MAX), now).is_ok());
        for text in ["", "a b", "a\r\nHost: x", "密"] {
            let data = json!({"accessToken": text, "expire": 60});
            assert!(Token::read("h", &data, now).is_err(), "{text:?}");
        }
    }
}
