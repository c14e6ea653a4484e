//! What a stand-in device does wrong, as one word a fault, so that a command line can say it.

use std::str::FromStr;
use std::time::Duration;

/// The faults of a unit. The default has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Wait before each answer, at random between the two.
    pub delay: (Duration, Duration),
    /// No answer at all.
    pub silent: bool,
    /// The answer comes from another unit.
    pub wrong_unit: bool,
    /// The answer carries another transaction number (Modbus TCP).
    pub wrong_transaction: bool,
    /// The answer ends after this many bytes.
    pub truncate: Option<usize>,
    /// One bit of the answer is flipped (RTU: the CRC does not fit any more).
    pub bad_crc: bool,
    /// Random bytes before the answer.
    pub garbage: usize,
    /// The answer comes twice.
    pub twice: bool,
    /// Addresses that are refused with exception 2, first and last.
    pub holes: Vec<(u16, u16)>,
    /// Largest read that is accepted, and what happens to a larger one.
    pub max_registers: Option<u16>,
    pub too_many: TooMany,
    /// Every request is answered with this exception.
    pub exception: Option<u8>,
    /// The connection is closed instead of an answer.
    pub drop_connection: bool,
    /// The faults above hit one request in this many, at random. Holes and sizes are always there.
    pub one_in: u32,
}

/// What a device does with a read it finds too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMany {
    Exception(u8),
    Silence,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            delay: (Duration::ZERO, Duration::ZERO),
            silent: false,
            wrong_unit: false,
            wrong_transaction: false,
            truncate: None,
            bad_crc: false,
            garbage: 0,
            twice: false,
            holes: Vec::new(),
            max_registers: None,
            too_many: TooMany::Exception(3),
            exception: None,
            drop_connection: false,
            one_in: 1,
        }
    }
}

impl Faults {
    /// Answers after a random time.
    #[must_use]
    pub fn late(from: Duration, to: Duration) -> Faults {
        Faults { delay: (from, to), ..Faults::default() }
    }

    #[must_use]
    pub fn silent() -> Faults {
        Faults { silent: true, ..Faults::default() }
    }

    /// Refuses these addresses, first and last.
    #[must_use]
    pub fn holes(holes: &[(u16, u16)]) -> Faults {
        Faults { holes: holes.to_vec(), ..Faults::default() }
    }

    pub(super) fn strikes(&self) -> bool {
        self.one_in <= 1 || fastrand::u32(0..self.one_in) == 0
    }

    pub(super) fn wait(&self) -> Duration {
        let (from, to) = self.delay;
        if to <= from { from } else { from + (to - from).mul_f64(fastrand::f64()) }
    }
}

/// Reads `delay=5-20,hole=10-12,bad_crc,one_in=10`; milliseconds and addresses, inclusive.
impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        let mut faults = Faults::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (word, value) = part.split_once('=').unwrap_or((part, ""));
            let fault = || format!("fault \"{part}\" is not understood");
            match word {
                "delay" => {
                    let (from, to) = range(value).ok_or_else(fault)?;
                    faults.delay = (Duration::from_millis(from), Duration::from_millis(to));
                }
                "hole" => {
                    let (from, to) = range(value).ok_or_else(fault)?;
                    let address = |a: u64| u16::try_from(a).map_err(|_| fault());
                    faults.holes.push((address(from)?, address(to)?));
                }
                "max_registers" => faults.max_registers = Some(value.parse().map_err(|_| fault())?),
                "too_many" if value == "silence" => faults.too_many = TooMany::Silence,
                "too_many" => faults.too_many = TooMany::Exception(value.parse().map_err(|_| fault())?),
                "exception" => faults.exception = Some(value.parse().map_err(|_| fault())?),
                "truncate" => faults.truncate = Some(value.parse().map_err(|_| fault())?),
                "garbage" => faults.garbage = value.parse().map_err(|_| fault())?,
                "one_in" => faults.one_in = value.parse().map_err(|_| fault())?,
                "silent" => faults.silent = true,
                "wrong_unit" => faults.wrong_unit = true,
                "wrong_transaction" => faults.wrong_transaction = true,
                "bad_crc" => faults.bad_crc = true,
                "twice" => faults.twice = true,
                "drop_connection" => faults.drop_connection = true,
                _ => return Err(fault()),
            }
        }
        Ok(faults)
    }
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    Some((from.parse().ok()?, to.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_words_turns_the_knobs() {
        let faults: Faults = "delay=5-20, hole=10-12,hole=40,bad_crc,one_in=10".parse().unwrap();
        assert_eq!(faults.delay, (Duration::from_millis(5), Duration::from_millis(20)));
        assert_eq!(faults.holes, [(10, 12), (40, 40)]);
        assert!(faults.bad_crc && !faults.silent);
        assert_eq!("".parse(), Ok(Faults::default()));
        assert!("dealy=5".parse::<Faults>().is_err());
        assert!("hole=70000".parse::<Faults>().is_err());
    }
}
