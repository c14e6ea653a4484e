//! PURE. Requests and their answers: an answer belongs to its request by reply topic and id, a raw one by its topic alone.
//!
//! A reply topic is subscribed before its first use on a connection. Requests are bounded; each ends with its answer,
//! or when its time is over, or with the connection. Time and ids are arguments, `P` says what a request is for.

use super::reply::Reply;
use super::upstream::{Body, Message};
use bytes::Bytes;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

/// Requests that wait for a subscription or an answer. Whoever has more keeps them until there is room.
pub const MOST: usize = 64;
/// A SUBACK that does not come in this time is not waited for: the real cloud may answer without.
const SUBSCRIBE_PATIENCE: Duration = Duration::from_secs(10);

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Json(Reply),
    Raw(Bytes),
}

/// What has to be done outside.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Subscribe(Vec<String>),
    Publish { topic: String, payload: Vec<u8> },
}

#[derive(Debug)]
struct Open<P> {
    purpose: P,
    reply_topic: String,
    until: Duration,
    raw: bool,
}

/// A SUBSCRIBE that is on its way: packets without an answer, and what may be used once they have theirs.
#[derive(Debug)]
struct Subscribing {
    packets: usize,
    topics: Vec<String>,
    at: Duration,
}

#[derive(Debug)]
pub struct Requests<P> {
    timeout: Duration,
    held: VecDeque<(Message, P)>,
    open: HashMap<u16, Open<P>>,
    /// Deadlines in the order in which they come; some belong to requests that were answered.
    deadlines: VecDeque<(Duration, u16)>,
    /// Reply topics of raw requests that are under way.
    raw: HashMap<String, u16>,
    wanted: Vec<String>,
    asked: HashSet<String>,
    ready: HashSet<String>,
    subscribing: VecDeque<Subscribing>,
}

impl<P> Requests<P> {
    #[must_use]
    pub fn new(timeout: Duration) -> Requests<P> {
        Requests {
            timeout,
            held: VecDeque::new(),
            open: HashMap::new(),
            deadlines: VecDeque::new(),
            raw: HashMap::new(),
            wanted: Vec::new(),
            asked: HashSet::new(),
            ready: HashSet::new(),
            subscribing: VecDeque::new(),
        }
    }

    /// How many more may be submitted.
    #[must_use]
    pub fn room(&self) -> usize {
        MOST.saturating_sub(self.held.len() + self.open.len())
    }

    /// Whether one of those that wait or are under way is of this kind.
    #[must_use]
    pub fn any(&self, kind: impl Fn(&P) -> bool) -> bool {
        self.held.iter().any(|(_, purpose)| kind(purpose)) || self.open.values().any(|open| kind(&open.purpose))
    }

    /// Takes a request; it goes out with one of the next [`Requests::steps`].
    pub fn submit(&mut self, message: Message, purpose: P) {
        let reply_topic = message.reply_topic();
        if self.asked.insert(reply_topic.clone()) {
            self.wanted.push(reply_topic);
        }
        self.held.push_back((message, purpose));
    }

    /// A SUBSCRIBE went out in so many packets; `topics` may be used once they are answered.
    pub fn subscribe_sent(&mut self, topics: Vec<String>, packets: usize, now: Duration) {
        self.asked.extend(topics.iter().cloned());
        if packets > 0 {
            self.subscribing.push_back(Subscribing { packets, topics, at: now });
        }
    }

    /// One SUBACK: they come in the order of the packets.
    pub fn subscribed(&mut self) {
        let Some(first) = self.subscribing.front_mut() else { return };
        first.packets -= 1;
        if first.packets == 0 {
            self.let_use();
        }
    }

    fn let_use(&mut self) {
        if let Some(done) = self.subscribing.pop_front() {
            self.ready.extend(done.topics);
        }
    }

    /// What may be done now. `free_id` gives an id that nobody else uses.
    pub fn steps(&mut self, now: Duration, mut free_id: impl FnMut(&dyn Fn(u16) -> bool) -> u16) -> Vec<Step> {
        while self.subscribing.front().is_some_and(|first| first.at + SUBSCRIBE_PATIENCE <= now) {
            self.let_use();
        }
        let mut steps = Vec::new();
        if !self.wanted.is_empty() {
            steps.push(Step::Subscribe(std::mem::take(&mut self.wanted)));
        }
        for (message, purpose) in std::mem::take(&mut self.held) {
            let reply_topic = message.reply_topic();
            let raw = matches!(message.body, Body::Raw(_));
            if !self.ready.contains(&reply_topic) || raw && self.raw.contains_key(&reply_topic) {
                self.held.push_back((message, purpose));
                continue;
            }
            let id = free_id(&|id| self.open.contains_key(&id));
            if raw {
                self.raw.insert(reply_topic.clone(), id);
            }
            let until = now + self.timeout;
            steps.push(Step::Publish { topic: message.topic.clone(), payload: message.encode(id) });
            self.open.insert(id, Open { purpose, reply_topic, until, raw });
            self.deadlines.push_back((until, id));
        }
        steps
    }

    /// The purpose of the request that this message answers, and what it says.
    pub fn answered(&mut self, topic: &str, payload: &Bytes) -> Option<(P, Answer)> {
        if let Some(id) = self.raw.remove(topic) {
            let open = self.open.remove(&id)?;
            return Some((open.purpose, Answer::Raw(payload.clone())));
        }
        let reply = Reply::parse(payload)?;
        let open = self.open.get(&reply.id)?;
        // An id of another topic, for example of one of our clones behind the same broker.
        if open.reply_topic != topic || open.raw {
            return None;
        }
        let open = self.open.remove(&reply.id)?;
        Some((open.purpose, Answer::Json(reply)))
    }

    /// Requests whose time is over. Their reply topics are subscribed anew before the next use.
    pub fn expired(&mut self, now: Duration) -> Vec<P> {
        let mut late = Vec::new();
        while let Some((until, id)) = self.deadlines.front().copied() {
            let stale = self.open.get(&id).is_none_or(|open| open.until != until);
            if !stale && until > now {
                break;
            }
            self.deadlines.pop_front();
            if stale {
                continue;
            }
            if let Some(open) = self.open.remove(&id) {
                self.ready.remove(&open.reply_topic);
                self.asked.remove(&open.reply_topic);
                self.raw.remove(&open.reply_topic);
                late.push(open.purpose);
            }
        }
        // Those that wait for the same topic need the new subscription as well.
        for (message, _) in &self.held {
            let reply_topic = message.reply_topic();
            if self.asked.insert(reply_topic.clone()) {
                self.wanted.push(reply_topic);
            }
        }
        late
    }

    /// When something changes by itself.
    #[must_use]
    pub fn wake(&self) -> Option<Duration> {
        let deadline = self.deadlines.front().map(|(until, _)| *until);
        let subscribing = self.subscribing.front().map(|first| first.at + SUBSCRIBE_PATIENCE);
        [deadline, subscribing].into_iter().flatten().min()
    }

    /// Nothing waits for an answer, and nothing to be sent.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.held.is_empty()
    }

    /// Whether this id is under way.
    #[must_use]
    pub fn awaits(&self, id: u16) -> bool {
        self.open.contains_key(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::upstream::{Whose, tsl_template, up_raw};

    const S: fn(u64) -> Duration = Duration::from_secs;

    struct Bench {
        requests: Requests<u8>,
        last: u16,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { requests: Requests::new(S(30)), last: 0 }
        }

        fn steps(&mut self, now: Duration) -> Vec<Step> {
            let last = &mut self.last;
            self.requests.steps(now, |_| {
                *last += 1;
                *last
            })
        }

        fn reply(&mut self, topic: &str, text: &str) -> Option<(u8, Answer)> {
            self.requests.answered(topic, &Bytes::copy_from_slice(text.as_bytes()))
        }
    }

    fn get(device: &str) -> Message {
        tsl_template::get(Whose { product_key: "p", device_key: device })
    }

    const REPLY: &str = "/sys/p/a/thing/tsltemplate/get_reply";

    fn published(steps: &[Step]) -> usize {
        steps.iter().filter(|step| matches!(step, Step::Publish { .. })).count()
    }

    #[test]
    fn the_reply_topic_is_subscribed_before_its_first_use_and_only_once() {
        let mut b = Bench::new();
        b.requests.submit(get("a"), 1);
        assert_eq!(b.steps(S(0)), [Step::Subscribe(vec![REPLY.to_owned()])]);
        b.requests.subscribe_sent(vec![REPLY.to_owned()], 1, S(0));
        assert_eq!(b.steps(S(1)), []);
        b.requests.subscribed();
        assert_eq!(published(&b.steps(S(1))), 1);
        b.requests.submit(get("a"), 2);
        assert_eq!(published(&b.steps(S(1))), 1, "no second SUBSCRIBE");
    }

    #[test]
    fn a_missing_suback_is_not_waited_for_for_ever() {
        let mut b = Bench::new();
        b.requests.submit(get("a"), 1);
        b.steps(S(0));
        b.requests.subscribe_sent(vec![REPLY.to_owned()], 1, S(0));
        assert_eq!(b.requests.wake(), Some(S(10)));
        assert_eq!(published(&b.steps(S(10))), 1);
    }

    fn sent(b: &mut Bench, message: Message, purpose: u8) {
        let topic = message.reply_topic();
        b.requests.submit(message, purpose);
        b.steps(S(0));
        b.requests.subscribe_sent(vec![topic], 1, S(0));
        b.requests.subscribed();
        b.steps(S(0));
    }

    #[test]
    fn an_answer_belongs_to_its_request_by_topic_and_id() {
        let mut b = Bench::new();
        sent(&mut b, get("a"), 1);
        sent(&mut b, get("b"), 2);
        assert_eq!(b.reply(REPLY, r#"{"id":"2","code":200}"#), None, "the id of the other topic");
        assert_eq!(b.reply(REPLY, "no json"), None);
        let (purpose, answer) = b.reply(REPLY, r#"{"id":"1","code":200,"data":{"x":1}}"#).unwrap();
        assert_eq!(purpose, 1);
        assert!(matches!(answer, Answer::Json(reply) if reply.data["x"] == 1));
        assert_eq!(b.reply(REPLY, r#"{"id":"1","code":200}"#), None, "an answer counts once");
    }

    #[test]
    fn raw_requests_go_one_at_a_time_on_a_topic() {
        let whose = Whose { product_key: "p", device_key: "a" };
        let mut b = Bench::new();
        sent(&mut b, up_raw::up_raw(whose, vec![1]), 1);
        b.requests.submit(up_raw::up_raw(whose, vec![2]), 2);
        assert_eq!(b.steps(S(0)), []);
        let topic = "/sys/p/a/thing/model/up_raw_reply";
        assert_eq!(b.reply(topic, "\u{1}x"), Some((1, Answer::Raw(Bytes::from_static(b"\x01x")))));
        assert_eq!(published(&b.steps(S(0))), 1);
    }

    #[test]
    fn a_late_request_ends_and_its_topic_is_subscribed_anew() {
        let mut b = Bench::new();
        sent(&mut b, get("a"), 1);
        assert!(b.requests.expired(S(29)).is_empty());
        assert_eq!(b.requests.wake(), Some(S(30)));
        assert_eq!(b.requests.expired(S(30)), vec![1]);
        assert_eq!(b.reply(REPLY, r#"{"id":"1","code":200}"#), None, "a late answer means nothing");
        b.requests.submit(get("a"), 2);
        assert!(matches!(b.steps(S(31)).as_slice(), [Step::Subscribe(_)]));
        assert_eq!((b.requests.wake(), b.requests.room()), (None, MOST - 1));
    }
}
