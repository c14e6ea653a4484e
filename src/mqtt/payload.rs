//! PURE. Payloads as they travel: plain, or with gzip both ways, as the vendor's Java client asks for in its client id.

use crate::config::Compress;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{Read, Write};

const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The payload unpacks to more than may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("payload is no whole gzip, or unpacks to more than {limit} bytes")]
pub struct NotUnpacked {
    limit: usize,
}

/// As it travels. What is packed already stays as it is: no JSON begins like gzip.
#[must_use]
pub fn pack(compress: Compress, text: Vec<u8>) -> Vec<u8> {
    if compress == Compress::None || text.starts_with(&MAGIC) {
        return text;
    }
    // Level 1: names of points repeat, and more effort wins a few parts in a hundred at several times the time.
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::fast());
    match encoder.write_all(&text).and_then(|()| encoder.finish()) {
        Ok(packed) => packed,
        // Memory does not fail; a peer takes what is not packed as well as we do.
        Err(_) => text,
    }
}

/// As it is meant. A peer that answers without packing is understood too.
///
/// # Errors
/// When it is damaged or unpacks to more than `limit`.
pub fn unpack(compress: Compress, payload: Bytes, limit: usize) -> Result<Bytes, NotUnpacked> {
    if compress == Compress::None || !payload.starts_with(&MAGIC) {
        return Ok(payload);
    }
    let mut text = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    match GzDecoder::new(&payload[..]).take(most).read_to_end(&mut text) {
        Ok(_) if text.len() <= limit => Ok(text.into()),
        _ => Err(NotUnpacked { limit }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_is_packed_once() {
        let text = b"{\"id\":\"1\",\"params\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}".to_vec();
        let packed = pack(Compress::Gzip, text.clone());
        assert!(packed.len() < text.len() && packed.starts_with(&MAGIC));
        assert_eq!(pack(Compress::Gzip, packed.clone()), packed);
        assert_eq!(unpack(Compress::Gzip, packed.into(), 1000).unwrap(), text);
        assert_eq!(pack(Compress::None, text.clone()), text);
        assert_eq!(unpack(Compress::Gzip, text.clone().into(), 10).unwrap(), text, "a peer that does not pack");
    }

    #[test]
    fn a_bomb_and_a_stump_are_refused() {
        let bomb = pack(Compress::Gzip, vec![b' '; 10 << 20]);
        assert!(bomb.len() < 100_000);
        assert!(unpack(Compress::Gzip, bomb.clone().into(), 4 << 20).is_err());
        assert!(unpack(Compress::Gzip, bomb[..bomb.len() / 2].to_vec().into(), 64 << 20).is_err());
    }
}
