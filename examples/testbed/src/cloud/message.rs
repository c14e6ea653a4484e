//! PURE. Measurement-point messages, read in one pass without a value tree: this is what a benchmark is made of.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// A `measurepoint/post`, `resume` or their batch form.
#[derive(Debug, Default, PartialEq)]
pub struct Message<'a> {
    pub id: Id<'a>,
    pub method: Cow<'a, str>,
    pub allow_offline: bool,
    pub skip_invalid: bool,
    /// `params` was an array.
    pub is_batch: bool,
    pub items: Vec<Item<'a>>,
    pub values: Vec<(Cow<'a, str>, Posted)>,
}

/// The request's id, given back as it came.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Id<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Number(i64),
}

/// Values of one device at one time.
#[derive(Debug, Default, PartialEq)]
pub struct Item<'a> {
    pub product_key: Option<Cow<'a, str>>,
    pub device_key: Option<Cow<'a, str>>,
    pub time: Option<i64>,
    /// Into [`Message::values`].
    pub values: Range<usize>,
    pub has_measurepoints: bool,
}

/// A posted value: its JSON kind and, for numbers and booleans, its number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Posted {
    pub kind: Kind,
    pub number: f64,
    pub quality: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Int,
    Float,
    Bool,
    Text,
    Array,
    Object,
    Null,
}

/// Reads a message.
///
/// # Errors
/// When the payload is no JSON, or not of a shape that can be one of these messages.
pub fn parse(payload: &[u8]) -> Result<Message<'_>, serde_json::Error> {
    let mut message = Message::default();
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    deserializer.deserialize_map(Top(&mut message))?;
    deserializer.end()?;
    Ok(message)
}

impl fmt::Display for Id<'_> {
    /// As a JSON value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Id::Absent => f.write_str("null"),
            Id::Text(text) => f.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?),
            Id::Number(number) => write!(f, "{number}"),
        }
    }
}

struct Top<'m, 'a>(&'m mut Message<'a>);

impl<'a> Visitor<'a> for Top<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Text)? {
            match key.as_ref() {
                "id" => {
                    self.0.id = match map.next_value_seed(Scalar)? {
                        ScalarValue::Text(text) => Id::Text(text),
                        ScalarValue::Number(number) => Id::Number(number as i64),
                        ScalarValue::Other => Id::Absent,
                    }
                }
                "method" => self.0.method = map.next_value_seed(Text)?,
                "allowOfflineSubDevice" => self.0.allow_offline = map.next_value_seed(Flag)?,
                "skipInvalidMeasurepoints" => self.0.skip_invalid = map.next_value_seed(Flag)?,
                "params" => map.next_value_seed(Params(self.0))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

struct Params<'m, 'a>(&'m mut Message<'a>);

impl<'a> DeserializeSeed<'a> for Params<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Params<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array of objects")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let start = self.0.values.len();
        let mut item = Item { values: start..start, ..Item::default() };
        while let Some(key) = map.next_key_seed(Text)? {
            match key.as_ref() {
                "productKey" => item.product_key = Some(map.next_value_seed(Text)?),
                "deviceKey" => item.device_key = Some(map.next_value_seed(Text)?),
                "time" => {
                    item.time = match map.next_value_seed(Scalar)? {
                        ScalarValue::Number(number) => Some(number as i64),
                        _ => None,
                    }
                }
                "measurepoints" => {
                    item.has_measurepoints = true;
                    map.next_value_seed(Values(&mut self.0.values))?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        item.values.end = self.0.values.len();
        self.0.items.push(item);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        self.0.is_batch = true;
        while seq.next_element_seed(Params(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

struct Values<'m, 'a>(&'m mut Vec<(Cow<'a, str>, Posted)>);

impl<'a> DeserializeSeed<'a> for Values<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Values<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of measurement points")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Text)? {
            let value = map.next_value_seed(Value)?;
            self.0.push((key, value));
        }
        Ok(())
    }
}

/// A text, borrowed from the payload unless it holds escapes.
struct Text;

impl<'a> DeserializeSeed<'a> for Text {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Text {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

enum ScalarValue<'a> {
    Text(Cow<'a, str>),
    Number(f64),
    Other,
}

struct Scalar;

/// A boolean; the vendor's Python SDK sends an empty text for one that is not set.
struct Flag;

/// A value, plain or with its quality.
struct Value;

macro_rules! seed_for_any {
    ($seed:ident, $value:ty) => {
        impl<'a> DeserializeSeed<'a> for $seed {
            type Value = $value;

            fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
                deserializer.deserialize_any(self)
            }
        }
    };
}

seed_for_any!(Scalar, ScalarValue<'a>);
seed_for_any!(Flag, bool);
seed_for_any!(Value, Posted);

impl<'a> Visitor<'a> for Scalar {
    type Value = ScalarValue<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a number")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(ScalarValue::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(ScalarValue::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(ScalarValue::Number(number as f64))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(ScalarValue::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(ScalarValue::Number(number))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(ScalarValue::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(ScalarValue::Other)
    }
}

impl<'a> Visitor<'a> for Flag {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true or false")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<bool, E> {
        Ok(flag)
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(text.eq_ignore_ascii_case("true"))
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

impl Posted {
    fn plain(kind: Kind, number: f64) -> Posted {
        Posted { kind, number, quality: None }
    }
}

impl<'a> Visitor<'a> for Value {
    type Value = Posted;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Posted, E> {
        Ok(Posted::plain(Kind::Bool, f64::from(u8::from(value))))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Posted, E> {
        Ok(Posted::plain(Kind::Int, value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Posted, E> {
        Ok(Posted::plain(Kind::Int, value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Posted, E> {
        Ok(Posted::plain(Kind::Float, value))
    }

    fn visit_str<E>(self, _: &str) -> Result<Posted, E> {
        Ok(Posted::plain(Kind::Text, f64::NAN))
    }

    fn visit_unit<E>(self) -> Result<Posted, E> {
        Ok(Posted::plain(Kind::Null, f64::NAN))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Posted, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Posted::plain(Kind::Array, f64::NAN))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Posted, A::Error> {
        let (mut value, mut quality, mut other) = (None, None, false);
        while let Some(key) = map.next_key_seed(Text)? {
            match key.as_ref() {
                "value" => value = Some(map.next_value_seed(Value)?),
                "quality" => quality = Some(map.next_value_seed(Value)?),
                _ => {
                    other = true;
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        // Quality is an integer 0-9; anything else makes this a struct.
        match (value, quality) {
            (Some(value), Some(q)) if !other && q.kind == Kind::Int && (0.0..=9.0).contains(&q.number) => {
                Ok(Posted { quality: Some(q.number as u8), ..value })
            }
            _ => Ok(Posted::plain(Kind::Object, f64::NAN)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_the_vendor_sdk_is_read() {
        let payload = br#"{"id": "3", "version": "1.0", "method": "thing.measurepoint.post.batch", "params": [{"productKey": "subPK01", "deviceKey": "subDK01", "measurepoints": {"temp": 1.02, "count": 7, "ok": true, "name": "a\"b\u4e2d", "Power": {"value": 1, "quality": 9}, "arr": ["1.02"]}, "time": 1700000000123}, {"measurepoints": {}, "time": 1700000001123}], "allowOfflineSubDevice": true, "skipInvalidMeasurepoints": ""}"#;
        let got = parse(payload).unwrap();
        assert_eq!((&got.id, got.method.as_ref()), (&Id::Text("3".into()), "thing.measurepoint.post.batch"));
        assert!(got.is_batch && got.allow_offline && !got.skip_invalid);
        let kinds: Vec<Kind> = got.values.iter().map(|(_, value)| value.kind).collect();
        assert_eq!(kinds, [Kind::Float, Kind::Int, Kind::Bool, Kind::Text, Kind::Int, Kind::Array]);
        assert_eq!(got.values[4].1.quality, Some(9));
        assert_eq!(got.items[0].device_key.as_deref(), Some("subDK01"));
        assert_eq!((got.items[1].time, got.items[1].values.clone()), (Some(1_700_000_001_123), 6..6));
    }

    #[test]
    fn a_single_post_and_a_numeric_id_are_read() {
        let got = parse(br#"{"id":7,"params":{"time":5,"measurepoints":{"s":{"value":1,"quality":10}}}}"#).unwrap();
        assert_eq!((got.id.to_string().as_str(), got.is_batch, got.items.len()), ("7", false, 1));
        assert_eq!(got.values[0].1.kind, Kind::Object);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bad in [&b""[..], b"{", b"[]", b"{\"id\":\"1\"} x", b"{\"params\":[1]}"] {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
