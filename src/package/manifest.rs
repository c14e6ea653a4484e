//! The manifest `package.yaml`: what a package is, and the SHA-256 of each of its files.

use super::source::Source;
use crate::diagnostic::{Diagnostic, Place, did_you_mean};
use semver::Version;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_yaml::Spanned;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// The manifest's name within a package.
pub const FILE: &str = "package.yaml";
/// The signature's name within a package. It signs the list of all other files, and is in no list itself.
pub const SIGNATURE: &str = "package.sig";
/// The only format there is.
pub const FORMAT: u64 = 1;

/// Ten thousand files with long names have four megabytes.
const TEXT_BYTES: u64 = 8 << 20;

const KEYS: &[&str] = &["format", "name", "version", "engine", "org", "files"];
const SEAL: &str = "run `enos-edge package seal DIR`";
const DIFFERS: &str = "get the package again; after changes of your own run `enos-edge package seal DIR`";

/// A checked manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub format: u64,
    pub name: String,
    pub version: Version,
    /// Smallest engine that can load the package.
    pub engine: Option<Version>,
    pub org: Option<String>,
    /// Path and SHA-256 of every other file; `None` for a working copy that was not sealed.
    pub files: Option<BTreeMap<String, String>>,
}

/// Reads the manifest and compares the digest of every file. Without errors the manifest is there.
#[must_use]
pub fn read(source: &Source) -> (Option<Manifest>, Vec<Diagnostic>) {
    let file: Arc<str> = FILE.into();
    if !source.contains(FILE) {
        let fault = Diagnostic::error(Place::new(&file, 0, 0), "the package has no package.yaml")
            .help("a package is the folder with package.yaml in it, or an archive of that folder");
        return (None, vec![fault]);
    }
    match source.text_within(FILE, TEXT_BYTES) {
        Ok(text) => read_text(source, &text),
        Err(fault) => (None, vec![fault]),
    }
}

/// As [`read`], with `text` in the place of package.yaml's.
#[must_use]
pub fn read_text(source: &Source, text: &str) -> (Option<Manifest>, Vec<Diagnostic>) {
    let file: Arc<str> = FILE.into();
    let raw = match parse(&file, text) {
        Ok(raw) => raw,
        Err(fault) => return (None, vec![fault]),
    };
    let mut reading = Reading { file, faults: Vec::new() };
    let manifest = reading.check(&raw);
    reading.compare(source, &raw);
    let broken = reading.faults.iter().any(|f| f.severity == crate::diagnostic::Severity::Error);
    (manifest.filter(|_| !broken), reading.faults)
}

/// The manifest as it stands in the file.
#[derive(Default)]
pub struct Raw {
    fields: BTreeMap<&'static str, Spanned<String>>,
    unknown: Vec<Spanned<String>>,
    pub files: Option<Listed>,
}

impl Raw {
    /// True when both say the same, but for their lists of files.
    #[must_use]
    pub fn same_fields(&self, other: &Raw) -> bool {
        let values = |raw: &Raw| raw.fields.iter().map(|(key, value)| (*key, value.value.clone())).collect::<Vec<_>>();
        let unknown = |raw: &Raw| raw.unknown.iter().map(|key| key.value.clone()).collect::<Vec<_>>();
        values(self) == values(other) && unknown(self) == unknown(other)
    }
}

/// The `files` section: where it stands, then path and digest with their places.
pub struct Listed {
    pub line: u32,
    pub entries: Vec<(Spanned<String>, Spanned<String>)>,
}

/// Parses the text; keys that are not known are kept for complaints.
///
/// # Errors
/// When it is no YAML, or a value has the wrong shape.
pub fn parse(file: &Arc<str>, text: &str) -> Result<Raw, Diagnostic> {
    // A manifest is flat; aliases have no business in it.
    let budget =
        serde_yaml::budget! { max_depth: 8, flow_nesting_limit: 8, max_aliases: 0, max_anchors: 0, max_documents: 1 };
    let options = serde_yaml::options! { budget: budget };
    serde_yaml::from_str_with_options::<Raw>(text, options).map_err(|e| {
        let (line, column) = e.location().map_or((0, 0), |at| (at.line(), at.column()));
        let problem = e.without_snippet().to_string();
        // The place stands in front of the complaint already.
        let problem = problem.rsplit_once(" at line ").map_or(problem.as_str(), |(what, _)| what);
        let problem = in_words(problem);
        let (line, column) = (u32::try_from(line).unwrap_or(0), u32::try_from(column).unwrap_or(0));
        Diagnostic::error(Place::new(file, line, column), problem)
    })
}

/// The reader's own words speak of its settings.
fn in_words(problem: &str) -> String {
    if let Some(rest) = problem.strip_prefix("duplicate mapping key: ") {
        let key = rest.split(", set ").next().unwrap_or(rest);
        return format!("key \"{key}\" stands twice");
    }
    if problem.starts_with("budget breached") {
        return "it holds far more than a manifest needs".to_owned();
    }
    problem.to_owned()
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Raw, D::Error> {
        from.deserialize_map(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map with format, name and version")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut raw = Raw::default();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            match KEYS.iter().find(|known| **known == key.value) {
                Some(&"files") => {
                    let entries = map.next_value::<Option<Entries>>()?.map_or(Vec::new(), |entries| entries.0);
                    raw.files = Some(Listed { line: line(&key), entries });
                }
                Some(known) => {
                    raw.fields.insert(known, map.next_value()?);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                    raw.unknown.push(key);
                }
            }
        }
        Ok(raw)
    }
}

struct Entries(Vec<(Spanned<String>, Spanned<String>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Entries, D::Error> {
        from.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of path: SHA-256")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

fn line<T>(at: &Spanned<T>) -> u32 {
    u32::try_from(at.referenced.line()).unwrap_or(u32::MAX)
}

struct Reading {
    file: Arc<str>,
    faults: Vec<Diagnostic>,
}

impl Reading {
    fn place<T>(&self, at: &Spanned<T>) -> Place {
        Place::new(&self.file, line(at), u32::try_from(at.referenced.column()).unwrap_or(u32::MAX))
    }

    fn error(&mut self, place: Place, problem: impl Into<String>, help: impl Into<String>) {
        self.faults.push(Diagnostic::error(place, problem).help(help));
    }

    fn check(&mut self, raw: &Raw) -> Option<Manifest> {
        for key in &raw.unknown {
            let help = did_you_mean(&key.value, KEYS.iter().copied());
            self.error(self.place(key), format!("key \"{}\" is not known", key.value), help);
        }
        let format = self.format(raw);
        let name = self.name(raw);
        let version = self.needed(raw, "version", "version: 1.0.0").and_then(|text| self.version(text));
        let engine = raw.fields.get("engine").and_then(|text| self.engine(text));
        let org = raw.fields.get("org").map(|text| text.value.trim().to_owned()).filter(|org| !org.is_empty());
        let files = raw.files.as_ref().map(|listed| {
            listed.entries.iter().map(|(path, digest)| (path.value.clone(), digest.value.to_lowercase())).collect()
        });
        Some(Manifest { format: format?, name: name?, version: version?, engine, org, files })
    }

    fn needed<'r>(&mut self, raw: &'r Raw, key: &str, example: &str) -> Option<&'r Spanned<String>> {
        let found = raw.fields.get(key);
        if found.is_none() {
            self.error(Place::new(&self.file, 0, 0), format!("{key} is missing"), format!("add a line `{example}`"));
        }
        found
    }

    fn format(&mut self, raw: &Raw) -> Option<u64> {
        let text = self.needed(raw, "format", "format: 1")?;
        if text.value.trim() == "1" {
            return Some(FORMAT);
        }
        let problem = format!("format \"{}\" is not known", text.value);
        self.error(self.place(text), problem, "this engine reads format 1");
        None
    }

    fn name(&mut self, raw: &Raw) -> Option<String> {
        let text = self.needed(raw, "name", "name: plant-1")?;
        let len = text.value.trim().chars().count();
        if (1..=64).contains(&len) && !text.value.chars().any(char::is_control) {
            return Some(text.value.trim().to_owned());
        }
        self.error(self.place(text), format!("name has {len} characters"), "write 1 to 64 characters on one line");
        None
    }

    fn version(&mut self, text: &Spanned<String>) -> Option<Version> {
        match Version::parse(text.value.trim()) {
            Ok(version) => Some(version),
            Err(e) => {
                let problem = format!("version \"{}\" is no semantic version: {e}", text.value);
                self.error(self.place(text), problem, "write three numbers, for example 1.0.0");
                None
            }
        }
    }

    fn engine(&mut self, text: &Spanned<String>) -> Option<Version> {
        let wanted = self.version(text)?;
        let here = Version::parse(crate::version::current()).expect("whoever builds the program gives it a version");
        if wanted > here {
            let problem = format!("the package needs engine {wanted} or newer; this is {here}");
            self.error(self.place(text), problem, "update the engine first, or lower `engine` in package.yaml");
        }
        Some(wanted)
    }

    /// Compares the list with what is there: missing, extra and different files.
    fn compare(&mut self, source: &Source, raw: &Raw) {
        let Some(listed) = &raw.files else {
            let problem = "the package is not sealed: it has no list of files";
            self.faults.push(Diagnostic::warning(Place::new(&self.file, 0, 0), problem).help(SEAL));
            return;
        };
        source.begin("comparing digests");
        for (path, digest) in &listed.entries {
            self.compare_file(source, path, digest);
        }
        let known: HashSet<&str> = listed.entries.iter().map(|(path, _)| path.value.as_str()).collect();
        for extra in source.files().filter(|path| *path != FILE && *path != SIGNATURE && !known.contains(path)) {
            let place = Place::new(&self.file, listed.line, 1);
            self.error(place, format!("file \"{extra}\" is in the package but not in its list"), DIFFERS);
        }
    }

    fn compare_file(&mut self, source: &Source, path: &Spanned<String>, digest: &Spanned<String>) {
        if path.value == FILE {
            return self.error(self.place(path), "package.yaml can not hold its own digest", SEAL);
        }
        if digest.value.len() != 64 || !digest.value.bytes().all(|b| b.is_ascii_hexdigit()) {
            return self.error(self.place(digest), "a SHA-256 has 64 hex digits", SEAL);
        }
        if !source.contains(&path.value) {
            return self.error(
                self.place(path),
                format!("file \"{}\" is in the list but not in the package", path.value),
                DIFFERS,
            );
        }
        match source.sha256(&path.value) {
            Ok(found) if found.eq_ignore_ascii_case(&digest.value) => {}
            Ok(_) => self.error(
                self.place(digest),
                format!("file \"{}\" was changed since the package was sealed", path.value),
                DIFFERS,
            ),
            Err(fault) => self.faults.push(fault),
        }
    }
}
