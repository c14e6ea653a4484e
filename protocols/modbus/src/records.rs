//! Cuts a file into the records of Modbus functions 20 and 21. PURE.
//!
//! Modbus Application Protocol 1.1b3, clauses 6.14 and 6.15: a file has records 0 to 9999 of two bytes each; a longer one
//! goes on in the file of the next number.

use crate::settings::number_in;
use driver::{Diagnostic, Parameters};
use std::time::Duration;

/// Records of a file: clause 6.14 ends at 0x270F.
pub const RECORDS: u16 = 10_000;
/// Most registers one write carries: its byte count ends at 0xFB (clause 6.15), 7 of them are the sub-request's head.
pub const MOST_WRITTEN: u16 = 122;
/// Most registers one read brings: its byte count ends at 0xF5 (clause 6.14), 2 of them are the sub-answer's head.
pub const MOST_READ: u16 = 121;

/// How a device takes a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store {
    /// Number of the first file.
    pub file: u16,
    /// Number of the first record in it.
    pub first_record: u16,
    /// Records of one file before the next begins.
    pub records: u16,
    /// Registers of one request.
    pub block: u16,
    /// What is sent is read again and compared.
    pub read_back: bool,
    /// Fills the last register of a file with an odd number of bytes.
    pub pad: u8,
    /// Time a device may take to burn one block.
    pub timeout: Duration,
}

/// A run of records of one file, and the bytes of the payload it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub file: u16,
    pub record: u16,
    pub registers: u16,
    /// Bytes of the payload: two a register, one less where the payload is at its end.
    pub bytes: usize,
}

const KEYS: &[&str] =
    &["file", "first_record", "records_per_file", "block_registers", "read_back", "pad", "timeout_ms"];
const YES: &[(&str, bool)] =
    &[("true", true), ("false", false), ("yes", true), ("no", false), ("on", true), ("off", false)];

impl Store {
    /// Reads `transfer:` of a device's firmware.
    pub fn parse(parameters: &Parameters, timeout: Duration, faults: &mut Vec<Diagnostic>) -> Store {
        parameters.refuse_unknown(KEYS, faults);
        let read_back = parameters.word_or("read_back", true, YES, faults);
        let most = if read_back { MOST_READ } else { MOST_WRITTEN };
        let records = number_in(parameters, "records_per_file", RECORDS, 1, RECORDS, faults);
        Store {
            file: number_in(parameters, "file", 1, 1, u16::MAX, faults),
            first_record: number_in(parameters, "first_record", 0, 0, records - 1, faults),
            records,
            block: number_in(parameters, "block_registers", 120, 1, most, faults),
            read_back,
            pad: number_in(parameters, "pad", 0xFF, 0, 0xFF, faults),
            timeout: parameters.millis_or("timeout_ms", timeout, 1..=600_000, faults),
        }
    }

    /// Bytes of the largest payload.
    #[must_use]
    pub fn most(&self) -> u64 {
        let files = u64::from(u16::MAX - self.file) + 1;
        2 * (files * u64::from(self.records) - u64::from(self.first_record))
    }

    /// The run at byte `done` of a payload of `size` bytes; `done` is where an earlier run ended. `None` at its end, and
    /// where no file is left.
    #[must_use]
    pub fn run(&self, done: u64, size: u64) -> Option<Run> {
        let left = size.checked_sub(done).filter(|left| *left > 0)?;
        let at = u64::from(self.first_record) + done / 2;
        let file = u64::from(self.file) + at / u64::from(self.records);
        let record = u16::try_from(at % u64::from(self.records)).ok()?;
        let room = u64::from(self.records - record).min(u64::from(self.block));
        let registers = room.min(left.div_ceil(2));
        Some(Run {
            file: u16::try_from(file).ok()?,
            record,
            registers: u16::try_from(registers).ok()?,
            bytes: usize::try_from(left.min(2 * registers)).ok()?,
        })
    }

    /// The payload's bytes as they go over the wire.
    #[must_use]
    pub fn padded(&self, bytes: &[u8]) -> Vec<u8> {
        let mut padded = bytes.to_vec();
        if bytes.len() % 2 == 1 {
            padded.push(self.pad);
        }
        padded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdu::{MAX_PDU, Request};
    use driver::testkit::parameters;
    use proptest::prelude::*;

    fn store(pairs: &[(&str, &str)]) -> Result<Store, String> {
        let mut faults = Vec::new();
        let store = Store::parse(&parameters(pairs), Duration::from_secs(1), &mut faults);
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        if told.is_empty() { Ok(store) } else { Err(told.join("\n")) }
    }

    #[test]
    fn a_file_goes_on_in_the_next_number() {
        let store = store(&[("file", "4"), ("block_registers", "100")]).unwrap();
        let run = |done| store.run(done, 20_003).unwrap();
        assert_eq!(run(0), Run { file: 4, record: 0, registers: 100, bytes: 200 });
        assert_eq!(run(19_800), Run { file: 4, record: 9900, registers: 100, bytes: 200 });
        assert_eq!(run(20_000), Run { file: 5, record: 0, registers: 2, bytes: 3 });
        assert_eq!(store.run(20_003, 20_003), None);
        assert_eq!(store.padded(&[1, 2, 3]), [1, 2, 3, 0xFF]);
    }

    #[test]
    fn what_does_not_fit_the_standard_is_refused() {
        for (pairs, words) in [
            (&[("file", "0")][..], "file: \"0\" does not fit"),
            (&[("block_registers", "122")], "1 to 121"),
            (&[("block_registers", "123"), ("read_back", "false")], "1 to 122"),
            (&[("records_per_file", "10001")], "1 to 10000"),
            (&[("records_per_file", "10"), ("first_record", "10")], "0 to 9"),
            (&[("read_bak", "false")], "did you mean read_back?"),
        ] {
            let told = store(pairs).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
        assert_eq!(store(&[("file", "65535")]).unwrap().most(), 20_000);
    }

    proptest! {
        /// Whatever the numbers, the runs cover the payload once, in order, and each request fits a frame.
        #[test]
        fn the_runs_of_a_file_are_the_file(
            file in 1u16..=65_535, first in 0u16..10_000, records in 1u16..=10_000, block in 1u16..=MOST_WRITTEN, size in 1u64..60_000,
        ) {
            let first_record = first % records;
            let store = Store { file, first_record, records, block, read_back: false, pad: 0, timeout: Duration::ZERO };
            prop_assume!(size <= store.most());
            let (mut done, mut next) = (0, (file, first_record));
            while let Some(run) = store.run(done, size) {
                prop_assert_eq!((run.file, run.record), next, "no record is left out or written twice");
                prop_assert!(run.registers >= 1 && run.registers <= block && run.registers.checked_add(run.record).is_some_and(|end| end <= records));
                let last = done + run.bytes as u64 == size;
                prop_assert!(run.bytes == 2 * usize::from(run.registers) || last && run.bytes + 1 == 2 * usize::from(run.registers));
                let bytes = vec![7; usize::from(run.registers) * 2];
                let mut pdu = Vec::new();
                Request::WriteFile { file: run.file, record: run.record, bytes: &bytes }.encode(&mut pdu);
                prop_assert!(pdu.len() <= MAX_PDU);
                done += run.bytes as u64;
                let end = run.record + run.registers;
                next = if end == records { (run.file.wrapping_add(1), 0) } else { (run.file, end) };
            }
            prop_assert_eq!(done, size);
        }
    }
}
