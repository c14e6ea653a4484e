//! PURE. Kepware's Modbus addresses: `400001`, `40001.5`, `400100.20H`, `300010[8]`, `H40000A`, with their data types.

/// A table of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Area {
    digit: u8,
    pub word: &'static str,
    pub shown: &'static str,
    pub writable: bool,
    is_bits: bool,
}

const AREAS: [Area; 4] = [
    Area { digit: b'0', word: "coil", shown: "a coil", writable: true, is_bits: true },
    Area { digit: b'1', word: "discrete", shown: "a discrete input", writable: false, is_bits: true },
    Area { digit: b'3', word: "input", shown: "an input register", writable: false, is_bits: false },
    Area { digit: b'4', word: "holding", shown: "a holding register", writable: true, is_bits: false },
];

/// What the data type comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub word: &'static str,
    pub registers: u32,
}

const TYPES: &[(&str, Value)] = &[
    ("boolean", Value { word: "bool", registers: 1 }),
    ("byte", Value { word: "byte", registers: 1 }),
    ("short", Value { word: "short", registers: 1 }),
    ("word", Value { word: "ushort", registers: 1 }),
    ("long", Value { word: "int", registers: 2 }),
    ("dword", Value { word: "uint", registers: 2 }),
    ("float", Value { word: "float", registers: 2 }),
    ("llong", Value { word: "long", registers: 4 }),
    ("double", Value { word: "double", registers: 4 }),
    ("string", Value { word: "string", registers: 1 }),
];

/// Types that are known and not computed, and what to do.
const REFUSED: &[(&str, &str)] = &[
    ("bcd", "read it as Word, and convert it where it is used; or let the device give a binary number"),
    ("lbcd", "read it as DWord, and convert it where it is used; or let the device give a binary number"),
    ("char", "read it as Byte; numbers above 127 are negative there"),
    ("qword", "read it as LLong; numbers up to 9223372036854775807 are the same"),
    ("date", "read its parts as Word"),
];

/// Where a tag lives and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub area: Area,
    /// From 1, as written.
    first: u32,
    digits: usize,
    pub value: Value,
    pub bit: Option<u8>,
    /// Bytes of a string.
    pub length: Option<u32>,
    pub byte_order: Option<&'static str>,
    pub is_array: bool,
    pub count: u32,
}

/// One element of an array, or the tag itself.
pub(super) struct At {
    pub number: String,
    pub wire: u32,
}

#[derive(Debug)]
pub(super) struct Refused {
    pub problem: String,
    pub help: &'static str,
    /// The data type is at fault and not the address.
    pub of_type: bool,
}

fn refused(problem: String, help: &'static str) -> Refused {
    Refused { problem, help, of_type: false }
}

const SHAPES: &str = "write 400001, 40001, 300001.5 (bit), 400100.20H (string of 20 bytes) or 400001[8] (array)";

impl Reference {
    pub fn element(&self, index: u32) -> At {
        let at = self.first + index * self.value.registers;
        let mut number = format!("{}{at:0width$}", char::from(self.area.digit), width = self.digits);
        if let Some(bit) = self.bit {
            number.push_str(&format!(".{bit}"));
        }
        At { number, wire: at - 1 }
    }
}

/// Reads address and data type together: one settles what the other leaves open.
pub(super) fn parse(address: &str, data_type: &str) -> Result<Reference, Refused> {
    let fail = |why: &str| refused(format!("address \"{address}\" {why}"), SHAPES);
    let (place, array) = match address.split_once('[') {
        Some((place, rest)) => (place.trim_end(), Some(elements(rest).ok_or_else(|| fail("has no good array size"))?)),
        None => (address, None),
    };
    let (place, suffix) = place.split_once('.').map_or((place, None), |(place, suffix)| (place, Some(suffix)));
    let (hex, digits) = match place.strip_prefix(['H', 'h']) {
        Some(rest) => (true, rest),
        None => (false, place),
    };
    let area = AREAS.iter().find(|area| digits.as_bytes().first() == Some(&area.digit)).copied();
    let area = area.ok_or_else(|| fail("names no Modbus table (0, 1, 3 or 4)"))?;
    let tail = digits.get(1..).unwrap_or_default();
    let first = u32::from_str_radix(tail, if hex { 16 } else { 10 }).map_err(|_| fail("is no Modbus address"))?;
    if !(1..=65_536).contains(&first) || !(4..=5).contains(&tail.len()) || tail.starts_with('+') {
        return Err(fail("is no Modbus address of five or six digits, counted from 1"));
    }
    let (value, array_type) = value_type(data_type, area, suffix)?;
    let mut reference = Reference {
        area,
        first,
        digits: 5.min(tail.len().max(4)),
        value,
        bit: None,
        length: None,
        byte_order: None,
        is_array: array.is_some(),
        count: array.unwrap_or(1),
    };
    match (suffix, value.word) {
        (None, "string") => return Err(fail("does not say how long the string is")),
        (Some(suffix), "string") => string(&mut reference, suffix).ok_or_else(|| fail("has no good string length"))?,
        (Some(suffix), "bool") if !area.is_bits => {
            let bit = suffix.parse().ok().filter(|bit| *bit < 16);
            reference.bit = Some(bit.ok_or_else(|| fail("names no bit from 0 to 15"))?);
        }
        (Some(_), _) => return Err(fail("has a bit or length that its data type does not have")),
        (None, _) => {}
    }
    if array_type && array.is_none() {
        return Err(fail("has no size, and its data type is an array"));
    }
    if reference.is_array && (reference.bit.is_some() || value.word == "string") {
        return Err(fail("is an array of bits of a register or of strings"));
    }
    let last = u64::from(first - 1) + u64::from(reference.count) * u64::from(value.registers);
    if last > 65_536 {
        return Err(fail("reaches beyond the last address, 65536"));
    }
    Ok(reference)
}

/// `8]`, or `4][5]` as rows and columns.
fn elements(rest: &str) -> Option<u32> {
    let parts = rest.trim().strip_suffix(']')?.split("][");
    let product =
        parts.map(|part| part.trim().parse::<u32>().ok()).try_fold(1u32, |all, part| all.checked_mul(part?))?;
    (product > 0).then_some(product)
}

/// `20H` or `20L`: length, and which byte of a register comes first.
fn string(reference: &mut Reference, suffix: &str) -> Option<()> {
    let (digits, order) = match suffix.as_bytes().last()? {
        b'H' | b'h' => (&suffix[..suffix.len() - 1], "AB"),
        b'L' | b'l' => (&suffix[..suffix.len() - 1], "BA"),
        _ => (suffix, "AB"),
    };
    let length: u32 = digits.parse().ok().filter(|length| (1..=240).contains(length))?;
    reference.length = Some(length);
    reference.byte_order = Some(order);
    reference.value.registers = length.div_ceil(2);
    Some(())
}

fn value_type(text: &str, area: Area, suffix: Option<&str>) -> Result<(Value, bool), Refused> {
    let of_type = |problem: String, help| Refused { problem, help, of_type: true };
    let lower = text.trim().to_lowercase();
    let (word, array) = lower.strip_suffix(" array").map_or((lower.as_str(), false), |word| (word, true));
    let word = match word {
        "" | "default" if area.is_bits || suffix.is_some() => "boolean",
        "" | "default" => "word",
        word => word,
    };
    if let Some((_, help)) = REFUSED.iter().find(|(name, _)| *name == word) {
        return Err(of_type(format!("data type {text} is not read by this engine"), help));
    }
    let found = TYPES.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    let value = found.ok_or_else(|| {
        of_type(
            format!("data type \"{text}\" is not known"),
            "known: Boolean Byte Short Word Long DWord LLong Float Double String, each also as Array",
        )
    })?;
    if area.is_bits && value.word != "bool" {
        return Err(of_type(format!("{} has no {text}", area.shown), "write Boolean"));
    }
    Ok((value, array))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(address: &str, data_type: &str) -> String {
        match parse(address, data_type) {
            Ok(found) => {
                let at = found.element(found.count - 1);
                format!(
                    "{} {} {} {:#x} {:?} {:?} {}",
                    at.number, found.area.word, found.value.word, at.wire, found.bit, found.length, found.count
                )
            }
            Err(refused) => refused.problem,
        }
    }

    #[test]
    fn addresses_are_read_as_kepware_means_them() {
        for (address, data_type, expected) in [
            ("400001", "Word", "400001 holding ushort 0x0 None None 1"),
            ("40001", "Short", "40001 holding short 0x0 None None 1"),
            ("465536", "Word", "465536 holding ushort 0xffff None None 1"),
            ("300010", "Float", "300010 input float 0x9 None None 1"),
            ("000005", "Boolean", "000005 coil bool 0x4 None None 1"),
            ("100005", "Default", "100005 discrete bool 0x4 None None 1"),
            ("400100.7", "Boolean", "400100.7 holding bool 0x63 Some(7) None 1"),
            ("400100.20L", "String", "400100 holding string 0x63 None Some(20) 1"),
            ("400001[3]", "Long Array", "400005 holding int 0x4 None None 3"),
            ("400001 [2][2]", "Word", "400004 holding ushort 0x3 None None 4"),
            ("H40000A", "Word", "400010 holding ushort 0x9 None None 1"),
        ] {
            assert_eq!(told(address, data_type), expected, "{address} {data_type}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_refused_in_words() {
        for (address, data_type, expected) in [
            ("400001", "BCD", "data type BCD is not read"),
            ("400001", "Flaot", "\"Flaot\" is not known"),
            ("400001", "String", "how long the string is"),
            ("400001.16", "Boolean", "no bit from 0 to 15"),
            ("400001.3", "Word", "does not have"),
            ("400000", "Word", "counted from 1"),
            ("200001", "Word", "names no Modbus table"),
            ("465536", "Float", "beyond the last address"),
            ("400001[0]", "Word", "no good array size"),
            ("400001[99999][99999]", "Word", "no good array size"),
            ("000001", "Word", "a coil has no Word"),
            ("400001", "Word Array", "has no size"),
            ("4é0001", "Word", "is no Modbus address"),
            ("", "Word", "names no Modbus table"),
        ] {
            assert!(told(address, data_type).contains(expected), "{address} {data_type}: {}", told(address, data_type));
        }
    }
}
