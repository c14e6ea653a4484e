//! PURE. What an answer says: data, a refusal, a token that no longer counts, an account that may not.

use super::RestError;
use serde_json::Value as Json;

/// An answer, understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    Data(Json),
    /// The token is not taken: get another and ask again, once.
    StaleToken(RestError),
    Failed(RestError),
}

/// Words that stand for "this token does not count". Codes are not documented.
const TOKEN_WORDS: &[&str] = &["invalid", "expire", "illegal", "not exist", "not found", "无效", "过期", "失效"];
/// Words that stand for "this account may not".
const AUTHORITY_WORDS: &[&str] = &[
    "not authori",
    "unauthori",
    "no authori",
    "permission",
    "forbidden",
    "access denied",
    "no privilege",
    "无权限",
    "没有权限",
    "未授权",
    "无权",
];
/// A message from afar is cut to this many characters before anybody logs it.
const MESSAGE_LIMIT: usize = 300;

/// Reads the answer of a call. Calls answer `code`, the token service `status`; a number may come as text.
pub(super) fn read(host: &str, status: u16, body: &[u8]) -> Verdict {
    let json = serde_json::from_slice::<Json>(body).ok().filter(Json::is_object);
    let code = json.as_ref().and_then(code);
    let message = json.as_ref().map(message).unwrap_or_default();
    match (status, code) {
        (200..=299, Some(0)) => Verdict::Data(json.map(|mut json| json["data"].take()).unwrap_or_default()),
        (200..=299, None) => {
            let reason = if json.is_some() { "it has no code" } else { "it is no JSON object" };
            Verdict::Failed(RestError::Garbled { host: host.to_owned(), reason: reason.to_owned() })
        }
        (500.., _) | (408 | 429, _) => Verdict::Failed(by_status(host, status, &message)),
        (200..=299 | 400..=499, _) => refused(host, status, code.filter(|code| *code != 0), message),
        _ => Verdict::Failed(by_status(host, status, &message)),
    }
}

fn refused(host: &str, status: u16, code: Option<i64>, message: String) -> Verdict {
    let folded = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| folded.contains(word));
    let number = code.unwrap_or_else(|| i64::from(status));
    let not_authorised = RestError::NotAuthorised { code: number, message: message.clone() };
    if status == 401 || number == 401 || (folded.contains("token") && says(TOKEN_WORDS)) {
        return Verdict::StaleToken(not_authorised);
    }
    Verdict::Failed(match code {
        _ if status == 403 || number == 403 || says(AUTHORITY_WORDS) => not_authorised,
        Some(code) => RestError::Refused { code, message },
        None => by_status(host, status, &message),
    })
}

fn by_status(host: &str, status: u16, message: &str) -> RestError {
    let words = if message.is_empty() { "no words with it".to_owned() } else { message.to_owned() };
    RestError::Status { host: host.to_owned(), status, words }
}

fn code(json: &Json) -> Option<i64> {
    ["code", "status"].iter().find_map(|key| match &json[*key] {
        Json::Number(number) => number.as_i64(),
        Json::String(text) => text.parse().ok(),
        _ => None,
    })
}

fn message(json: &Json) -> String {
    let words = ["msg", "message", "submsg"].iter().find_map(|key| json[*key].as_str().filter(|text| !text.is_empty()));
    let safe = |c: char| if c.is_control() { ' ' } else { c };
    words.unwrap_or("no words with it").chars().take(MESSAGE_LIMIT).map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn verdict(status: u16, body: &str) -> Verdict {
        read("h", status, body.as_bytes())
    }

    #[test]
    fn both_envelopes_carry_data() {
        for body in [r#"{"code":0,"data":{"a":1}}"#, r#"{"status":0,"data":{"a":1}}"#, r#"{"code":"0","data":{"a":1}}"#]
        {
            assert_eq!(verdict(200, body), Verdict::Data(json!({"a": 1})), "{body}");
        }
        assert_eq!(verdict(200, r#"{"code":0}"#), Verdict::Data(Json::Null));
    }

    #[test]
    fn a_token_that_no_longer_counts_is_told_from_an_account_that_may_not() {
        for (status, body) in [
            (401, ""),
            (200, r#"{"code":401,"msg":"no"}"#),
            (403, r#"{"code":24100,"msg":"Invalid access token"}"#),
            (200, r#"{"code":9,"msg":"accessToken is expired"}"#),
        ] {
            assert!(matches!(verdict(status, body), Verdict::StaleToken(_)), "{status} {body}");
        }
        for (status, body) in [
            (403, "<html>"),
            (200, r#"{"code":403,"msg":"x"}"#),
            (200, r#"{"code":99403,"msg":"the account is not authorized for the OU"}"#),
            (400, r#"{"code":1,"msg":"没有权限"}"#),
        ] {
            let expected = matches!(verdict(status, body), Verdict::Failed(RestError::NotAuthorised { .. }));
            assert!(expected, "{status} {body}");
        }
    }

    #[test]
    fn refusals_keep_code_and_words_and_an_overload_is_passing() {
        let refused = RestError::Refused { code: 99400, message: "validDay too large".into() };
        assert_eq!(verdict(400, r#"{"code":99400,"msg":"validDay too large"}"#), Verdict::Failed(refused.clone()));
        assert!(!refused.is_passing());
        for status in [500, 502, 503, 429, 408] {
            let Verdict::Failed(error) = verdict(status, r#"{"code":1,"msg":"token service is invalid"}"#) else {
                panic!("{status}")
            };
            assert!(error.is_passing(), "{error}");
        }
        let Verdict::Failed(error) = verdict(302, "") else { panic!("a redirect is followed") };
        assert!(matches!(error, RestError::Status { status: 302, .. }));
    }

    #[test]
    fn what_nobody_can_read_is_garbled() {
        for body in ["", "null", "[]", "{}", "<html>", r#"{"code":null}"#, "{\"code\":0", "\u{0}"] {
            assert!(matches!(verdict(200, body), Verdict::Failed(RestError::Garbled { .. })), "{body}");
        }
    }

    #[test]
    fn a_message_can_not_forge_log_lines_or_fill_them() {
        let body = json!({"code": 5, "msg": format!("a\nb{}", "x".repeat(5000))}).to_string();
        let Verdict::Failed(RestError::Refused { message, .. }) = verdict(200, &body) else { panic!() };
        assert_eq!(message.chars().count(), MESSAGE_LIMIT);
        assert!(message.starts_with("a b"));
    }
}
