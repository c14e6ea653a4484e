//! Frames of Modbus TCP: the MBAP header and what may follow it. PURE.

use crate::pdu::MAX_PDU;

/// Transaction, protocol, length, unit (Modbus Messaging on TCP/IP 1.0b, clause 3.1.3).
pub const HEADER: usize = 7;
/// Longest frame.
pub const MAX_FRAME: usize = HEADER + MAX_PDU;

/// Starts a frame in `out`; [`finish`] fills in the length.
pub fn begin(transaction: u16, unit: u8, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&transaction.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0, 0, unit]);
}

/// Writes the length of the frame begun in `out`.
pub fn finish(out: &mut [u8]) {
    let len = u16::try_from(out.len() - 6).expect("a request is shorter than 260 bytes");
    out[4..6].copy_from_slice(&len.to_be_bytes());
}

/// What stands at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// More bytes are needed.
    More,
    /// A whole frame of `len` bytes.
    Frame { transaction: u16, unit: u8, len: usize },
    /// Not Modbus TCP; nothing behind it can be trusted.
    Broken(&'static str),
}

/// Looks at the first frame of `buffer`. Decides as soon as the header is there, so that a lying
/// length never makes us wait for 64 KB.
#[must_use]
pub fn head(buffer: &[u8]) -> Head {
    let Some(header) = buffer.first_chunk::<HEADER>() else {
        return Head::More;
    };
    if header[2..4] != [0, 0] {
        return Head::Broken("protocol identifier is not 0");
    }
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // Unit, function and at least one more byte; at most unit and a full protocol data unit.
    if !(3..=1 + MAX_PDU).contains(&length) {
        return Head::Broken("length of the header is impossible");
    }
    let len = 6 + length;
    if buffer.len() < len {
        return Head::More;
    }
    Head::Frame { transaction: u16::from_be_bytes([header[0], header[1]]), unit: header[6], len }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_is_whole_only_with_its_last_byte() {
        let mut frame = Vec::new();
        begin(0x1501, 0xFF, &mut frame);
        frame.extend_from_slice(&[3, 2, 0, 7]);
        finish(&mut frame);
        assert_eq!(frame, [0x15, 1, 0, 0, 0, 5, 0xFF, 3, 2, 0, 7]);
        for end in 0..frame.len() {
            assert_eq!(head(&frame[..end]), Head::More, "cut at {end}");
        }
        assert_eq!(head(&frame), Head::Frame { transaction: 0x1501, unit: 0xFF, len: 11 });
        frame.push(9);
        assert_eq!(head(&frame), Head::Frame { transaction: 0x1501, unit: 0xFF, len: 11 });
    }

    #[test]
    fn impossible_lengths_are_refused_with_the_header() {
        for length in [0u16, 1, 2, 255, 256, 65_535] {
            let [high, low] = length.to_be_bytes();
            assert!(matches!(head(&[0, 1, 0, 0, high, low, 1]), Head::Broken(_)), "{length}");
        }
        assert_eq!(head(&[0, 1, 0, 0, 0, 254, 1]), Head::More);
        assert!(matches!(head(&[0, 1, 0, 1, 0, 5, 1]), Head::Broken(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_head_within_the_buffer(buffer: Vec<u8>) {
            if let Head::Frame { len, .. } = head(&buffer) {
                prop_assert!(len <= buffer.len() && (HEADER + 2..=MAX_FRAME).contains(&len));
            }
        }
    }
}
