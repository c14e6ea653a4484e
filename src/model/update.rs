//! PURE. Updates over the air as the cloud's link and whoever carries them out see each other.

use super::Outcome;
use driver::Answer;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// A file the cloud wants a device to take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    pub product_key: String,
    pub device_key: String,
    pub version: String,
    pub method: Method,
    /// The file's digest in lower-case hex. It is the cloud's, and no signature.
    pub sign: String,
    pub url: String,
    pub size: u64,
}

/// What the digest was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    Md5,
    Sha256,
}

/// Longest version and address that are read.
const VERSION: usize = 128;
const URL: usize = 4096;

impl Offer {
    /// Reads `{"version","signMethod","sign","fileUrl","fileSize"}`, numbers also as text, digests in any letter case.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(product_key: &str, device_key: &str, params: &Json) -> Result<Offer, String> {
        let text = |name: &str| match &params[name] {
            Json::String(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Json::Number(number) => Ok(number.to_string()),
            _ => Err(format!("the offer has no {name}")),
        };
        let (version, sign, url) = (text("version")?, text("sign")?.to_ascii_lowercase(), text("fileUrl")?);
        let size = text("fileSize")?;
        let size = size.parse().ok().filter(|size| *size > 0).ok_or(format!("fileSize \"{size}\" is no size"))?;
        let method = match text("signMethod").unwrap_or_default().to_ascii_lowercase().replace('-', "").as_str() {
            "md5" => Method::Md5,
            "sha256" => Method::Sha256,
            "" if sign.len() == 32 => Method::Md5,
            "" if sign.len() == 64 => Method::Sha256,
            other => return Err(format!("signMethod \"{other}\" is not known; known: md5 sha256")),
        };
        let digits = if method == Method::Md5 { 32 } else { 64 };
        if sign.len() != digits || !sign.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(format!("sign is not {digits} hex digits"));
        }
        if version.len() > VERSION
            || url.len() > URL
            || [&version, &url].iter().any(|t| t.chars().any(char::is_control))
        {
            return Err("version or fileUrl is longer than any, or holds control characters".to_owned());
        }
        Ok(Offer {
            product_key: product_key.to_owned(),
            device_key: device_key.to_owned(),
            version,
            method,
            sign,
            url,
            size,
        })
    }

    /// The same file for the same device. Addresses carry tickets that change.
    #[must_use]
    pub fn same(&self, other: &Offer) -> bool {
        (&self.product_key, &self.device_key, &self.version, &self.sign)
            == (&other.product_key, &other.device_key, &other.version, &other.sign)
    }
}

/// Something the cloud is told of updates, until it has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    pub product_key: String,
    pub device_key: String,
    /// The job it is of.
    pub job: String,
    pub what: Said,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Which version runs.
    Version(String),
    /// 1 to 100, or a negative code of failure.
    Progress { step: i32, words: String },
}

impl Saying {
    /// Nothing follows it in its job: never dropped for something newer.
    #[must_use]
    pub fn is_last_word(&self) -> bool {
        match &self.what {
            Said::Version(_) => true,
            Said::Progress { step, .. } => *step < 0 || *step >= 100,
        }
    }
}

/// The cloud's ear.
pub trait Ear: Send + Sync {
    /// Never blocks: a bounded queue in which progress makes place for newer progress.
    fn say(&self, saying: Saying);
    /// The version that is told for the gateway after each connect; `None`: the engine's own.
    fn call_oneself(&self, version: Option<String>);
    /// What the cloud has acknowledged since the last call; waits until there is something. Cancel-safe.
    fn heard(&self) -> Answer<'_, Vec<Saying>>;
}

/// No cloud is configured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Deaf;

impl Ear for Deaf {
    fn say(&self, _saying: Saying) {}

    fn call_oneself(&self, _version: Option<String>) {}

    fn heard(&self) -> Answer<'_, Vec<Saying>> {
        Box::pin(std::future::pending())
    }
}

/// Whoever takes offers. Answered when it is on disk what becomes of it.
pub trait Offers: Send + Sync {
    /// `gateway`: the offer is for the gateway itself.
    fn offered(&self, offer: Offer, gateway: bool) -> Answer<'static, Outcome>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn offers_are_read_as_both_generations_of_the_cloud_write_them() {
        let md5 = "D41D8CD98F00B204E9800998ECF8427E";
        let offer = Offer::parse(
            "p",
            "d",
            &json!({"version": "1.1", "signMethod": "MD5", "sign": md5, "fileUrl": "http://h/f", "fileSize": "12"}),
        );
        let offer = offer.unwrap();
        assert_eq!((offer.method, offer.sign.as_str(), offer.size), (Method::Md5, &*md5.to_lowercase(), 12));
        let sha = "ab".repeat(32);
        let bare = Offer::parse("p", "d", &json!({"version": 2, "sign": sha, "fileUrl": "x", "fileSize": 3})).unwrap();
        assert_eq!((bare.method, bare.version.as_str()), (Method::Sha256, "2"));
        assert!(offer.same(&Offer { url: "other".into(), ..offer.clone() }));
        assert!(!offer.same(&Offer { device_key: "e".into(), ..offer.clone() }));
    }

    #[test]
    fn what_can_not_be_carried_out_is_told() {
        let sha = "ab".repeat(32);
        let good = json!({"version": "1", "signMethod": "sha256", "sign": sha, "fileUrl": "x", "fileSize": 3});
        for (key, value, words) in [
            ("version", json!(null), "no version"),
            ("signMethod", json!("crc32"), "not known"),
            ("signMethod", json!("md5"), "32 hex digits"),
            ("sign", json!("zz".repeat(32)), "64 hex digits"),
            ("fileUrl", json!(""), "no fileUrl"),
            ("fileUrl", json!("x\ny"), "control characters"),
            ("fileSize", json!(-1), "no size"),
            ("fileSize", json!("0"), "no size"),
        ] {
            let mut params = good.clone();
            params[key] = value;
            let told = Offer::parse("p", "d", &params).unwrap_err();
            assert!(told.contains(words), "{key}: {told}");
        }
        assert!(Offer::parse("p", "d", &json!([])).is_err());
    }
}
