//! PURE. Takes parcels apart into messages: readings of one topic travel together, a reading never twice and none
//! left out. What no message can hold is set aside with its reason.

use super::ledger::Ledger;
use super::payload::{Form, sayable};
use super::suspicion::{ReadingId, Suspicion};
use super::topics::{Place, Topics};
use crate::config::template::Template;
use crate::model::{BatchBuilder, Block, Entry, Lane, Names, Parcel, SetAside, Timestamp};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::Write;
use std::sync::Arc;

/// Codes of readings set aside here; EnOS leaves 2000 and above to devices.
const TOO_LARGE: i64 = 2100;
const UNFIT: i64 = 2101;
const NOT_TAKEN: i64 = 2102;
/// Epochs whose topics are remembered: the package now and those of the backlog.
const EPOCHS: usize = 4;

/// A message to be published.
#[derive(Debug)]
pub struct Message {
    pub lane: Lane,
    pub topic: String,
    pub payload: Vec<u8>,
    /// Parcels it carries parts of, each once.
    pub seqs: Vec<u64>,
    pub readings: u32,
    /// The reading, if it is the only one.
    pub single: Option<ReadingId>,
}

/// Topics of the epochs in use.
#[derive(Debug)]
pub struct TopicCache {
    template: Template,
    place: Place,
    epochs: Vec<(u64, Arc<Topics>)>,
}

impl TopicCache {
    #[must_use]
    pub fn new(template: Template, place: Place) -> TopicCache {
        TopicCache { template, place, epochs: Vec::new() }
    }

    fn of(&mut self, names: &Names) -> Arc<Topics> {
        if let Some((_, topics)) = self.epochs.iter().find(|(epoch, _)| *epoch == names.epoch) {
            return Arc::clone(topics);
        }
        if self.epochs.len() == EPOCHS {
            self.epochs.remove(0);
        }
        let topics = Arc::new(Topics::new(&self.template, &self.place, names));
        self.epochs.push((names.epoch, Arc::clone(&topics)));
        topics
    }
}

/// Epoch, class of the device, and the point where each has its own topic.
type Key = (u64, u32, u32);
const ANY_POINT: u32 = u32::MAX;

/// A message under construction.
#[derive(Debug)]
struct Draft {
    /// Rises from draft to draft.
    number: u64,
    topic: String,
    text: Vec<u8>,
    seqs: Vec<u64>,
    readings: u32,
    first: Option<ReadingId>,
    /// Objects or readings that stand side by side.
    items: u32,
    /// An object is open, and this is its number.
    object: Option<u32>,
}

pub struct Composer {
    lane: Lane,
    form: Arc<Form>,
    gzip: bool,
    hard_limit: usize,
    drafts: HashMap<Key, Draft>,
    drafted: usize,
    ready: VecDeque<Message>,
    /// Number of the object a point was last put into: a key twice in an object is a reading lost.
    put_into: Vec<u32>,
    objects: u32,
    next_id: u64,
}

/// One parcel on its way into messages.
struct Work<'a> {
    parcel: &'a Parcel,
    topics: &'a Topics,
    ledger: &'a mut Ledger,
    suspicion: &'a Suspicion,
    limit: usize,
    refused: BTreeMap<(i64, &'static str), BatchBuilder>,
}

impl Composer {
    #[must_use]
    pub fn new(lane: Lane, form: Arc<Form>, gzip: bool, hard_limit: usize) -> Composer {
        Composer {
            lane,
            form,
            gzip,
            hard_limit,
            drafts: HashMap::new(),
            drafted: 0,
            ready: VecDeque::new(),
            put_into: Vec::new(),
            objects: 0,
            next_id: 0,
        }
    }

    /// Puts all readings of the parcel into messages of about `limit` bytes. Returns what must be set aside.
    pub fn take(
        &mut self,
        parcel: &Parcel,
        topics: &mut TopicCache,
        ledger: &mut Ledger,
        suspicion: &Suspicion,
        limit: usize,
        now: Timestamp,
    ) -> Vec<SetAside> {
        ledger.begin(parcel.seq);
        let topics = topics.of(&parcel.names);
        let limit = limit.min(self.hard_limit);
        let mut work = Work { parcel, topics: &topics, ledger, suspicion, limit, refused: BTreeMap::new() };
        let mut damaged = false;
        for block in parcel.batch.blocks() {
            match block {
                Ok(block) => damaged |= self.block(&block, &mut work).is_none(),
                Err(_) => damaged = true,
            }
        }
        let Work { refused, ledger, .. } = work;
        ledger.end(parcel.seq);
        let aside = |batch, code, reason: &str| SetAside {
            seq: parcel.seq,
            names: Arc::clone(&parcel.names),
            batch,
            code,
            reason: reason.to_owned(),
            at: now,
        };
        let mut all: Vec<SetAside> = refused
            .into_iter()
            .filter_map(|((code, reason), mut builder)| {
                builder.finish(parcel.batch.epoch).map(|batch| aside(batch, code, reason))
            })
            .collect();
        if damaged {
            all.push(aside(parcel.batch.clone(), UNFIT, "damaged on its way; what could be read was sent"));
        }
        all
    }

    /// `None` when the block is damaged.
    fn block(&mut self, block: &Block<'_>, work: &mut Work<'_>) -> Option<()> {
        let class = work.topics.class(block.device);
        let mut last = None;
        let mut whole = Some(());
        for entry in block.entries() {
            let Ok(entry) = entry else {
                whole = None;
                break;
            };
            let known = class.filter(|_| work.parcel.names.point(block.device, entry.point).is_some());
            let Some(class) = known else {
                work.refuse(block, &entry, UNFIT, "not in the package that was loaded when it was read");
                continue;
            };
            if let Err(why) = sayable(entry.value) {
                work.refuse(block, &entry, UNFIT, why);
                continue;
            }
            if work.suspicion.is_guilty(work.id(block, &entry)) {
                work.refuse(block, &entry, NOT_TAKEN, "the broker closes the connection whenever it gets this");
                continue;
            }
            let point = if work.topics.by_point() { entry.point } else { ANY_POINT };
            let key = (work.parcel.names.epoch, class, point);
            self.put(key, block, &entry, work);
            if work.topics.by_point() || self.form.is_alone() && !self.form.has_objects() {
                self.end_object(key, block.time);
            } else {
                last = Some(key);
            }
        }
        if let Some(key) = last {
            self.end_object(key, block.time);
        }
        whole
    }

    fn put(&mut self, key: Key, block: &Block<'_>, entry: &Entry<'_>, work: &mut Work<'_>) {
        if !self.try_put(key, block, entry, work) {
            self.end_object(key, block.time);
            self.finish_draft(key);
            // The new message is empty, so this either goes in or never will.
            self.try_put(key, block, entry, work);
        }
    }

    /// False when it does not fit behind what is there; nothing has changed then.
    fn try_put(&mut self, key: Key, block: &Block<'_>, entry: &Entry<'_>, work: &mut Work<'_>) -> bool {
        let names = &work.parcel.names;
        let device = &names.devices[block.device as usize];
        let point = &device.points.points[entry.point as usize];
        let form = Arc::clone(&self.form);
        let next_id = &mut self.next_id;
        let draft = self.drafts.entry(key).or_insert_with(|| {
            *next_id += 1;
            Draft::begin(work.topics.topic(key.1, &point.id), &form, *next_id)
        });
        let (before, object, items) = (draft.text.len(), draft.object, draft.items);
        let at = entry.point as usize;
        if self.put_into.len() <= at {
            self.put_into.resize(at + 1, 0);
        }
        if form.has_objects() {
            if draft.object.is_some_and(|object| self.put_into[at] == object) {
                if form.is_alone() {
                    return false;
                }
                form.close_object(&mut draft.text, block.time);
                draft.object = None;
            }
            if draft.object.is_some() {
                draft.text.push(b',');
            } else {
                draft.next_item(&form);
                self.objects = self.objects.wrapping_add(1).max(1);
                draft.object = Some(self.objects);
                form.open_object(&mut draft.text, device, block.time);
            }
        } else {
            draft.next_item(&form);
        }
        form.reading(&mut draft.text, device, point, block.time, entry);
        let size = draft.text.len() + form.closing_bytes();
        let (full, too_large) = (draft.readings > 0 && size > work.limit, size > self.hard_limit);
        if full || too_large {
            draft.text.truncate(before);
            (draft.object, draft.items) = (object, items);
            if full {
                return false;
            }
            self.drafts.remove(&key);
            work.refuse(block, entry, TOO_LARGE, "larger than the largest message of the destination");
            return true;
        }
        if let Some(object) = draft.object {
            self.put_into[at] = object;
        }
        draft.readings += 1;
        draft.first.get_or_insert(work.id(block, entry));
        self.drafted += draft.text.len() - before;
        if draft.seqs.last() != Some(&work.parcel.seq) {
            draft.seqs.push(work.parcel.seq);
            work.ledger.carried(work.parcel.seq);
        }
        true
    }

    /// The object that is open ends; a message that holds one only ends with it.
    fn end_object(&mut self, key: Key, time: Timestamp) {
        let Some(draft) = self.drafts.get_mut(&key) else { return };
        if draft.object.take().is_some() {
            self.form.close_object(&mut draft.text, time);
        }
        if self.form.is_alone() {
            self.finish_draft(key);
        }
    }

    fn finish_draft(&mut self, key: Key) {
        if let Some(draft) = self.drafts.remove(&key) {
            self.finish(draft);
        }
    }

    fn finish(&mut self, mut draft: Draft) {
        self.form.close(&mut draft.text);
        self.drafted = self.drafted.saturating_sub(draft.text.len());
        let Draft { topic, text, seqs, readings, first, .. } = draft;
        let single = first.filter(|_| readings == 1);
        let payload = if self.gzip { gzip(&text) } else { text };
        self.ready.push_back(Message { lane: self.lane, topic, payload, seqs, readings, single });
    }

    /// All that waits for company becomes messages, in the order it came.
    pub fn flush(&mut self) {
        let mut drafts: Vec<Draft> = self.drafts.drain().map(|(_, draft)| draft).collect();
        drafts.sort_unstable_by_key(|draft| draft.number);
        for draft in drafts {
            self.finish(draft);
        }
        self.drafted = 0;
    }

    pub fn next(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Bytes that wait for company.
    #[must_use]
    pub fn drafted(&self) -> usize {
        if self.drafts.is_empty() { 0 } else { self.drafted.max(1) }
    }

    /// The link is gone.
    pub fn clear(&mut self) {
        self.drafts.clear();
        self.ready.clear();
        self.drafted = 0;
    }
}

impl Draft {
    fn begin(topic: String, form: &Form, id: u64) -> Draft {
        let mut text = Vec::new();
        form.open(&mut text, id);
        Draft { number: id, topic, text, seqs: Vec::new(), readings: 0, first: None, items: 0, object: None }
    }

    fn next_item(&mut self, form: &Form) {
        if self.items > 0 {
            form.between(&mut self.text);
        }
        self.items += 1;
    }
}

impl Work<'_> {
    fn id(&self, block: &Block<'_>, entry: &Entry<'_>) -> ReadingId {
        ReadingId { seq: self.parcel.seq, device: block.device, point: entry.point, time: block.time }
    }

    fn refuse(&mut self, block: &Block<'_>, entry: &Entry<'_>, code: i64, reason: &'static str) {
        let builder = self.refused.entry((code, reason)).or_default();
        builder.begin(block.device, block.time);
        builder.push_ref(entry.point, entry.quality, entry.value);
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(text.len() / 4), flate2::Compression::fast());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("memory takes it")
}
