//! PURE. What proves the account: the sign of a token request and the sign of a call.

use ring::digest::{Context, SHA256};

/// Of a token request: SHA-256 over key, time and secret.
pub(super) fn of_token(access_key: &str, timestamp: &str, secret_key: &str) -> String {
    digest([access_key, timestamp, secret_key])
}

/// Of a call: SHA-256 over token, every query parameter in the order of its name, body, time and secret. Names and values
/// count as they are meant, not as they are escaped in the address.
pub(super) fn of_call(
    token: &str,
    query: &[(&str, &str)],
    body: Option<&str>,
    timestamp: &str,
    secret_key: &str,
) -> String {
    let mut sorted = query.to_vec();
    sorted.sort_unstable();
    let middle = sorted.iter().flat_map(|(name, value)| [*name, *value]);
    digest(std::iter::once(token).chain(middle).chain([body.unwrap_or_default(), timestamp, secret_key]))
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Context::new(&SHA256);
    parts.into_iter().for_each(|part| hash.update(part.as_bytes()));
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUERY: &[(&str, &str)] =
        &[("orgId", "o1"), ("productKey", "gwPK01"), ("deviceKey", "gwDK01"), ("action", "renew")];

    #[test]
    fn signs_equal_the_published_vectors() {
        assert_eq!(
            of_token("ak-0001", "1700000000123", "sk-0001"),
            "5f60ca286a82360e1e2f17e0f1f0196411191610e3ee1b5e78c82084982c55d1"
        );
        assert_eq!(
            of_call("tok-0001", QUERY, Some("{\"certSn\":1}"), "1700000000123", "sk-0001"),
            "231d2771b9aa64255fcbe8dd3db9c023dbe69c49ef4bf8cef60ebcc891291383"
        );
    }

    #[test]
    fn a_call_without_a_body_signs_nothing_for_it() {
        assert_eq!(of_call("t", QUERY, None, "1", "s"), of_call("t", QUERY, Some(""), "1", "s"));
    }

    proptest! {
        #[test]
        fn the_order_of_the_query_does_not_matter_and_everything_else_does(
            query in prop::collection::vec(("[a-z]{1,4}", "\\PC{0,6}"), 0..6),
            body in "\\PC{0,20}",
            token in "[a-z]{1,8}",
        ) {
            let pairs: Vec<(&str, &str)> = query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let reversed: Vec<(&str, &str)> = pairs.iter().rev().copied().collect();
            let sign = of_call(&token, &pairs, Some(&body), "1", "secret");
            prop_assert_eq!(&sign, &of_call(&token, &reversed, Some(&body), "1", "secret"));
            prop_assert_ne!(&sign, &of_call(&token, &pairs, Some(&body), "1", "Secret"));
            prop_assert_ne!(&sign, &of_call(&token, &pairs, Some(&body), "2", "secret"));
            prop_assert_eq!(sign.len(), 64);
        }
    }
}
