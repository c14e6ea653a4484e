//! PURE. `publish:` of `edge.yaml`: how the cloud says that there is a package, and how often it is told what becomes of it.

use super::numbers::{seconds, whole};
use crate::yaml::fields::{self, Faults, Fields};
use std::time::Duration;

/// What the cloud may ask, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishConfig {
    /// Service of the gateway's own model; `None`: there is none.
    pub service: Option<String>,
    /// The progress of a transfer is told no more often.
    pub progress: Duration,
    /// A source that brings nothing for so long is not asked for this publish any more.
    pub give_up: Duration,
}

impl Default for PublishConfig {
    fn default() -> PublishConfig {
        PublishConfig {
            service: Some("updatePackage".to_owned()),
            progress: Duration::from_secs(10),
            give_up: Duration::from_secs(24 * 3600),
        }
    }
}

pub(super) const KEYS: &[&str] = &["service", "progress_s", "give_up_h"];

pub(super) fn read(fields: &Fields<'_, '_>, faults: &mut Faults) -> PublishConfig {
    let default = PublishConfig::default();
    let service = match fields.text("service", faults) {
        None => default.service,
        Some(text) if text.text == "off" => None,
        Some(text) => {
            let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let fits = (1..=64).contains(&text.text.len()) && text.text.chars().all(letter);
            if !fits || text.text == "measurepoint" {
                faults.push(fields::misfit("service", &text, "up to 64 letters, digits, - and _, or `off`"));
            }
            Some(text.text)
        }
    };
    PublishConfig {
        service,
        progress: seconds(fields, "progress_s", 10, 1..=3600, faults),
        give_up: Duration::from_secs(3600 * whole(fields, "give_up_h", 24, 1..=720, faults)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::joined;

    fn parse(text: &str) -> Result<PublishConfig, String> {
        let file = "edge.yaml".into();
        let (node, found) = crate::yaml::parse(&file, text);
        let mut faults = Faults::from(found);
        let fields = Fields::open(&file, node.as_ref().unwrap(), "publish", KEYS, &mut faults).unwrap();
        let config = read(&fields, &mut faults);
        if faults.is_empty() { Ok(config) } else { Err(joined(&faults.finish())) }
    }

    #[test]
    fn the_service_has_a_name_that_fits_a_topic_or_none() {
        assert_eq!(parse("{}").unwrap(), PublishConfig::default());
        assert_eq!(parse("{ service: off }").unwrap().service, None);
        assert_eq!(parse("{ service: take, progress_s: 1 }").unwrap().service.as_deref(), Some("take"));
        for bad in ["{ service: a/b }", "{ service: \"+\" }", "{ service: measurepoint }", "{ progress_s: 0 }"] {
            assert!(parse(bad).unwrap_err().contains("edge.yaml:1:"), "{bad}");
        }
    }
}
