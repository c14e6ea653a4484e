//! PURE. The quality of a reading as EnOS counts it: an integer from 0 to 9, 0 is good.
//!
//! EnOS documents no meaning for 1 to 9; these are ours, in the order of growing doubt. A bad value never travels,
//! so there is no code for it.

use driver::Reason;

pub const GOOD: u8 = 0;
/// Uncertain, without a finer cause.
pub const UNCERTAIN: u8 = 1;

/// Uncertain status codes (OPC 10000-4, table 177, and OPC 10000-8, clause 6.4.3), upper half-word, and their code.
const STATUS: &[(u32, u8)] = &[
    (0x4095, 2), // sub-normal: fewer sources than needed
    (0x4094, 3), // engineering units exceeded
    (0x4093, 4), // sensor not accurate
    (0x4091, 5), // substitute value
    (0x4092, 6), // initial value
    (0x4090, 7), // last usable value
];

/// The code of an uncertain value.
#[must_use]
pub fn uncertain(reason: Reason) -> u8 {
    let Reason::StatusCode(status) = reason else {
        return UNCERTAIN;
    };
    STATUS.iter().find(|(high, _)| *high == status >> 16).map_or(UNCERTAIN, |(_, code)| *code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_uncertain_code_is_above_good_and_fits_one_digit() {
        for (high, code) in STATUS {
            assert_eq!(uncertain(Reason::StatusCode(high << 16 | 0x0480)), *code, "info bits do not matter");
            assert!((UNCERTAIN..=9).contains(code));
        }
        assert_eq!(uncertain(Reason::StatusCode(0x4000_0000)), UNCERTAIN);
        assert_eq!(uncertain(Reason::OutOfRange), UNCERTAIN);
    }
}
