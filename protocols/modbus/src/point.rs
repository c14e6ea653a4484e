//! One row of the point table, as Modbus understands it. PURE.

use crate::area::{AREA_WORDS, Area};
use crate::number::{self, Location};
use crate::order::ByteOrder;
use crate::settings::Settings;
use driver::{Diagnostic, Place, PointTable, RowText, ValueType, did_you_mean};
use std::time::Duration;

/// Where a point lives on its unit and how its bytes are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    pub area: Area,
    pub address: u16,
    /// Addresses it covers.
    pub len: u16,
    pub value_type: ValueType,
    pub order: ByteOrder,
    /// One bit of a register.
    pub bit: Option<u8>,
    /// Bytes of a string.
    pub bytes: u16,
}

impl Spec {
    /// First address behind it, up to 65536.
    #[must_use]
    pub fn end(&self) -> u32 {
        u32::from(self.address) + u32::from(self.len)
    }
}

/// Extra columns of the point table that Modbus reads.
pub const COLUMNS: &[&str] = &["area", "function", "address", "byte_order", "bit", "length", "scan_period_ms"];

/// Complains of columns that look like a misspelt one; others may be notes of the engineer.
pub fn check_columns(table: &PointTable, faults: &mut Vec<Diagnostic>) {
    for column in table.extra_columns().filter(|c| !COLUMNS.contains(c)) {
        let hint = did_you_mean(column, COLUMNS.iter().copied());
        if hint.starts_with("did you mean") {
            let problem = format!("column \"{column}\" is not known");
            faults.push(Diagnostic::error(table.column_place(column), problem).help(hint));
        }
    }
}

/// Reads one row. `number` is its point number after the device's offsets.
///
/// # Errors
/// All faults of the row.
pub fn parse(row: RowText<'_>, number: &str, settings: &Settings) -> Result<Spec, Vec<Diagnostic>> {
    let mut faults = Vec::new();
    let location = locate(row, number, settings, &mut faults);
    let area = area(row, location, settings, &mut faults);
    let bit = bit(row, location, &mut faults);
    let value_type = row.row().value_type;
    let bytes = string_length(row, value_type, settings, &mut faults);
    let registers = registers(value_type, bytes);
    let spec = Spec {
        area,
        address: location.address,
        len: if bit.is_some() || area.is_bits() { 1 } else { registers },
        value_type,
        order: byte_order(row, registers, settings, &mut faults),
        bit,
        bytes,
    };
    check_shape(row, &spec, &mut faults);
    if faults.is_empty() { Ok(spec) } else { Err(faults) }
}

fn error(place: Place, problem: String, help: impl Into<String>) -> Diagnostic {
    Diagnostic::error(place, problem).help(help)
}

fn locate(row: RowText<'_>, number: &str, settings: &Settings, faults: &mut Vec<Diagnostic>) -> Location {
    let (text, place) = match row.cell("address") {
        Some(address) => (address, row.cell_place("address")),
        None => (number, row.number_place()),
    };
    number::parse(text, settings.notation, settings.address_base).unwrap_or_else(|fault| {
        faults.push(error(place, format!("\"{text}\" {fault}"), fault.help()));
        Location { area: None, address: 0, bit: None }
    })
}

fn area(row: RowText<'_>, location: Location, settings: &Settings, faults: &mut Vec<Diagnostic>) -> Area {
    let mut stated = location.area;
    for column in ["area", "function"] {
        let Some(word) = row.cell(column) else { continue };
        match (Area::parse(word), stated) {
            (None, _) => faults.push(error(
                row.cell_place(column),
                format!("{column} \"{word}\" is not known"),
                did_you_mean(word, AREA_WORDS.iter().map(|(w, _)| *w)),
            )),
            (Some(area), Some(other)) if area != other => faults.push(error(
                row.cell_place(column),
                format!("{column} {word} contradicts {}", other.word()),
                "let number, area and function name the same area",
            )),
            (Some(area), _) => stated = Some(area),
        }
    }
    stated.unwrap_or(settings.area)
}

fn bit(row: RowText<'_>, location: Location, faults: &mut Vec<Diagnostic>) -> Option<u8> {
    let Some(text) = row.cell("bit") else { return location.bit };
    let bit = text.trim().parse::<u8>().ok().filter(|bit| *bit < 16);
    if bit.is_none() {
        let problem = format!("bit \"{text}\" does not fit");
        faults.push(error(row.cell_place("bit"), problem, "write 0 (least significant) to 15"));
    } else if location.bit.is_some() && location.bit != bit {
        let problem = "bit contradicts the number".to_owned();
        faults.push(error(row.cell_place("bit"), problem, "name the bit in one place"));
    }
    bit
}

/// Longest string one request can carry: 125 registers (clause 6.3).
const MAX_STRING: u16 = 250;

fn string_length(row: RowText<'_>, value_type: ValueType, settings: &Settings, faults: &mut Vec<Diagnostic>) -> u16 {
    let text = row.cell("length");
    let most = MAX_STRING.min(settings.limits.registers * 2);
    match (value_type, text) {
        (ValueType::String, Some(text)) => match text.trim().parse::<u16>() {
            Ok(bytes) if (1..=most).contains(&bytes) => bytes,
            _ => {
                let problem = format!("length \"{text}\" does not fit");
                let help = format!("write the bytes of the string, 1 to {most}");
                faults.push(error(row.cell_place("length"), problem, help));
                1
            }
        },
        (ValueType::String, None) => {
            let help = "fill the column length with the bytes of the string";
            faults.push(error(row.value_type_place(), "a string needs a length".into(), help));
            1
        }
        (_, Some(text)) if text.trim().parse() != Ok(registers(value_type, 0) * 2) && text.trim() != "1" => {
            let problem = format!("length {text} does not fit a {}", value_type.word());
            faults.push(error(row.cell_place("length"), problem, "only strings need a length, in bytes"));
            0
        }
        _ => 0,
    }
}

fn registers(value_type: ValueType, bytes: u16) -> u16 {
    match value_type {
        ValueType::Bool | ValueType::Byte | ValueType::Short | ValueType::UShort => 1,
        ValueType::Int | ValueType::UInt | ValueType::Float => 2,
        ValueType::Long | ValueType::Double => 4,
        ValueType::String => bytes.div_ceil(2),
    }
}

fn byte_order(row: RowText<'_>, registers: u16, settings: &Settings, faults: &mut Vec<Diagnostic>) -> ByteOrder {
    let Some(word) = row.cell("byte_order") else { return settings.byte_order };
    // A string's registers are in order; only the two letters of each can be swapped.
    let width = if row.row().value_type == ValueType::String { 1 } else { registers };
    ByteOrder::parse(word, width).unwrap_or_else(|| {
        let problem = format!("byte order \"{word}\" does not fit a {}", row.row().value_type.word());
        faults.push(error(row.cell_place("byte_order"), problem, did_you_mean(word, ByteOrder::words(width))));
        settings.byte_order
    })
}

/// What only the whole row can tell.
fn check_shape(row: RowText<'_>, spec: &Spec, faults: &mut Vec<Diagnostic>) {
    let word = spec.value_type.word();
    let whole = !matches!(spec.value_type, ValueType::Float | ValueType::Double | ValueType::String);
    if spec.area.is_bits() && !whole {
        let problem = format!("a {} has one bit: it can not hold a {word}", spec.area.word());
        faults.push(error(row.value_type_place(), problem, "write bool"));
    }
    if spec.area.is_bits() && spec.bit.is_some() {
        let problem = format!("a {} has no bits to choose from", spec.area.word());
        faults.push(error(row.number_place(), problem, "leave bit empty"));
    }
    if !spec.area.is_bits() && spec.bit.is_some() && !whole {
        let problem = format!("one bit can not hold a {word}");
        faults.push(error(row.value_type_place(), problem, "write bool"));
    }
    if row.row().kind.is_control() && spec.area.is_read_only() {
        let problem = format!("a control point can not be written to area {}", spec.area.word());
        faults.push(error(row.number_place(), problem, "use holding or coil"));
    }
    if spec.end() > 65_536 {
        let problem = format!("a {word} at {} ends beyond the last register", spec.address);
        faults.push(error(row.number_place(), problem, "the last register is 65535"));
    }
}

/// The period a row asks for.
pub fn scan_period(row: RowText<'_>, settings: &Settings, faults: &mut Vec<Diagnostic>) -> Duration {
    let Some(text) = row.cell("scan_period_ms") else { return settings.scan_period };
    match text.trim().parse::<u64>() {
        Ok(ms) if (10..=86_400_000).contains(&ms) => Duration::from_millis(ms),
        _ => {
            let problem = format!("scan_period_ms \"{text}\" does not fit");
            let help = "write milliseconds from 10 to 86400000";
            faults.push(error(row.cell_place("scan_period_ms"), problem, help));
            settings.scan_period
        }
    }
}
