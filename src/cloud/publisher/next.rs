//! PURE. Which message is next, and when: by lane, by what is under way, by the pace, by company.

use super::{EXPANSION, Now, Outgoing, Publisher, queue};
use crate::cloud::upstream::measurepoints::Route;
use crate::config::Order;
use crate::model::Lane;
use std::time::Duration;

impl Publisher {
    /// Whether parcels go strictly by age: then [`Lane::Live`] speaks for both lanes.
    #[must_use]
    pub fn in_order(&self) -> bool {
        self.late.order == Order::Fifo
    }

    /// Bytes of batches worth asking the outbox for, if this lane may send.
    #[must_use]
    pub fn wants(&self, lane: Lane, now: Now) -> Option<usize> {
        let queues = match lane {
            _ if self.in_order() => &self.ready[..],
            Lane::Live => &self.ready[..2],
            Lane::Backlog => &self.ready[2..],
        };
        let waiting: usize = queues.iter().flatten().map(|piece| piece.batch.bytes.len()).sum();
        let worth = (self.message_bytes(now.at) / EXPANSION).max(1);
        let may = match lane {
            Lane::Live => waiting == 0 || !self.linger.is_zero() && waiting < worth,
            Lane::Backlog => waiting == 0 && !self.in_order(),
        };
        // What is asked for may wait here for its pace; that is a message at most.
        let paced = lane == Lane::Backlog && self.pace.next() > now.at;
        (may && !paced && now.at >= self.pause.until() && self.fits(lane)).then_some(worth)
    }

    /// When the agreed and the learned pace let this lane go on.
    pub(super) fn paced_until(&self, lane: Lane) -> Duration {
        match lane {
            Lane::Live => self.throttle.live_from(),
            Lane::Backlog => self.throttle.backlog_from().max(self.pace.next()),
        }
    }

    pub(super) fn message_bytes(&self, now: Duration) -> usize {
        let on_the_way = self.window.message_bytes().min(self.throttle.room(now).saturating_sub(self.overhead));
        on_the_way.saturating_mul(self.gain)
    }

    pub(super) fn fits(&self, lane: Lane) -> bool {
        let load = self.in_flight.load();
        match lane {
            Lane::Backlog if !self.in_order() => {
                self.window.backlog_fits(load, self.in_flight.load_of(|content| content.lane == Lane::Backlog))
            }
            _ => self.window.live_fits(load),
        }
    }

    /// The next message, if one may go now. `id` is free.
    pub fn next_message(&mut self, id: u16, now: Now) -> Option<Outgoing> {
        if now.at < self.pause.until() {
            return None;
        }
        self.unpark(now.at);
        if self.in_order() {
            return self.next_again(id, now).or_else(|| self.next_oldest(id, now));
        }
        // Turn and turn about, so that neither keeps the other from what a full window or a pause leaves over.
        self.again_first = !self.again_first;
        let again_first = self.again_first;
        let again = if again_first { self.next_again(id, now) } else { None };
        again
            .or_else(|| self.next_of(id, Lane::Live, now))
            .or_else(|| if again_first { None } else { self.next_again(id, now) })
            .or_else(|| self.next_of(id, Lane::Backlog, now))
    }

    pub(super) fn next_again(&mut self, id: u16, now: Now) -> Option<Outgoing> {
        while self.fits(Lane::Live)
            && self.paced_until(Lane::Live) <= now.at
            && self.suspects() < (self.slots / 2).max(1)
        {
            let content = self.in_flight.next_again()?;
            if let Some(outgoing) = self.send_again(id, content, now) {
                return Some(outgoing);
            }
        }
        None
    }

    pub(super) fn next_of(&mut self, id: u16, lane: Lane, now: Now) -> Option<Outgoing> {
        for route in [Route::Post, Route::Resume] {
            while self.may_go(lane, route, now) {
                if let Some(outgoing) = self.compose(id, lane, route, now) {
                    return Some(outgoing);
                }
            }
        }
        None
    }

    /// Whatever is oldest, and nothing before it.
    pub(super) fn next_oldest(&mut self, id: u16, now: Now) -> Option<Outgoing> {
        loop {
            let lanes = [Lane::Live, Lane::Backlog].into_iter();
            let queues = lanes.flat_map(|lane| [Route::Resume, Route::Post].map(|route| (lane, route)));
            let front = |(lane, route)| Some((self.ready[queue(lane, route)].front()?.seq, lane, route));
            let (_, lane, route) = queues.filter_map(front).min_by_key(|(seq, ..)| *seq)?;
            if !self.may_go(lane, route, now) {
                return None;
            }
            if let Some(outgoing) = self.compose(id, lane, route, now) {
                return Some(outgoing);
            }
        }
    }

    pub(super) fn unpark(&mut self, now: Duration) {
        for (_, content) in self.parked.extract_if(.., |(due, _)| *due <= now) {
            self.in_flight.send_again(content);
        }
    }

    pub(super) fn suspects(&self) -> usize {
        self.in_flight.load_of(|content| content.suspect || content.trial).messages
    }

    pub(super) fn may_go(&self, lane: Lane, route: Route, now: Now) -> bool {
        !self.ready[queue(lane, route)].is_empty()
            && self.fits(lane)
            && self.paced_until(lane) <= now.at
            && (lane == Lane::Backlog || self.linger_ends().is_none_or(|end| end <= now.at))
    }

    /// When live readings have waited long enough for company; `None` when they need not wait.
    pub(super) fn linger_ends(&self) -> Option<Duration> {
        let since = self.live_since.filter(|_| !self.linger.is_zero())?;
        let waiting: usize =
            self.ready[..2].iter().flatten().map(|piece| piece.batch.bytes.len().saturating_mul(EXPANSION)).sum();
        (waiting < self.window.message_bytes() * self.gain).then_some(since + self.linger)
    }

    /// When something changes by itself.
    #[must_use]
    pub fn wake(&self, now: Now) -> Option<Duration> {
        let pause = Some(self.pause.until()).filter(|until| *until > now.at);
        let pace = [Some(self.pace.next()), self.throttled_until()].into_iter().flatten();
        let pace = pace.filter(|next| *next > now.at).min();
        let timeout = self.timeout();
        let parked =
            self.parked.iter().map(|(due, _)| (*due).max(self.pause.until())).min().filter(|due| *due > now.at);
        let linger = self.linger_ends().filter(|end| *end > now.at);
        [pause, pace, timeout, parked, linger].into_iter().flatten().min()
    }

    /// When the next of what is ready may go, as far as the pace is concerned.
    pub(super) fn throttled_until(&self) -> Option<Duration> {
        let live = self.ready[..2].iter().any(|queue| !queue.is_empty()) || self.in_flight.has_again();
        let backlog = self.ready[2..].iter().any(|queue| !queue.is_empty());
        let live = live.then(|| self.paced_until(Lane::Live));
        live.or_else(|| backlog.then(|| self.paced_until(Lane::Backlog)))
    }

    /// Readings are here to be sent.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        self.ready.iter().any(|queue| !queue.is_empty()) || self.in_flight.has_again()
    }
}
