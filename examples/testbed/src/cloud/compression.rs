//! PURE. Payloads both ways as GZIP, when the client id asks for it in braces: `cid{ip=…,compress=GZIP}`.

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use std::io::{Read as _, Write as _};

/// What the braces ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    Gzip,
    /// LZ4, LZO: known to one SDK, not offered here.
    NotOffered,
}

/// Reads `compress=` out of the part of a client id before its first `|`. `DEFAULT` is taken for none: which one it is, is
/// not documented.
pub(super) fn asked(cid: &str) -> Asked {
    let Some((_, inside)) = cid.split_once('{') else { return Asked::Nothing };
    let pairs = inside.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(name, _)| name.trim() == "compress").map(|(_, value)| value.trim());
    match values.next() {
        None | Some("" | "DEFAULT" | "NONE") => Asked::Nothing,
        Some("GZIP") => Asked::Gzip,
        Some(_) => Asked::NotOffered,
    }
}

/// The payload within, or `None` when it is no GZIP or larger than `max`.
pub(super) fn unpack(payload: &[u8], max: usize) -> Option<Bytes> {
    let mut unpacked = Vec::new();
    let limit = u64::try_from(max).ok()?.saturating_add(1);
    GzDecoder::new(payload).take(limit).read_to_end(&mut unpacked).ok()?;
    (unpacked.len() <= max).then(|| unpacked.into())
}

pub(super) fn pack(payload: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = encoder.write_all(payload).and_then(|()| encoder.finish());
    packed.expect("writing into memory does not fail").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_braces_of_the_java_sdk_are_read() {
        for (cid, expected) in [
            ("gwDK01", Asked::Nothing),
            ("gwDK01{ip=127.0.0.1,version=enos-mqtt-2.2.16,compress=DEFAULT}", Asked::Nothing),
            ("gwDK01{ip=127.0.0.1,compress=GZIP}", Asked::Gzip),
            ("gwDK01{compress=LZ4}", Asked::NotOffered),
        ] {
            assert_eq!(asked(cid), expected, "{cid}");
        }
    }

    #[test]
    fn what_is_packed_comes_back_and_a_bomb_does_not() {
        let payload = vec![b'x'; 100_000];
        let packed = pack(&payload);
        assert_eq!(unpack(&packed, 100_000).unwrap(), payload);
        assert_eq!(unpack(&packed, 99_999), None);
        assert_eq!(unpack(b"{}", 100), None);
    }
}
