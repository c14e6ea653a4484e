//! PURE. A request as handlers see it, and what they answer.

use serde_json::{Value as Json, json};

/// A request, whole.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// Decoded, in the order of the address.
    pub query: Vec<(String, String)>,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// HTTP status and body.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: Json,
}

impl Request {
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    }

    #[must_use]
    pub fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(super) fn line(&self) -> String {
        let query: Vec<String> = self.query.iter().map(|(key, value)| format!("{key}={value}")).collect();
        format!("{} {}?{}", self.method, self.path, query.join("&"))
    }
}

impl Answer {
    #[must_use]
    pub fn data(data: Json) -> Answer {
        Answer { status: 200, body: json!({"code": 0, "msg": "OK", "requestId": "testbed", "data": data}) }
    }

    /// The connection is closed instead.
    #[must_use]
    pub fn nothing() -> Answer {
        Answer { status: 0, body: Json::Null }
    }

    #[must_use]
    pub fn refused(code: i64, words: &str) -> Answer {
        Answer { status: 200, body: json!({"code": code, "msg": words, "requestId": "testbed", "data": null}) }
    }
}

/// `a=b&c=%20d`, decoded; a plus is a blank.
pub(crate) fn parse_query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 2;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_means_what_it_says() {
        let query = parse_query("a=%E8%AE%BE+1%26x&b&c=%zz");
        let expected = [("a", "设 1&x"), ("b", ""), ("c", "%zz")];
        assert_eq!(query, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}
