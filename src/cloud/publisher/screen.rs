//! PURE. Takes out of a parcel what can not, may not or need not be sent, before it is written.

use super::{Now, Publisher, queue};
use crate::cloud::in_flight::{Content, Piece};
use crate::cloud::refusal::{Screened, Verdict, Why};
use crate::cloud::upstream::measurepoints::{Route, sendable};
use crate::model::{BatchBuilder, Lane, Names, SetAside};
use std::collections::HashSet;
use std::sync::Arc;

/// Codes of our own for what never went out.
const UNSENDABLE: i64 = 0;
const SHUT: i64 = 723;
const ABSENT: i64 = 1212;

impl Publisher {
    /// The piece without what is known to be refused. What is to be tried once more goes a way of its own.
    pub(super) fn screened(&mut self, piece: Piece, lane: Lane, route: Route, now: Now) -> Option<Piece> {
        if self.refusals.is_empty() && self.shut.is_empty() && self.absent.is_empty() {
            return Some(piece);
        }
        let epoch = piece.names.epoch;
        let clear = piece.batch.blocks().flatten().all(|block| {
            self.refusals.clear_of(epoch, block.device)
                && !is_in(&self.shut, &piece.names, block.device)
                && !is_in(&self.absent, &piece.names, block.device)
        });
        if clear { Some(piece) } else { self.sorted(piece, lane, route, now) }
    }

    /// Takes out of a piece what can not be sent at all; the rest goes back to be sent.
    pub(super) fn set_unfit_aside(&mut self, piece: Piece, lane: Lane, route: Route, now: Now) {
        let whole = piece.batch.count;
        if let Some(rest) = self.sorted(piece, lane, route, now) {
            if rest.batch.count == whole {
                // Nothing in it is at fault and still it can not be written: the bytes are damaged.
                self.aside(&rest, UNSENDABLE, "the stored batch is damaged", now);
                self.in_flight.done(&[rest]);
            } else {
                self.ready[queue(lane, route)].push_front(rest);
            }
        }
    }

    fn sorted(&mut self, piece: Piece, lane: Lane, route: Route, now: Now) -> Option<Piece> {
        let keys = self.keys.of(&piece.names);
        let epoch = piece.names.epoch;
        let mut refused: Vec<(Why, BatchBuilder)> = Vec::new();
        let mut retry = BatchBuilder::default();
        let (refusals, shut, absent) = (&mut self.refusals, &self.shut, &self.absent);
        let clean = piece.batch.filter(|device, time, entry| {
            let why = if let Err(reason) = sendable(&keys, device, entry) {
                Why { code: UNSENDABLE, reason: reason.to_owned() }
            } else if is_in(shut, &piece.names, device) {
                Why { code: SHUT, reason: "the cloud has disabled the device".to_owned() }
            } else if is_in(absent, &piece.names, device) {
                Why { code: ABSENT, reason: "the device is still being added to the topology".to_owned() }
            } else {
                match refusals.screen(epoch, device, entry.point, now.at) {
                    Screened::Clean => return true,
                    Screened::Refused(why) => why.clone(),
                    Screened::Retry => {
                        retry.begin(device, time);
                        retry.push_ref(entry.point, entry.quality, entry.value);
                        return false;
                    }
                }
            };
            let at = refused.iter().position(|(w, _)| *w == why).unwrap_or_else(|| {
                refused.push((why, BatchBuilder::default()));
                refused.len() - 1
            });
            refused[at].1.begin(device, time);
            refused[at].1.push_ref(entry.point, entry.quality, entry.value);
            false
        });
        let Ok(clean) = clean else {
            self.aside(&piece, UNSENDABLE, "the stored batch is damaged", now);
            self.in_flight.done(&[piece]);
            return None;
        };
        for (why, mut builder) in refused {
            if let Some(batch) = builder.finish(piece.batch.epoch) {
                self.aside(&Piece { batch, ..piece.clone() }, why.code, &why.reason, now);
            }
        }
        if let Some(batch) = retry.finish(piece.batch.epoch) {
            let trial = Content { trial: true, ..Content::new(lane, route, vec![Piece { batch, ..piece.clone() }]) };
            self.in_flight.pieces_added(&trial.pieces);
            self.in_flight.send_again(trial);
        }
        match clean {
            Some(batch) => Some(Piece { batch, ..piece }),
            None => {
                self.in_flight.done(&[piece]);
                None
            }
        }
    }

    pub(super) fn aside(&mut self, piece: &Piece, code: i64, reason: &str, now: Now) {
        let refused = SetAside {
            seq: piece.seq,
            names: Arc::clone(&piece.names),
            batch: piece.batch.clone(),
            code,
            reason: reason.to_owned(),
            at: now.wall,
        };
        if Verdict::of(code) != Verdict::Device {
            self.effects.set_aside.push(refused);
            return;
        }
        // The readings are good; their device is not in order yet.
        for block in piece.batch.blocks().flatten() {
            if let Some(names) = piece.names.devices.get(block.device as usize) {
                self.held.insert((names.product_key.clone(), names.device_key.clone()));
            }
        }
        self.effects.hold.push(refused);
    }
}

fn is_in(devices: &HashSet<(String, String)>, names: &Names, device: u32) -> bool {
    !devices.is_empty()
        && names
            .devices
            .get(device as usize)
            .is_some_and(|d| devices.contains(&(d.product_key.clone(), d.device_key.clone())))
}
