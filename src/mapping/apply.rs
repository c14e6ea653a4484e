//! PURE. What one device remembers between batches, and the step from samples to readings.

use super::compile::{Compiled, Input, Mapping, NONE, Row, Target};
use super::convert::{Scaled, convert};
use super::evaluate::evaluate;
use super::quality;
use super::upload::{Gate, Kept, Offer, Verdict};
use crate::model::{BatchBuilder, Datum, Reason, Sample, Timestamp, Upload, Value, ValueRef, order};
use std::sync::Arc;
use std::time::Duration;

/// Where readings go.
pub trait Readings {
    fn reading(&mut self, device: u32, time: Timestamp, point: u32, quality: u8, value: ValueRef<'_>);
}

impl Readings for BatchBuilder {
    fn reading(&mut self, device: u32, time: Timestamp, point: u32, quality: u8, value: ValueRef<'_>) {
        self.begin(device, time);
        self.push_ref(point, quality, value);
    }
}

/// What a formula came to, sent or not, for those who watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Computed {
    /// Position among [`Mapping::formulas`].
    pub formula: u32,
    pub time: Timestamp,
    pub datum: Datum,
}

/// The mapping of one device with its memory.
pub struct DeviceMapper {
    mapping: Arc<Mapping>,
    /// Index into `names.devices`.
    device: u32,
    first_point: u32,
    inputs: Box<[Remembered]>,
    results: Box<[Last]>,
    gates: Box<[Gate]>,
    /// Formulas to run at the end of the batch, each once.
    touched: Vec<u32>,
    arguments: Vec<f64>,
    scratch: String,
    computed: Vec<Computed>,
    held: u64,
    wakes_at: Option<Duration>,
}

/// The last result of a formula: inputs of two scans in one millisecond give two results.
#[derive(Clone, Copy, Debug)]
struct Last {
    time: Timestamp,
    /// An input has come since that is not the same reading once more.
    fresh: bool,
}

/// The last good value of a row that feeds formulas.
#[derive(Clone, Debug)]
struct Remembered {
    value: Option<f64>,
    quality: u8,
    time: Timestamp,
    arrived: Duration,
    /// Older than this it counts as missing; `None` for what the device sends only when it changes.
    limit: Option<Duration>,
}

impl DeviceMapper {
    /// `limit` says for a row how long a value of it may feed formulas.
    #[must_use]
    pub fn new(
        mapping: Arc<Mapping>,
        device: u32,
        first_point: u32,
        mut limit: impl FnMut(u32) -> Option<Duration>,
    ) -> DeviceMapper {
        let remembered =
            |limit| Remembered { value: None, quality: 0, time: Timestamp::default(), arrived: Duration::ZERO, limit };
        DeviceMapper {
            inputs: mapping.slots.iter().map(|slot| remembered(limit(slot.row))).collect(),
            results: vec![Last { time: Timestamp(i64::MIN), fresh: false }; mapping.formulas.len()].into(),
            gates: vec![Gate::default(); mapping.gates.len()].into(),
            mapping,
            device,
            first_point,
            touched: Vec::new(),
            arguments: Vec::new(),
            scratch: String::new(),
            computed: Vec::new(),
            held: 0,
            wakes_at: None,
        }
    }

    /// Readings from now on carry this index into `names.devices`; all it remembers stays.
    pub fn renumber(&mut self, device: u32) {
        self.device = device;
    }

    /// Maps samples of this device, in their order; formulas follow, each once, with the newest inputs.
    /// Samples of other devices are ignored.
    pub fn apply(&mut self, samples: &[Sample], now: Duration, out: &mut impl Readings) {
        let mapping = Arc::clone(&self.mapping);
        for sample in samples {
            let row = sample.point.checked_sub(self.first_point).and_then(|at| mapping.rows.get(at as usize));
            let Some(row) = row else { continue };
            match &sample.datum {
                Datum::Good(value) => self.value(&mapping, row, value, quality::GOOD, sample.time, now, out),
                Datum::Uncertain(value, reason) => {
                    self.value(&mapping, row, value, quality::uncertain(*reason), sample.time, now, out);
                }
                Datum::Bad(_) => self.forget(&mapping, row),
            }
        }
        self.run_formulas(&mapping, now, out);
    }

    /// Sends what waited for the end of its interval.
    pub fn tick(&mut self, now: Duration, out: &mut impl Readings) {
        if self.wakes_at.is_none_or(|at| now < at) {
            return;
        }
        for (gate, target) in self.gates.iter_mut().zip(&self.mapping.gates) {
            if let Some(Kept { value, quality, time }) = gate.due(target.upload, now) {
                out.reading(self.device, time, target.measurepoint, quality, as_ref(&value));
            }
        }
        self.wakes_at = self.gates.iter().filter_map(Gate::wakes_at).min();
    }

    /// When [`DeviceMapper::tick`] may have something to do; never later than that.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Duration> {
        self.wakes_at
    }

    /// Values held back since the last call.
    pub fn take_held(&mut self) -> u64 {
        std::mem::take(&mut self.held)
    }

    #[must_use]
    pub fn has_computed(&self) -> bool {
        !self.computed.is_empty()
    }

    /// Results of formulas since the last call.
    pub fn take_computed(&mut self) -> impl Iterator<Item = Computed> {
        self.computed.drain(..)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one sample and its row; a struct would be copied a value"
    )]
    fn value(
        &mut self,
        mapping: &Mapping,
        row: &Row,
        value: &Value,
        quality: u8,
        time: Timestamp,
        now: Duration,
        out: &mut impl Readings,
    ) {
        let Ok(scaled) = row.scale.apply(value) else {
            self.forget(mapping, row);
            return;
        };
        for target in &mapping.direct[row.first as usize..row.end as usize] {
            // What does not fit its type is no reading; the live table tells why.
            let _ = self.send(target, scaled, quality, time, now, out);
        }
        if row.slot != NONE {
            let remembered = &mut self.inputs[row.slot as usize];
            let value = scaled.as_f64();
            let fresh = (remembered.value, remembered.quality, remembered.time) != (value, quality, time);
            remembered.value = value;
            (remembered.quality, remembered.time, remembered.arrived) = (quality, time, now);
            self.touch(mapping, row, fresh);
        }
    }

    fn send(
        &mut self,
        target: &Target,
        scaled: Scaled<'_>,
        quality: u8,
        time: Timestamp,
        now: Duration,
        out: &mut impl Readings,
    ) -> Result<(), Reason> {
        let value = convert(scaled, target.data_type, &mut self.scratch)?;
        let quality = if target.has_quality { quality } else { quality::GOOD };
        let verdict = if target.gate != NONE {
            let offer = Offer { value, quality, time };
            let gate = &mut self.gates[target.gate as usize];
            let verdict = gate.offer(target.upload, offer, now, &mut self.held);
            if verdict == Verdict::Wait {
                self.wakes_at = self.wakes_at.into_iter().chain(gate.wakes_at()).min();
            }
            verdict
        } else if target.upload == Upload::Never {
            self.held += 1;
            Verdict::Hold
        } else {
            Verdict::Send
        };
        if verdict == Verdict::Send {
            out.reading(self.device, time, target.measurepoint, quality, value);
        }
        Ok(())
    }

    fn forget(&mut self, mapping: &Mapping, row: &Row) {
        if row.slot != NONE {
            self.inputs[row.slot as usize].value = None;
            self.touch(mapping, row, true);
        }
    }

    fn touch(&mut self, mapping: &Mapping, row: &Row, fresh: bool) {
        let slot = &mapping.slots[row.slot as usize];
        let fed = &mapping.feeds[slot.first as usize..slot.end as usize];
        for &formula in fed {
            self.results[formula as usize].fresh |= fresh;
        }
        self.touched.extend_from_slice(fed);
    }

    fn run_formulas(&mut self, mapping: &Mapping, now: Duration, out: &mut impl Readings) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        for &at in &touched {
            let formula = &mapping.formulas[at as usize];
            let result = self.run(at, formula, now, out);
            self.computed.push(Computed { formula: at, time: result.0, datum: result.1 });
        }
        touched.clear();
        self.touched = touched;
    }

    fn run(&mut self, at: u32, formula: &Compiled, now: Duration, out: &mut impl Readings) -> (Timestamp, Datum) {
        let Some((quality, time)) = self.gather(formula, now) else {
            return (Timestamp::default(), Datum::Bad(Reason::NoAnswer));
        };
        let last = &mut self.results[at as usize];
        let time = order::after(last.time, time, !last.fresh);
        *last = Last { time, fresh: false };
        let result = evaluate(formula.function, &self.arguments).ok_or(Reason::OutOfRange).and_then(|y| {
            self.send(&formula.target, Scaled::Number(y), quality, time, now, out)?;
            Ok(Value::Double(y))
        });
        let datum = match result {
            Ok(value) if quality == quality::GOOD => Datum::Good(value),
            // The inputs' own rows tell the finer cause.
            Ok(value) => Datum::Uncertain(value, Reason::StatusCode(0x4000_0000)),
            Err(reason) => Datum::Bad(reason),
        };
        (time, datum)
    }

    /// Lays out the arguments; the quality is the worst, the time the newest. `None` when one is missing or too old.
    fn gather(&mut self, formula: &Compiled, now: Duration) -> Option<(u8, Timestamp)> {
        self.arguments.clear();
        let (mut quality, mut time) = (quality::GOOD, Timestamp(i64::MIN));
        for input in &formula.arguments {
            let value = match input {
                Input::Constant(x) => *x,
                Input::Slot(slot) => {
                    let remembered = &self.inputs[*slot as usize];
                    if remembered.limit.is_some_and(|limit| now.saturating_sub(remembered.arrived) > limit) {
                        return None;
                    }
                    quality = quality.max(remembered.quality);
                    time = time.max(remembered.time);
                    remembered.value?
                }
            };
            self.arguments.push(value);
        }
        Some((quality, time))
    }
}

fn as_ref(value: &Value) -> ValueRef<'_> {
    match value {
        Value::Bool(b) => ValueRef::Bool(*b),
        Value::Int(i) => ValueRef::Int(*i),
        Value::Float(x) => ValueRef::Float(*x),
        Value::Double(x) => ValueRef::Double(*x),
        Value::Text(s) => ValueRef::Text(s),
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
pub(super) mod tests;
