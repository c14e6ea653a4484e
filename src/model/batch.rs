//! PURE. The compact form of readings, the same in memory and on disk.
//!
//! A batch is a run of blocks; a block is one device at one time. A reading of a 32-bit float costs six bytes
//! before compression: point step, tag, value.
//!
//! ```text
//! batch := block*
//! block := varint device, zigzag (time - time of the block before), varint entries, varint bytes, entry*
//! entry := zigzag (point - point before), tag, value
//! tag   := kind (low 3 bits) | quality (high 4 bits)
//! value := nothing (false, true) | zigzag (int) | 4 bytes LE | 8 bytes LE | varint length, UTF-8
//! ```

use super::{Timestamp, Value};
use std::sync::Arc;

const FALSE: u8 = 0;
const TRUE: u8 = 1;
const INT: u8 = 2;
const FLOAT: u8 = 3;
const DOUBLE: u8 = 4;
const TEXT: u8 = 5;

/// Encoded readings of one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub epoch: u64,
    /// Number of readings.
    pub count: u32,
    pub oldest: Timestamp,
    pub newest: Timestamp,
    pub bytes: Arc<[u8]>,
}

/// Readings of one device that share a time.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    pub device: u32,
    pub time: Timestamp,
    pub count: u32,
    entries: Cursor<'a>,
}

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry<'a> {
    /// Index of the measurement point in its model.
    pub point: u32,
    /// 0 good … 9, as EnOS counts it.
    pub quality: u8,
    pub value: ValueRef<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    Bool(bool),
    Int(i64),
    Float(f32),
    Double(f64),
    Text(&'a str),
}

impl ValueRef<'_> {
    #[must_use]
    pub fn to_value(self) -> Value {
        match self {
            ValueRef::Bool(b) => Value::Bool(b),
            ValueRef::Int(i) => Value::Int(i),
            ValueRef::Float(f) => Value::Float(f),
            ValueRef::Double(d) => Value::Double(d),
            ValueRef::Text(s) => Value::Text(s.into()),
        }
    }
}

/// The bytes are not a batch. Only a damaged store can make them so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("batch is damaged")]
pub struct Damaged;

impl Batch {
    /// The blocks in order. An error ends the iteration.
    pub fn blocks(&self) -> impl Iterator<Item = Result<Block<'_>, Damaged>> {
        let mut cursor = Cursor { bytes: &self.bytes };
        let mut time = 0i64;
        std::iter::from_fn(move || {
            if cursor.bytes.is_empty() {
                return None;
            }
            let block = read_block(&mut cursor, &mut time);
            if block.is_err() {
                cursor.bytes = &[];
            }
            Some(block)
        })
    }

    /// The same readings with other times.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub fn retimed(&self, time: impl Fn(Timestamp) -> Timestamp) -> Result<Option<Batch>, Damaged> {
        let mut builder = BatchBuilder::default();
        for block in self.blocks() {
            let block = block?;
            builder.begin(block.device, time(block.time));
            for entry in block.entries() {
                let entry = entry?;
                builder.push_ref(entry.point, entry.quality, entry.value);
            }
        }
        Ok(builder.finish(self.epoch))
    }

    /// The same readings without those `keep` refuses; `None` when nothing is left.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub fn filter(&self, mut keep: impl FnMut(u32, Timestamp, &Entry<'_>) -> bool) -> Result<Option<Batch>, Damaged> {
        let mut builder = BatchBuilder::default();
        for block in self.blocks() {
            let block = block?;
            builder.begin(block.device, block.time);
            for entry in block.entries() {
                let entry = entry?;
                if keep(block.device, block.time, &entry) {
                    builder.push_ref(entry.point, entry.quality, entry.value);
                }
            }
        }
        Ok(builder.finish(self.epoch))
    }
}

fn read_block<'a>(cursor: &mut Cursor<'a>, time: &mut i64) -> Result<Block<'a>, Damaged> {
    let device = u32::try_from(cursor.varint()?).map_err(|_| Damaged)?;
    *time = time.checked_add(cursor.zigzag()?).ok_or(Damaged)?;
    let count = u32::try_from(cursor.varint()?).map_err(|_| Damaged)?;
    let len = usize::try_from(cursor.varint()?).map_err(|_| Damaged)?;
    let entries = Cursor { bytes: cursor.take(len)? };
    Ok(Block { device, time: Timestamp(*time), count, entries })
}

impl<'a> Block<'a> {
    /// The readings in order. An error ends the iteration.
    pub fn entries(&self) -> impl Iterator<Item = Result<Entry<'a>, Damaged>> + use<'a> {
        let mut cursor = self.entries.clone();
        let mut point = 0i64;
        std::iter::from_fn(move || {
            if cursor.bytes.is_empty() {
                return None;
            }
            let entry = read_entry(&mut cursor, &mut point);
            if entry.is_err() {
                cursor.bytes = &[];
            }
            Some(entry)
        })
    }
}

fn read_entry<'a>(cursor: &mut Cursor<'a>, last: &mut i64) -> Result<Entry<'a>, Damaged> {
    *last = last.checked_add(cursor.zigzag()?).ok_or(Damaged)?;
    let point = u32::try_from(*last).map_err(|_| Damaged)?;
    let tag = cursor.byte()?;
    let value = match tag & 0x07 {
        FALSE => ValueRef::Bool(false),
        TRUE => ValueRef::Bool(true),
        INT => ValueRef::Int(cursor.zigzag()?),
        FLOAT => ValueRef::Float(f32::from_le_bytes(cursor.array()?)),
        DOUBLE => ValueRef::Double(f64::from_le_bytes(cursor.array()?)),
        TEXT => {
            let len = usize::try_from(cursor.varint()?).map_err(|_| Damaged)?;
            ValueRef::Text(std::str::from_utf8(cursor.take(len)?).map_err(|_| Damaged)?)
        }
        _ => return Err(Damaged),
    };
    Ok(Entry { point, quality: tag >> 4, value })
}

/// Collects readings; reuses its buffers from batch to batch.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
    entries: Vec<u8>,
    device: u32,
    time: i64,
    in_block: u32,
    last_point: i64,
    last_time: i64,
    count: u32,
    oldest: i64,
    newest: i64,
}

impl BatchBuilder {
    /// What follows belongs to this device at this time.
    pub fn begin(&mut self, device: u32, time: Timestamp) {
        if self.device == device && self.time == time.0 {
            return;
        }
        self.end_block();
        self.device = device;
        self.time = time.0;
    }

    /// Adds a reading to the block begun last.
    pub fn push(&mut self, point: u32, quality: u8, value: &Value) {
        let value = match value {
            Value::Bool(b) => ValueRef::Bool(*b),
            Value::Int(i) => ValueRef::Int(*i),
            Value::Float(f) => ValueRef::Float(*f),
            Value::Double(d) => ValueRef::Double(*d),
            Value::Text(s) => ValueRef::Text(s),
        };
        self.push_ref(point, quality, value);
    }

    /// As [`BatchBuilder::push`], from a borrowed value.
    pub fn push_ref(&mut self, point: u32, quality: u8, value: ValueRef<'_>) {
        let out = &mut self.entries;
        put_zigzag(out, i64::from(point) - self.last_point);
        self.last_point = i64::from(point);
        let quality = quality << 4;
        match value {
            ValueRef::Bool(b) => out.push(quality | if b { TRUE } else { FALSE }),
            ValueRef::Int(i) => {
                out.push(quality | INT);
                put_zigzag(out, i);
            }
            ValueRef::Float(f) => {
                out.push(quality | FLOAT);
                out.extend_from_slice(&f.to_le_bytes());
            }
            ValueRef::Double(d) => {
                out.push(quality | DOUBLE);
                out.extend_from_slice(&d.to_le_bytes());
            }
            ValueRef::Text(s) => {
                out.push(quality | TEXT);
                put_varint(out, s.len() as u64);
                out.extend_from_slice(s.as_bytes());
            }
        }
        self.in_block += 1;
    }

    /// Readings so far.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count + self.in_block
    }

    /// Encoded bytes so far.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() + self.entries.len()
    }

    /// The batch, or nothing when no reading was pushed. The builder is empty again.
    pub fn finish(&mut self, epoch: u64) -> Option<Batch> {
        self.end_block();
        let batch = (self.count > 0).then(|| Batch {
            epoch,
            count: self.count,
            oldest: Timestamp(self.oldest),
            newest: Timestamp(self.newest),
            bytes: self.bytes.as_slice().into(),
        });
        self.bytes.clear();
        (self.count, self.last_time, self.time, self.device) = (0, 0, 0, 0);
        batch
    }

    fn end_block(&mut self) {
        if self.in_block > 0 {
            let out = &mut self.bytes;
            put_varint(out, u64::from(self.device));
            put_zigzag(out, self.time - self.last_time);
            put_varint(out, u64::from(self.in_block));
            put_varint(out, self.entries.len() as u64);
            out.extend_from_slice(&self.entries);
            let first = self.count == 0;
            self.oldest = if first { self.time } else { self.oldest.min(self.time) };
            self.newest = if first { self.time } else { self.newest.max(self.time) };
            self.last_time = self.time;
            self.count += self.in_block;
        }
        self.in_block = 0;
        self.last_point = 0;
        self.entries.clear();
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

#[derive(Clone, Debug)]
struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, Damaged> {
        let (first, rest) = self.bytes.split_first().ok_or(Damaged)?;
        self.bytes = rest;
        Ok(*first)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Damaged> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(Damaged)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        self.take(N)?.try_into().map_err(|_| Damaged)
    }

    fn varint(&mut self) -> Result<u64, Damaged> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    fn zigzag(&mut self) -> Result<i64, Damaged> {
        let raw = self.varint()?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-1e30f32..1e30).prop_map(Value::Float),
            (-1e300f64..1e300).prop_map(Value::Double),
            "[a-z中°]{0,12}".prop_map(|s| Value::Text(s.as_str().into())),
        ]
    }

    proptest! {
        #[test]
        fn a_batch_gives_back_what_was_put_in(
            readings in prop::collection::vec((0u32..9, -5i64..1_900_000_000_000, 0u32..70_000, 0u8..10, any_value()), 0..80),
        ) {
            let mut builder = BatchBuilder::default();
            for (device, time, point, quality, value) in &readings {
                builder.begin(*device, Timestamp(*time));
                builder.push(*point, *quality, value);
            }
            let batch = builder.finish(7);
            prop_assert_eq!(batch.is_none(), readings.is_empty());
            let mut back = Vec::new();
            for block in batch.iter().flat_map(Batch::blocks) {
                let block = block.unwrap();
                for entry in block.entries() {
                    let entry = entry.unwrap();
                    back.push((block.device, block.time.0, entry.point, entry.quality, entry.value.to_value()));
                }
            }
            prop_assert_eq!(back, readings);
        }

        #[test]
        fn damaged_bytes_are_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let batch = Batch { epoch: 0, count: 0, oldest: Timestamp(0), newest: Timestamp(0), bytes: bytes.into() };
            for block in batch.blocks().flatten() {
                for entry in block.entries() {
                    let _ = entry;
                }
            }
        }
    }

    #[test]
    fn a_builder_can_be_used_again() {
        let mut builder = BatchBuilder::default();
        builder.begin(3, Timestamp(1000));
        builder.push(1, 0, &Value::Int(5));
        let first = builder.finish(1).unwrap();
        builder.begin(3, Timestamp(1000));
        builder.push(1, 0, &Value::Int(5));
        assert_eq!(builder.finish(1).unwrap(), first);
        assert_eq!(builder.finish(1), None);
    }
}
