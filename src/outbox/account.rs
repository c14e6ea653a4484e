//! PURE. What became of each parcel at each destination: arrived, set aside or lost. The part of [`Tail`] that counts.
//!
//! For each destination `waiting and held at open + produced = acknowledged + set aside + dropped + waiting + held`. The counters of all
//! together speak of a parcel when the last of those that want it is done with it: as dropped when that one lost it.

use super::destination::{Destination, Facts};
use super::gap::{self, Gap, Reason};
use super::held::Held;
use super::tail::Tail;
use super::wishes::{Census, bit};
use crate::model::SetAside;
use std::time::Instant;

/// Refused values kept in memory while the disk is stuck, and the most that one transaction brings.
const SET_ASIDE_PENDING: usize = 10_000;

impl Tail {
    /// These have arrived. What is neither on its way nor in memory is passed over: it will be sent again.
    pub fn acknowledge(&mut self, destination: usize, seqs: &[u64], now: Instant) {
        for seq in seqs {
            if self.destinations[destination].done.contains(*seq) {
                continue;
            }
            let flight = self.destinations[destination].flights.remove(seq);
            let (facts, refused, held) = match flight {
                Some(flight) => (flight.facts, flight.refused, flight.held),
                None => match self.entry(*seq).filter(|entry| entry.census.is_wanted_by(destination)) {
                    Some(entry) => (entry.census.facts(*seq, destination), 0, Vec::new()),
                    None => continue,
                },
            };
            self.arrived(destination, facts, refused, held, now);
        }
    }

    fn arrived(&mut self, destination: usize, facts: Facts, refused: u64, parts: Vec<Held>, now: Instant) {
        let held = parts.iter().map(|part| u64::from(part.batch.count)).sum::<u64>();
        let one = &mut self.destinations[destination];
        one.done.insert(facts.seq, facts.seq);
        one.tally.acknowledged += facts.readings - refused - held;
        one.tally.set_aside += refused;
        one.tally.held += held;
        one.tally.waiting -= facts.readings;
        if facts.seq <= self.taken_upto {
            one.dirty = true;
            self.acknowledged_bytes += facts.bytes;
            self.rows_since.get_or_insert(now);
        }
        if held > 0 {
            let born = self.entry(facts.seq).filter(|_| facts.seq > self.stored_upto).map_or(now, |entry| entry.born);
            self.keep(parts, born);
        }
        self.finish(facts, (refused, held), false, now);
    }

    /// One destination is done with a parcel. When it is the last of those that want it, nobody waits any more.
    fn finish(&mut self, facts: Facts, (refused, held): (u64, u64), lost: bool, now: Instant) {
        if refused > 0 || held > 0 {
            let most = self.refused.entry(facts.seq).or_default();
            *most = (refused.max(most.0), held.max(most.1));
        }
        let waits = |(i, d): (usize, &Destination)| {
            // What was dropped for one while it was on its way there, the store no longer keeps for it.
            let wants = facts.wanted_by & bit(i) != 0 || d.flights.contains_key(&facts.seq);
            wants && !d.done.contains(facts.seq)
        };
        if self.destinations.iter().enumerate().any(waits) {
            return;
        }
        let (refused, held) = self.refused.remove(&facts.seq).unwrap_or_default();
        let counter = if lost { &self.counters.dropped } else { &self.counters.acknowledged };
        counter.add(facts.any.saturating_sub(refused + held));
        self.counters.set_aside.add(refused);
        self.wait(-(facts.any as i64));
        self.remove(facts.seq);
        self.let_go_of_row(facts.seq, now);
    }

    /// These values of a parcel were refused for good.
    pub fn set_aside(&mut self, destination: usize, refused: &SetAside, now: Instant) {
        let one = &mut self.destinations[destination];
        let Some(flight) = one.flights.get_mut(&refused.seq) else { return };
        flight.refused = (flight.refused + u64::from(refused.batch.count))
            .min(flight.facts.readings.saturating_sub(flight.held_readings()));
        self.set_aside.extend(gap::rows(&one.name, refused));
        while self.set_aside.len() > SET_ASIDE_PENDING {
            self.set_aside.pop_front();
            self.set_aside_lost += 1;
        }
        self.rows_since.get_or_insert(now);
    }

    /// The link went up or down.
    pub fn link(&mut self, destination: usize, up: bool, now: Instant) {
        let one = &mut self.destinations[destination];
        if up == one.up {
            return;
        }
        if up {
            one.rise(self.stored_upto);
            return;
        }
        let flights = one.fall();
        for (_, flight) in flights {
            if let Some(reason) = flight.gone {
                self.give_up(destination, flight.facts, flight.refused, reason, now);
            }
        }
        self.release_stored();
    }

    /// A parcel that was dropped while it was on its way, and never arrived.
    fn give_up(&mut self, destination: usize, facts: Facts, refused: u64, reason: Reason, now: Instant) {
        let one = &mut self.destinations[destination];
        one.tally.set_aside += refused;
        one.tally.waiting -= refused;
        self.lost_for(destination, Facts { readings: facts.readings - refused, ..facts }, reason, now);
        self.finish(facts, (refused, 0), true, now);
    }

    /// Who waits for this will not get it from us any more, but for those it is on its way to: all, or `only` one.
    pub fn drop_parcel(&mut self, seq: u64, census: &Census, only: Option<usize>, reason: Reason, now: Instant) {
        for i in 0..self.destinations.len() {
            let one = &mut self.destinations[i];
            if only.is_some_and(|only| only != i) || !census.is_wanted_by(i) || one.done.contains(seq) {
                continue;
            }
            if let Some(flight) = one.flights.get_mut(&seq) {
                flight.gone.get_or_insert(reason);
                continue;
            }
            let facts = census.facts(seq, i);
            self.lost_for(i, facts, reason, now);
            self.finish(facts, (0, 0), true, now);
        }
    }

    pub(super) fn lost_for(&mut self, destination: usize, facts: Facts, reason: Reason, now: Instant) {
        let one = &mut self.destinations[destination];
        // Numbers it never waited for do not part two losses.
        let next_in_line =
            one.lost_upto > 0 && one.lost_upto < facts.seq && one.done.misses(one.lost_upto + 1, facts.seq - 1);
        let first = if next_in_line { one.lost_upto + 1 } else { facts.seq };
        one.lost_upto = facts.seq;
        one.done.insert(facts.seq, facts.seq);
        one.dirty = true;
        one.tally.dropped += facts.readings;
        one.tally.waiting -= facts.readings;
        let (from, to) = (facts.oldest.0, facts.newest.0);
        let gap =
            Gap { destination: one.name.clone(), reason, first, last: facts.seq, from, to, readings: facts.readings };
        self.put_gap(gap);
        self.rows_since.get_or_insert(now);
    }

    pub(super) fn wait(&mut self, readings: i64) {
        self.waiting = self.waiting.saturating_add_signed(readings);
        self.counters.outbox_readings.set(self.waiting);
    }
}
