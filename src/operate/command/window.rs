//! Remembers ids of commands and what became of them, on disk before anything is done: at most one effect an id.
//!
//! Callers count their ids and begin again (the vendor's at 65535), so an id may come with other contents later. Both are
//! remembered then: the first one may still be delivered again, from the cache of a cloud after 48 h.
//!
//! One file of lines, `<first 8 digits of the SHA-256 of the rest> <JSON>`. A line says that a command was begun, or how
//! it ended. A command that was begun and has no end when the file is opened was interrupted.

use super::age::is_set;
use super::digest::Digest;
use super::lines::{Lines, hex, sha256, sync_folder, unhex};
use super::record::Identified;
use crate::config::CommandConfig;
use crate::model::Outcome;
use crate::model::command::Data;
use serde_json::{Value as Json, json};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

/// Which command: digest of door, whom and what it concerns, and id; answers are told apart by topic and id, not by id
/// alone. The contents make sure that it is the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(Digest);

/// Lines that may be superseded before the file is written anew.
const SLACK: usize = 1000;

impl Key {
    pub(super) fn new(door: &str, concerns: &str, id: &str) -> Key {
        Key(Digest::of(&[door.as_bytes(), &[0], concerns.as_bytes(), &[0], id.as_bytes()]))
    }
}

/// What is known of an id.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    New,
    /// And how many milliseconds ago it was entered.
    Done(Outcome, i64),
    /// The same id with other contents a moment ago.
    Other,
    /// Begun, and never ended.
    Interrupted,
}

pub(super) struct Window {
    path: PathBuf,
    lines: Lines,
    count: usize,
    entries: HashMap<Wish, Entry>,
    /// Each once, oldest first, at the time it was entered first: [`Window::forget`] looks whether it came again.
    order: VecDeque<(i64, Wish)>,
    /// When an id came last, whatever its contents.
    newest: HashMap<Key, i64>,
    /// Milliseconds.
    remember: i64,
    reuse: i64,
    most: usize,
    /// Nothing younger is forgotten, however many there are: its command may still be good.
    least: i64,
}

/// Id and contents.
type Wish = (Key, Digest);

struct Entry {
    time: i64,
    issued: Option<i64>,
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
            newest: HashMap::new(),
            remember: millis(config.remember),
            reuse: millis(config.reuse_id),
            most: config.remember_most,
            least: millis(config.longest_time_to_live + config.clock_skew),
        };
        let damaged = window.load(now)?;
        window.forget(now);
        Ok((window, damaged))
    }

    /// The time of the newest command: a clock behind it was set back.
    pub(super) fn last(&self) -> i64 {
        self.newest.values().copied().max().unwrap_or(i64::MIN)
    }

    fn load(&mut self, now: i64) -> io::Result<usize> {
        let bytes = self.lines.read()?;
        let (mut at, mut damaged) = (0, 0);
        while let Some(end) = bytes[at..].iter().position(|b| *b == b'\n') {
            let line = &bytes[at..at + end];
            match std::str::from_utf8(line).ok().and_then(parse) {
                Some(record) if self.take(&record, at as u64, line.len(), now).is_some() => {}
                None if line.is_empty() => {}
                _ => damaged += 1,
            }
            at += end + 1;
        }
        if at < bytes.len() {
            self.lines.cut(at as u64)?;
        }
        Ok(damaged)
    }

    fn take(&mut self, record: &Json, offset: u64, len: usize, now: i64) -> Option<()> {
        let digest = |key: &str| record[key].as_str().and_then(Digest::parse);
        let wish = (Key(digest("key")?), digest("contents")?);
        let state = if record["code"].is_i64() { State::Stored(offset, len) } else { State::Begun };
        // Written before the clock was set: how long ago is not known.
        let time = record["time"].as_i64().filter(|time| is_set(*time) || !is_set(now)).unwrap_or(now);
        self.count += 1;
        self.enter(wish, Entry { time, issued: record["issued"].as_i64(), state });
        Some(())
    }

    pub(super) fn look(&self, wanted: &Identified, now: i64) -> io::Result<Seen> {
        let Some(entry) = self.entries.get(&wanted.wish()) else {
            let lately = self.newest.get(&wanted.key).is_some_and(|time| now.saturating_sub(*time) < self.reuse);
            return Ok(if lately { Seen::Other } else { Seen::New });
        };
        // What is delivered again was issued when it was issued.
        let first = entry.issued.unwrap_or(entry.time);
        if wanted.issued.is_some_and(|issued| issued.saturating_sub(first) > self.reuse) {
            return Ok(Seen::New);
        }
        let ago = now.saturating_sub(entry.time);
        match &entry.state {
            State::Begun => Ok(Seen::Interrupted),
            State::Kept(outcome) => Ok(Seen::Done((**outcome).clone(), ago)),
            State::Stored(offset, len) => {
                let line = self.lines.read_at(*offset, *len)?;
                let outcome = std::str::from_utf8(&line).ok().and_then(parse).map(|record| outcome_of(&record));
                let damaged = || io::Error::other("the stored outcome is damaged");
                outcome.map(|outcome| Seen::Done(outcome, ago)).ok_or_else(damaged)
            }
        }
    }

    /// On disk when it returns: the command may be carried out now.
    pub(super) fn begin(&mut self, wanted: &Identified, now: i64) -> Result<(), NotTaken> {
        self.forget(now);
        if self.entries.len() >= self.most && !self.entries.contains_key(&wanted.wish()) {
            return Err(NotTaken::Full);
        }
        self.tidy()?;
        let entry = Entry { time: now, issued: wanted.issued, state: State::Begun };
        self.lines.append(&sealed(&begun(&wanted.wish(), &entry)), true)?;
        self.count += 1;
        self.enter(wanted.wish(), entry);
        Ok(())
    }

    /// How it ended; also without a begin, for what was refused. In memory whatever the disk says.
    pub(super) fn end(&mut self, wanted: &Identified, outcome: &Outcome, now: i64, sync: bool) -> io::Result<()> {
        let wish = wanted.wish();
        if !self.entries.contains_key(&wish) {
            self.forget(now);
            if self.entries.len() >= self.most {
                return Ok(());
            }
        }
        let kept = Entry { time: now, issued: wanted.issued, state: State::Kept(Box::new(outcome.clone())) };
        let line = sealed(&ended(&wish, &kept, outcome));
        let written = self.lines.append(&line, sync);
        self.count += 1;
        let state = match &written {
            Ok(offset) => State::Stored(*offset, line.len()),
            Err(_) => kept.state,
        };
        self.enter(wish, Entry { state, ..kept });
        written.map(drop)
    }

    fn enter(&mut self, wish: Wish, entry: Entry) {
        let newest = self.newest.entry(wish.0).or_insert(entry.time);
        *newest = entry.time.max(*newest);
        let time = entry.time;
        if self.entries.insert(wish, entry).is_none() {
            self.order.push_back((time, wish));
        }
    }

    fn forget(&mut self, now: i64) {
        while let Some((first, wish)) = self.order.pop_front() {
            let Some(time) = self.entries.get(&wish).map(|entry| entry.time) else { continue };
            if time > first {
                let place = self.order.partition_point(|(other, _)| *other <= time);
                self.order.insert(place, (time, wish));
                continue;
            }
            let age = now.saturating_sub(time);
            let crowded = self.entries.len() >= self.most && age > self.least;
            if age <= self.remember && !crowded {
                self.order.push_front((first, wish));
                return;
            }
            self.entries.remove(&wish);
            if self.newest.get(&wish.0).is_some_and(|newest| *newest <= time) {
                self.newest.remove(&wish.0);
            }
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
        self.order = self.entries.iter().map(|(wish, entry)| (entry.time, *wish)).collect();
        self.order.make_contiguous().sort_by_key(|(time, _)| *time);
        let mut places = HashMap::with_capacity(self.order.len());
        for (_, wish) in &self.order {
            let Some(entry) = self.entries.get(wish) else { continue };
            let line = match &entry.state {
                State::Begun => sealed(&begun(wish, entry)),
                State::Kept(outcome) => sealed(&ended(wish, entry, outcome)),
                State::Stored(offset, len) => String::from_utf8_lossy(&self.lines.read_at(*offset, *len)?).into_owned(),
            };
            places.insert(*wish, (lines.append(&line, false)?, line.len()));
        }
        lines.append("", true)?;
        std::fs::rename(&temporary, &self.path)?;
        sync_folder(&self.path)?;
        self.lines = lines;
        self.count = places.len();
        for (wish, (offset, len)) in places {
            if let Some(entry) = self.entries.get_mut(&wish).filter(|entry| !matches!(entry.state, State::Begun)) {
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

fn begun((key, contents): &Wish, entry: &Entry) -> Json {
    let mut record = json!({ "key": key.0.to_string(), "contents": contents.to_string(), "time": entry.time });
    if let Some(issued) = entry.issued {
        record["issued"] = json!(issued);
    }
    record
}

fn ended(wish: &Wish, entry: &Entry, outcome: &Outcome) -> Json {
    let mut record = begun(wish, entry);
    record["code"] = json!(outcome.code);
    record["message"] = json!(outcome.message);
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
#[path = "window_tests.rs"]
mod tests;
