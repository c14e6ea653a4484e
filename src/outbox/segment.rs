//! PURE. The body of one stored segment: batches of one epoch, one after the other, compressed.
//!
//! ```text
//! body   := zstd level 1 with content checksum of parcel*
//! parcel := varint (seq - seq before), varint readings, zigzag (oldest - oldest before),
//!           varint (newest - oldest), varint bytes, the encoded batch
//! ```
//! The checksum is what tells a flipped bit from a reading.

use crate::model::{Batch, Timestamp};

/// A segment is closed when its encoded batches reach this. It bounds what one read brings into memory.
pub const SEGMENT_BYTES: usize = 256 << 10;
/// A single batch may be larger than a segment; nothing larger than this is believed when read.
const LARGEST_BODY: usize = 64 << 20;

/// One batch with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    pub seq: u64,
    pub batch: Batch,
}

/// A segment as its row holds it.
#[derive(Clone, Debug)]
pub struct Segment {
    pub first: u64,
    pub last: u64,
    pub epoch: u64,
    pub readings: u64,
    pub oldest: Timestamp,
    pub newest: Timestamp,
    pub body: Vec<u8>,
}

/// The body is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("segment is damaged")]
pub struct Damaged;

/// Splits a group where the epoch changes or a segment is full, and compresses each part.
///
/// # Errors
/// When zstd has no memory.
pub fn encode(parcels: &[Numbered]) -> std::io::Result<Vec<Segment>> {
    let mut compressor = zstd::bulk::Compressor::new(1)?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
    let (mut segments, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (i, parcel) in parcels.iter().enumerate() {
        let full = bytes + parcel.batch.bytes.len() > SEGMENT_BYTES;
        if i > start && (full || parcel.batch.epoch != parcels[start].batch.epoch) {
            segments.push(encode_one(&mut compressor, &parcels[start..i])?);
            (start, bytes) = (i, 0);
        }
        bytes += parcel.batch.bytes.len();
    }
    if start < parcels.len() {
        segments.push(encode_one(&mut compressor, &parcels[start..])?);
    }
    Ok(segments)
}

fn encode_one(compressor: &mut zstd::bulk::Compressor<'_>, parcels: &[Numbered]) -> std::io::Result<Segment> {
    let mut out = Vec::with_capacity(parcels.iter().map(|p| p.batch.bytes.len() + 16).sum());
    let (mut seq, mut time) = (0, 0);
    for Numbered { seq: number, batch } in parcels {
        put_varint(&mut out, number - seq);
        put_varint(&mut out, u64::from(batch.count));
        put_zigzag(&mut out, batch.oldest.0.wrapping_sub(time));
        put_varint(&mut out, batch.newest.0.wrapping_sub(batch.oldest.0) as u64);
        put_varint(&mut out, batch.bytes.len() as u64);
        out.extend_from_slice(&batch.bytes);
        (seq, time) = (*number, batch.oldest.0);
    }
    Ok(Segment {
        first: parcels[0].seq,
        last: seq,
        epoch: parcels[0].batch.epoch,
        readings: parcels.iter().map(|p| u64::from(p.batch.count)).sum(),
        oldest: parcels.iter().map(|p| p.batch.oldest).min().expect("a segment has a parcel"),
        newest: parcels.iter().map(|p| p.batch.newest).max().expect("a segment has a parcel"),
        body: compressor.compress(&out)?,
    })
}

/// The batches of a segment, in order.
///
/// # Errors
/// When the body fails its checksum, or its numbers are not those of the row.
pub fn decode(segment: &Segment) -> Result<Vec<Numbered>, Damaged> {
    let size = zstd::zstd_safe::get_frame_content_size(&segment.body).ok().flatten().ok_or(Damaged)?;
    let size = usize::try_from(size).ok().filter(|size| *size <= LARGEST_BODY).ok_or(Damaged)?;
    let raw = zstd::bulk::decompress(&segment.body, size).map_err(|_| Damaged)?;
    let (mut rest, mut parcels) = (raw.as_slice(), Vec::new());
    let (mut seq, mut time) = (0u64, 0i64);
    while !rest.is_empty() {
        seq = seq.checked_add(varint(&mut rest)?).ok_or(Damaged)?;
        let count = u32::try_from(varint(&mut rest)?).map_err(|_| Damaged)?;
        time = time.wrapping_add(zigzag(&mut rest)?);
        let newest = Timestamp(time.wrapping_add(varint(&mut rest)? as i64));
        let len = usize::try_from(varint(&mut rest)?).map_err(|_| Damaged)?;
        let (bytes, after) = rest.split_at_checked(len).ok_or(Damaged)?;
        rest = after;
        let batch = Batch { epoch: segment.epoch, count, oldest: Timestamp(time), newest, bytes: bytes.into() };
        parcels.push(Numbered { seq, batch });
    }
    let honest = parcels.first().is_some_and(|p| p.seq == segment.first)
        && parcels.is_sorted_by(|a, b| a.seq < b.seq)
        && seq == segment.last
        && parcels.iter().map(|p| u64::from(p.batch.count)).sum::<u64>() == segment.readings;
    if honest { Ok(parcels) } else { Err(Damaged) }
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

fn varint(bytes: &mut &[u8]) -> Result<u64, Damaged> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(Damaged)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Damaged)
}

fn zigzag(bytes: &mut &[u8]) -> Result<i64, Damaged> {
    let raw = varint(bytes)?;
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Value};
    use proptest::prelude::*;

    fn numbered(seq: u64, epoch: u64, readings: u32) -> Numbered {
        let mut builder = BatchBuilder::default();
        for i in 0..readings {
            builder.begin(i / 50, Timestamp(1_790_000_000_000 + seq as i64));
            builder.push(i % 50, 0, &Value::Float(230.0 + (i as f32 + seq as f32).sin()));
        }
        Numbered { seq, batch: builder.finish(epoch).unwrap() }
    }

    proptest! {
        #[test]
        fn segments_give_back_what_was_put_in(parts in prop::collection::vec((1u64..5, 0u64..3, 1u32..4000), 1..12)) {
            let mut seq = 0;
            let parcels: Vec<Numbered> = parts.into_iter().map(|(step, epoch, readings)| {
                seq += step;
                numbered(seq, epoch, readings)
            }).collect();
            let segments = encode(&parcels).unwrap();
            let back: Vec<Numbered> = segments.iter().flat_map(|s| decode(s).unwrap()).collect();
            prop_assert_eq!(back, parcels);
        }

        #[test]
        fn a_flipped_bit_is_found(place in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut segment = encode(&[numbered(7, 1, 200), numbered(9, 1, 200)]).unwrap().remove(0);
            let whole = decode(&segment).unwrap();
            let at = place.index(segment.body.len());
            segment.body[at] ^= 1 << bit;
            // A flip in the frame's spare bits may change nothing; it must never change a reading.
            if let Ok(parcels) = decode(&segment) {
                prop_assert_eq!(parcels, whole);
            }
        }

        #[test]
        fn damaged_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let (oldest, newest) = (Timestamp(0), Timestamp(0));
            let _ = decode(&Segment { first: 1, last: 1, epoch: 0, readings: 1, oldest, newest, body });
        }
    }

    #[test]
    fn a_float_reading_costs_less_than_six_bytes() {
        let mut noise = fastrand::Rng::with_seed(7);
        let parcels: Vec<Numbered> = (0..40)
            .map(|seq| {
                let mut builder = BatchBuilder::default();
                for device in 0..10 {
                    builder.begin(device, Timestamp(1_790_000_000_000 + seq * 1000));
                    for point in 0..100 {
                        builder.push(point, 0, &Value::Float(230.0 + point as f32 + noise.f32()));
                    }
                }
                Numbered { seq: seq as u64 + 1, batch: builder.finish(1).unwrap() }
            })
            .collect();
        let bytes: usize = encode(&parcels).unwrap().iter().map(|s| s.body.len()).sum();
        let each = bytes as f64 / 40_000.0;
        assert!(each < 6.0, "{each} bytes a reading");
        println!("{each:.2} bytes a reading");
    }
}
