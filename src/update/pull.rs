//! PURE. Which of the versions that the cloud has for a device is taken.

use super::shelf::Past;
use crate::model::update::Offer;
use semver::Version;
use serde_json::Value as Json;

/// How earlier ones ended, and since when the configuration is as it is.
pub struct Tried<'a> {
    pub history: &'a [Past],
    pub since: i64,
}

/// The newest that `may` be taken, is not the one that runs, and none that came to an end here before. Versions that are no
/// semantic ones come after all others, in the order of their texts.
#[must_use]
pub fn choose(
    (product_key, device_key): (&str, &str),
    data: &Json,
    running: &str,
    allow_downgrade: bool,
    tried: &Tried<'_>,
    may: &dyn Fn(&Offer) -> bool,
) -> Option<Offer> {
    let offers = data.as_array().into_iter().flatten();
    let offers = offers.filter_map(|one| Offer::parse(product_key, device_key, one).ok());
    let fits = |offer: &Offer| {
        offer.version != running
            && !tried.knows(offer)
            && (allow_downgrade || !is_older(&offer.version, running))
            && may(offer)
    };
    offers.filter(fits).max_by(|a, b| order(&a.version).cmp(&order(&b.version)))
}

impl Tried<'_> {
    fn knows(&self, offer: &Offer) -> bool {
        let same = |past: &Past| past.sign.as_ref() == Some(&offer.sign) && past.may_be_of(offer);
        self.history.iter().any(|past| same(past) && self.is_final(past))
    }

    /// What was cancelled or could not be downloaded may come again; an address that was forbidden, once the
    /// configuration was read anew.
    fn is_final(&self, past: &Past) -> bool {
        matches!(
            past.result.as_str(),
            "done" | "rolled back" | "rolled back later" | "refused" | "failed" | "half done"
        ) && !past.why.starts_with("cancelled")
            && !past.why.starts_with(super::bring::DOWNLOAD)
            && (past.ended >= self.since || !past.why.starts_with(super::bring::ADDRESS))
    }
}

fn is_older(version: &str, running: &str) -> bool {
    match (Version::parse(version), Version::parse(running)) {
        (Ok(version), Ok(running)) => version.cmp_precedence(&running).is_lt(),
        _ => false,
    }
}

fn order(version: &str) -> (Option<Version>, &str) {
    (Version::parse(version).ok(), version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn past(sign: &str, result: &str, why: &str) -> Past {
        Past {
            id: "1".into(),
            begun: 0,
            ended: 0,
            from: "cloud".into(),
            result: result.into(),
            why: why.into(),
            name: None,
            target: None,
            version: None,
            replaced: None,
            sign: Some(sign.into()),
            device: None,
        }
    }

    #[test]
    fn the_newest_that_was_not_tried_before_is_taken() {
        let sign = |digit: &str| digit.repeat(64);
        let one = |version: &str, digit: &str| json!({"version": version, "signMethod": "sha256", "sign": sign(digit), "fileUrl": "https://h/f", "fileSize": 1});
        let data =
            json!([one("1.9.0", "a"), one("1.10.0", "b"), one("0.9.0", "c"), one("1.2.0", "d"), {"version": "9.0.0"}]);
        let chosen = |running: &str, downgrade: bool, history: &[Past]| {
            let tried = Tried { history, since: 5 };
            choose(("p", "d"), &data, running, downgrade, &tried, &|_| true).map(|offer| offer.version)
        };
        assert_eq!(chosen("1.2.0", false, &[]).as_deref(), Some("1.10.0"));
        let bad = past(&sign("b"), "rolled back", "it crashed");
        assert_eq!(chosen("1.2.0", false, std::slice::from_ref(&bad)).as_deref(), Some("1.9.0"));
        let elsewhere = Past { device: Some("p/other".into()), ..bad.clone() };
        assert_eq!(chosen("1.2.0", false, &[elsewhere]).as_deref(), Some("1.10.0"), "another device took it");
        assert_eq!(chosen("1.10.0", false, &[]), None);
        assert_eq!(chosen("1.10.0", true, &[]).as_deref(), Some("1.9.0"));
        for passing in [past(&sign("b"), "refused", "cancelled by a person"), past(&sign("b"), "failed", "download: x")]
        {
            assert_eq!(chosen("1.2.0", false, &[passing]).as_deref(), Some("1.10.0"));
        }
        let barred = past(&sign("b"), "refused", "address: host evil.com");
        assert_eq!(
            chosen("1.2.0", false, std::slice::from_ref(&barred)).as_deref(),
            Some("1.10.0"),
            "of an earlier run"
        );
        assert_eq!(chosen("1.2.0", false, &[Past { ended: 5, ..barred }]).as_deref(), Some("1.9.0"));
        let none = Tried { history: &[], since: 0 };
        assert_eq!(choose(("p", "d"), &json!(null), "1.0.0", true, &none, &|_| true), None);
        let old = choose(("p", "d"), &data, "1.2.0", false, &none, &|offer| offer.version != "1.10.0");
        assert_eq!(old.map(|offer| offer.version).as_deref(), Some("1.9.0"));
    }
}
