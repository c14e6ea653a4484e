//! PURE. The message of `postMeasurepoint`, written straight from batches.

use crate::model::{Batch, Entry, Names, ValueRef};

/// Set aside without being sent.
pub const UNSENDABLE: i64 = 0;

const CLOSING: &[u8] = b"],\"isRealtimeIntegration\":";

/// Why a batch was not added. The message is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdded {
    /// It does not fit behind what is there.
    Full,
    /// It holds something that can not be sent: see [`sendable`].
    Unfit,
}

/// A message under construction.
#[derive(Debug)]
pub struct Message {
    text: Vec<u8>,
    limit: usize,
    empty: bool,
}

impl Message {
    #[must_use]
    pub fn begin(id: u64, limit: usize) -> Message {
        let mut text = Vec::with_capacity(limit.min(64 << 10));
        text.extend_from_slice(b"{\"id\":\"");
        text.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
        text.extend_from_slice(b"\",\"version\":\"1.1\",\"method\":\"integration.measurepoint.post\",\"params\":[");
        Message { text, limit: limit.saturating_sub(CLOSING.len() + 6), empty: true }
    }

    /// Adds all readings of a batch, or none.
    ///
    /// # Errors
    /// When it does not fit or can not be sent as it is.
    pub fn add(&mut self, names: &Names, batch: &Batch) -> Result<(), NotAdded> {
        let (before, was_empty) = (self.text.len(), self.empty);
        let added = self.add_blocks(names, batch);
        if added.is_err() {
            self.text.truncate(before);
            self.empty = was_empty;
        }
        added
    }

    fn add_blocks(&mut self, names: &Names, batch: &Batch) -> Result<(), NotAdded> {
        for block in batch.blocks() {
            let block = block.map_err(|_| NotAdded::Unfit)?;
            let device = names.devices.get(block.device as usize).ok_or(NotAdded::Unfit)?;
            let asset = device.asset_id.as_deref().ok_or(NotAdded::Unfit)?;
            let out = &mut self.text;
            out.extend_from_slice(if self.empty { b"{\"assetId\":" } else { b",{\"assetId\":" });
            self.empty = false;
            put_text(out, asset);
            out.extend_from_slice(b",\"time\":");
            out.extend_from_slice(itoa::Buffer::new().format(block.time.0).as_bytes());
            out.extend_from_slice(b",\"measurepoints\":{");
            for (i, entry) in block.entries().enumerate() {
                let entry = entry.map_err(|_| NotAdded::Unfit)?;
                let point = device.points.points.get(entry.point as usize).ok_or(NotAdded::Unfit)?;
                if i > 0 {
                    out.push(b',');
                }
                put_text(out, &point.id);
                out.push(b':');
                put_entry(out, &entry, point.has_quality).ok_or(NotAdded::Unfit)?;
            }
            out.extend_from_slice(b"}}");
            if self.text.len() > self.limit {
                return Err(NotAdded::Full);
            }
        }
        Ok(())
    }

    /// The finished text.
    #[must_use]
    pub fn finish(mut self, realtime: bool) -> Vec<u8> {
        self.text.extend_from_slice(CLOSING);
        self.text.extend_from_slice(if realtime { b"true}" } else { b"false}" });
        self.text
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string always has a JSON form, and memory takes it");
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry<'_>, has_quality: bool) -> Option<()> {
    if has_quality {
        out.extend_from_slice(b"{\"value\":");
    }
    match entry.value {
        ValueRef::Bool(true) => out.extend_from_slice(b"true"),
        ValueRef::Bool(false) => out.extend_from_slice(b"false"),
        ValueRef::Int(i) => out.extend_from_slice(itoa::Buffer::new().format(i).as_bytes()),
        ValueRef::Float(f) if f.is_finite() => out.extend_from_slice(ryu::Buffer::new().format_finite(f).as_bytes()),
        ValueRef::Double(d) if d.is_finite() => out.extend_from_slice(ryu::Buffer::new().format_finite(d).as_bytes()),
        ValueRef::Float(_) | ValueRef::Double(_) => return None,
        ValueRef::Text(text) => put_text(out, text),
    }
    if has_quality {
        out.extend_from_slice(b",\"quality\":");
        out.push(b'0' + entry.quality.min(9));
        out.push(b'}');
    }
    Some(())
}

/// Whether a reading can travel by asset id.
///
/// # Errors
/// Why it can not.
pub fn sendable(names: &Names, device: u32, entry: &Entry<'_>) -> Result<(), &'static str> {
    let Some(device) = names.devices.get(device as usize) else {
        return Err("the asset is not in the package that was loaded when it was read");
    };
    if device.asset_id.is_none() {
        return Err("the asset has no asset id, by which the REST integration addresses it");
    }
    if device.points.points.get(entry.point as usize).is_none() {
        return Err("the point is not in the package that was loaded when it was read");
    }
    match entry.value {
        ValueRef::Float(f) if !f.is_finite() => Err("JSON has no form for a number that is not finite"),
        ValueRef::Double(d) if !d.is_finite() => Err("JSON has no form for a number that is not finite"),
        _ => Ok(()),
    }
}
