//! PURE. The forms of messages, written straight from batches into the text of the message.

use super::topics::{Place, name};
use crate::config::template::{Part, Template, Word};
use crate::config::{Join, Payload};
use crate::model::{DeviceNames, Entry, PointName, Timestamp, ValueRef};

/// How messages of a destination are written.
#[derive(Debug)]
pub struct Form {
    payload: Payload,
    join: Join,
    place: Place,
}

/// Data of sub-devices that are offline is wanted too, and a bad value is to be told and not left out, as to the cloud.
const ENOS_CLOSE: &[u8] = b"],\"allowOfflineSubDevice\":true,\"skipInvalidMeasurepoints\":false}";

impl Form {
    #[must_use]
    pub fn new(payload: Payload, join: Join, place: Place) -> Form {
        Form { payload, join, place }
    }

    /// Readings of a device and a time stand together in one object.
    #[must_use]
    pub fn has_objects(&self) -> bool {
        matches!(self.payload, Payload::Enos | Payload::JsonDevice)
    }

    /// A message holds one object or reading only.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        match self.payload {
            Payload::Enos | Payload::Json => false,
            Payload::Value => true,
            Payload::JsonDevice | Payload::Template(_) => self.join == Join::None,
        }
    }

    pub fn open(&self, out: &mut Vec<u8>, id: u64) {
        match (&self.payload, self.join) {
            (Payload::Enos, _) => {
                out.extend_from_slice(b"{\"id\":\"");
                out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
                out.extend_from_slice(
                    b"\",\"version\":\"1.0\",\"method\":\"thing.measurepoint.post.batch\",\"params\":[",
                );
            }
            (Payload::Json, _) | (Payload::JsonDevice | Payload::Template(_), Join::Array) => out.push(b'['),
            _ => {}
        }
    }

    /// Between two objects or readings.
    pub fn between(&self, out: &mut Vec<u8>) {
        out.push(if self.join == Join::Lines && self.joins() { b'\n' } else { b',' });
    }

    pub fn close(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.closing());
    }

    /// Whether `join` counts.
    fn joins(&self) -> bool {
        matches!(self.payload, Payload::JsonDevice | Payload::Template(_))
    }

    fn closing(&self) -> &'static [u8] {
        match (&self.payload, self.join) {
            (Payload::Enos, _) => ENOS_CLOSE,
            (Payload::Json, _) | (Payload::JsonDevice | Payload::Template(_), Join::Array) => b"]",
            _ => b"",
        }
    }

    /// What is still to come behind the last reading.
    #[must_use]
    pub fn closing_bytes(&self) -> usize {
        // `},"time":-9223372036854775808}` ends an object.
        self.closing().len() + if self.has_objects() { 31 } else { 0 }
    }

    pub fn open_object(&self, out: &mut Vec<u8>, device: &DeviceNames, time: Timestamp) {
        if self.payload == Payload::Enos {
            out.extend_from_slice(b"{\"productKey\":");
            put_text(out, &device.product_key);
            out.extend_from_slice(b",\"deviceKey\":");
            put_text(out, &device.device_key);
            out.extend_from_slice(b",\"measurepoints\":{");
        } else {
            out.extend_from_slice(b"{\"device\":");
            put_text(out, &device.name);
            out.extend_from_slice(b",\"time\":");
            put_time(out, time);
            out.extend_from_slice(b",\"values\":{");
        }
    }

    pub fn close_object(&self, out: &mut Vec<u8>, time: Timestamp) {
        out.push(b'}');
        if self.payload == Payload::Enos {
            out.extend_from_slice(b",\"time\":");
            put_time(out, time);
        }
        out.push(b'}');
    }

    /// One reading. In forms with objects, `"point":value`.
    pub fn reading(
        &self,
        out: &mut Vec<u8>,
        device: &DeviceNames,
        point: &PointName,
        time: Timestamp,
        entry: &Entry<'_>,
    ) {
        match &self.payload {
            Payload::Enos | Payload::JsonDevice => put_member(out, point, entry),
            Payload::Json => {
                out.extend_from_slice(b"{\"device\":");
                put_text(out, &device.name);
                out.extend_from_slice(b",\"point\":");
                put_text(out, &point.id);
                out.extend_from_slice(b",\"time\":");
                put_time(out, time);
                out.extend_from_slice(b",\"value\":");
                put_value(out, entry.value);
                out.extend_from_slice(b",\"quality\":");
                out.push(b'0' + entry.quality.min(9));
                out.push(b'}');
            }
            Payload::Value => put_plain(out, entry.value),
            Payload::Template(template) => self.fill(out, template, device, point, time, entry),
        }
    }

    fn fill(
        &self,
        out: &mut Vec<u8>,
        template: &Template,
        device: &DeviceNames,
        point: &PointName,
        time: Timestamp,
        entry: &Entry<'_>,
    ) {
        for part in &template.0 {
            let word = match part {
                Part::Literal(text) => {
                    out.extend_from_slice(text.as_bytes());
                    continue;
                }
                Part::Word(word) => *word,
            };
            match word {
                Word::Point => put_escaped(out, &point.id),
                Word::Value => put_value(out, entry.value),
                Word::ValueText => match entry.value {
                    ValueRef::Text(text) => put_escaped(out, text),
                    other => put_value(out, other),
                },
                Word::Time => put_time(out, time),
                Word::TimeIso => put_iso(out, time),
                Word::Quality => out.push(b'0' + entry.quality.min(9)),
                other => put_escaped(out, name(other, &self.place, device).unwrap_or_default()),
            }
        }
    }
}

/// Whether the forms can say it.
///
/// # Errors
/// Why they can not.
pub fn sayable(value: ValueRef<'_>) -> Result<(), &'static str> {
    match value {
        ValueRef::Float(f) if !f.is_finite() => Err("JSON has no form for a number that is not finite"),
        ValueRef::Double(d) if !d.is_finite() => Err("JSON has no form for a number that is not finite"),
        _ => Ok(()),
    }
}

fn put_member(out: &mut Vec<u8>, point: &PointName, entry: &Entry<'_>) {
    put_text(out, &point.id);
    out.push(b':');
    if point.has_quality {
        out.extend_from_slice(b"{\"value\":");
        put_value(out, entry.value);
        out.extend_from_slice(b",\"quality\":");
        out.push(b'0' + entry.quality.min(9));
        out.push(b'}');
    } else {
        put_value(out, entry.value);
    }
}

/// A JSON value; the caller has asked [`sayable`].
fn put_value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Text(text) => put_text(out, text),
        other => put_plain(out, other),
    }
}

fn put_plain(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Bool(true) => out.extend_from_slice(b"true"),
        ValueRef::Bool(false) => out.extend_from_slice(b"false"),
        ValueRef::Int(i) => out.extend_from_slice(itoa::Buffer::new().format(i).as_bytes()),
        ValueRef::Float(f) => out.extend_from_slice(ryu::Buffer::new().format(f).as_bytes()),
        ValueRef::Double(d) => out.extend_from_slice(ryu::Buffer::new().format(d).as_bytes()),
        ValueRef::Text(text) => out.extend_from_slice(text.as_bytes()),
    }
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(itoa::Buffer::new().format(time.0).as_bytes());
}

/// A JSON string with its quotes.
fn put_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string always has a JSON form, and memory takes it");
}

/// As it stands between the quotes of a JSON string.
fn put_escaped(out: &mut Vec<u8>, text: &str) {
    let before = out.len();
    put_text(out, text);
    out.pop();
    out.remove(before);
}

/// `2026-01-31T12:00:00.000Z`.
fn put_iso(out: &mut Vec<u8>, time: Timestamp) {
    const DAY: i64 = 86_400_000;
    let (days, ms) = (time.0.div_euclid(DAY), time.0.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    // A year beyond four digits is longer, and negative ones have a sign; no clock of a device is that wrong.
    put_padded(out, year, 4);
    for (mark, number, digits) in [
        (b'-', month, 2),
        (b'-', day, 2),
        (b'T', ms / 3_600_000, 2),
        (b':', ms / 60_000 % 60, 2),
        (b':', ms / 1000 % 60, 2),
        (b'.', ms % 1000, 3),
    ] {
        out.push(mark);
        put_padded(out, number, digits);
    }
    out.push(b'Z');
}

fn put_padded(out: &mut Vec<u8>, number: i64, digits: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number);
    out.extend(std::iter::repeat_n(b'0', digits.saturating_sub(text.len())));
    out.extend_from_slice(text.as_bytes());
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years begin in March, so that the
/// leap day is the last of its year; 146,097 days are 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_read_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_763_812_990_007, "2025-11-22T12:03:10.007Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            let mut out = Vec::new();
            put_iso(&mut out, Timestamp(ms));
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn names_are_escaped_between_the_quotes_of_a_template() {
        let mut out = b"\"".to_vec();
        put_escaped(&mut out, "a\"b\\\n中");
        out.push(b'"');
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), "a\"b\\\n中");
    }
}
