//! The audit record of commands: append-only JSON lines, each with the SHA-256 of itself and of the line before it, in
//! files of bounded size and number.

use super::lines::{Lines, sha256, sync_folder};
use crate::config::CommandConfig;
use serde_json::{Map, Value as Json, json};
use std::io;
use std::path::{Path, PathBuf};

/// What the first record ever follows.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Records that a query answers, the newest last.
const MOST_ANSWERED: usize = 10_000;
/// How a line ends: its hash, and the closing of the object.
const HASH: &str = ",\"hash\":\"";

pub(super) struct Audit {
    folder: PathBuf,
    lines: Lines,
    number: u64,
    seq: u64,
    hash: String,
    file_bytes: u64,
    files: usize,
    warned: bool,
}

/// What a look at all files found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    pub files: usize,
    pub records: u64,
    /// Every place where the chain does not hold.
    pub faults: Vec<String>,
}

/// Which records are wanted.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Milliseconds since 1970.
    pub since: Option<i64>,
    pub device: Option<String>,
    pub door: Option<String>,
}

impl Audit {
    pub(super) fn open(folder: &Path, config: &CommandConfig) -> io::Result<Audit> {
        let files = files(folder)?;
        let number = files.last().map_or(1, |(number, _)| *number);
        let mut lines = Lines::open(&path(folder, number))?;
        let bytes = lines.read()?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let torn = bytes.len() - whole;
        if torn > 0 {
            lines.cut(whole as u64)?;
        }
        let last = match last_line(&bytes[..whole]) {
            Some(last) => Some(last),
            None => last_of_older(&files)?,
        };
        let (seq, hash) = last.unwrap_or((0, NOTHING.to_owned()));
        let (file_bytes, files) = (config.audit_file_bytes, config.audit_files);
        let mut audit = Audit { folder: folder.to_owned(), lines, number, seq, hash, file_bytes, files, warned: false };
        if torn > 0 {
            let mut note = Map::new();
            note.insert("event".to_owned(), json!("repaired"));
            note.insert("message".to_owned(), json!(format!("{torn} bytes of an unfinished record were cut off")));
            audit.append(note, crate::model::Timestamp::now().0, true)?;
        }
        Ok(audit)
    }

    /// Adds a record; with `sync` it is on disk when this returns.
    pub(super) fn append(&mut self, note: Map<String, Json>, now: i64, sync: bool) -> io::Result<()> {
        if self.lines.len() >= self.file_bytes {
            self.rotate()?;
        }
        let mut record = Map::new();
        record.insert("seq".to_owned(), json!(self.seq + 1));
        record.insert("time".to_owned(), json!(now));
        record.extend(note);
        record.insert("previous".to_owned(), json!(self.hash));
        let mut text = Json::Object(record).to_string();
        // The closing brace comes after the hash.
        text.pop();
        let hash = sha256(&[text.as_bytes()]);
        text.push_str(HASH);
        text.push_str(&hash);
        text.push_str("\"}");
        self.lines.append(&text, sync)?;
        (self.seq, self.hash) = (self.seq + 1, hash);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let next = path(&self.folder, self.number + 1);
        self.lines.append("", true)?;
        self.lines = Lines::open(&next)?;
        self.number += 1;
        let all = files(&self.folder)?;
        let surplus = all.len().saturating_sub(self.files);
        if !self.warned && all.len() * 5 >= self.files * 4 {
            self.warned = true;
            tracing::warn!(
                files = all.len(),
                most = self.files,
                "the audit of commands fills its space; the oldest file goes when a new one is begun, copy it if you need it"
            );
        }
        for (number, old) in &all[..surplus] {
            tracing::info!(file = number, "the oldest file of the audit is removed");
            std::fs::remove_file(old)?;
        }
        sync_folder(&next)
    }

    #[cfg(test)]
    pub(super) fn break_disk(&mut self) {
        self.lines = Lines::of(std::fs::OpenOptions::new().write(true).open("/dev/full").expect("there is one"));
    }
}

fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("audit-{number:06}.jsonl"))
}

/// All files, oldest first.
fn files(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("audit-").and_then(|rest| rest.strip_suffix(".jsonl"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            all.push((number, path));
        }
    }
    all.sort();
    Ok(all)
}

/// Number and hash of the last record, as it says them itself.
fn last_line(bytes: &[u8]) -> Option<(u64, String)> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().rev().find_map(|line| {
        let record: Json = serde_json::from_str(line).ok()?;
        Some((record["seq"].as_u64()?, record["hash"].as_str()?.to_owned()))
    })
}

fn last_of_older(files: &[(u64, PathBuf)]) -> io::Result<Option<(u64, String)>> {
    for (_, path) in files.iter().rev().skip(1) {
        if let Some(last) = last_line(&std::fs::read(path)?) {
            return Ok(Some(last));
        }
    }
    Ok(None)
}

/// Looks at every record of every file.
///
/// # Errors
/// When the files can not be read.
pub fn verify(folder: &Path) -> io::Result<Verified> {
    let mut found = Verified::default();
    let mut before: Option<(u64, String)> = None;
    for (_, path) in files(folder)? {
        found.files += 1;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let bytes = std::fs::read(&path)?;
        for (at, line) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let mut fault = |what: &str| found.faults.push(format!("{name}:{}: {what}", at + 1));
            let Some((seq, previous, hash)) = check(line) else {
                fault("the record does not fit its hash");
                before = None;
                continue;
            };
            found.records += 1;
            match &before {
                Some((last, _)) if seq != last + 1 => fault(&format!("record {seq} follows record {last}")),
                Some((_, last)) if *last != previous => fault("the record does not follow the one before it"),
                None if seq == 1 && previous != NOTHING => fault("the first record follows something"),
                _ => {}
            }
            before = Some((seq, hash));
        }
    }
    Ok(found)
}

/// Number, hash of the record before, own hash; `None` when it was changed.
fn check(line: &[u8]) -> Option<(u64, String, String)> {
    let line = std::str::from_utf8(line).ok()?;
    let (text, rest) = line.rsplit_once(HASH)?;
    let hash = rest.strip_suffix("\"}")?;
    if sha256(&[text.as_bytes()]) != hash {
        return None;
    }
    let record: Json = serde_json::from_str(line).ok()?;
    Some((record["seq"].as_u64()?, record["previous"].as_str()?.to_owned(), hash.to_owned()))
}

/// The records that fit, the newest last.
///
/// # Errors
/// When the files can not be read.
pub fn query(folder: &Path, query: &Query) -> io::Result<Vec<Json>> {
    let mut found = std::collections::VecDeque::new();
    for (_, path) in files(folder)? {
        let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
        for record in text.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok()) {
            let is = |key: &str, wanted: &Option<String>| wanted.as_ref().is_none_or(|w| record[key] == w.as_str());
            let young = query.since.is_none_or(|since| record["time"].as_i64().is_some_and(|time| time >= since));
            if young && is("device", &query.device) && is("door", &query.door) {
                if found.len() == MOST_ANSWERED {
                    found.pop_front();
                }
                found.push_back(record);
            }
        }
    }
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(door: &str, device: &str) -> Map<String, Json> {
        json!({"event": "begun", "door": door, "device": device}).as_object().unwrap().clone()
    }

    fn config() -> CommandConfig {
        CommandConfig { audit_file_bytes: 1000, audit_files: 3, ..CommandConfig::default() }
    }

    #[test]
    fn the_chain_holds_over_restarts_and_files_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..40 {
            let mut audit = Audit::open(folder.path(), &config()).unwrap();
            audit.append(note("enos", "m1"), n, true).unwrap();
            audit.append(note("local", "m2"), n, true).unwrap();
        }
        let found = verify(folder.path()).unwrap();
        assert_eq!((found.files, found.faults.clone()), (3, vec![]));
        assert!(found.records < 80 && found.records > 8, "{found:?}");
        let wanted = Query { since: Some(38), door: Some("local".into()), device: None };
        let times: Vec<i64> =
            query(folder.path(), &wanted).unwrap().iter().map(|r| r["time"].as_i64().unwrap()).collect();
        assert_eq!(times, [38, 39]);
    }

    #[test]
    fn every_changed_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut audit = Audit::open(folder.path(), &CommandConfig::default()).unwrap();
        for n in 0..3 {
            audit.append(note("enos", "m1"), n, true).unwrap();
        }
        let path = path(folder.path(), 1);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, changed).unwrap();
            assert!(!verify(folder.path()).unwrap().faults.is_empty(), "byte {at}");
        }
        let lines: Vec<&str> = std::str::from_utf8(&whole).unwrap().lines().collect();
        std::fs::write(&path, format!("{}\n{}\n", lines[0], lines[2])).unwrap();
        assert_eq!(verify(folder.path()).unwrap().faults, ["audit-000001.jsonl:2: record 3 follows record 1"]);
    }

    #[test]
    fn a_torn_record_is_cut_off_and_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut audit = Audit::open(folder.path(), &CommandConfig::default()).unwrap();
        audit.append(note("enos", "m1"), 1, true).unwrap();
        let path = path(folder.path(), 1);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"seq\":2,\"ti");
        std::fs::write(&path, bytes).unwrap();
        let mut audit = Audit::open(folder.path(), &CommandConfig::default()).unwrap();
        audit.append(note("enos", "m1"), 2, true).unwrap();
        assert_eq!(verify(folder.path()).unwrap(), Verified { files: 1, records: 3, faults: vec![] });
    }

    #[test]
    fn a_full_disk_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut audit = Audit::open(folder.path(), &CommandConfig::default()).unwrap();
        audit.break_disk();
        assert!(audit.append(note("enos", "m1"), 1, true).is_err());
    }
}
