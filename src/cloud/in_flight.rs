//! PURE. What was taken from the outbox and is not yet done: sent, waiting to be sent again, or cut in parts.
//!
//! Invariants, held by the test below: a parcel is finished when each of its readings was delivered or set aside,
//! and never before; nothing is forgotten but by [`InFlight::clear`], after which the outbox hands all of it out again.
//! What is absent: no retry count ever lets go of a reading.

use super::refusal::BUSY_UNTIL_SUSPECT;
use super::upstream::measurepoints::Route;
use crate::model::{Batch, BatchBuilder, Lane, Names};
use crate::mqtt::window::Load;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Readings of one parcel that travel together.
#[derive(Clone, Debug)]
pub struct Piece {
    pub seq: u64,
    pub names: Arc<Names>,
    pub batch: Batch,
}

/// What one message carries.
#[derive(Clone, Debug)]
pub struct Content {
    pub lane: Lane,
    pub route: Route,
    pub pieces: Vec<Piece>,
    /// Sent before and not answered.
    pub timeouts: u32,
    /// Refused for lack of capacity so often,
    pub busy: u32,
    /// and first when so many messages had been delivered.
    pub busy_since: u64,
    /// Its devices were logged in again because of it.
    pub logged_in_again: bool,
    /// A part of a refused message.
    pub suspect: bool,
    /// Readings the cloud has refused before, sent to see whether it still does.
    pub trial: bool,
}

impl Content {
    #[must_use]
    pub fn new(lane: Lane, route: Route, pieces: Vec<Piece>) -> Content {
        Content {
            lane,
            route,
            pieces,
            timeouts: 0,
            busy: 0,
            busy_since: 0,
            logged_in_again: false,
            suspect: false,
            trial: false,
        }
    }

    /// Readings in it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.pieces.iter().map(|piece| piece.batch.count as usize).sum()
    }

    /// The devices in it, by epoch and index.
    #[must_use]
    pub fn devices(&self) -> Vec<(u64, u32)> {
        let mut devices: Vec<(u64, u32)> = self
            .pieces
            .iter()
            .flat_map(|piece| piece.batch.blocks().flatten().map(|block| (piece.names.epoch, block.device)))
            .collect();
        devices.sort_unstable();
        devices.dedup();
        devices
    }

    /// Product key and device key of one of them.
    #[must_use]
    pub fn keys_of(&self, epoch: u64, device: u32) -> Option<(String, String)> {
        let names = &self.pieces.iter().find(|piece| piece.names.epoch == epoch)?.names;
        names.devices.get(device as usize).map(|names| (names.product_key.clone(), names.device_key.clone()))
    }

    /// Two parts with half of the readings each, in order; `None` for a single reading.
    #[must_use]
    pub fn halves(&self) -> Option<[Content; 2]> {
        let half = self.count() / 2;
        if half == 0 {
            return None;
        }
        let mut seen = 0;
        Some(self.parted(|_, _| {
            seen += 1;
            seen <= half
        }))
    }

    /// Two parts with half of the devices each; `None` for a single device.
    #[must_use]
    pub fn halves_by_device(&self) -> Option<[Content; 2]> {
        let devices = self.devices();
        let middle = *devices.get(devices.len() / 2).filter(|_| devices.len() > 1)?;
        Some(self.parted(|epoch, device| (epoch, device) < middle))
    }

    fn parted(&self, mut first: impl FnMut(u64, u32) -> bool) -> [Content; 2] {
        let mut parts = [self.emptied(), self.emptied()];
        for piece in &self.pieces {
            let mut builders = [BatchBuilder::default(), BatchBuilder::default()];
            for block in piece.batch.blocks().flatten() {
                for entry in block.entries().flatten() {
                    let builder = &mut builders[usize::from(!first(piece.names.epoch, block.device))];
                    builder.begin(block.device, block.time);
                    builder.push_ref(entry.point, entry.quality, entry.value);
                }
            }
            for (part, mut builder) in parts.iter_mut().zip(builders) {
                if let Some(batch) = builder.finish(piece.batch.epoch) {
                    part.pieces.push(Piece { batch, ..piece.clone() });
                }
            }
        }
        parts
    }

    fn emptied(&self) -> Content {
        // A part is suspected less than the whole: an overload must not look like a value that is at fault.
        let busy = self.busy.min(BUSY_UNTIL_SUSPECT - 2);
        Content { pieces: Vec::new(), suspect: true, timeouts: 0, busy, ..*self }
    }
}

/// A message that was sent.
#[derive(Debug)]
pub struct Sent {
    pub content: Content,
    pub at: Duration,
    pub bytes: usize,
}

#[derive(Debug, Default)]
pub struct InFlight {
    /// Parcel -> pieces of it that are not done.
    open: HashMap<u64, u32>,
    sent: HashMap<u16, Sent>,
    again: VecDeque<Content>,
    finished: Vec<u64>,
}

impl InFlight {
    /// A parcel was taken; it is made of so many pieces. Without any it is done.
    pub fn take(&mut self, seq: u64, pieces: u32) {
        if pieces == 0 {
            self.finished.push(seq);
        } else {
            *self.open.entry(seq).or_default() += pieces;
        }
    }

    /// A message with this id went out. The id is not under way already.
    pub fn sent(&mut self, id: u16, content: Content, bytes: usize, at: Duration) {
        let before = self.sent.insert(id, Sent { content, at, bytes });
        debug_assert!(before.is_none(), "ids are not used twice while they are under way");
    }

    /// Whether an answer to this id is awaited.
    #[must_use]
    pub fn awaits(&self, id: u16) -> bool {
        self.sent.contains_key(&id)
    }

    /// The message an answer came for. The caller delivers it, cuts it or sends it again.
    #[must_use]
    pub fn answered(&mut self, id: u16) -> Option<Sent> {
        self.sent.remove(&id)
    }

    /// The pieces have arrived, or were set aside.
    pub fn done(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            let left = self.open.get_mut(&piece.seq).expect("a piece under way belongs to an open parcel");
            *left -= 1;
            if *left == 0 {
                self.open.remove(&piece.seq);
                self.finished.push(piece.seq);
            }
        }
    }

    /// The content was cut: its parts take its place and wait to be sent.
    pub fn cut(&mut self, content: &Content, parts: impl IntoIterator<Item = Content>) {
        for part in parts {
            self.pieces_added(&part.pieces);
            self.again.push_back(part);
        }
        self.done(&content.pieces);
    }

    /// The pieces stand beside those that were there.
    pub fn pieces_added(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            *self.open.entry(piece.seq).or_default() += 1;
        }
    }

    /// The content waits to be sent again, before those cut later.
    pub fn send_again(&mut self, content: Content) {
        self.again.push_front(content);
    }

    /// The next one to be sent again.
    pub fn next_again(&mut self) -> Option<Content> {
        self.again.pop_front()
    }

    /// Whether something waits to be sent again.
    #[must_use]
    pub fn has_again(&self) -> bool {
        !self.again.is_empty()
    }

    /// Ids of messages that were sent before `at`.
    #[must_use]
    pub fn sent_before(&self, at: Duration) -> Vec<u16> {
        self.sent.iter().filter(|(_, sent)| sent.at <= at).map(|(id, _)| *id).collect()
    }

    /// When the oldest message was sent.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        self.sent.values().map(|sent| sent.at).min()
    }

    /// When the newest message was sent.
    #[must_use]
    pub fn newest(&self) -> Option<Duration> {
        self.sent.values().map(|sent| sent.at).max()
    }

    /// What is sent and not answered.
    #[must_use]
    pub fn load(&self) -> Load {
        self.load_of(|_| true)
    }

    #[must_use]
    pub fn load_of(&self, which: impl Fn(&Content) -> bool) -> Load {
        self.sent
            .values()
            .filter(|sent| which(&sent.content))
            .fold(Load::default(), |load, sent| Load { messages: load.messages + 1, bytes: load.bytes + sent.bytes })
    }

    /// Parcels that are done since the last call.
    pub fn finished(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.finished)
    }

    /// The link is gone: all of it comes from the outbox again.
    pub fn clear(&mut self) {
        *self = InFlight::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Timestamp, Value};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn batch(readings: &[(u32, u32)], seq: u64) -> Batch {
        let mut builder = BatchBuilder::default();
        for (device, point) in readings {
            builder.begin(*device, Timestamp(i64::try_from(seq).unwrap()));
            builder.push(*point, 0, &Value::Int(1));
        }
        builder.finish(0).unwrap()
    }

    fn readings(piece: &Piece) -> Vec<(u64, u32, u32)> {
        let mut all = Vec::new();
        for block in piece.batch.blocks().flatten() {
            all.extend(block.entries().flatten().map(|e| (piece.seq, block.device, e.point)));
        }
        all
    }

    /// A cloud that refuses some points, an outbox that hands out what is not acknowledged, and chance.
    struct World {
        in_flight: InFlight,
        parcels: BTreeMap<u64, Vec<(u32, u32)>>,
        handed_out: BTreeSet<u64>,
        acknowledged: BTreeSet<u64>,
        arrived: BTreeSet<(u64, u32, u32)>,
        names: Arc<Names>,
        next_id: u16,
        now: Duration,
    }

    impl World {
        fn hand_out(&mut self) {
            let next = self.parcels.keys().find(|s| !self.handed_out.contains(s) && !self.acknowledged.contains(s));
            if let Some(seq) = next.copied() {
                self.handed_out.insert(seq);
                let piece = Piece { seq, names: Arc::clone(&self.names), batch: batch(&self.parcels[&seq], seq) };
                self.in_flight.take(seq, 1);
                self.send(Content::new(Lane::Live, Route::Post, vec![piece]));
            }
        }

        fn send(&mut self, content: Content) {
            self.next_id += 1;
            self.in_flight.sent(self.next_id, content, 1, self.now);
        }

        fn answer(&mut self, id: u16, guilty: u32) {
            let sent = self.in_flight.answered(id).unwrap();
            let bad = |piece: &Piece| readings(piece).iter().any(|(_, _, point)| *point == guilty);
            if !sent.content.pieces.iter().any(bad) {
                self.arrived.extend(sent.content.pieces.iter().flat_map(readings));
                self.in_flight.done(&sent.content.pieces);
            } else if let Some(parts) = sent.content.halves_by_device().or_else(|| sent.content.halves()) {
                self.in_flight.cut(&sent.content, parts);
            } else {
                self.arrived.extend(sent.content.pieces.iter().flat_map(readings));
                self.in_flight.done(&sent.content.pieces);
            }
        }

        fn settle(&mut self) {
            for seq in self.in_flight.finished() {
                assert!(self.handed_out.remove(&seq), "{seq} finished twice");
                for (device, point) in &self.parcels[&seq] {
                    assert!(self.arrived.contains(&(seq, *device, *point)), "{seq} finished too early");
                }
                self.acknowledged.insert(seq);
            }
        }

        fn any_sent(&self, pick: usize) -> Option<u16> {
            let mut ids: Vec<u16> = self.in_flight.sent.keys().copied().collect();
            ids.sort_unstable();
            ids.get(pick % ids.len().max(1)).copied()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn no_parcel_is_acknowledged_before_it_arrived_and_none_is_stuck(
            parcels in prop::collection::vec(prop::collection::vec((0u32..4, 0u32..6), 1..8), 1..12),
            story in prop::collection::vec((0u8..6, 0usize..50), 0..120),
        ) {
            let mut world = World {
                in_flight: InFlight::default(),
                parcels: (1..).zip(parcels).collect(),
                handed_out: BTreeSet::new(),
                acknowledged: BTreeSet::new(),
                arrived: BTreeSet::new(),
                names: Arc::new(Names::new(Vec::new())),
                next_id: 0,
                now: Duration::ZERO,
            };
            for (what, pick) in story {
                world.now += Duration::from_secs(1);
                match what {
                    0 => world.hand_out(),
                    1 | 2 => if let Some(id) = world.any_sent(pick) { world.answer(id, 5) },
                    3 => {
                        for id in world.in_flight.sent_before(world.now.saturating_sub(Duration::from_secs(9))) {
                            let sent = world.in_flight.answered(id).unwrap();
                            world.in_flight.send_again(sent.content);
                        }
                    }
                    4 => if let Some(content) = world.in_flight.next_again() { world.send(content) },
                    _ => { world.in_flight.clear(); world.handed_out.clear(); }
                }
                world.settle();
            }
            // From here on the cloud is well: everything must come to its end.
            for _ in 0..2000 {
                world.hand_out();
                while let Some(content) = world.in_flight.next_again() { world.send(content); }
                while let Some(id) = world.any_sent(0) { world.answer(id, 5); }
                world.settle();
            }
            prop_assert_eq!(world.acknowledged.len(), world.parcels.len());
            prop_assert!(world.in_flight.open.is_empty() && world.handed_out.is_empty());
        }
    }
}
