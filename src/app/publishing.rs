//! The service of the gateway itself by which the cloud says that there is a package: `updatePackage` unless `publish:`
//! names it otherwise. It is answered at once; what becomes of it is told by events.

use crate::cloud::DOOR;
use crate::config::{Address, Config, PublishConfig, Scheme, SourceConfig, When};
use crate::diagnostic;
use crate::fetch::{Fetching, Wish};
use crate::model::command::{Data, code};
use crate::model::{Asked, Outcome, Publish, Services, Timestamp};
use driver::Answer;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

const INPUTS: &[&str] = &["source", "url", "version", "sha256"];
/// A longer text is none of these.
const LONGEST: usize = 2048;

/// The service.
pub(super) struct Publishing {
    config: PublishConfig,
    sources: Vec<SourceConfig>,
    fetching: Arc<Fetching>,
}

impl Publishing {
    pub fn new(config: &Config, fetching: Arc<Fetching>) -> Publishing {
        Publishing { config: config.publish.clone(), sources: config.fetch.clone(), fetching }
    }
}

impl Services for Publishing {
    fn prepare(&self, asked: Asked<'_>) -> Result<Answer<'static, Outcome>, Outcome> {
        if self.config.service.as_deref() != Some(asked.service) {
            return Err(Outcome::refused(
                code::NOT_IMPLEMENTED,
                "the gateway itself has no such service; `publish:` of edge.yaml names the one for packages",
            ));
        }
        if asked.door != DOOR {
            return Err(Outcome::refused(code::FORBIDDEN, "only the cloud publishes packages to the gateway"));
        }
        let wanted =
            wanted(asked, &self.sources, Timestamp::now()).map_err(|(code, why)| Outcome::refused(code, why))?;
        let (fetching, Wanted { wish, sources }) = (Arc::clone(&self.fetching), wanted);
        Ok(Box::pin(async move {
            match fetching.publish(&wish, &sources).await {
                Ok(()) => Outcome::done(Data::Json(json!({ "publish": wish.publish.id, "sources": sources }))),
                Err(error) => Outcome::refused(code::NOT_RECORDED, format!("the disk does not take it: {error}")),
            }
        }))
    }
}

/// What is asked of which sources.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    wish: Wish,
    sources: Vec<String>,
}

fn wanted(asked: Asked<'_>, all: &[SourceConfig], now: Timestamp) -> Result<Wanted, (i64, String)> {
    let malformed = |why: String| (code::MALFORMED, why);
    if let Some(unknown) = asked.input.keys().find(|key| !INPUTS.contains(&key.as_str())) {
        let known = diagnostic::did_you_mean(unknown, INPUTS.iter().copied());
        return Err(malformed(format!("input \"{}\" is not known; {known}", short(unknown))));
    }
    let text = |key: &str| text(asked.input, key).map_err(malformed);
    let (name, url, version, sha256) = (text("source")?, text("url")?, text("version")?, text("sha256")?);
    let sha256 = sha256.map(|text| digest(&text)).transpose().map_err(malformed)?;
    let address = url.as_deref().map(Address::parse).transpose().map_err(|why| malformed(format!("url: {why}")))?;
    let sources = chosen(all, name.as_deref(), address.as_ref())?;
    if sources.len() > 1 && (version.is_some() || sha256.is_some()) {
        return Err(malformed("version and sha256 belong to one archive: say which source, or its url".to_owned()));
    }
    let publish = Publish::new(asked.id, sources.first().map_or("", String::as_str), now);
    Ok(Wanted { wish: Wish { publish, url, version, sha256, at: now.0 }, sources })
}

/// Those the cloud may ask, by name or by the host of the address.
fn chosen(all: &[SourceConfig], name: Option<&str>, address: Option<&Address>) -> Result<Vec<String>, (i64, String)> {
    if all.is_empty() {
        let words = "no source of packages is configured; write one below `fetch:` of edge.yaml";
        return Err((code::NOT_IMPLEMENTED, words.to_owned()));
    }
    let named: Vec<&SourceConfig> = all.iter().filter(|source| name.is_none_or(|name| source.name == name)).collect();
    if let (true, Some(name)) = (named.is_empty(), name) {
        return Err((code::MALFORMED, format!("source \"{}\" is not configured", short(name))));
    }
    let mut open: Vec<&SourceConfig> = named.iter().copied().filter(|source| source.when != When::Manual).collect();
    if open.is_empty() {
        return Err((code::FORBIDDEN, "its `when: manual` says that only a person asks it".to_owned()));
    }
    if let Some(address) = address {
        open.retain(|source| same_host(&source.address, address));
        open.truncate(1);
        if open.is_empty() {
            let words = format!("no source is at the host of {address}; packages come from configured hosts only");
            return Err((code::FORBIDDEN, words));
        }
    }
    Ok(open.into_iter().map(|source| source.name.clone()).collect())
}

/// Files of this machine are nobody's host.
fn same_host(source: &Address, other: &Address) -> bool {
    source.scheme != Scheme::File
        && (source.scheme, &source.host, source.port) == (other.scheme, &other.host, other.port)
}

/// Absent, null and empty mean the same.
fn text(input: &Map<String, Json>, key: &str) -> Result<Option<String>, String> {
    match input.get(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) if text.len() > LONGEST => Err(format!("{key} is longer than {LONGEST} bytes")),
        Some(Json::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Some(_) => Err(format!("{key} is no text")),
    }
}

fn digest(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let fits = lower.len() == 64 && lower.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then_some(lower).ok_or_else(|| "sha256 is 64 hex digits".to_owned())
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn sources() -> Vec<SourceConfig> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("edge.yaml");
        let text = "state_dir: s\nfetch:\n- { name: web, url: https://files.example.com/site.zip }\n\
                    - { name: ftp, url: ftps://files.example.com/in/, when: on_notice }\n\
                    - { name: hand, url: https://other.example.com/a.zip, when: manual }\n\
                    - { name: stick, url: file:///media/usb }\n";
        std::fs::write(&file, text).unwrap();
        config::read(&file).unwrap().fetch
    }

    fn ask(input: Json) -> Result<Wanted, (i64, String)> {
        let input = input.as_object().cloned().unwrap();
        let asked = Asked { door: "enos", id: Some("17"), service: "updatePackage", input: &input };
        wanted(asked, &sources(), Timestamp(5))
    }

    #[test]
    fn every_source_but_those_asked_by_hand_is_asked_unless_one_is_named() {
        let all = ask(json!({})).unwrap();
        assert_eq!(
            (all.sources, all.wish.publish.id.as_str()),
            (vec!["web".into(), "ftp".into(), "stick".into()], "17")
        );
        let url = "https://files.example.com/other/site-2.zip?ticket=1";
        let sha256 = "AB".repeat(32);
        let one = ask(json!({ "url": url, "version": "2.0.0", "sha256": sha256 })).unwrap();
        assert_eq!((one.sources, one.wish.url.as_deref()), (vec!["web".to_owned()], Some(url)));
        assert_eq!(one.wish.sha256, Some(sha256.to_lowercase()));
        assert_eq!(ask(json!({ "source": "ftp", "url": null, "version": "" })).unwrap().sources, ["ftp"]);
    }

    #[test]
    fn the_cloud_leads_the_gateway_to_no_other_host_and_to_no_file_of_its_own() {
        for (input, code, word) in [
            (json!({ "url": "https://evil.example.com/site.zip" }), code::FORBIDDEN, "configured hosts only"),
            (json!({ "url": "https://files.example.com:8443/site.zip" }), code::FORBIDDEN, "configured hosts only"),
            (json!({ "url": "http://files.example.com/site.zip" }), code::FORBIDDEN, "configured hosts only"),
            (json!({ "url": "file:///etc/shadow" }), code::FORBIDDEN, "configured hosts only"),
            (json!({ "url": "https://other.example.com/b.zip" }), code::FORBIDDEN, "configured hosts only"),
            (json!({ "url": "https://me:secret@files.example.com/a" }), code::MALFORMED, "account"),
            (json!({ "source": "hand" }), code::FORBIDDEN, "person"),
            (json!({ "source": "nobody" }), code::MALFORMED, "not configured"),
            (json!({ "sha256": "abc", "source": "web" }), code::MALFORMED, "64 hex digits"),
            (json!({ "version": "1.0.0" }), code::MALFORMED, "one archive"),
            (json!({ "ulr": "x" }), code::MALFORMED, "did you mean"),
            (json!({ "url": 7 }), code::MALFORMED, "no text"),
        ] {
            let (found, words) = ask(input.clone()).unwrap_err();
            assert!(found == code && words.contains(word) && !words.contains("secret"), "{input}: {found} {words}");
        }
    }
}
