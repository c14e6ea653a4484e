//! PURE. What an answer of the cloud means for the readings of its message.

use super::{Now, Publisher};
use crate::cloud::in_flight::Content;
use crate::cloud::refusal::{ALL_POINTS, BUSY_UNTIL_SUSPECT, Verdict, Who, Why};
use std::time::Duration;

/// A message refused because of a device waits so long for the device's new login.
const LOGIN_TAKES: Duration = Duration::from_secs(2);
/// What a busy cloud refused waits so much longer than the rest, each time.
const OTHERS_FIRST: Duration = Duration::from_millis(200);
/// So often a message may be refused before it is more likely the message than the pace.
const TOO_MUCH: u32 = 3;
const TOO_LARGE: i64 = 1008;

impl Publisher {
    /// The cloud's answer to a message.
    pub fn answered(&mut self, id: u16, code: i64, reason: &str, now: Now) {
        let Some(sent) = self.in_flight.answered(id) else {
            return;
        };
        match Verdict::of(code) {
            Verdict::Delivered => {
                self.window.delivered(sent.bytes, now.at.saturating_sub(sent.at));
                self.throttle.delivered(sent.bytes + self.overhead, now.at);
                self.pause.delivered();
                self.delivered += 1;
                self.taken(&sent.content);
                if sent.content.trial {
                    whos(&sent.content).for_each(|who| self.refusals.forgiven(who));
                }
                self.in_flight.done(&sent.content.pieces);
            }
            Verdict::Value => self.search(sent.content, code, reason, now),
            Verdict::Device => self.device_refused(sent.content, code, reason, now),
            Verdict::TooLarge => {
                self.limit = self.limit.min((sent.bytes / 2).max(16 << 10));
                self.window.limit(self.limit);
                self.too_large(sent.content, reason, now);
            }
            Verdict::Overload => self.overload(sent.content, sent.bytes, now),
            Verdict::Busy => self.busy(sent.content, sent.bytes, code, reason, now),
        }
    }

    /// Halves the message until the guilty value is alone.
    fn search(&mut self, content: Content, code: i64, reason: &str, now: Now) {
        if let Some(parts) = content.halves_by_device().or_else(|| content.halves()) {
            self.in_flight.cut(&content, parts);
            return;
        }
        for who in whos(&content) {
            self.refusals.refused(who, Why { code, reason: reason.to_owned() }, now.at);
        }
        self.give_up(&content, code, reason, now);
    }

    fn device_refused(&mut self, mut content: Content, code: i64, reason: &str, now: Now) {
        let devices = content.devices();
        if self.sub_device_login && !content.logged_in_again {
            content.logged_in_again = true;
            content.busy_since = self.delivered;
            for piece in &content.pieces {
                for block in piece.batch.blocks().flatten() {
                    if let Some(names) = piece.names.devices.get(block.device as usize) {
                        self.effects.log_in_again.push((names.product_key.clone(), names.device_key.clone()));
                    }
                }
            }
            self.parked.push((now.at + LOGIN_TAKES, content));
        } else if let Some(parts) = content.halves_by_device() {
            self.in_flight.cut(&content, parts);
        } else if self.delivered == content.busy_since && content.busy < BUSY_UNTIL_SUSPECT && self.has_others(&content)
        {
            // Nothing at all comes through: more likely the gateway's own trouble than this device's.
            self.busy(content, 0, code, reason, now);
        } else {
            for (epoch, device) in devices {
                let why = Why { code, reason: reason.to_owned() };
                let keys = content.keys_of(epoch, device);
                self.refusals.device_refused((epoch, device, ALL_POINTS), why, keys, now.at);
            }
            self.give_up(&content, code, reason, now);
        }
    }

    fn has_others(&self, content: &Content) -> bool {
        content.pieces.iter().any(|piece| piece.names.devices.len() > 1)
    }

    pub(super) fn too_large(&mut self, content: Content, reason: &str, now: Now) {
        match content.halves() {
            Some(parts) => self.in_flight.cut(&content, parts),
            None => {
                // `send_again` calls this for a piece that is still counted.
                self.give_up(&content, TOO_LARGE, reason, now);
            }
        }
    }

    /// What was too much comes again, slower, as often as it takes: nobody blames the message.
    fn overload(&mut self, content: Content, bytes: usize, now: Now) {
        let parts = self.smaller(&content, bytes, now);
        self.slow_down_for(&parts, now);
        self.parked.extend(parts.into_iter().map(|part| (self.pause.until(), part)));
    }

    fn slow_down_for(&mut self, parts: &[Content], now: Now) {
        if parts.len() == 1 || self.throttle.slowed_to(now.at).is_none() {
            self.slow_down(now);
        } else {
            // It was made for another pace: that it is refused says nothing about this one.
            self.pause.busy(now.at, self.chance.f64());
        }
    }

    /// Parts of a message that is large for the pace that was learned: it may never fit at once.
    fn smaller(&mut self, content: &Content, bytes: usize, now: Now) -> Vec<Content> {
        let Some(mut parts) = content.halves().filter(|_| bytes / 3 * 2 > self.throttle.message_bytes(now.at)) else {
            return vec![content.clone()];
        };
        for part in &mut parts {
            (part.suspect, part.busy) = (content.suspect, content.busy);
            self.in_flight.pieces_added(&part.pieces);
        }
        self.in_flight.done(&content.pieces);
        parts.iter().flat_map(|part| self.smaller(part, bytes / 2, now)).collect()
    }

    fn slow_down(&mut self, now: Now) {
        if self.throttle.slowed_to(now.at).is_some() {
            self.pause.brief(now.at, self.chance.f64());
        } else {
            self.pause.busy(now.at, self.chance.f64());
        }
        self.window.troubled();
        self.effects.slowed += u64::from(self.throttle.refused(now.at));
    }

    fn busy(&mut self, mut content: Content, bytes: usize, code: i64, reason: &str, now: Now) {
        if content.busy == 0 && !content.logged_in_again {
            content.busy_since = self.delivered;
        }
        content.busy += 1;
        if content.busy <= TOO_MUCH && !content.suspect {
            let parts = self.smaller(&content, bytes, now);
            self.slow_down_for(&parts, now);
            let due = self.pause.until() + OTHERS_FIRST * content.busy;
            self.parked.extend(parts.into_iter().map(|part| (due, part)));
            return;
        }
        self.pause.busy(now.at, self.chance.f64());
        if content.busy >= BUSY_UNTIL_SUSPECT && self.delivered > content.busy_since {
            self.search(content, code, reason, now);
        } else {
            // After the pause the others go first: it may be this message alone that the cloud stumbles over.
            self.parked.push((self.pause.until() + OTHERS_FIRST * content.busy, content));
        }
    }

    fn give_up(&mut self, content: &Content, code: i64, reason: &str, now: Now) {
        for piece in &content.pieces {
            self.aside(piece, code, reason, now);
        }
        self.in_flight.done(&content.pieces);
    }
}

fn whos(content: &Content) -> impl Iterator<Item = Who> {
    let pieces = content.pieces.iter();
    pieces.flat_map(|piece| {
        piece.batch.blocks().flatten().flat_map(|block| {
            let epoch = piece.names.epoch;
            block.entries().flatten().map(move |entry| (epoch, block.device, entry.point))
        })
    })
}
