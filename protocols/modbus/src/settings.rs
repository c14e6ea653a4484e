//! The `protocol.sys` parameters of a Modbus connection, checked. PURE.

use crate::area::{AREA_WORDS, Area};
use crate::number::{NOTATION_WORDS, Notation};
use crate::order::{ByteOrder, ORDER_WORDS};
use driver::{ConnectionText, Diagnostic, Parameters, Text};
use std::time::Duration;

/// Which dialect of Modbus goes over which medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Tcp,
    Rtu,
    RtuOverTcp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Tcp { host: String, port: u16 },
    Serial(SerialSettings),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialSettings {
    pub port: String,
    pub baud_rate: u32,
    pub parity: Parity,
    pub stop_bits: u8,
    pub data_bits: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    None,
    Even,
    Odd,
}

/// Everything the parameters say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub dialect: Dialect,
    pub target: Target,
    pub scan_period: Duration,
    pub timeout: Duration,
    pub connect_timeout: Duration,
    pub unit: u8,
    pub limits: Limits,
    pub request_delay: Duration,
    pub byte_order: ByteOrder,
    pub notation: Notation,
    pub address_base: u16,
    pub area: Area,
    /// Commands may send protocol data units of their own.
    pub raw: bool,
}

/// How much one request may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub registers: u16,
    pub bits: u16,
    /// Registers nobody asked for that are read along, to save a request.
    pub gap: u16,
}

const COMMON_KEYS: &[&str] = &[
    "scan_period_ms",
    "timeout_ms",
    "connect_timeout_ms",
    "unit",
    "max_registers",
    "max_bits",
    "max_gap",
    "inter_request_delay_ms",
    "byte_order",
    "notation",
    "address_base",
    "area",
    "raw",
];
const TCP_KEYS: &[&str] = &["host", "port"];
const SERIAL_KEYS: &[&str] = &["serial_port", "baud_rate", "parity", "stop_bits", "data_bits"];
const RAW_WORDS: &[(&str, bool)] = &[("true", true), ("false", false), ("yes", true), ("no", false)];
const PARITY_WORDS: &[(&str, Parity)] = &[("none", Parity::None), ("even", Parity::Even), ("odd", Parity::Odd)];
const PARITY_LETTERS: &[(&str, Parity)] = &[("n", Parity::None), ("e", Parity::Even), ("o", Parity::Odd)];

/// Longest period and time-out: a day.
const DAY_MS: u64 = 86_400_000;
/// A request of 8 bytes and its overhead of 5 cost as long as about 8 registers on a serial line;
/// turnaround times of 10-30 ms make it 16 and more at the usual 9600 baud.
const DEFAULT_GAP: u16 = 16;

impl Settings {
    /// Reads all parameters and complains of all faults.
    pub fn parse(dialect: Dialect, connection: &ConnectionText<'_>, faults: &mut Vec<Diagnostic>) -> Settings {
        let parameters = connection.parameters;
        let own = if dialect == Dialect::Rtu { SERIAL_KEYS } else { TCP_KEYS };
        let known: Vec<&str> = own.iter().chain(COMMON_KEYS).copied().collect();
        parameters.refuse_unknown(&known, faults);
        refuse_doubled(parameters, faults);
        let target = match dialect {
            Dialect::Tcp | Dialect::RtuOverTcp => tcp_target(connection, faults),
            Dialect::Rtu => serial_target(connection, faults),
        };
        let second = Duration::from_secs(1);
        Settings {
            dialect,
            target,
            scan_period: parameters.millis_or("scan_period_ms", second, 10..=DAY_MS, faults),
            timeout: parameters.millis_or("timeout_ms", second, 1..=600_000, faults),
            connect_timeout: parameters.millis_or("connect_timeout_ms", second * 3, 1..=600_000, faults),
            unit: unit(parameters, dialect, faults),
            limits: Limits {
                registers: number_in(parameters, "max_registers", 125, 1, 125, faults),
                bits: number_in(parameters, "max_bits", 2000, 1, 2000, faults),
                gap: number_in(parameters, "max_gap", DEFAULT_GAP, 0, 124, faults),
            },
            request_delay: parameters.millis_or("inter_request_delay_ms", Duration::ZERO, 0..=60_000, faults),
            byte_order: parameters.word_or("byte_order", ByteOrder::default(), ORDER_WORDS, faults),
            notation: notation(parameters, faults),
            address_base: number_in(parameters, "address_base", 0, 0, 1, faults),
            area: parameters.word_or("area", Area::Holding, AREA_WORDS, faults),
            raw: parameters.word_or("raw", false, RAW_WORDS, faults),
        }
    }
}

/// A stated base says that numbers are plain addresses; only their start is in question.
fn notation(parameters: &Parameters, faults: &mut Vec<Diagnostic>) -> Notation {
    let stated = if parameters.get("address_base").is_some() { Notation::Plain } else { Notation::Unstated };
    let notation = parameters.word_or("notation", stated, NOTATION_WORDS, faults);
    if let (Notation::Classic, Some(base)) = (notation, parameters.get("address_base"))
        && base.text.trim() != "1"
    {
        faults.push(
            Diagnostic::error(base.place.clone(), "address_base contradicts notation: classic")
                .help("classic numbers always count from 1: drop address_base"),
        );
    }
    notation
}

fn unit(parameters: &Parameters, dialect: Dialect, faults: &mut Vec<Diagnostic>) -> u8 {
    let Some(text) = parameters.get("unit") else { return 1 };
    parse_unit(text, dialect).unwrap_or_else(|fault| {
        faults.push(*fault);
        1
    })
}

/// A unit that can answer. Serial lines have 1 to 247 (Modbus over Serial Line 1.02, clause 2.2);
/// TCP gateways and devices use 1 to 255, 255 being the usual "the device itself".
pub fn parse_unit(text: &Text, dialect: Dialect) -> Result<u8, Box<Diagnostic>> {
    let last = if dialect == Dialect::Tcp { 255 } else { 247 };
    match text.text.trim().parse::<u8>() {
        Ok(unit) if (1..=last).contains(&unit) => Ok(unit),
        Ok(0) => Err(Box::new(
            Diagnostic::error(text.place.clone(), "unit 0 is the broadcast address: nobody answers it")
                .help(format!("write the unit, 1 to {last}")),
        )),
        _ => Err(Box::new(
            Diagnostic::error(text.place.clone(), format!("unit \"{}\" does not fit", text.text))
                .help(format!("write the unit, 1 to {last}")),
        )),
    }
}

fn refuse_doubled(parameters: &Parameters, faults: &mut Vec<Diagnostic>) {
    for (at, (key, _)) in parameters.entries.iter().enumerate() {
        if parameters.entries[..at].iter().any(|(k, _)| k.text == key.text) {
            let problem = format!("parameter \"{}\" is given twice", key.text);
            faults.push(Diagnostic::error(key.place.clone(), problem).help("keep one of them"));
        }
    }
}

pub fn number_in<T>(p: &Parameters, key: &str, default: T, first: T, last: T, faults: &mut Vec<Diagnostic>) -> T
where
    T: std::str::FromStr + PartialOrd + Copy + std::fmt::Display,
{
    let Some(text) = p.get(key) else { return default };
    match text.text.trim().parse::<T>() {
        Ok(value) if value >= first && value <= last => value,
        _ => {
            faults.push(
                Diagnostic::error(text.place.clone(), format!("{key}: \"{}\" does not fit", text.text))
                    .help(format!("write a number from {first} to {last}")),
            );
            default
        }
    }
}

fn required(connection: &ConnectionText<'_>, key: &str, example: &str, faults: &mut Vec<Diagnostic>) -> String {
    match connection.parameters.get(key) {
        Some(text) if !text.text.trim().is_empty() => text.text.trim().to_owned(),
        Some(text) => {
            faults.push(
                Diagnostic::error(text.place.clone(), format!("{key} is empty")).help(format!("for example {example}")),
            );
            String::new()
        }
        None => {
            let problem = format!("connection {} has no {key}", connection.name);
            faults.push(Diagnostic::error(connection.place.clone(), problem).help(format!("add {key}: {example}")));
            String::new()
        }
    }
}

fn tcp_target(connection: &ConnectionText<'_>, faults: &mut Vec<Diagnostic>) -> Target {
    let host = required(connection, "host", "10.0.0.7", faults);
    if let Some(text) = connection.parameters.get("host")
        && host.contains(|c: char| c.is_whitespace() || c == '/')
    {
        faults.push(
            Diagnostic::error(text.place.clone(), format!("host: \"{host}\" does not fit"))
                .help("write a name or address alone, without tcp:// and port"),
        );
    }
    // [::1] as people write it; the resolver wants it bare.
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Target::Tcp { host, port: number_in(connection.parameters, "port", 502, 1, 65_535, faults) }
}

fn serial_target(connection: &ConnectionText<'_>, faults: &mut Vec<Diagnostic>) -> Target {
    let parameters = connection.parameters;
    let words: Vec<_> = PARITY_WORDS.iter().chain(PARITY_LETTERS).copied().collect();
    // Modbus over Serial Line 1.02, clause 2.5.1 wants even parity; what is sold comes set to 8N1.
    Target::Serial(SerialSettings {
        port: required(connection, "serial_port", "/dev/serial/by-path/…", faults),
        baud_rate: number_in(parameters, "baud_rate", 9600, 300, 4_000_000, faults),
        parity: parameters.word_or("parity", Parity::None, &words, faults),
        stop_bits: number_in(parameters, "stop_bits", 1, 1, 2, faults),
        data_bits: data_bits(parameters, faults),
    })
}

/// RTU needs all eight bits of a byte.
fn data_bits(parameters: &Parameters, faults: &mut Vec<Diagnostic>) -> u8 {
    let bits = number_in(parameters, "data_bits", 8, 7, 8, faults);
    if let (7, Some(text)) = (bits, parameters.get("data_bits")) {
        let problem = "data_bits: 7 can not carry RTU frames";
        faults.push(Diagnostic::error(text.place.clone(), problem).help("write 8"));
    }
    8
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::{Place, testkit};
    use std::sync::Arc;

    fn parse(dialect: Dialect, pairs: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let parameters = testkit::parameters(pairs);
        let file: Arc<str> = "line.yaml".into();
        let text =
            ConnectionText { name: "line", place: Place::new(&file, 2, 1), parameters: &parameters, devices: &[] };
        let mut faults = Vec::new();
        let settings = Settings::parse(dialect, &text, &mut faults);
        (settings, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_defaults_fill_what_is_not_said() {
        let (settings, faults) = parse(Dialect::Tcp, &[("host", "10.0.0.7")]);
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(settings.target, Target::Tcp { host: "10.0.0.7".into(), port: 502 });
        assert_eq!(settings.timeout, Duration::from_secs(1));
        assert_eq!(settings.limits, Limits { registers: 125, bits: 2000, gap: 16 });
        let (settings, faults) = parse(Dialect::Rtu, &[("serial_port", "/dev/ttyS1"), ("parity", "E")]);
        assert_eq!(faults, Vec::<String>::new());
        assert!(matches!(settings.target, Target::Serial(s) if s.parity == Parity::Even && s.baud_rate == 9600));
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let (_, faults) = parse(
            Dialect::Tcp,
            &[("hots", "x"), ("port", "0"), ("unit", "0"), ("max_registers", "126"), ("byte_order", "ABDC")],
        );
        assert_eq!(faults.len(), 6, "{faults:#?}");
        assert!(faults[0].contains("did you mean host?"), "{}", faults[0]);
        assert!(faults.iter().any(|f| f.starts_with("line.yaml:2:1: connection line has no host")));
        assert!(faults.iter().any(|f| f.contains("broadcast")));
    }

    #[test]
    fn serial_keys_do_not_fit_tcp_and_the_other_way_round() {
        let (_, faults) = parse(Dialect::RtuOverTcp, &[("host", "h"), ("baud_rate", "9600")]);
        assert_eq!(faults.len(), 1);
        let (_, faults) = parse(Dialect::Rtu, &[("serial_port", "/dev/ttyS1"), ("host", "h"), ("data_bits", "7")]);
        assert_eq!(faults.len(), 2);
    }

    #[test]
    fn a_unit_fits_its_medium() {
        assert_eq!(parse(Dialect::Tcp, &[("host", "h"), ("unit", "255")]).0.unit, 255);
        assert_eq!(parse(Dialect::RtuOverTcp, &[("host", "h"), ("unit", "248")]).1.len(), 1);
    }

    #[test]
    fn a_stated_base_settles_the_notation() {
        assert_eq!(parse(Dialect::Tcp, &[("host", "h")]).0.notation, Notation::Unstated);
        assert_eq!(parse(Dialect::Tcp, &[("host", "h"), ("address_base", "1")]).0.notation, Notation::Plain);
        assert_eq!(parse(Dialect::Tcp, &[("host", "h"), ("address_base", "0"), ("notation", "classic")]).1.len(), 1);
    }
}
