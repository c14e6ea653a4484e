//! PURE. `update.yaml`: what an update file says of itself, and so what it is for.

use crate::diagnostic::Diagnostic;
use crate::yaml::fields::{Faults, Fields, is_invisible, misfit};
use driver::Text;
use semver::Version;
use std::fmt::Write as _;
use std::sync::Arc;

/// Name of the manifest in an update file.
pub const FILE: &str = "update.yaml";
/// Name of the signature beside it.
pub const SIGNATURE: &str = "update.sig";
/// The only format there is.
pub const FORMAT: u32 = 1;
/// Letters of a version.
const VERSION_LONGEST: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub kind: Kind,
    /// What the cloud is told when it runs. An engine's must be what the engine says of itself.
    pub version: Version,
    /// Path of the payload in the update file.
    pub payload: String,
    pub payload_bytes: u64,
    /// Lower-case hex.
    pub payload_sha256: String,
    /// The least version that may be replaced by it; `None`: any.
    pub replaces_from: Option<Version>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This program, for one of Debian's architectures: `amd64`, `arm64`, `armhf`.
    Engine { architecture: String },
    /// Something else: the name of a firmware target, and the sub-device when it is one's.
    Firmware { target: String, device: Option<String> },
    /// Firmware that sub-devices of a template take by their protocol; of one of them only, if it is named.
    Device { template: String, device: Option<String> },
}

/// The word for firmware of sub-devices.
pub const DEVICE: &str = "device";

/// Debian's names of what the engine is built for.
pub const ARCHITECTURES: &[&str] = &["amd64", "arm64", "armhf"];

/// Debian's name of what this program was built for.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "armhf",
        other => other,
    }
}

const KEYS: &[&str] = &[
    "format",
    "kind",
    "name",
    "version",
    "architecture",
    "target",
    "device",
    "template",
    "payload",
    "size",
    "sha256",
    "replaces_from",
];

impl Kind {
    /// `engine`, or the firmware's target: what jobs are sorted and shown by.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Kind::Engine { .. } => "engine",
            Kind::Firmware { target, .. } => target,
            Kind::Device { .. } => DEVICE,
        }
    }

    /// The one sub-device it is for.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        match self {
            Kind::Engine { .. } => None,
            Kind::Firmware { device, .. } | Kind::Device { device, .. } => device.as_deref(),
        }
    }

    #[must_use]
    pub fn is_engine(&self) -> bool {
        matches!(self, Kind::Engine { .. })
    }
}

impl Manifest {
    /// The file's text. `name` is for people: the product the payload belongs to.
    #[must_use]
    pub fn text(&self, name: &str) -> String {
        let mut text = format!("format: {FORMAT}\nname: {}\n", quoted(name));
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(text, "{key}: {value}");
        };
        match &self.kind {
            Kind::Engine { architecture } => {
                line("kind", "engine");
                line("architecture", &quoted(architecture));
            }
            Kind::Firmware { target, device } => {
                line("kind", "firmware");
                line("target", &quoted(target));
                if let Some(device) = device {
                    line("device", &quoted(device));
                }
            }
            Kind::Device { template, device } => {
                line("kind", DEVICE);
                line("template", &quoted(template));
                if let Some(device) = device {
                    line("device", &quoted(device));
                }
            }
        }
        line("version", &quoted(&self.version.to_string()));
        line("payload", &quoted(&self.payload));
        line("size", &self.payload_bytes.to_string());
        line("sha256", &quoted(&self.payload_sha256));
        if let Some(least) = &self.replaces_from {
            line("replaces_from", &quoted(&least.to_string()));
        }
        text
    }

    /// Reads the file's text: the name, and the rest.
    ///
    /// # Errors
    /// Every fault with its place.
    pub fn parse(text: &str) -> Result<(String, Manifest), Vec<Diagnostic>> {
        let file: Arc<str> = FILE.into();
        let (node, found) = crate::yaml::parse(&file, text);
        let mut faults = Faults::from(found);
        let Some(node) = node else {
            faults.push(Diagnostic::error(driver::Place::new(&file, 0, 0), "is empty"));
            return Err(faults.finish());
        };
        let read = Fields::open(&file, &node, "update", KEYS, &mut faults).and_then(|own| read(&own, &mut faults));
        read.filter(|_| faults.is_empty()).ok_or_else(|| faults.finish())
    }

    /// Whether it may replace what runs.
    ///
    /// # Errors
    /// Why not.
    pub fn may_replace(&self, running: &Version, allow_downgrade: bool) -> Result<(), String> {
        if !allow_downgrade && self.version.cmp_precedence(running).is_lt() {
            return Err(format!("version {} is older than {running}, which runs", self.version));
        }
        match &self.replaces_from {
            Some(least) if running.cmp_precedence(least).is_lt() => Err(format!(
                "version {} replaces {least} or newer, and {running} runs: update to that first",
                self.version
            )),
            _ => Ok(()),
        }
    }
}

fn read(own: &Fields<'_, '_>, faults: &mut Faults) -> Option<(String, Manifest)> {
    format(own, faults);
    let name = own.required("name", faults).and_then(|text| line("name", text, faults));
    let kind = kind(own, faults);
    let version = own.required("version", faults).and_then(|text| version("version", &text, faults));
    let payload = own.required("payload", faults).and_then(|text| line("payload", text, faults));
    let size = own.required("size", faults).and_then(|text| size(&text, faults));
    let sha256 = own.required("sha256", faults).and_then(|text| sha256(text, faults));
    let replaces_from =
        own.text("replaces_from", faults).and_then(|text| self::version("replaces_from", &text, faults));
    let manifest = Manifest {
        kind: kind?,
        version: version?,
        payload: payload?,
        payload_bytes: size?,
        payload_sha256: sha256?,
        replaces_from,
    };
    Some((name?, manifest))
}

fn format(own: &Fields<'_, '_>, faults: &mut Faults) {
    if let Some(text) = own.required("format", faults)
        && text.text != FORMAT.to_string()
    {
        faults.push(misfit("format", &text, format!("this engine reads format {FORMAT}; a newer one may read it")));
    }
}

fn kind(own: &Fields<'_, '_>, faults: &mut Faults) -> Option<Kind> {
    let word = own.required("kind", faults)?;
    let useless = |key: &str, faults: &mut Faults| {
        if let Some(text) = own.text(key, faults) {
            faults.push(misfit(key, &text, format!("an update of kind {} has none", word.text)));
        }
    };
    match word.text.as_str() {
        "engine" => {
            useless("target", faults);
            useless("device", faults);
            useless("template", faults);
            let text = own.required("architecture", faults)?;
            if !ARCHITECTURES.contains(&text.text.as_str()) {
                faults.push(misfit("architecture", &text, format!("known: {}", ARCHITECTURES.join(" "))));
                return None;
            }
            Some(Kind::Engine { architecture: text.text })
        }
        "firmware" => {
            useless("architecture", faults);
            useless("template", faults);
            let target = own.required("target", faults).and_then(|text| target(text, faults));
            let device = own.text("device", faults).and_then(|text| line("device", text, faults));
            Some(Kind::Firmware { target: target?, device })
        }
        DEVICE => {
            useless("architecture", faults);
            useless("target", faults);
            let template = own.required("template", faults).and_then(|text| line("template", text, faults));
            let device = own.text("device", faults).and_then(|text| line("device", text, faults));
            Some(Kind::Device { template: template?, device })
        }
        _ => {
            faults.push(misfit("kind", &word, "write engine, firmware or device"));
            None
        }
    }
}

/// A target names a file among the drop-ins.
fn target(text: Text, faults: &mut Faults) -> Option<String> {
    if is_target(&text.text) {
        return Some(text.text);
    }
    faults.push(misfit("target", &text, "up to 64 letters, digits, - and _; not `engine` or `device`"));
    None
}

/// Whether a firmware target may have this name.
#[must_use]
pub fn is_target(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !name.is_empty()
        && name.len() <= 64
        && name.chars().all(good)
        && !name.starts_with('-')
        && name != "engine"
        && name != DEVICE
}

fn line(key: &str, text: Text, faults: &mut Faults) -> Option<String> {
    let length = text.text.chars().count();
    if (1..=64).contains(&length) && !text.text.chars().any(|c| c.is_control() || is_invisible(c)) {
        return Some(text.text);
    }
    faults.push(misfit(key, &text, "1 to 64 characters on one line"));
    None
}

fn version(key: &str, text: &Text, faults: &mut Faults) -> Option<Version> {
    // It is told to the cloud, shown in a column and handed to programs.
    if text.text.len() > VERSION_LONGEST {
        faults.push(misfit(key, text, format!("{VERSION_LONGEST} characters at most")));
        return None;
    }
    let parsed = Version::parse(&text.text);
    if let Err(error) = &parsed {
        faults.push(misfit(key, text, format!("{error}; write three numbers, for example 1.2.0")));
    }
    parsed.ok()
}

fn size(text: &Text, faults: &mut Faults) -> Option<u64> {
    let size = text.text.parse().ok().filter(|size| *size > 0);
    if size.is_none() {
        faults.push(misfit("size", text, "write the payload's bytes, one at least"));
    }
    size
}

fn sha256(text: Text, faults: &mut Faults) -> Option<String> {
    let good = text.text.len() == 64 && text.text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if !good {
        faults.push(misfit("sha256", &text, "64 hex digits in lower case"));
    }
    good.then_some(text.text)
}

/// In YAML's double quotes, where JSON's rules hold.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn engine() -> Manifest {
        Manifest {
            kind: Kind::Engine { architecture: "arm64".into() },
            version: Version::new(1, 2, 0),
            payload: "payload".into(),
            payload_bytes: 12,
            payload_sha256: "ab".repeat(32),
            replaces_from: Some(Version::new(1, 0, 0)),
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let firmware = Manifest {
            kind: Kind::Firmware { target: "rauc".into(), device: Some("Meter \"1\": 电表".into()) },
            replaces_from: None,
            ..engine()
        };
        let device = Manifest { kind: Kind::Device { template: "meter".into(), device: None }, ..engine() };
        for manifest in [engine(), firmware, device] {
            let name = "a: #\"name\"";
            assert_eq!(Manifest::parse(&manifest.text(name)).unwrap(), (name.to_owned(), manifest));
        }
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        let text = "format: 2\nkind: engine\nname: \"\"\nversion: 1.2\narchitecture: mips\ntarget: x\nsize: 0\nsha256: AB\nsice: 1\n";
        let told = crate::diagnostic::joined(&Manifest::parse(text).unwrap_err());
        for word in [
            "update.yaml:1:9: format: \"2\"",
            "update.yaml:4:10: version: \"1.2\"",
            "known: amd64 arm64 armhf",
            "target: \"x\"",
            "update has no payload",
            "size: \"0\"",
            "sha256: \"AB\"",
            "key \"sice\"",
        ] {
            assert!(told.contains(word), "{word} is missing in\n{told}");
        }
        let text = engine().text("n").replace("kind: engine", "kind: certificate");
        assert!(
            crate::diagnostic::joined(&Manifest::parse(&text).unwrap_err())
                .contains("write engine, firmware or device")
        );
        for target in ["../sh", "engine", "device", "", "-x", "a b"] {
            assert!(!is_target(target), "{target}");
        }
    }

    #[test]
    fn what_a_stranger_wrote_neither_moves_the_cursor_nor_fills_the_screen() {
        let text = engine().text("n");
        let told = |from: &str, to: &str| {
            let faults = Manifest::parse(&text.replacen(from, to, 1)).expect_err(to);
            crate::diagnostic::joined(&faults)
        };
        let long = format!("kind: {}", "k".repeat(60_000));
        for (from, to) in [
            ("kind: engine", "kind: \"\\e]0;x\\a\""),
            ("\"payload\"", "\"a\\e[2Jb\""),
            ("\"n\"", "\"\\u202egnp.exe\""),
            ("\"1.2.0\"", "\"1.2.0\\n9\""),
            ("size:", "\"\\e[31m\": 1\nsize:"),
            ("kind: engine", &long),
        ] {
            let told = told(from, to);
            assert!(!told.contains(['\u{1b}', '\u{202e}', '\u{7}']) && told.len() < 1000, "{told:?}");
        }
        assert!(told("\"1.2.0\"", &format!("1.2.0-{}", "a".repeat(60))).contains("64 characters at most"));
    }

    #[test]
    fn older_is_refused_unless_allowed_and_a_jump_too_far_always() {
        let (old, new) = (Version::new(1, 1, 0), Version::new(1, 3, 0));
        assert_eq!(engine().may_replace(&old, false), Ok(()));
        assert!(engine().may_replace(&new, false).unwrap_err().contains("older than 1.3.0"));
        assert_eq!(engine().may_replace(&new, true), Ok(()));
        assert!(engine().may_replace(&Version::new(0, 9, 0), true).unwrap_err().contains("update to that first"));
        let pre = Manifest { version: Version::parse("1.1.0-rc.1").unwrap(), ..engine() };
        assert!(pre.may_replace(&old, false).is_err());
    }
}
