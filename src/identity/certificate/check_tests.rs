//! What the cloud may answer, and what must not become the gateway's certificate.

use super::*;
use crate::identity::certificate::test_ca::{TestCa, client, server};
use rcgen::{KeyPair, PublicKeyData};

const NOW: i64 = 1_800_000_000_000;
const DAY: i64 = 86_400_000;

fn issue(authority: &TestCa, key: &KeyPair, from: i64, to: i64, for_client: bool) -> String {
    authority.issue(key, from, to, if for_client { client() } else { server() })
}

fn verdict(
    came: &str,
    with: Option<&str>,
    key: &KeyPair,
    ca: Option<&str>,
    end: Option<i64>,
) -> Result<String, String> {
    let public = key.subject_public_key_info();
    let expected = Expected { public: &public, authority: ca, current_end: end, now: NOW };
    check(&Came { certificate: came, authority: with }, &expected).map(|(chain, _)| chain)
}

#[test]
fn a_good_one_is_taken_with_what_stands_between_and_without_the_root() {
    let (ca, key) = (TestCa::new("root"), KeyPair::generate().unwrap());
    let good = issue(&ca, &key, NOW - DAY, NOW + 100 * DAY, true);
    for (with, trusted) in
        [(Some(&*ca.pem), Some(&*ca.pem)), (None, Some(&*ca.pem)), (Some(&*ca.pem), None), (None, None)]
    {
        let chain = verdict(&good, with, &key, trusted, Some(NOW + 50 * DAY)).unwrap();
        assert_eq!(chain.matches("BEGIN").count(), 1, "{chain}");
    }
    // The root within the answer, and in front.
    assert!(verdict(&format!("{}{good}", ca.pem), None, &key, Some(&ca.pem), None).is_ok());
}

#[test]
fn wrong_answers_are_refused_with_words() {
    let (ca, other) = (TestCa::new("root"), TestCa::new("root"));
    let (key, stranger) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let year = NOW + 365 * DAY;
    let cases = [
        (issue(&ca, &stranger, NOW - DAY, year, true), "another key"),
        (issue(&ca, &key, NOW + DAY, year, true), "does not count yet"),
        (issue(&ca, &key, NOW - 9 * DAY, NOW - DAY, true), "expired already"),
        (issue(&ca, &key, NOW - DAY, NOW + DAY, true), "does not live longer"),
        (issue(&other, &key, NOW - DAY, year, true), "does not lead to the authority"),
        (issue(&ca, &key, NOW - DAY, year, false), "no good for a client"),
        ("garbage".to_owned(), "holds no certificate"),
        (stranger.serialize_pem(), "something other than certificates"),
    ];
    for (came, words) in cases {
        let problem = verdict(&came, Some(&ca.pem), &key, Some(&ca.pem), Some(NOW + 30 * DAY)).unwrap_err();
        assert!(problem.contains(words), "{words}: {problem}");
    }
    let good = issue(&ca, &key, NOW - DAY, year, true);
    let problem = verdict(&good, Some("garbage"), &key, Some(&ca.pem), None).unwrap_err();
    assert!(problem.contains("authority's certificate"), "{problem}");
    assert!(verdict(&good, None, &key, Some(""), None).unwrap_err().contains("ca_file"));
}

#[test]
fn a_clock_a_little_behind_is_no_reason_to_refuse() {
    let (ca, key) = (TestCa::new("root"), KeyPair::generate().unwrap());
    let fresh = issue(&ca, &key, NOW + 4 * 60_000, NOW + DAY, true);
    assert!(verdict(&fresh, None, &key, Some(&ca.pem), None).is_ok());
}
