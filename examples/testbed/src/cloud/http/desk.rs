//! PURE. Who is logged in at the HTTP broker, which files it keeps, and what went over its counter. Time is an argument.

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Faults on demand.
#[derive(Debug, Clone, Default)]
pub struct HttpKnobs {
    /// Each body ends without a word after so many bytes.
    pub cut: Option<usize>,
    /// No `ETag`: nothing proves that a part belongs to the file of today.
    pub without_proof: bool,
    /// Ranges are not understood; the whole file comes.
    pub without_ranges: bool,
    /// Refusals come with status 200, as those of messages do.
    pub refuse_politely: bool,
    /// Each session is good for one download that was begun.
    pub session_for_one: bool,
    /// Everything is answered with this status.
    pub status: Option<u16>,
    /// Answers wait.
    pub delay: Option<Duration>,
}

/// What came and went.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HttpStats {
    pub logins: u64,
    pub refused_logins: u64,
    pub downloads: u64,
    pub refused_downloads: u64,
    pub links: u64,
    /// Bytes of bodies of files.
    pub bytes: u64,
    /// `Range` of each download, empty without, the last so many.
    pub ranges: Vec<String>,
}

/// Of ranges.
const REMEMBERED: usize = 1000;

struct Session {
    /// Product key and device key.
    owner: (String, String),
    lifetime: Duration,
    until: Instant,
}

#[derive(Clone)]
pub(super) struct Kept {
    pub bytes: Bytes,
    pub etag: String,
}

#[derive(Default)]
pub(super) struct Desk {
    pub knobs: HttpKnobs,
    pub stats: HttpStats,
    files: BTreeMap<String, Kept>,
    sessions: HashMap<String, Session>,
    /// Of links: ticket to file.
    tickets: HashMap<String, String>,
    last: u64,
}

impl Desk {
    pub fn keep(&mut self, uri: &str, bytes: Bytes) {
        let etag = format!("\"{}\"", &hex(digest(&SHA256, &bytes).as_ref())[..16]);
        self.files.insert(uri.to_owned(), Kept { bytes, etag });
    }

    pub fn expire(&mut self) {
        self.sessions.clear();
    }

    /// A new session.
    pub fn log_in(&mut self, owner: (String, String), lifetime: Duration, now: Instant) -> String {
        self.sessions.retain(|_, session| session.until >= now);
        self.stats.logins += 1;
        let id = self.number("session");
        self.sessions.insert(id.clone(), Session { owner, lifetime, until: now + lifetime });
        id
    }

    /// Whether the session is this device's, and still lives: what is done with it makes it live longer.
    pub fn is_in(&mut self, session: &str, owner: (&str, &str), now: Instant) -> bool {
        let Some(found) = self.sessions.get_mut(session).filter(|found| found.until >= now) else { return false };
        found.until = now + found.lifetime;
        let own = (found.owner.0.as_str(), found.owner.1.as_str()) == owner;
        if self.knobs.session_for_one {
            self.sessions.remove(session);
        }
        own
    }

    pub fn file(&self, uri: &str) -> Option<Kept> {
        self.files.get(uri).cloned()
    }

    /// A ticket for a link to the file.
    pub fn ticket(&mut self, uri: &str) -> String {
        self.stats.links += 1;
        let ticket = self.number("ticket");
        self.tickets.insert(ticket.clone(), uri.to_owned());
        ticket
    }

    pub fn ticketed(&self, ticket: &str) -> Option<Kept> {
        self.file(self.tickets.get(ticket)?)
    }

    pub fn sent(&mut self, range: &str, bytes: usize) {
        self.stats.downloads += 1;
        self.stats.bytes += bytes as u64;
        if self.stats.ranges.len() >= REMEMBERED {
            self.stats.ranges.remove(0);
        }
        self.stats.ranges.push(range.to_owned());
    }

    fn number(&mut self, what: &str) -> String {
        self.last += 1;
        format!("{what}-{:04}-{:08x}", self.last, fastrand::u32(..))
    }
}

/// The sign of a login: names and values in the order of the alphabet, then the secret.
pub(super) fn sign(product_key: &str, device_key: &str, lifetime: &str, secret: &str) -> String {
    let text = format!("deviceKey{device_key}lifetime{lifetime}productKey{product_key}signMethodsha256{secret}");
    hex(digest(&SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_its_devices_and_lives_as_long_as_it_is_used() {
        let (mut desk, now) = (Desk::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let id = desk.log_in(("p".into(), "d".into()), Duration::from_secs(30), now);
        assert!(desk.is_in(&id, ("p", "d"), at(29)) && desk.is_in(&id, ("p", "d"), at(58)));
        assert!(!desk.is_in(&id, ("p", "other"), at(58)));
        assert!(!desk.is_in(&id, ("p", "d"), at(100)) && !desk.is_in("made up", ("p", "d"), at(58)));
    }
}
