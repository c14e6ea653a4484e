//! Remembers ids of commands and what became of them, on disk before anything is done: at most one effect an id.
//!
//! One file of lines, `<first 8 digits of the SHA-256 of the rest> <JSON>`. A line says that a command was begun, or how
//! it ended. A command that was begun and has no end when the file is opened was interrupted.

use super::lines::{Lines, hex, sha256, sync_folder, unhex};
use crate::config::CommandConfig;
use crate::model::Outcome;
use crate::model::command::Data;
use serde_json::{Value as Json, json};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

/// Which command: digest of door and id. The contents make sure that it is the same one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(String);

/// Digits of a digest that are kept: 128 bit.
const DIGITS: usize = 32;
/// Lines that may be superseded before the file is written anew.
const SLACK: usize = 1000;

impl Key {
    pub(super) fn new(door: &str, id: &str) -> Key {
        Key(short(&[door.as_bytes(), &[0], id.as_bytes()]))
    }
}

/// The digest of what a command wants.
pub(super) fn short(parts: &[&[u8]]) -> String {
    let mut text = sha256(parts);
    text.truncate(DIGITS);
    text
}

/// What is known of an id.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    New,
    Done(Outcome),
    /// The same id with other contents.
    Other,
    /// Begun, and never ended.
    Interrupted,
}

pub(super) struct Window {
    path: PathBuf,
    lines: Lines,
    count: usize,
    entries: HashMap<Key, Entry>,
    /// Oldest first.
    order: VecDeque<(i64, Key)>,
    /// Milliseconds.
    remember: i64,
    most: usize,
    /// Nothing younger is forgotten, however many there are: its command may still be good.
    least: i64,
}

struct Entry {
    contents: String,
    state: State,
}

enum State {
    Begun,
    /// Place of its line.
    Stored(u64, usize),
    /// The disk took it no more.
    Kept(Box<Outcome>),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error("too many commands are remembered")]
    Full,
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl Window {
    /// Opens the file and forgets what is too old. Answers how many lines were damaged.
    pub(super) fn open(path: &Path, config: &CommandConfig, now: i64) -> io::Result<(Window, usize)> {
        let millis = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let mut window = Window {
            path: path.to_owned(),
            lines: Lines::open(path)?,
            count: 0,
            entries: HashMap::new(),
            order: VecDeque::new(),
            remember: millis(config.remember),
            most: config.remember_most,
            least: millis(config.longest_time_to_live + config.clock_skew),
        };
        let damaged = window.load()?;
        window.forget(now);
        Ok((window, damaged))
    }

    fn load(&mut self) -> io::Result<usize> {
        let bytes = self.lines.read()?;
        let (mut at, mut damaged) = (0, 0);
        while let Some(end) = bytes[at..].iter().position(|b| *b == b'\n') {
            let line = &bytes[at..at + end];
            match std::str::from_utf8(line).ok().and_then(parse) {
                Some(record) => self.take(&record, at as u64, line.len()),
                None if line.is_empty() => {}
                None => damaged += 1,
            }
            at += end + 1;
        }
        if at < bytes.len() {
            self.lines.cut(at as u64)?;
        }
        Ok(damaged)
    }

    fn take(&mut self, record: &Json, offset: u64, len: usize) {
        let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
        let (key, contents) = (Key(text("key")), text("contents"));
        let state = if record["code"].is_i64() { State::Stored(offset, len) } else { State::Begun };
        self.count += 1;
        if self.entries.insert(key.clone(), Entry { contents, state }).is_none() {
            self.order.push_back((record["time"].as_i64().unwrap_or(0), key));
        }
    }

    pub(super) fn look(&self, key: &Key, contents: &str) -> io::Result<Seen> {
        let Some(entry) = self.entries.get(key) else { return Ok(Seen::New) };
        if entry.contents != contents {
            return Ok(Seen::Other);
        }
        match &entry.state {
            State::Begun => Ok(Seen::Interrupted),
            State::Kept(outcome) => Ok(Seen::Done((**outcome).clone())),
            State::Stored(offset, len) => {
                let line = self.lines.read_at(*offset, *len)?;
                let outcome = std::str::from_utf8(&line).ok().and_then(parse).map(|record| outcome_of(&record));
                outcome.map(Seen::Done).ok_or_else(|| io::Error::other("the stored outcome is damaged"))
            }
        }
    }

    /// On disk when it returns: the command may be carried out now.
    pub(super) fn begin(&mut self, key: &Key, contents: &str, now: i64) -> Result<(), NotTaken> {
        self.forget(now);
        if self.entries.len() >= self.most && !self.entries.contains_key(key) {
            return Err(NotTaken::Full);
        }
        self.tidy()?;
        let record = json!({"key": key.0, "contents": contents, "time": now});
        self.lines.append(&sealed(&record), true)?;
        self.count += 1;
        self.enter(key, contents, now, State::Begun);
        Ok(())
    }

    /// How it ended; also without a begin, for what was refused. In memory whatever the disk says.
    pub(super) fn end(&mut self, key: &Key, contents: &str, outcome: &Outcome, now: i64, sync: bool) -> io::Result<()> {
        if !self.entries.contains_key(key) {
            self.forget(now);
            if self.entries.len() >= self.most {
                return Ok(());
            }
        }
        let line = sealed(&record_of(key, contents, outcome, now));
        let written = self.lines.append(&line, sync);
        let state = match &written {
            Ok(offset) => State::Stored(*offset, line.len()),
            Err(_) => State::Kept(Box::new(outcome.clone())),
        };
        self.count += 1;
        self.enter(key, contents, now, state);
        written.map(drop)
    }

    fn enter(&mut self, key: &Key, contents: &str, now: i64, state: State) {
        let entry = Entry { contents: contents.to_owned(), state };
        if self.entries.insert(key.clone(), entry).is_none() {
            self.order.push_back((now, key.clone()));
        }
    }

    fn forget(&mut self, now: i64) {
        while let Some((time, key)) = self.order.pop_front() {
            let age = now.saturating_sub(time);
            let crowded = self.order.len() + 1 >= self.most && age > self.least;
            if age <= self.remember && !crowded {
                self.order.push_front((time, key));
                return;
            }
            self.entries.remove(&key);
        }
    }

    /// Writes the file anew when most of it is superseded.
    fn tidy(&mut self) -> io::Result<()> {
        if self.count <= self.entries.len() * 2 + SLACK {
            return Ok(());
        }
        let temporary = self.path.with_extension("new");
        // Left over from a power cut.
        let _ = std::fs::remove_file(&temporary);
        let mut lines = Lines::open(&temporary)?;
        let mut places = Vec::with_capacity(self.order.len());
        for (time, key) in &self.order {
            let Some(entry) = self.entries.get(key) else { continue };
            let line = match &entry.state {
                State::Begun => sealed(&json!({"key": key.0, "contents": entry.contents, "time": time})),
                State::Kept(outcome) => sealed(&record_of(key, &entry.contents, outcome, *time)),
                State::Stored(offset, len) => String::from_utf8_lossy(&self.lines.read_at(*offset, *len)?).into_owned(),
            };
            places.push((key.clone(), lines.append(&line, false)?, line.len()));
        }
        lines.append("", true)?;
        std::fs::rename(&temporary, &self.path)?;
        sync_folder(&self.path)?;
        self.lines = lines;
        self.count = places.len();
        for (key, offset, len) in places {
            if let Some(entry) = self.entries.get_mut(&key).filter(|entry| !matches!(entry.state, State::Begun)) {
                entry.state = State::Stored(offset, len);
            }
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn break_disk(&mut self) {
        self.lines = Lines::of(std::fs::OpenOptions::new().write(true).open("/dev/full").expect("there is one"));
    }
}

fn sealed(record: &Json) -> String {
    let text = record.to_string();
    format!("{} {text}", &sha256(&[text.as_bytes()])[..8])
}

fn parse(line: &str) -> Option<Json> {
    let (seal, text) = line.split_once(' ')?;
    if sha256(&[text.as_bytes()]).get(..8) != Some(seal) {
        return None;
    }
    serde_json::from_str(text).ok()
}

fn record_of(key: &Key, contents: &str, outcome: &Outcome, now: i64) -> Json {
    let mut record = json!({
        "key": key.0, "contents": contents, "time": now, "code": outcome.code, "message": outcome.message,
    });
    match &outcome.data {
        Data::Nothing => {}
        Data::Json(data) => record["data"] = data.clone(),
        Data::Raw(bytes) => record["raw"] = json!(hex(bytes)),
    }
    record
}

fn outcome_of(record: &Json) -> Outcome {
    let data = match (record.get("data"), record["raw"].as_str().and_then(unhex)) {
        (Some(data), _) => Data::Json(data.clone()),
        (None, Some(bytes)) => Data::Raw(bytes),
        (None, None) => Data::Nothing,
    };
    Outcome {
        code: record["code"].as_i64().unwrap_or(0),
        message: record["message"].as_str().unwrap_or_default().to_owned(),
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn config(most: usize) -> CommandConfig {
        CommandConfig { remember: Duration::from_secs(100), remember_most: most, ..CommandConfig::default() }
    }

    fn open(path: &Path) -> Window {
        Window::open(path, &config(1000), 0).unwrap().0
    }

    fn done(data: Json) -> Outcome {
        Outcome::done(Data::Json(data))
    }

    #[test]
    fn what_ended_is_answered_the_same_after_a_restart_and_what_did_not_was_interrupted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("window");
        let (one, two, three) = (Key::new("enos", "1"), Key::new("enos", "2"), Key::new("local", "1"));
        let mut window = open(&path);
        assert_eq!(window.look(&one, "c").unwrap(), Seen::New);
        window.begin(&one, "c", 5).unwrap();
        window.end(&one, "c", &done(json!({"a": 1.5})), 6, true).unwrap();
        window.begin(&two, "c", 7).unwrap();
        window
            .end(&three, "c", &Outcome { code: 7, message: "né".into(), data: Data::Raw(vec![1, 255]) }, 8, false)
            .unwrap();
        for window in [window, open(&path)] {
            assert_eq!(window.look(&one, "c").unwrap(), Seen::Done(done(json!({"a": 1.5}))));
            assert_eq!(window.look(&one, "d").unwrap(), Seen::Other);
            assert_eq!(window.look(&two, "c").unwrap(), Seen::Interrupted);
            assert!(matches!(window.look(&three, "c").unwrap(), Seen::Done(o) if o.data == Data::Raw(vec![1, 255])));
        }
    }

    #[test]
    fn any_cut_of_the_file_leaves_what_was_whole_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("window");
        let key = |n: usize| Key::new("enos", &n.to_string());
        let mut window = open(&path);
        let mut ends = vec![0];
        for n in 0..4 {
            window.begin(&key(n), "c", 1).unwrap();
            ends.push(window.lines.len());
        }
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let window = open(&path);
            let known = ends[1..].iter().filter(|end| **end <= cut as u64).count();
            for n in 0..4 {
                let seen = window.look(&key(n), "c").unwrap();
                assert_eq!(seen, if n < known { Seen::Interrupted } else { Seen::New }, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_costs_its_line_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("window");
        let mut window = open(&path);
        window.begin(&Key::new("a", "1"), "c", 1).unwrap();
        window.begin(&Key::new("a", "2"), "c", 1).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (window, damaged) = Window::open(&path, &config(10), 1).unwrap();
        assert_eq!((damaged, window.entries.len()), (1, 1));
    }

    #[test]
    fn the_file_and_the_memory_are_bounded_by_age_and_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("window");
        let mut window = Window::open(&path, &config(1000), 0).unwrap().0;
        for n in 0..1500i64 {
            let key = Key::new("a", &n.to_string());
            window.begin(&key, "c", n * 1000).unwrap();
            window.end(&key, "c", &done(json!({})), n * 1000, false).unwrap();
        }
        assert!(window.entries.len() <= 102, "{}", window.entries.len());
        assert!(window.lines.len() < 400_000, "{}", window.lines.len());
        let (again, damaged) = Window::open(&path, &config(1000), 1_499_000).unwrap();
        assert_eq!((again.entries.len(), damaged), (window.entries.len(), 0));
        assert_eq!(again.look(&Key::new("a", "1499"), "c").unwrap(), Seen::Done(done(json!({}))));
        let mut small = Window::open(&folder.path().join("small"), &config(2), 0).unwrap().0;
        small.begin(&Key::new("a", "1"), "c", 1).unwrap();
        small.begin(&Key::new("a", "2"), "c", 1).unwrap();
        assert!(matches!(small.begin(&Key::new("a", "3"), "c", 1), Err(NotTaken::Full)), "they may still be good");
    }

    #[test]
    fn a_full_disk_begins_nothing_and_forgets_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut window = open(&folder.path().join("window"));
        let (one, two) = (Key::new("a", "1"), Key::new("a", "2"));
        window.begin(&one, "c", 1).unwrap();
        window.break_disk();
        assert!(matches!(window.begin(&two, "c", 1), Err(NotTaken::Disk(_))));
        assert_eq!(window.look(&two, "c").unwrap(), Seen::New);
        window.end(&one, "c", &done(json!({})), 1, true).unwrap_err();
        assert_eq!(window.look(&one, "c").unwrap(), Seen::Done(done(json!({}))));
    }
}
