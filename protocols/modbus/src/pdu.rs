//! Requests and the answers that fit them. PURE.

use crate::area::Area;

/// Longest protocol data unit (Modbus Application Protocol 1.1b3, clause 4.1).
pub const MAX_PDU: usize = 253;

/// The only reference type there is (clauses 6.14 and 6.15).
const REFERENCE: u8 = 6;

/// One request. Its answer is known to the last byte but for the data itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    Read {
        area: Area,
        address: u16,
        count: u16,
    },
    /// FC 5.
    WriteCoil {
        address: u16,
        on: bool,
    },
    /// FC 15, one coil: for devices that know no FC 5.
    WriteCoils {
        address: u16,
        on: bool,
    },
    /// FC 6; two bytes as they go over the wire.
    WriteRegister {
        address: u16,
        bytes: [u8; 2],
    },
    /// FC 16.
    WriteRegisters {
        address: u16,
        bytes: &'a [u8],
    },
    /// FC 22: `(register & and) | (or & !and)`.
    MaskWrite {
        address: u16,
        and: u16,
        or: u16,
    },
    /// FC 20, one run of records.
    ReadFile {
        file: u16,
        record: u16,
        registers: u16,
    },
    /// FC 21, one run of records: two bytes each.
    WriteFile {
        file: u16,
        record: u16,
        bytes: &'a [u8],
    },
    /// A whole protocol data unit of somebody else; one byte at least.
    Raw {
        pdu: &'a [u8],
    },
}

/// What fits a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Data of a read; empty for a write.
    Data(&'a [u8]),
    Exception(u8),
}

impl Request<'_> {
    #[must_use]
    pub fn function(&self) -> u8 {
        match self {
            Request::Read { area, .. } => area.read_function(),
            Request::WriteCoil { .. } => 5,
            Request::WriteRegister { .. } => 6,
            Request::WriteCoils { .. } => 15,
            Request::WriteRegisters { .. } => 16,
            Request::ReadFile { .. } => 20,
            Request::WriteFile { .. } => 21,
            Request::MaskWrite { .. } => 22,
            Request::Raw { pdu } => pdu.first().copied().unwrap_or_default(),
        }
    }

    /// Appends the protocol data unit.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Request::Raw { pdu } = self {
            out.extend_from_slice(pdu);
            return;
        }
        out.push(self.function());
        match *self {
            Request::Raw { .. } => {}
            Request::Read { address, count, .. } => {
                out.extend_from_slice(&address.to_be_bytes());
                out.extend_from_slice(&count.to_be_bytes());
            }
            Request::WriteCoil { address, on } => {
                out.extend_from_slice(&address.to_be_bytes());
                out.extend_from_slice(&[if on { 0xFF } else { 0 }, 0]);
            }
            Request::WriteCoils { address, on } => {
                out.extend_from_slice(&address.to_be_bytes());
                out.extend_from_slice(&[0, 1, 1, u8::from(on)]);
            }
            Request::WriteRegister { address, bytes } => {
                out.extend_from_slice(&address.to_be_bytes());
                out.extend_from_slice(&bytes);
            }
            Request::WriteRegisters { address, bytes } => {
                let len = u8::try_from(bytes.len()).expect("a value has at most 250 bytes");
                out.extend_from_slice(&address.to_be_bytes());
                out.extend_from_slice(&[0, len / 2, len]);
                out.extend_from_slice(bytes);
            }
            Request::ReadFile { file, record, registers } => {
                out.extend_from_slice(&[7, REFERENCE]);
                [file, record, registers].iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
            }
            Request::WriteFile { file, record, bytes } => {
                let len = u8::try_from(bytes.len()).expect("a run has at most 122 registers");
                out.extend_from_slice(&[7 + len, REFERENCE]);
                [file, record, u16::from(len / 2)].iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
                out.extend_from_slice(bytes);
            }
            Request::MaskWrite { address, and, or } => {
                out.extend_from_slice(&address.to_be_bytes());
                out.extend_from_slice(&and.to_be_bytes());
                out.extend_from_slice(&or.to_be_bytes());
            }
        }
    }

    /// Length of the answer's protocol data unit when it is no exception.
    #[must_use]
    pub fn reply_len(&self) -> usize {
        match self {
            Request::Read { area, count, .. } => 2 + area.data_len(*count),
            Request::MaskWrite { .. } => 7,
            Request::ReadFile { registers, .. } => 4 + 2 * usize::from(*registers),
            Request::WriteFile { bytes, .. } => 9 + bytes.len(),
            Request::Raw { pdu } => raw_reply_len(pdu).unwrap_or(MAX_PDU),
            _ => 5,
        }
    }

    /// Takes the answer apart, if it is one to this very request: function, byte count and the
    /// echo of address and value all have to fit.
    #[must_use]
    pub fn check<'b>(&self, pdu: &'b [u8]) -> Option<Reply<'b>> {
        let (&function, rest) = pdu.split_first()?;
        if function == self.function() | 0x80 {
            // Clause 7: exactly one byte, the code; 0 is none.
            return match rest {
                [code] if *code != 0 => Some(Reply::Exception(*code)),
                _ => None,
            };
        }
        let any_length = matches!(self, Request::Raw { pdu } if raw_reply_len(pdu).is_none());
        if function != self.function() || pdu.len() != self.reply_len() && !any_length {
            return None;
        }
        match *self {
            Request::Read { .. } => {
                let (&count, data) = rest.split_first()?;
                (usize::from(count) == data.len()).then_some(Reply::Data(data))
            }
            Request::ReadFile { registers, .. } => {
                let (head, data) = rest.split_first_chunk::<3>()?;
                let len = u8::try_from(2 * registers).ok()?;
                (data.len() == usize::from(len) && *head == [len.checked_add(2)?, len + 1, REFERENCE])
                    .then_some(Reply::Data(data))
            }
            Request::WriteCoil { .. }
            | Request::WriteRegister { .. }
            | Request::MaskWrite { .. }
            | Request::WriteFile { .. } => {
                let mut echo = Vec::with_capacity(pdu.len());
                self.encode(&mut echo);
                (echo == pdu).then_some(Reply::Data(&[]))
            }
            Request::Raw { .. } => Some(Reply::Data(rest)),
            Request::WriteCoils { address, .. } => echoes(rest, address, 1),
            Request::WriteRegisters { address, bytes } => echoes(rest, address, bytes.len() / 2),
        }
    }
}

/// Length of the answer to a protocol data unit, where its function says it (clauses 6.1 to 6.17).
#[must_use]
pub fn raw_reply_len(pdu: &[u8]) -> Option<usize> {
    let count = || pdu.get(3..5).and_then(|two| two.first_chunk()).map(|two| usize::from(u16::from_be_bytes(*two)));
    match pdu.first()? {
        1 | 2 => Some(2 + count()?.div_ceil(8)),
        3 | 4 | 23 => Some(2 + count()? * 2),
        5 | 6 | 15 | 16 => Some(5),
        22 => Some(7),
        _ => None,
    }
}

fn echoes<'b>(rest: &[u8], address: u16, count: usize) -> Option<Reply<'b>> {
    let [high, low, count_high, count_low] = *rest else { return None };
    let same =
        u16::from_be_bytes([high, low]) == address && usize::from(u16::from_be_bytes([count_high, count_low])) == count;
    same.then_some(Reply::Data(&[]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const READ: Request<'_> = Request::Read { area: Area::Holding, address: 107, count: 3 };

    fn bytes(request: &Request<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        request.encode(&mut out);
        out
    }

    // The examples of Modbus Application Protocol 1.1b3, clauses 6.3 to 6.16.
    #[test]
    fn requests_look_as_in_the_standard() {
        assert_eq!(bytes(&READ), [3, 0, 0x6B, 0, 3]);
        assert_eq!(bytes(&Request::WriteCoil { address: 0xAC, on: true }), [5, 0, 0xAC, 0xFF, 0]);
        assert_eq!(bytes(&Request::WriteRegister { address: 1, bytes: [0, 3] }), [6, 0, 1, 0, 3]);
        let many = Request::WriteRegisters { address: 1, bytes: &[0, 0x0A, 1, 2] };
        assert_eq!(bytes(&many), [0x10, 0, 1, 0, 2, 4, 0, 0x0A, 1, 2]);
        // Clauses 6.14 and 6.15, one sub-request each.
        let read = Request::ReadFile { file: 4, record: 1, registers: 2 };
        assert_eq!(bytes(&read), [0x14, 7, 6, 0, 4, 0, 1, 0, 2]);
        assert_eq!(read.check(&[0x14, 6, 5, 6, 0x0D, 0xFE, 0, 0x20]), Some(Reply::Data(&[0x0D, 0xFE, 0, 0x20])));
        for wrong in [
            &[0x14, 6, 5, 7, 0x0D, 0xFE, 0, 0x20][..],
            &[0x14, 7, 5, 6, 0x0D, 0xFE, 0, 0x20],
            &[0x14, 6, 6, 6, 0x0D, 0xFE, 0, 0x20],
            &[0x14, 4, 3, 6, 0x0D, 0xFE],
        ] {
            assert_eq!(read.check(wrong), None, "{wrong:?}");
        }
        let file = Request::WriteFile { file: 4, record: 7, bytes: &[6, 0xAF, 4, 0xBE, 0x10, 0x0D] };
        let wire = [0x15, 0x0D, 6, 0, 4, 0, 7, 0, 3, 6, 0xAF, 4, 0xBE, 0x10, 0x0D];
        assert_eq!(bytes(&file), wire);
        assert_eq!((file.check(&wire), file.reply_len()), (Some(Reply::Data(&[])), wire.len()));
        let mut other = wire;
        other[14] ^= 1;
        assert_eq!(file.check(&other), None, "another register came back");
        let mask = Request::MaskWrite { address: 4, and: 0xF2, or: 0x25 };
        assert_eq!(bytes(&mask), [0x16, 0, 4, 0, 0xF2, 0, 0x25]);
        assert_eq!(many.check(&[0x10, 0, 1, 0, 2]), Some(Reply::Data(&[])));
        assert_eq!(READ.check(&[3, 6, 2, 0x2B, 0, 0, 0, 0x64]), Some(Reply::Data(&[2, 0x2B, 0, 0, 0, 0x64])));
        assert_eq!(READ.check(&[0x83, 2]), Some(Reply::Exception(2)));
    }

    #[test]
    fn what_is_no_answer_to_this_request_is_none() {
        for reply in [
            &[][..],
            &[3],
            &[3, 6],
            &[3, 4, 0, 0, 0, 0],
            &[3, 6, 0, 0, 0, 0],
            &[3, 8, 0, 0, 0, 0, 0, 0],
            &[4, 6, 0, 0, 0, 0, 0, 0],
            &[0x83],
            &[0x83, 0],
            &[0x83, 2, 2],
            &[0x84, 2],
        ] {
            assert_eq!(READ.check(reply), None, "{reply:?}");
        }
        let write = Request::WriteRegister { address: 1, bytes: [0, 3] };
        assert_eq!(write.check(&[6, 0, 1, 0, 4]), None);
        assert_eq!(write.check(&[6, 0, 2, 0, 3]), None);
        let many = Request::WriteRegisters { address: 1, bytes: &[0, 3, 0, 4] };
        assert_eq!(many.check(&[16, 0, 1, 0, 1]), None);
    }

    #[test]
    fn a_raw_request_goes_as_it_is_and_its_answer_comes_whole() {
        let read = Request::Raw { pdu: &[3, 0, 107, 0, 2] };
        assert_eq!(bytes(&read), [3, 0, 107, 0, 2]);
        assert_eq!(read.check(&[3, 4, 1, 2, 3, 4]), Some(Reply::Data(&[4, 1, 2, 3, 4])));
        assert_eq!(read.check(&[3, 2, 1, 2]), None);
        assert_eq!(read.check(&[0x83, 2]), Some(Reply::Exception(2)));
        let identify = Request::Raw { pdu: &[43, 14, 1, 0] };
        assert_eq!(identify.check(&[43, 14, 9]), Some(Reply::Data(&[14, 9])));
        assert_eq!(raw_reply_len(&[3]), None);
    }

    proptest! {
        #[test]
        fn checking_never_panics(pdu: Vec<u8>, address: u16, count in 1..126u16) {
            let _ = Request::Read { area: Area::Coil, address, count }.check(&pdu);
            let _ = Request::WriteRegisters { address, bytes: &[0, 1] }.check(&pdu);
            let _ = Request::MaskWrite { address, and: count, or: address }.check(&pdu);
        }
    }
}
