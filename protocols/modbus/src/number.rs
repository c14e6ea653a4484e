//! Point numbers: what `3000`, `0x0BB8`, `40001` and `100.3` mean. PURE.

use crate::area::Area;

/// How plain digits are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// Not stated: numbers that could be either are refused.
    Unstated,
    /// A register address; `1` is sent as `1 - address_base`.
    Plain,
    /// The first digit names the area, the others count from 1: `40001` is the first holding register.
    Classic,
}

pub const NOTATION_WORDS: &[(&str, Notation)] = &[("plain", Notation::Plain), ("classic", Notation::Classic)];

/// Where a point lives, as its number says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Stated by the notation itself.
    pub area: Option<Area>,
    /// As it goes over the wire.
    pub address: u16,
    pub bit: Option<u8>,
}

/// Why a number was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberFault {
    #[error("is not a register address")]
    Shape,
    #[error("is not a register address, but a number as Excel rounds it")]
    Rounded,
    #[error("is not a register address, but a date as Excel makes one of 3-1 or 3/1")]
    Date,
    #[error("is not a register address; the apostrophe of Excel does not belong into the file")]
    Apostrophe,
    #[error("is beyond the last register, 65535")]
    Range,
    #[error("is not in classic notation")]
    NotClassic,
    #[error("can mean register {plain} or the classic {area} register {classic}")]
    Ambiguous { plain: u32, area: &'static str, classic: u32 },
    #[error("names bit {0}; a register has bits 0 to 15")]
    Bit(String),
}

impl NumberFault {
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            NumberFault::Shape | NumberFault::Bit(_) => {
                "write 3000, 0x0BB8, 4x3001 or 3000.5 for bit 5; see docs/reference/modbus.md"
            }
            NumberFault::Rounded | NumberFault::Date => {
                "in Excel format the column as Text, type the number again, and save as CSV UTF-8"
            }
            NumberFault::Apostrophe => "write the number alone",
            NumberFault::Range => "write 0 to 65535, or six digits as 400001 in classic notation",
            NumberFault::NotClassic => "write 00001, 10001, 30001 or 40001 and up, with five or six digits",
            NumberFault::Ambiguous { .. } => "write notation: plain or notation: classic into protocol.sys",
        }
    }
}

/// Reads a point number.
///
/// # Errors
/// See [`NumberFault`].
pub fn parse(text: &str, notation: Notation, base: u16) -> Result<Location, NumberFault> {
    let text = text.trim();
    refuse_excel(text)?;
    let (text, bit) = split_bit(text)?;
    if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // Data sheets give hexadecimal addresses as they go over the wire: never shifted.
        let address = u32::from_str_radix(hex, 16).map_err(|_| NumberFault::Shape)?;
        return located(None, address, bit);
    }
    if let Some((area, rest)) = prefixed(text) {
        return one_based(area, digits(rest)?, bit);
    }
    let value = digits(text)?;
    match notation {
        Notation::Classic => classic(text, bit),
        // Beyond 65535 a plain address is impossible, so six digits can only be classic.
        _ if value > 65_535 && text.len() == 6 => classic(text, bit).map_err(|_| NumberFault::Range),
        Notation::Unstated => match classic_five(text) {
            Some((area, rest)) if area != Area::Coil => {
                Err(NumberFault::Ambiguous { plain: value, area: area.word(), classic: rest })
            }
            _ => plain(value, base, bit),
        },
        Notation::Plain => plain(value, base, bit),
    }
}

/// What a spreadsheet makes of an address when nobody looks: `1.00E+04`, `2024/1/5`, `5-Jan`, `'3000`.
fn refuse_excel(text: &str) -> Result<(), NumberFault> {
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if text.strip_prefix('\'').is_some_and(|rest| parse(rest, Notation::Plain, 0).is_ok()) {
        return Err(NumberFault::Apostrophe);
    }
    if let Some((number, exponent)) = text.split_once(['E', 'e']) {
        let exponent = exponent.trim_start_matches(['+', '-']);
        if is_digits(&number.replace('.', "")) && is_digits(exponent) {
            return Err(NumberFault::Rounded);
        }
    }
    let parts: Vec<&str> = text.split(['-', '/']).take(4).collect();
    let month = |part: &&str| is_digits(part) || part.len() == 3 && part.bytes().all(|b| b.is_ascii_alphabetic());
    if (2..=3).contains(&parts.len()) && parts.iter().all(month) {
        return Err(NumberFault::Date);
    }
    Ok(())
}

fn plain(value: u32, base: u16, bit: Option<u8>) -> Result<Location, NumberFault> {
    located(None, value.checked_sub(u32::from(base)).ok_or(NumberFault::Range)?, bit)
}

fn located(area: Option<Area>, address: u32, bit: Option<u8>) -> Result<Location, NumberFault> {
    let address = u16::try_from(address).map_err(|_| NumberFault::Range)?;
    Ok(Location { area, address, bit })
}

fn one_based(area: Area, count: u32, bit: Option<u8>) -> Result<Location, NumberFault> {
    located(Some(area), count.checked_sub(1).ok_or(NumberFault::Range)?, bit)
}

fn split_bit(text: &str) -> Result<(&str, Option<u8>), NumberFault> {
    let Some((number, bit)) = text.split_once('.') else {
        return Ok((text, None));
    };
    match bit.parse::<u8>() {
        Ok(bit) if bit < 16 => Ok((number, Some(bit))),
        _ => Err(NumberFault::Bit(bit.to_owned())),
    }
}

fn digits(text: &str) -> Result<u32, NumberFault> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NumberFault::Shape);
    }
    text.parse().map_err(|_| NumberFault::Range)
}

/// `4x0001`; `0x…` is taken by hexadecimal.
fn prefixed(text: &str) -> Option<(Area, &str)> {
    let rest = text.get(1..)?.strip_prefix(['x', 'X'])?;
    area_digit(text.as_bytes()[0]).map(|area| (area, rest))
}

fn area_digit(digit: u8) -> Option<Area> {
    match digit {
        b'0' => Some(Area::Coil),
        b'1' => Some(Area::Discrete),
        b'3' => Some(Area::Input),
        b'4' => Some(Area::Holding),
        _ => None,
    }
}

fn classic_five(text: &str) -> Option<(Area, u32)> {
    let area = area_digit(*text.as_bytes().first()?)?;
    let rest: u32 = (text.len() == 5).then(|| text[1..].parse().ok())??;
    (rest > 0).then_some((area, rest))
}

fn classic(text: &str, bit: Option<u8>) -> Result<Location, NumberFault> {
    if !(5..=6).contains(&text.len()) {
        return Err(NumberFault::NotClassic);
    }
    let area = area_digit(text.as_bytes()[0]).ok_or(NumberFault::NotClassic)?;
    one_based(area, digits(&text[1..])?, bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_excel_made_of_an_address_is_named() {
        let fault = |text: &str| parse(text, Notation::Plain, 0).unwrap_err();
        for text in ["1E+05", "1.00E+04", "4e4"] {
            assert_eq!(fault(text), NumberFault::Rounded, "{text}");
        }
        for text in ["2024/1/5", "Jan-05", "5-Mar-24", "1-2"] {
            assert_eq!(fault(text), NumberFault::Date, "{text}");
        }
        assert_eq!(fault("'3000"), NumberFault::Apostrophe);
        assert_eq!(fault("abc"), NumberFault::Shape);
        assert_eq!(fault("-1"), NumberFault::Shape);
    }

    fn at(text: &str, notation: Notation, base: u16) -> Result<(Option<Area>, u16, Option<u8>), NumberFault> {
        parse(text, notation, base).map(|l| (l.area, l.address, l.bit))
    }

    #[test]
    fn plain_numbers_are_addresses_counted_from_the_base() {
        assert_eq!(at("3000", Notation::Unstated, 0), Ok((None, 3000, None)));
        assert_eq!(at("3000", Notation::Plain, 1), Ok((None, 2999, None)));
        assert_eq!(at("0", Notation::Plain, 1), Err(NumberFault::Range));
        assert_eq!(at("40001", Notation::Plain, 0), Ok((None, 40001, None)));
        assert_eq!(at("65536", Notation::Plain, 0), Err(NumberFault::Range));
        assert_eq!(at("65536", Notation::Plain, 1), Ok((None, 65535, None)));
    }

    #[test]
    fn hexadecimal_is_the_address_on_the_wire() {
        assert_eq!(at("0x0BB8", Notation::Classic, 1), Ok((None, 3000, None)));
        assert_eq!(at("0x10000", Notation::Plain, 0), Err(NumberFault::Range));
        assert_eq!(at("0xZZ", Notation::Plain, 0), Err(NumberFault::Shape));
    }

    #[test]
    fn classic_numbers_name_their_area() {
        assert_eq!(at("40001", Notation::Classic, 0), Ok((Some(Area::Holding), 0, None)));
        assert_eq!(at("30010", Notation::Classic, 0), Ok((Some(Area::Input), 9, None)));
        assert_eq!(at("10001", Notation::Classic, 0), Ok((Some(Area::Discrete), 0, None)));
        assert_eq!(at("00001", Notation::Classic, 0), Ok((Some(Area::Coil), 0, None)));
        assert_eq!(at("465536", Notation::Classic, 0), Ok((Some(Area::Holding), 65535, None)));
        assert_eq!(at("465537", Notation::Classic, 0), Err(NumberFault::Range));
        assert_eq!(at("40000", Notation::Classic, 0), Err(NumberFault::Range));
        assert_eq!(at("3000", Notation::Classic, 0), Err(NumberFault::NotClassic));
        assert_eq!(at("20001", Notation::Classic, 0), Err(NumberFault::NotClassic));
        assert_eq!(at("4x0001", Notation::Plain, 0), Ok((Some(Area::Holding), 0, None)));
        assert_eq!(at("400001", Notation::Unstated, 0), Ok((Some(Area::Holding), 0, None)));
    }

    #[test]
    fn what_could_be_either_is_refused_until_the_notation_is_stated() {
        assert!(matches!(at("40001", Notation::Unstated, 0), Err(NumberFault::Ambiguous { classic: 1, .. })));
        assert!(matches!(at("30775", Notation::Unstated, 0), Err(NumberFault::Ambiguous { .. })));
        assert_eq!(at("00012", Notation::Unstated, 0), Ok((None, 12, None)));
        assert_eq!(at("50000", Notation::Unstated, 0), Ok((None, 50000, None)));
    }

    #[test]
    fn a_point_after_the_address_names_a_bit() {
        assert_eq!(at("100.3", Notation::Plain, 0), Ok((None, 100, Some(3))));
        assert_eq!(at("100.16", Notation::Plain, 0), Err(NumberFault::Bit("16".into())));
        assert_eq!(at("", Notation::Plain, 0), Err(NumberFault::Shape));
        assert_eq!(at("-1", Notation::Plain, 0), Err(NumberFault::Shape));
        assert_eq!(at("é1", Notation::Plain, 0), Err(NumberFault::Shape));
    }
}
