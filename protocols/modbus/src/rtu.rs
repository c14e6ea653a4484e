//! Frames of Modbus RTU: the CRC, and finding one's answer in whatever the line carries. PURE.

use crate::pdu::Request;

/// Longest frame: unit, protocol data unit, CRC (Modbus over Serial Line 1.02, clause 2.5.1).
pub const MAX_FRAME: usize = 256;

const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0u16; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256; try_from is not const")]
        let mut crc = byte as u16;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// CRC-16 of clause 2.5.1.2; the low byte goes first over the line.
#[must_use]
pub fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| crc >> 8 ^ TABLE[usize::from((crc ^ u16::from(*byte)) & 0xFF)])
}

/// Appends the CRC of everything in `out`.
pub fn finish(out: &mut Vec<u8>) {
    let crc = crc(out);
    out.extend_from_slice(&crc.to_le_bytes());
}

/// True when the last two bytes are the CRC of the others.
#[must_use]
pub fn is_sound(frame: &[u8]) -> bool {
    frame.split_last_chunk::<2>().is_some_and(|(body, sum)| u16::from_le_bytes(*sum) == crc(body))
}

/// The place of an answer in the bytes received so far: `(start, end)`, CRC included.
///
/// The line may carry noise, broadcast frames, answers of other units and our own echo; so every
/// offset is tried and only unit, function, length and CRC together make an answer.
#[must_use]
pub fn find(buffer: &[u8], unit: u8, request: &Request<'_>) -> Option<(usize, usize)> {
    let whole = request.reply_len() + 3;
    let function = request.function();
    // Both say at once how many bytes follow.
    let read = matches!(request, Request::Read { .. } | Request::ReadFile { .. });
    (0..buffer.len()).find_map(|start| {
        let rest = &buffer[start..];
        let len = match rest {
            [u, f, count, ..] if *u == unit && *f == function => {
                if read && usize::from(*count) != whole - 5 {
                    return None;
                }
                whole
            }
            [u, f, ..] if *u == unit && *f == function | 0x80 => 5,
            _ => return None,
        };
        let frame = rest.get(..len)?;
        is_sound(frame).then_some((start, start + len))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::area::Area;
    use proptest::prelude::*;

    const READ: Request<'_> = Request::Read { area: Area::Holding, address: 0, count: 2 };

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut frame = body.to_vec();
        finish(&mut frame);
        frame
    }

    #[test]
    fn the_crc_is_that_of_the_standard() {
        // Check value of CRC-16/MODBUS, and the frame of clause 2.5.1.2's appendix: 02 07 -> 41 12.
        assert_eq!(crc(b"123456789"), 0x4B37);
        assert_eq!(frame(&[2, 7]), [2, 7, 0x41, 0x12]);
    }

    #[test]
    fn an_answer_is_found_behind_noise_and_frames_of_others() {
        let answer = frame(&[5, 3, 4, 0, 1, 0, 2]);
        let others = [
            vec![],
            vec![0xFF, 0, 5, 3],
            frame(&[6, 3, 4, 9, 9, 9, 9]),
            frame(&[0, 6, 0, 1, 0, 3]),
            frame(&[5, 3, 0, 0, 0, 2]),
            frame(&[5, 3, 2, 9, 9]),
            frame(&[5, 4, 4, 9, 9, 9, 9]),
        ];
        for other in others {
            let mut line = other.clone();
            line.extend_from_slice(&answer);
            line.extend_from_slice(&[1, 2, 3]);
            assert_eq!(find(&line, 5, &READ), Some((other.len(), other.len() + 9)), "behind {other:?}");
            assert_eq!(find(&line[..other.len() + 8], 5, &READ), None);
        }
        assert_eq!(find(&frame(&[5, 0x83, 2]), 5, &READ), Some((0, 5)));
    }

    #[test]
    fn a_flipped_bit_is_no_answer() {
        let answer = frame(&[5, 3, 4, 0, 1, 0, 2]);
        for bit in 0..answer.len() * 8 {
            let mut line = answer.clone();
            line[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(find(&line, 5, &READ), None, "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_noise_is_survived_and_what_is_found_is_sound(line: Vec<u8>, unit: u8) {
            if let Some((start, end)) = find(&line, unit, &READ) {
                prop_assert!(is_sound(&line[start..end]) && line[start] == unit);
            }
        }
    }
}
