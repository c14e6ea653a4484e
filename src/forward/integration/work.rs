//! PURE. What was taken from the outbox and is not done: waiting to be sent, under way, or refused and not yet judged.
//!
//! A refused message is cut by asset, then by halves, until single values are left. A refused value is set aside only when
//! something else got through since: when nothing does, the values are not to blame, and they wait.

use super::message::{Message, NotAdded, UNSENDABLE, sendable};
use crate::model::{Batch, BatchBuilder, Entry, Lane, Names, Parcel, SetAside, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Refused values that wait for a word in their favour or against them.
const UNDECIDED: usize = 32;

/// Readings of one parcel that travel together.
#[derive(Clone, Debug)]
pub struct Piece {
    pub seq: u64,
    pub names: Arc<Names>,
    pub batch: Batch,
}

/// What one message carries.
#[derive(Clone, Debug)]
pub struct Job {
    pub lane: Lane,
    pub realtime: bool,
    pub pieces: Vec<Piece>,
    /// A part of a refused message: it is sent as it is.
    pub suspect: bool,
}

/// What has to be done outside.
#[derive(Debug, Default)]
pub struct Effects {
    pub set_aside: Vec<SetAside>,
    pub acknowledge: Vec<u64>,
}

#[derive(Debug, Default)]
pub struct Work {
    open: HashMap<u64, u32>,
    fresh: VecDeque<Job>,
    again: VecDeque<Job>,
    undecided: Vec<(Piece, i64, String)>,
    effects: Effects,
}

impl Work {
    /// Parcels from the outbox; what is older than `late` is no realtime data.
    pub fn take(&mut self, parcels: Vec<Parcel>, late: Timestamp, now: Timestamp) {
        for Parcel { seq, lane, names, batch } in parcels {
            let Some(batch) = self.screened(seq, &names, &batch, now) else {
                if !self.open.contains_key(&seq) {
                    self.effects.acknowledge.push(seq);
                }
                continue;
            };
            for realtime in [true, false] {
                let part = batch.filter(|_, time, _| (time >= late) == realtime).ok().flatten();
                if let Some(batch) = part {
                    self.add(lane, realtime, Piece { seq, names: Arc::clone(&names), batch });
                }
            }
        }
    }

    fn add(&mut self, lane: Lane, realtime: bool, piece: Piece) {
        *self.open.entry(piece.seq).or_default() += 1;
        match self.fresh.iter_mut().find(|job| job.lane == lane && job.realtime == realtime) {
            Some(job) => job.pieces.push(piece),
            None => self.fresh.push_back(Job { lane, realtime, pieces: vec![piece], suspect: false }),
        }
    }

    /// What can be sent of a batch; the rest is set aside.
    fn screened(&mut self, seq: u64, names: &Arc<Names>, batch: &Batch, now: Timestamp) -> Option<Batch> {
        let mut bad: Vec<(&'static str, BatchBuilder)> = Vec::new();
        let clean = batch.filter(|device, time, entry| match sendable(names, device, entry) {
            Ok(()) => true,
            Err(reason) => {
                let at = bad.iter().position(|(r, _)| *r == reason).unwrap_or_else(|| {
                    bad.push((reason, BatchBuilder::default()));
                    bad.len() - 1
                });
                bad[at].1.begin(device, time);
                bad[at].1.push_ref(entry.point, entry.quality, entry.value);
                false
            }
        });
        for (reason, mut builder) in bad {
            if let Some(batch) = builder.finish(batch.epoch) {
                self.aside(&Piece { seq, names: Arc::clone(names), batch }, UNSENDABLE, reason, now);
            }
        }
        clean.unwrap_or_else(|_| {
            let piece = Piece { seq, names: Arc::clone(names), batch: batch.clone() };
            self.aside(&piece, UNSENDABLE, "the stored batch is damaged", now);
            None
        })
    }

    fn aside(&mut self, piece: &Piece, code: i64, reason: &str, at: Timestamp) {
        let Piece { seq, names, batch } = piece.clone();
        self.effects.set_aside.push(SetAside { seq, names, batch, code, reason: reason.to_owned(), at });
    }

    /// Bytes of batches that wait to be sent.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        let jobs = self.fresh.iter().chain(&self.again);
        jobs.flat_map(|job| &job.pieces).map(|piece| piece.batch.bytes.len()).sum()
    }

    /// The next message, with its text. Live data goes before backlog, what was refused before neither.
    pub fn next(&mut self, id: u64, limit: usize) -> Option<(Job, Vec<u8>)> {
        loop {
            let live = self.fresh.iter().position(|job| job.lane == Lane::Live);
            let from_fresh = live.or_else(|| (self.again.is_empty() && !self.fresh.is_empty()).then_some(0));
            let mut job = match from_fresh {
                Some(at) => self.fresh.remove(at)?,
                None => self.again.pop_front()?,
            };
            let mut message = Message::begin(id, limit);
            let mut pieces = std::mem::take(&mut job.pieces).into_iter();
            let mut rest = Vec::new();
            for piece in pieces.by_ref() {
                match message.add(&piece.names, &piece.batch) {
                    Ok(()) => job.pieces.push(piece),
                    Err(NotAdded::Full | NotAdded::Unfit) => {
                        rest.push(piece);
                        break;
                    }
                }
            }
            rest.extend(pieces);
            if rest.is_empty() {
                return Some((job.clone(), message.finish(job.realtime)));
            }
            let (lane, realtime, suspect) = (job.lane, job.realtime, job.suspect);
            if job.pieces.is_empty() {
                // Its first piece alone is too large: it is cut, however often that takes.
                let whole = rest.remove(0);
                match halves(&whole) {
                    Some(parts) => {
                        *self.open.entry(whole.seq).or_default() += 1;
                        rest.splice(0..0, parts);
                    }
                    None => {
                        self.aside(&whole, UNSENDABLE, "a single value is larger than a message may be", Timestamp(0));
                        self.done(&[whole]);
                    }
                }
            }
            if !rest.is_empty() {
                self.again.push_front(Job { lane, realtime, pieces: rest, suspect });
            }
            if !job.pieces.is_empty() {
                return Some((job.clone(), message.finish(realtime)));
            }
        }
    }

    /// The message has arrived.
    pub fn delivered(&mut self, job: &Job, now: Timestamp) {
        self.done(&job.pieces);
        // The door is open: what was refused was refused for its own sake.
        for (piece, code, reason) in std::mem::take(&mut self.undecided) {
            self.aside(&piece, code, &reason, now);
            self.done(&[piece]);
        }
    }

    /// Sent again as it is.
    pub fn send_again(&mut self, job: Job) {
        self.again.push_front(job);
    }

    /// The cloud refused it for what is in it. False when so many values were refused, and nothing taken, that they can
    /// not be to blame.
    #[must_use]
    pub fn refused(&mut self, job: Job, code: i64, reason: &str) -> bool {
        match parts(&job) {
            Some(parts) => {
                for part in parts.iter().flat_map(|part| &part.pieces) {
                    *self.open.entry(part.seq).or_default() += 1;
                }
                self.done(&job.pieces);
                self.again.extend(parts);
            }
            None => self.undecided.extend(job.pieces.into_iter().map(|piece| (piece, code, reason.to_owned()))),
        }
        self.undecided.len() < UNDECIDED
    }

    fn done(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            let Some(left) = self.open.get_mut(&piece.seq) else { continue };
            *left -= 1;
            if *left == 0 {
                self.open.remove(&piece.seq);
                self.effects.acknowledge.push(piece.seq);
            }
        }
    }

    pub fn effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// The link is gone: all of it comes from the outbox again.
    pub fn clear(&mut self) {
        *self = Work::default();
    }
}

/// A refused message in two: by asset as long as there are several, then by half of the readings. `None`: one value.
fn parts(job: &Job) -> Option<[Job; 2]> {
    let assets: Vec<(u64, u32)> = {
        let blocks = job.pieces.iter().flat_map(|p| p.batch.blocks().flatten().map(|b| (p.names.epoch, b.device)));
        blocks.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    };
    let count: usize = job.pieces.iter().map(|piece| piece.batch.count as usize).sum();
    if count < 2 {
        return None;
    }
    let middle = assets.get(assets.len() / 2).filter(|_| assets.len() > 1).copied();
    let mut seen = 0;
    let mut split = [Vec::new(), Vec::new()];
    for piece in &job.pieces {
        let first = |device: u32, _: &Entry<'_>| match middle {
            Some(middle) => (piece.names.epoch, device) < middle,
            None => {
                seen += 1;
                seen <= count / 2
            }
        };
        for (to, part) in split.iter_mut().zip(parted(piece, first)) {
            to.extend(part);
        }
    }
    Some(split.map(|pieces| Job { pieces, suspect: true, ..job.clone() }))
}

fn halves(piece: &Piece) -> Option<[Piece; 2]> {
    let half = piece.batch.count / 2;
    let mut seen = 0;
    let [a, b] = parted(piece, |_, _| {
        seen += 1;
        seen <= half
    });
    Some([a?, b?])
}

fn parted(piece: &Piece, mut first: impl FnMut(u32, &Entry<'_>) -> bool) -> [Option<Piece>; 2] {
    let mut builders = [BatchBuilder::default(), BatchBuilder::default()];
    for block in piece.batch.blocks().flatten() {
        for entry in block.entries().flatten() {
            let builder = &mut builders[usize::from(!first(block.device, &entry))];
            builder.begin(block.device, block.time);
            builder.push_ref(entry.point, entry.quality, entry.value);
        }
    }
    builders.map(|mut b| b.finish(piece.batch.epoch).map(|batch| Piece { batch, ..piece.clone() }))
}
