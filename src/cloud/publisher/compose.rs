//! PURE. Writes messages of what is ready, sorted by channel at the time they go out.

use super::late::{self, Sorted};
use super::{Now, Outgoing, Publisher, queue};
use crate::cloud::in_flight::{Content, Piece};
use crate::cloud::upstream::measurepoints::{Message, NotAdded, Route};
use crate::config::Compress;
use crate::model::{Lane, Timestamp};
use crate::mqtt::payload;
use std::collections::VecDeque;

/// A message that packs better is not made larger: it is megabytes for whoever unpacks it.
const MOST_GAIN: usize = 6;

impl Publisher {
    /// What is older than this is late.
    fn cut(&self, now: Now) -> Timestamp {
        let late = i64::try_from(self.late.threshold.as_millis()).unwrap_or(i64::MAX);
        Timestamp(now.wall.0.saturating_sub(late))
    }

    /// The readings by the channel they travel on; without those that are to be removed.
    pub(super) fn by_route(&mut self, piece: &Piece, now: Now) -> Vec<(Route, Piece)> {
        let keys = self.keys.of(&piece.names);
        let Sorted { post, resume, removed } = late::sort(&piece.batch, &keys, self.cut(now), self.late.policy);
        if removed > 0 {
            *self.removed.entry(piece.seq).or_default() += u64::from(removed);
        }
        let parts = [(Route::Post, post), (Route::Resume, resume)].into_iter();
        parts.filter_map(|(route, batch)| Some((route, Piece { batch: batch?, ..piece.clone() }))).collect()
    }

    /// A piece that was live when it was taken may be late by now: what is left of it as live. The rest is queued.
    fn still_live(&mut self, piece: Piece, lane: Lane, now: Now) -> Option<Piece> {
        if piece.batch.oldest >= self.cut(now) {
            return Some(piece);
        }
        let parts = self.by_route(&piece, now);
        parts.iter().for_each(|(_, part)| self.in_flight.pieces_added(std::slice::from_ref(part)));
        self.in_flight.done(&[piece]);
        let mut live = None;
        for (route, part) in parts {
            match route {
                Route::Post => live = Some(part),
                Route::Resume => self.ready[queue(lane, route)].push_back(part),
            }
        }
        live
    }

    /// The oldest of what waits in the other queues.
    fn next_of_others(&self, lane: Lane, route: Route) -> Option<u64> {
        let own = queue(lane, route);
        let others = self.ready.iter().enumerate().filter(|(index, _)| *index != own);
        others.filter_map(|(_, queue)| Some(queue.front()?.seq)).min()
    }

    /// One message from the front of a queue.
    pub(super) fn compose(&mut self, id: u16, lane: Lane, route: Route, now: Now) -> Option<Outgoing> {
        let limit = self.message_bytes(now.at);
        let next_other = self.next_of_others(lane, route);
        let mut message = Message::begin(id, route, limit, limit);
        let mut pieces = Vec::new();
        while let Some(piece) = self.ready[queue(lane, route)].pop_front() {
            if self.in_order() && !pieces.is_empty() && next_other.is_some_and(|other| other < piece.seq) {
                self.ready[queue(lane, route)].push_front(piece);
                break;
            }
            let live = if route == Route::Post { self.still_live(piece, lane, now) } else { Some(piece) };
            let Some(piece) = live else {
                continue;
            };
            let Some(piece) = self.screened(piece, lane, route, now) else {
                continue;
            };
            let keys = self.keys.of(&piece.names);
            match message.add(&keys, &piece.batch) {
                Ok(()) => pieces.push(piece),
                Err(NotAdded::Unfit) => self.set_unfit_aside(piece, lane, route, now),
                Err(NotAdded::Full) if !pieces.is_empty() => {
                    self.ready[queue(lane, route)].push_front(piece);
                    break;
                }
                Err(NotAdded::Full) => {
                    let alone = Content::new(lane, route, vec![piece]);
                    let Some(halves) = alone.halves() else {
                        return self.send_again(id, alone, now);
                    };
                    self.put_back(alone, halves);
                }
            }
        }
        if lane == Lane::Live && self.ready[..2].iter().all(VecDeque::is_empty) {
            self.live_since = None;
        }
        if pieces.is_empty() {
            return None;
        }
        self.sent(id, message, Content::new(lane, route, pieces), now)
    }

    /// A piece too large for one message becomes two at the front of its queue.
    fn put_back(&mut self, whole: Content, halves: [Content; 2]) {
        for half in halves.into_iter().rev() {
            self.in_flight.pieces_added(&half.pieces);
            for piece in half.pieces.into_iter().rev() {
                self.ready[queue(whole.lane, whole.route)].push_front(piece);
            }
        }
        self.in_flight.done(&whole.pieces);
    }

    /// A message of exactly this content; cut again when it has become too large meanwhile.
    pub(super) fn send_again(&mut self, id: u16, mut content: Content, now: Now) -> Option<Outgoing> {
        self.take_late_out(&mut content, now);
        let mut message = Message::begin(id, content.route, 0, self.limit * if self.gain > 1 { MOST_GAIN } else { 1 });
        let pieces = std::mem::take(&mut content.pieces);
        for piece in pieces {
            let screened =
                if content.trial { Some(piece) } else { self.screened(piece, content.lane, content.route, now) };
            let Some(piece) = screened else {
                continue;
            };
            let keys = self.keys.of(&piece.names);
            match message.add(&keys, &piece.batch) {
                Ok(()) => content.pieces.push(piece),
                Err(NotAdded::Unfit) => self.set_unfit_aside(piece, content.lane, content.route, now),
                Err(NotAdded::Full) => {
                    let rest = Content { pieces: vec![piece], ..content.clone() };
                    self.too_large(rest, "larger than the largest message", now);
                }
            }
        }
        if content.pieces.is_empty() {
            return None;
        }
        self.sent(id, message, content, now)
    }

    fn sent(&mut self, id: u16, message: Message, content: Content, now: Now) -> Option<Outgoing> {
        let text = message.finish();
        let plain = text.len();
        let text = payload::pack(self.compress, text);
        if self.compress != Compress::None {
            // Three quarters: the next message may not pack so well.
            self.gain = (plain * 3 / 4 / text.len().max(1)).clamp(1, MOST_GAIN);
            if text.len() > self.limit {
                self.too_large(content, "larger than the largest message", now);
                return None;
            }
        }
        let bytes = text.len() + self.overhead;
        self.throttle.sent(bytes, now.at);
        if content.lane == Lane::Backlog {
            self.pace.sent(bytes, now.at);
        }
        let (route, readings) = (content.route, content.count());
        self.in_flight.sent(id, content, text.len(), now.at);
        Some(Outgoing { route, readings, text })
    }

    /// What was live when it was first sent and waited out a pause since.
    fn take_late_out(&mut self, content: &mut Content, now: Now) {
        let cut = self.cut(now);
        if content.route != Route::Post || content.trial || content.pieces.iter().all(|p| p.batch.oldest >= cut) {
            return;
        }
        let pieces = std::mem::take(&mut content.pieces);
        let mut late = content.clone();
        late.route = Route::Resume;
        for piece in &pieces {
            for (route, part) in self.by_route(piece, now) {
                self.in_flight.pieces_added(std::slice::from_ref(&part));
                if route == Route::Post { content.pieces.push(part) } else { late.pieces.push(part) }
            }
        }
        self.in_flight.done(&pieces);
        if !late.pieces.is_empty() {
            self.in_flight.send_again(late);
        }
    }
}
