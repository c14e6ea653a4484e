//! Answers one protocol data unit, as the standard asks a device to. No sockets here.

use super::faults::{Faults, TooMany};
use super::registers::{Area, Registers};

const ILLEGAL_FUNCTION: u8 = 1;
const ILLEGAL_ADDRESS: u8 = 2;
const ILLEGAL_VALUE: u8 = 3;

/// What a device does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Answer,
    Silence,
}

/// Appends the answer to `out`.
pub(super) fn answer(unit: u8, pdu: &[u8], registers: &Registers, faults: &Faults, out: &mut Vec<u8>) -> Deed {
    let start = out.len();
    let function = pdu.first().copied().unwrap_or_default();
    let device = Device { unit, registers, faults };
    match device.perform(pdu, out) {
        Ok(()) => Deed::Answer,
        Err(Refusal::Silence) => Deed::Silence,
        Err(Refusal::Exception(code)) => {
            out.truncate(start);
            out.extend_from_slice(&[function | 0x80, code]);
            Deed::Answer
        }
    }
}

enum Refusal {
    Exception(u8),
    Silence,
}

struct Device<'a> {
    unit: u8,
    registers: &'a Registers,
    faults: &'a Faults,
}

fn word(bytes: &[u8], at: usize) -> Result<u16, Refusal> {
    let two = bytes.get(at..).and_then(|rest| rest.first_chunk::<2>());
    two.map(|two| u16::from_be_bytes(*two)).ok_or(Refusal::Exception(ILLEGAL_VALUE))
}

impl Device<'_> {
    fn perform(&self, pdu: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        if let Some(code) = self.faults.exception {
            return Err(Refusal::Exception(code));
        }
        let Some((&function, body)) = pdu.split_first() else {
            return Err(Refusal::Exception(ILLEGAL_FUNCTION));
        };
        match function {
            1 => self.read_bits(Area::Coil, function, body, out),
            2 => self.read_bits(Area::Discrete, function, body, out),
            3 => self.read_registers(Area::Holding, function, body, out),
            4 => self.read_registers(Area::Input, function, body, out),
            5 | 6 => self.write_single(function, body, out),
            15 | 16 => self.write_many(function, body, out),
            22 => self.mask_write(body, out),
            _ => Err(Refusal::Exception(ILLEGAL_FUNCTION)),
        }
    }

    fn span(&self, body: &[u8], most: u16) -> Result<(u16, u16), Refusal> {
        let (first, count) = (word(body, 0)?, word(body, 2)?);
        if count == 0 || count > most {
            return Err(Refusal::Exception(ILLEGAL_VALUE));
        }
        self.reachable(first, count)?;
        Ok((first, count))
    }

    fn reachable(&self, first: u16, count: u16) -> Result<(), Refusal> {
        let last = u32::from(first) + u32::from(count) - 1;
        let hole = |(from, to): &(u16, u16)| u32::from(*from) <= last && first <= *to;
        if last > 65_535 || self.faults.holes.iter().any(hole) {
            return Err(Refusal::Exception(ILLEGAL_ADDRESS));
        }
        Ok(())
    }

    fn read_registers(&self, area: Area, function: u8, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        if self.faults.max_registers.is_some_and(|most| word(body, 2).is_ok_and(|count| count > most)) {
            return Err(match self.faults.too_many {
                TooMany::Exception(code) => Refusal::Exception(code),
                TooMany::Silence => Refusal::Silence,
            });
        }
        let (first, count) = self.span(body, 125)?;
        out.extend_from_slice(&[function, u8::try_from(count * 2).expect("invariant: at most 125 registers")]);
        for offset in 0..count {
            out.extend_from_slice(&self.registers.read(self.unit, area, first + offset).to_be_bytes());
        }
        if area == Area::Holding {
            self.registers.journal.note(self.unit, first, count);
        }
        Ok(())
    }

    fn read_bits(&self, area: Area, function: u8, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let (first, count) = self.span(body, 2000)?;
        let bytes = u8::try_from(count.div_ceil(8)).expect("invariant: at most 2000 bits");
        out.extend_from_slice(&[function, bytes]);
        let start = out.len();
        out.resize(start + usize::from(bytes), 0);
        for offset in 0..count {
            let on = self.registers.is_on(self.unit, area, first + offset);
            out[start + usize::from(offset / 8)] |= u8::from(on) << (offset % 8);
        }
        Ok(())
    }

    fn write(&self, area: Area, address: u16, value: u16) {
        self.registers.journal.note_write(self.unit, address, value);
        self.registers.write(self.unit, area, address, value);
    }

    fn write_single(&self, function: u8, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let (address, value) = (word(body, 0)?, word(body, 2)?);
        self.reachable(address, 1)?;
        match (function, value) {
            (5, 0xFF00) => self.write(Area::Coil, address, 1),
            (5, 0) => self.write(Area::Coil, address, 0),
            (5, _) => return Err(Refusal::Exception(ILLEGAL_VALUE)),
            _ => self.write(Area::Holding, address, value),
        }
        out.push(function);
        out.extend_from_slice(&body[..4]);
        Ok(())
    }

    fn write_many(&self, function: u8, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let bits = function == 15;
        let (first, count) = self.span(body, if bits { 1968 } else { 123 })?;
        let len = if bits { usize::from(count).div_ceil(8) } else { usize::from(count) * 2 };
        let data = body.get(5..5 + len).ok_or(Refusal::Exception(ILLEGAL_VALUE))?;
        if usize::from(body[4]) != len {
            return Err(Refusal::Exception(ILLEGAL_VALUE));
        }
        for offset in 0..count {
            let at = usize::from(offset);
            let (area, value) = if bits {
                (Area::Coil, u16::from(data[at / 8] >> (at % 8) & 1))
            } else {
                (Area::Holding, word(data, at * 2)?)
            };
            self.write(area, first + offset, value);
        }
        out.push(function);
        out.extend_from_slice(&body[..4]);
        Ok(())
    }

    fn mask_write(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let (address, and, or) = (word(body, 0)?, word(body, 2)?, word(body, 4)?);
        self.reachable(address, 1)?;
        let now = self.registers.read(self.unit, Area::Holding, address);
        self.write(Area::Holding, address, now & and | or & !and);
        out.push(22);
        out.extend_from_slice(&body[..6]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::registers::{Pattern, address_value};
    use super::*;

    fn ask(pdu: &[u8], faults: &Faults) -> Vec<u8> {
        let mut out = Vec::new();
        answer(3, pdu, &Registers::new(Pattern::Address), faults, &mut out);
        out
    }

    #[test]
    fn a_register_tells_its_unit_and_address() {
        let [high, low] = address_value(3, Area::Holding, 300).to_be_bytes();
        assert_eq!(ask(&[3, 1, 44, 0, 1], &Faults::default()), [3, 2, high, low]);
    }

    #[test]
    fn holes_sizes_and_nonsense_are_refused() {
        let faults = Faults { max_registers: Some(40), ..Faults::holes(&[(10, 12)]) };
        assert_eq!(ask(&[3, 0, 9, 0, 2], &faults), [0x83, 2]);
        assert_eq!(ask(&[3, 0, 20, 0, 41], &faults), [0x83, 3]);
        assert_eq!(ask(&[3, 0xFF, 0xFF, 0, 2], &faults), [0x83, 2]);
        assert_eq!(ask(&[3, 0], &faults), [0x83, 3]);
        assert_eq!(ask(&[99], &faults), [0xE3, 1]);
        assert_eq!(ask(&[16, 0, 0, 0, 2, 9, 0], &faults), [0x90, 3]);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (registers, faults, mut out) = (Registers::new(Pattern::Address), Faults::default(), Vec::new());
        answer(1, &[16, 0, 5, 0, 2, 4, 1, 2, 3, 4], &registers, &faults, &mut out);
        assert_eq!(out, [16, 0, 5, 0, 2]);
        answer(1, &[22, 0, 5, 0xFF, 0, 0, 9], &registers, &faults, &mut out);
        assert_eq!(registers.read(1, Area::Holding, 5), 0x0109);
        assert_eq!(registers.read(1, Area::Holding, 6), 0x0304);
        assert_eq!(registers.read(2, Area::Holding, 6), address_value(2, Area::Holding, 6));
    }
}
