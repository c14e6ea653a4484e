//! Collects the readings of one connection into batches and hands them to the outbox.

use crate::mapping::Readings;
use crate::model::{BatchBuilder, Inlet, Timestamp, ValueRef};
use crate::telemetry::Counters;
use std::sync::Arc;

/// Most readings in one batch, so that one message or transaction never grows beyond bounds.
const MOST: u32 = 2_000;

pub(super) struct Outbound {
    builder: BatchBuilder,
    epoch: u64,
    inlet: Arc<dyn Inlet>,
    counters: Arc<Counters>,
}

impl Outbound {
    pub(super) fn new(epoch: u64, inlet: Arc<dyn Inlet>, counters: Arc<Counters>) -> Outbound {
        Outbound { builder: BatchBuilder::default(), epoch, inlet, counters }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What follows is numbered by the names of this epoch; what was collected keeps its own.
    pub(super) fn use_epoch(&mut self, epoch: u64) {
        self.flush();
        self.epoch = epoch;
    }

    /// Hands over what was collected.
    pub(super) fn flush(&mut self) {
        if let Some(batch) = self.builder.finish(self.epoch) {
            self.counters.readings.add(u64::from(batch.count));
            self.inlet.append(batch);
        }
    }
}

impl Readings for Outbound {
    fn reading(&mut self, device: u32, time: Timestamp, point: u32, quality: u8, value: ValueRef<'_>) {
        self.builder.reading(device, time, point, quality, value);
        if self.builder.count() >= MOST {
            self.flush();
        }
    }
}
