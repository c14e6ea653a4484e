//! Frames as a device sees them: requests in, answers out. Written apart from the driver's own
//! framing, so that one mistake is not made on both sides.

use super::faults::Faults;
use super::handle::Wire;

/// A request at the start of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    More,
    /// Bytes that start no request.
    Skip(usize),
    Request {
        transaction: u16,
        unit: u8,
        pdu: (usize, usize),
        len: usize,
    },
}

pub(super) fn take(wire: Wire, buffer: &[u8]) -> Taken {
    match wire {
        Wire::Tcp => take_tcp(buffer),
        Wire::Rtu => take_rtu(buffer),
    }
}

fn take_tcp(buffer: &[u8]) -> Taken {
    if buffer.len() < 8 {
        return Taken::More;
    }
    let len = 6 + usize::from(u16::from_be_bytes([buffer[4], buffer[5]]));
    if !(8..=260).contains(&len) || buffer[2..4] != [0, 0] {
        return Taken::Skip(buffer.len());
    }
    if buffer.len() < len {
        return Taken::More;
    }
    let transaction = u16::from_be_bytes([buffer[0], buffer[1]]);
    Taken::Request { transaction, unit: buffer[6], pdu: (7, len), len }
}

fn take_rtu(buffer: &[u8]) -> Taken {
    let (Some(function), true) = (buffer.get(1), buffer.len() >= 4) else {
        return Taken::More;
    };
    let len = match function {
        1..=6 | 8 => 8,
        15 | 16 => match buffer.get(6) {
            Some(count) => 9 + usize::from(*count),
            None => return Taken::More,
        },
        22 => 10,
        _ => return Taken::Skip(1),
    };
    let Some(frame) = buffer.get(..len) else {
        return Taken::More;
    };
    if crc(&frame[..len - 2]).to_le_bytes() != frame[len - 2..] {
        return Taken::Skip(1);
    }
    Taken::Request { transaction: 0, unit: frame[0], pdu: (1, len - 2), len }
}

/// Bit by bit, as the standard's figure has it.
pub(super) fn crc(bytes: &[u8]) -> u16 {
    let mut crc = 0xFFFFu16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 };
        }
    }
    crc
}

/// Starts an answer frame in `out`, which gets the protocol data unit next.
pub(super) fn begin(wire: Wire, transaction: u16, unit: u8, faults: Option<&Faults>, out: &mut Vec<u8>) {
    let unit = unit.wrapping_add(u8::from(faults.is_some_and(|f| f.wrong_unit)));
    if wire == Wire::Tcp {
        let transaction = transaction.wrapping_add(u16::from(faults.is_some_and(|f| f.wrong_transaction)));
        out.extend_from_slice(&transaction.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 0]);
    }
    out.push(unit);
}

/// Ends the answer frame that begins at the start of `out`, and spoils it as told.
pub(super) fn finish(wire: Wire, faults: Option<&Faults>, out: &mut Vec<u8>) {
    match wire {
        Wire::Tcp => {
            let len = u16::try_from(out.len() - 6).expect("invariant: an answer is shorter than 260 bytes");
            out[4..6].copy_from_slice(&len.to_be_bytes());
        }
        Wire::Rtu => {
            let sum = crc(out);
            out.extend_from_slice(&sum.to_le_bytes());
        }
    }
    let Some(faults) = faults else { return };
    if faults.bad_crc {
        let at = out.len() - 1;
        out[at] ^= 1 << fastrand::u32(0..8);
    }
    if let Some(most) = faults.truncate {
        out.truncate(most);
    }
    if faults.twice {
        out.extend_from_within(..);
    }
    if faults.garbage > 0 {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(faults.garbage).collect();
        out.splice(0..0, noise);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_when_its_last_byte_is_there() {
        let frame = [0, 9, 0, 0, 0, 6, 1, 3, 0, 0, 0, 2];
        for end in 0..frame.len() {
            assert_eq!(take(Wire::Tcp, &frame[..end]), Taken::More, "cut at {end}");
        }
        assert_eq!(take(Wire::Tcp, &frame), Taken::Request { transaction: 9, unit: 1, pdu: (7, 12), len: 12 });
        let mut frame = vec![1, 3, 0, 0, 0, 2];
        frame.extend_from_slice(&crc(&frame).to_le_bytes());
        for end in 0..frame.len() {
            assert_eq!(take(Wire::Rtu, &frame[..end]), Taken::More, "cut at {end}");
        }
        assert_eq!(take(Wire::Rtu, &frame), Taken::Request { transaction: 0, unit: 1, pdu: (1, 6), len: 8 });
        frame[7] ^= 1;
        assert_eq!(take(Wire::Rtu, &frame), Taken::Skip(1));
    }
}
