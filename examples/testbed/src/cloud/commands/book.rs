//! What was asked of devices, what became of it, and who still owes an answer.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Commands remembered; older ones go. EnOS keeps 7 days.
const KEPT: usize = 100_000;

/// How a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandState {
    /// In the cache of its device.
    Waiting,
    /// On its way, not answered.
    Sent,
    /// Answered 200.
    Succeeded,
    /// Answered otherwise.
    Failed,
    /// Not answered in time.
    TimedOut,
    /// Its time ran out while it waited.
    Expired,
    /// Taken back while it waited.
    Revoked,
    /// Its turn came and the device was gone, or its connection took nothing more.
    NotSent,
}

/// One command. Whoever sends the same id on the same topic again adds to the same record.
#[derive(Debug, Clone, Serialize)]
pub struct CommandRecord {
    pub number: u64,
    /// As the message carries it; raw commands have none.
    pub id: Option<String>,
    pub topic: String,
    pub state: CommandState,
    /// How often it went out.
    pub sent: u32,
    /// How many answers came.
    pub answers: u32,
    /// Those of them that came after the time-out.
    pub late_answers: u32,
    pub code: Option<i64>,
    /// The first answer.
    pub answer: Option<Value>,
    pub took_ms: Option<u64>,
}

/// Counts over all commands that are remembered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CommandReport {
    pub issued: u64,
    /// Messages that went out; a repeated command counts each time.
    pub sent: u64,
    pub answers: u64,
    pub waiting: u64,
    /// Sent, not answered, not timed out yet.
    pub outstanding: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub timed_out: u64,
    pub expired: u64,
    pub revoked: u64,
    pub not_sent: u64,
    /// Answers that never came though their time is over.
    pub missing_answers: u64,
    /// Answers beyond one for each time a command was sent.
    pub duplicate_answers: u64,
    pub late_answers: u64,
    /// Answers to what nobody asked.
    pub unasked_answers: u64,
    /// Answers whose code was a text, as the vendor's Python SDK writes 1101 and 500.
    pub text_codes: u64,
}

/// Why a command got no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("device is not known")]
    Unknown,
    #[error("device is offline")]
    Offline,
    #[error("connection takes no more commands")]
    Busy,
    #[error("no reply in time")]
    Timeout,
    #[error("50 commands wait for the device already")]
    CacheFull,
    #[error("its time ran out while it waited")]
    Expired,
    #[error("it was taken back while it waited")]
    Revoked,
}

pub(super) type Answered = Result<Bytes, CommandError>;

/// A record with what is needed to send it and to tell whoever waits.
pub(super) struct Page {
    pub record: CommandRecord,
    pub device: u32,
    pub payload: Bytes,
    pub timeout: Duration,
    /// When it times out, or is no longer worth sending.
    pub deadline: Option<Instant>,
    sent_at: Option<Instant>,
    waiter: Option<oneshot::Sender<Answered>>,
}

#[derive(Default)]
pub(super) struct Book {
    pages: VecDeque<Page>,
    /// Number of the first page that is still there.
    first: u64,
    /// (reply topic, id) -> pages. Raw commands of one topic share a key, in the order they were sent.
    keys: HashMap<(String, String), VecDeque<u64>>,
    deadlines: BTreeSet<(Instant, u64)>,
    unasked: u64,
    text_codes: u64,
}

/// A command on its way into the book.
pub(super) struct Entry {
    pub device: u32,
    pub id: Option<String>,
    pub topic: String,
    pub payload: Bytes,
    pub timeout: Duration,
}

impl Book {
    /// Writes a command down, not sent yet. An id that is known on its topic is the same command again.
    pub fn enter(&mut self, entry: Entry) -> (u64, oneshot::Receiver<Answered>) {
        let (sender, receiver) = oneshot::channel();
        let key = (reply_topic(&entry.topic), entry.id.clone().unwrap_or_default());
        if entry.id.is_some()
            && let Some(number) = self.keys.get(&key).and_then(|numbers| numbers.front().copied())
            && let Some(page) = self.page_mut(number)
        {
            page.waiter = Some(sender);
            page.payload = entry.payload;
            return (number, receiver);
        }
        if self.pages.len() == KEPT {
            self.forget_first();
        }
        let number = self.first + self.pages.len() as u64;
        self.keys.entry(key).or_default().push_back(number);
        self.pages.push_back(Page {
            record: CommandRecord {
                number,
                id: entry.id,
                topic: entry.topic,
                state: CommandState::Waiting,
                sent: 0,
                answers: 0,
                late_answers: 0,
                code: None,
                answer: None,
                took_ms: None,
            },
            device: entry.device,
            payload: entry.payload,
            timeout: entry.timeout,
            deadline: None,
            sent_at: None,
            waiter: Some(sender),
        });
        (number, receiver)
    }

    fn forget_first(&mut self) {
        if let Some(page) = self.pages.pop_front() {
            let key = (reply_topic(&page.record.topic), page.record.id.unwrap_or_default());
            if let Some(numbers) = self.keys.get_mut(&key) {
                numbers.retain(|number| *number != self.first);
                if numbers.is_empty() {
                    self.keys.remove(&key);
                }
            }
            self.first += 1;
        }
    }

    pub fn page(&self, number: u64) -> Option<&Page> {
        self.pages.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    pub fn page_mut(&mut self, number: u64) -> Option<&mut Page> {
        self.pages.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Counts from now until it times out.
    pub fn sent(&mut self, number: u64, now: Instant) {
        if let Some(page) = self.page_mut(number) {
            page.record.state = CommandState::Sent;
            page.record.sent += 1;
            page.sent_at = Some(now);
            let deadline = now + page.timeout;
            self.set_deadline(number, deadline);
        }
    }

    pub fn set_deadline(&mut self, number: u64, deadline: Instant) {
        if let Some(page) = self.page_mut(number) {
            page.deadline = Some(deadline);
            self.deadlines.insert((deadline, number));
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// A command whose time is over; the caller decides what that means.
    pub fn pop_due(&mut self, now: Instant) -> Option<u64> {
        while let Some((deadline, number)) = self.deadlines.first().copied().filter(|(deadline, _)| *deadline <= now) {
            self.deadlines.pop_first();
            let page = self.page(number);
            let open = |page: &Page| matches!(page.record.state, CommandState::Sent | CommandState::Waiting);
            if page.is_some_and(|page| page.deadline == Some(deadline) && open(page)) {
                return Some(number);
            }
        }
        None
    }

    /// Ends a command without an answer.
    pub fn close(&mut self, number: u64, state: CommandState, why: CommandError) {
        if let Some(page) = self.page_mut(number) {
            page.record.state = state;
            // Whoever waited may have given up.
            let _ = page.waiter.take().map(|waiter| waiter.send(Err(why)));
        }
    }

    /// An answer came. Returns the command it belongs to.
    pub fn answer(&mut self, topic: &str, payload: &Bytes, now: Instant) -> Option<u64> {
        let json: Option<Value> = if is_raw(topic) { None } else { serde_json::from_slice(payload).ok() };
        let id = id_of(json.as_ref());
        let numbers = self.keys.get(&(topic.to_owned(), id));
        // Raw answers carry no id: the oldest command that lacks one gets it.
        let owed = |number: &&u64| self.page(**number).is_some_and(|p| p.record.answers < p.record.sent);
        let number = numbers.and_then(|numbers| numbers.iter().find(owed).or(numbers.back())).copied();
        let Some(number) = number else {
            self.unasked += 1;
            return None;
        };
        let code = json.as_ref().map_or(Some(200), |json| self.code_of(json));
        let page = self.page_mut(number)?;
        page.take(code, json, payload, now);
        Some(number)
    }

    /// The code of an answer; the vendor's Python SDK writes two of its codes as texts.
    fn code_of(&mut self, json: &Value) -> Option<i64> {
        match json.get("code")? {
            Value::String(text) => {
                self.text_codes += 1;
                text.parse().ok()
            }
            code => code.as_i64(),
        }
    }

    pub fn records(&self) -> Vec<CommandRecord> {
        self.pages.iter().map(|page| page.record.clone()).collect()
    }

    pub fn report(&self) -> CommandReport {
        let mut report =
            CommandReport { unasked_answers: self.unasked, text_codes: self.text_codes, ..CommandReport::default() };
        for CommandRecord { state, sent, answers, late_answers, .. } in self.pages.iter().map(|page| &page.record) {
            report.issued += 1;
            report.sent += u64::from(*sent);
            report.answers += u64::from(*answers);
            report.late_answers += u64::from(*late_answers);
            report.duplicate_answers += u64::from(answers.saturating_sub(*sent));
            let missing = u64::from(sent.saturating_sub(*answers));
            match state {
                CommandState::Waiting => report.waiting += 1,
                CommandState::Sent => report.outstanding += 1,
                CommandState::Succeeded => report.succeeded += 1,
                CommandState::Failed => report.failed += 1,
                CommandState::TimedOut => {
                    report.timed_out += 1;
                    report.missing_answers += missing;
                }
                CommandState::Expired => report.expired += 1,
                CommandState::Revoked => report.revoked += 1,
                CommandState::NotSent => report.not_sent += 1,
            }
        }
        report
    }
}

impl Page {
    fn take(&mut self, code: Option<i64>, json: Option<Value>, payload: &Bytes, now: Instant) {
        let record = &mut self.record;
        record.answers += 1;
        record.late_answers += u32::from(record.state == CommandState::TimedOut);
        if record.answers == 1 {
            record.took_ms = self.sent_at.and_then(|at| u64::try_from(now.duration_since(at).as_millis()).ok());
            (record.code, record.answer) = (code, json);
        }
        // Sent again, it is answered only when each of them was.
        if record.state == CommandState::Sent && record.answers >= record.sent {
            record.state = if code == Some(200) { CommandState::Succeeded } else { CommandState::Failed };
        }
        // Whoever waited may have given up.
        let _ = self.waiter.take().map(|waiter| waiter.send(Ok(payload.clone())));
    }
}

/// The id of a command or an answer; nothing when there is none, or `null`.
pub(super) fn id_of(message: Option<&Value>) -> String {
    match message.and_then(|json| json.get("id")) {
        Some(Value::String(id)) => id.clone(),
        None | Some(Value::Null) => String::new(),
        Some(id) => id.to_string(),
    }
}

/// Where the answer to a command is published.
pub(super) fn reply_topic(topic: &str) -> String {
    match topic.split_once("/rrpc/request/") {
        Some((device, id)) => format!("{device}/rrpc/response/{id}"),
        None => format!("{topic}_reply"),
    }
}

/// Commands and answers without an envelope.
pub(super) fn is_raw(topic: &str) -> bool {
    topic.contains("/thing/model/down_raw") || topic.contains("/rrpc/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn entry(id: Option<&str>, topic: &str) -> Entry {
        let id = id.map(str::to_owned);
        Entry { device: 0, id, topic: topic.to_owned(), payload: Bytes::new(), timeout: TIMEOUT }
    }

    fn reply(id: &str) -> Bytes {
        format!(r#"{{"id":"{id}","code":200}}"#).into()
    }

    #[test]
    fn every_answer_is_told_apart_as_due_duplicate_late_or_unasked() {
        let (mut book, now) = (Book::default(), Instant::now());
        let numbers = ["1", "2", "3"].map(|id| book.enter(entry(Some(id), "/t")).0);
        numbers.iter().for_each(|number| book.sent(*number, now));
        assert_eq!(book.report().outstanding, 3);
        book.answer("/t_reply", &reply("1"), now);
        book.answer("/t_reply", &reply("1"), now);
        book.answer("/t_reply", &reply("9"), now);
        while let Some(number) = book.pop_due(now + TIMEOUT) {
            book.close(number, CommandState::TimedOut, CommandError::Timeout);
        }
        book.answer("/t_reply", &reply("2"), now + TIMEOUT);
        let got = book.report();
        assert_eq!((got.succeeded, got.timed_out, got.outstanding), (1, 2, 0));
        assert_eq!((got.missing_answers, got.duplicate_answers, got.late_answers, got.unasked_answers), (1, 1, 1, 1));
    }

    #[test]
    fn a_repeated_id_is_one_command_that_owes_an_answer_each_time() {
        let (mut book, now) = (Book::default(), Instant::now());
        for _ in 0..2 {
            let (number, _) = book.enter(entry(Some("7"), "/t"));
            book.sent(number, now);
        }
        book.answer("/t_reply", &reply("7"), now);
        assert_eq!((book.report().issued, book.report().outstanding), (1, 1));
        book.answer("/t_reply", &Bytes::from_static(br#"{"id":7,"code":"500"}"#), now);
        let got = book.report();
        assert_eq!((got.failed, got.duplicate_answers, got.text_codes), (1, 0, 1));
        // Without an id it is answered with none.
        let (number, _) = book.enter(entry(Some(""), "/t"));
        book.sent(number, now);
        assert_eq!(book.answer("/t_reply", &Bytes::from_static(br#"{"id":null,"code":200}"#), now), Some(number));
    }

    #[test]
    fn raw_answers_go_to_the_oldest_command_without_one() {
        let (mut book, now) = (Book::default(), Instant::now());
        let topic = "/sys/p/d/thing/model/down_raw";
        let numbers = [0, 1].map(|_| book.enter(entry(None, topic)).0);
        numbers.iter().for_each(|number| book.sent(*number, now));
        let answer =
            |book: &mut Book| book.answer("/sys/p/d/thing/model/down_raw_reply", &Bytes::from_static(&[1]), now);
        assert_eq!([answer(&mut book), answer(&mut book)], numbers.map(Some));
        assert_eq!(book.report().succeeded, 2);
        assert_eq!(reply_topic("/sys/p/d/rrpc/request/5"), "/sys/p/d/rrpc/response/5");
    }
}
