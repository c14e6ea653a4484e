//! PURE. The cloud's answers: liberal in what is accepted, since its own samples differ.

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, Visitor};
use serde_json::Value;
use std::fmt;

/// The code of success.
pub const OK: i64 = 200;

/// An answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub id: u16,
    pub code: i64,
    /// `null`, `""`, `{}` and absent are all nothing.
    pub data: Value,
    pub message: String,
}

/// The same without its data: all that a post needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    pub id: u16,
    pub code: i64,
    pub message: String,
}

#[derive(Deserialize)]
struct Raw<D> {
    #[serde(deserialize_with = "number")]
    id: i64,
    #[serde(deserialize_with = "number")]
    code: i64,
    #[serde(default)]
    #[serde(bound(deserialize = "D: Default + Deserialize<'de>"))]
    data: D,
    #[serde(default)]
    message: Option<String>,
}

impl Reply {
    /// `None` when the bytes are no answer.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Reply> {
        let raw: Raw<Value> = serde_json::from_slice(bytes).ok()?;
        let id = u16::try_from(raw.id).ok()?;
        Some(Reply { id, code: raw.code, data: raw.data, message: raw.message.unwrap_or_default() })
    }
}

impl Receipt {
    /// `None` when the bytes are no answer.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Receipt> {
        let raw: Raw<IgnoredAny> = serde_json::from_slice(bytes).ok()?;
        let id = u16::try_from(raw.id).ok()?;
        Some(Receipt { id, code: raw.code, message: raw.message.unwrap_or_default() })
    }
}

/// A number, or a number in quotes: the vendor's own clients send both.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Number;
    impl Visitor<'_> for Number {
        type Value = i64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number, quoted or not")
        }
        fn visit_i64<E: Error>(self, v: i64) -> Result<i64, E> {
            Ok(v)
        }
        fn visit_u64<E: Error>(self, v: u64) -> Result<i64, E> {
            i64::try_from(v).map_err(E::custom)
        }
        fn visit_f64<E: Error>(self, v: f64) -> Result<i64, E> {
            if v.fract() == 0.0 && v.abs() < 1e15 { Ok(v as i64) } else { Err(E::custom("not whole")) }
        }
        fn visit_str<E: Error>(self, v: &str) -> Result<i64, E> {
            v.trim().parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_of_an_answer_is_understood() {
        for text in [
            r#"{"id":"7","code":200,"data":null,"message":""}"#,
            r#"{"id":7,"code":"200","data":""}"#,
            r#"{"code":200,"id":"7","data":{}}"#,
            r#"{"id":"7","code":200,"message":null,"extra":[1,{"a":2}]}"#,
        ] {
            let reply = Reply::parse(text.as_bytes()).unwrap();
            assert_eq!((reply.id, reply.code, reply.message.as_str()), (7, 200, ""), "{text}");
            assert_eq!(Receipt::parse(text.as_bytes()).unwrap().code, 200, "{text}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in ["", "[]", r#"{"id":"x","code":200}"#, r#"{"id":"70000","code":200}"#, r#"{"id":"1"}"#] {
            assert_eq!(Reply::parse(text.as_bytes()), None, "{text}");
            assert_eq!(Receipt::parse(text.as_bytes()), None, "{text}");
        }
    }
}
