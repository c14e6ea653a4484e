//! Log lines with their fields, in the journal's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
//!
//! A journal that stands still costs lines, which are counted, and never the thread that writes them.

use std::fmt::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

const SOCKET: &str = "/run/systemd/journal/socket";
/// A field's name has at most so many bytes.
const NAME: usize = 64;
/// What the journal, or systemd, means something else by.
const TAKEN: &[&str] =
    &["MESSAGE", "MESSAGE_ID", "PRIORITY", "ERRNO", "TID", "UNIT", "USER_UNIT", "INVOCATION_ID", "DOCUMENTATION"];
const TAKEN_BEGINNINGS: &[&str] = &["CODE_", "SYSLOG_", "OBJECT_", "COREDUMP_"];

/// Sends events to the journal.
pub struct Journal {
    socket: UnixDatagram,
    lost: AtomicU64,
}

impl Journal {
    /// Nothing when standard error is no stream of the journal, or its socket can not be reached.
    #[must_use]
    pub fn connect() -> Option<Journal> {
        let stream = std::env::var("JOURNAL_STREAM").ok()?;
        is_stream(&stream, std::io::stderr()).then(|| Journal::at(Path::new(SOCKET)).ok()).flatten()
    }

    fn at(path: &Path) -> std::io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Journal { socket, lost: AtomicU64::new(0) })
    }

    fn send(&self, entry: &[u8], level: Level) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let mut told = Entry::new(Level::WARN);
            told.field("MESSAGE", &format!("{lost} lines before this one were lost: the journal took none"));
            told.field("LOST", &lost.to_string());
            if self.socket.send(&told.bytes).is_err() {
                self.lost.fetch_add(lost, Ordering::Relaxed);
            }
        }
        if let Err(error) = self.socket.send(entry) {
            // Too large for a datagram, the one thing the journal itself is not to blame for: the first part of it then.
            let cut = (error.kind() == std::io::ErrorKind::InvalidInput || error.raw_os_error() == Some(90))
                .then(|| cut(entry, level));
            if cut.is_none_or(|cut| self.socket.send(&cut).is_err()) {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// What is left of an entry that is larger than the socket takes.
fn cut(entry: &[u8], level: Level) -> Vec<u8> {
    const PART: usize = 32 << 10;
    let mut part = Entry::new(level);
    part.field("MESSAGE", &String::from_utf8_lossy(&entry[..entry.len().min(PART)]));
    part.bytes
}

/// `JOURNAL_STREAM` is `device:inode`; it stays in the environment when standard error goes elsewhere.
fn is_stream(text: &str, stream: impl AsFd) -> bool {
    let Ok(copy) = stream.as_fd().try_clone_to_owned() else { return false };
    let Ok(facts) = std::fs::File::from(copy).metadata() else { return false };
    text.split_once(':')
        .is_some_and(|(device, inode)| device.parse() == Ok(facts.dev()) && inode.parse() == Ok(facts.ino()))
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut entry = Entry::new(*metadata.level());
        let mut line = Line { message: String::new(), rest: String::new(), entry: &mut entry };
        event.record(&mut line);
        let text = line.message + &line.rest;
        entry.field("MESSAGE", &text);
        entry.field("TARGET", metadata.target());
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            entry.field("CODE_FILE", file);
            entry.field("CODE_LINE", &line.to_string());
        }
        self.send(&entry.bytes, *metadata.level());
    }
}

/// An entry as it goes over the wire.
struct Entry {
    bytes: Vec<u8>,
}

impl Entry {
    fn new(level: Level) -> Entry {
        let mut entry = Entry { bytes: Vec::with_capacity(512) };
        entry.field("PRIORITY", &super::priority(level).to_string());
        entry.field("SYSLOG_IDENTIFIER", "enos-edge");
        entry
    }

    fn field(&mut self, name: &str, value: &str) {
        self.bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // Such a value goes with its length, or its next line would be a field of its own.
            self.bytes.push(b'\n');
            self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.bytes.push(b'=');
        }
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }
}

/// The line people read holds everything, and each field stands on its own beside it.
struct Line<'a> {
    message: String,
    rest: String,
    entry: &'a mut Entry,
}

impl Line<'_> {
    fn add(&mut self, field: &Field, value: &str, shown: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
            return;
        }
        // Writing to a string can not fail.
        let _ = write!(self.rest, " {}={shown}", field.name());
        self.entry.field(&name(field.name()), value);
    }
}

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.add(field, &text, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value, &format!("{value:?}"));
    }
}

/// The journal's names are of capital letters, digits and underscores, and begin with a letter.
fn name(field: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let name: String = field.trim_start_matches("r#").chars().map(plain).take(NAME - 2).collect();
    let taken = TAKEN.contains(&name.as_str())
        || TAKEN_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
        || !name.starts_with(|c: char| c.is_ascii_uppercase());
    if taken { format!("F_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tracing_subscriber::prelude::*;

    fn sent(log: impl FnOnce()) -> Vec<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        journal.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let layer = Journal::at(&path).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let mut entries = Vec::new();
        let mut buffer = vec![0; 1 << 18];
        while let Ok(length) = journal.recv(&mut buffer) {
            entries.push(buffer[..length].to_vec());
        }
        entries
    }

    #[test]
    fn an_entry_has_the_line_and_each_field_beside_it() {
        let entries = sent(|| tracing::warn!(connection = %"meter 1", code = 740, device = "a", "does not answer"));
        let text = String::from_utf8(entries[0].clone()).unwrap();
        for line in [
            "PRIORITY=4",
            "SYSLOG_IDENTIFIER=enos-edge",
            "MESSAGE=does not answer connection=meter 1 code=740 device=\"a\"",
            "CONNECTION=meter 1",
            "CODE=740",
            "DEVICE=a",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_value_with_a_line_break_can_not_forge_a_field() {
        let entries = sent(|| tracing::info!(error = "bad\nPRIORITY=0\n_UID=0", "refused"));
        let at = entries[0].windows(6).position(|part| part == b"ERROR\n").expect("the field with its length");
        let length = u64::from_le_bytes(entries[0][at + 6..at + 14].try_into().unwrap());
        assert_eq!(length, 21);
        let message = entries[0].windows(8).position(|part| part == b"MESSAGE=").is_some();
        assert!(message, "the readable line escapes it");
    }

    #[test]
    fn names_are_what_the_journal_takes() {
        for (field, expected) in [
            ("connection", "CONNECTION"),
            ("sub.device-1", "SUB_DEVICE_1"),
            ("priority", "F_PRIORITY"),
            ("code_line", "F_CODE_LINE"),
            ("code", "CODE"),
            ("_uid", "F__UID"),
            ("1st", "F_1ST"),
        ] {
            assert_eq!(name(field), expected);
        }
    }

    #[test]
    fn a_journal_that_takes_nothing_costs_lines_and_no_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        let layer = Journal::at(&path).unwrap();
        let begun = std::time::Instant::now();
        let entry = [b'x'; 512];
        (0..20_000).for_each(|_| layer.send(&entry, Level::INFO));
        assert!(begun.elapsed() < Duration::from_secs(5));
        let lost = layer.lost.load(Ordering::Relaxed);
        assert!(lost > 15_000, "{lost}");
        let mut buffer = [0; 1024];
        journal.recv(&mut buffer).unwrap();
        journal.recv(&mut buffer).unwrap();
        layer.send(&entry, Level::INFO);
        assert_eq!(layer.lost.load(Ordering::Relaxed), 0, "the loss itself is told when there is room");
    }

    #[test]
    fn only_the_stream_that_is_named_is_the_journals() {
        let file = tempfile::tempfile().unwrap();
        let facts = file.metadata().unwrap();
        assert!(is_stream(&format!("{}:{}", facts.dev(), facts.ino()), &file));
        assert!(!is_stream(&format!("{}:{}", facts.dev(), facts.ino() + 1), &file));
        assert!(!is_stream("", &file));
    }
}
