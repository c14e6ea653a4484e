//! PURE. Whether a value that somebody sends is one the model takes, and which value it is.

use super::control::{Comparison, Constant, Limits};
use super::{DataType, Value};
use serde_json::Value as Json;

/// Longest text that is written to a device, in bytes.
const TEXT_LIMIT: usize = 1024;
/// A multiple of the step may be missed by this part of a step: 0.3 is no exact multiple of 0.1.
const STEP_SLACK: f64 = 1e-6;

/// The value in the type of the model, when type and limits allow it. Types are taken as the cloud takes them for
/// data: whole numbers for floats, 0 and 1 for states; never a text for a number.
///
/// # Errors
/// What is wrong with it, for the caller.
pub fn accept(data_type: Option<DataType>, limits: &Limits, value: &Json) -> Result<Value, String> {
    let typed = typed(data_type, value)?;
    within(limits, &typed)?;
    Ok(typed)
}

fn typed(data_type: Option<DataType>, value: &Json) -> Result<Value, String> {
    let wanted = |what: &str| Err(format!("{} is not {what}", shown(value)));
    if value.is_array() || value.is_object() {
        return wanted("one value; arrays and objects can not be written");
    }
    match data_type {
        Some(DataType::Int) => match whole(value).and_then(|i| i32::try_from(i).ok()) {
            Some(i) => Ok(Value::Int(i64::from(i))),
            None => wanted("a whole number of 32 bits"),
        },
        Some(DataType::Timestamp) => {
            whole(value).map_or_else(|| wanted("a time in milliseconds"), |i| Ok(Value::Int(i)))
        }
        Some(DataType::Float) => {
            #[expect(clippy::cast_possible_truncation, reason = "nearest 32-bit number; overflow is caught below")]
            let narrow = value.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
            narrow.map_or_else(|| wanted("a number of 32 bits"), |x| Ok(Value::Float(x)))
        }
        Some(DataType::Double) => {
            let x = value.as_f64().filter(|x| x.is_finite());
            x.map_or_else(|| wanted("a number"), |x| Ok(Value::Double(x)))
        }
        Some(DataType::Bool) => match (value.as_bool(), whole(value)) {
            (Some(state), _) => Ok(Value::Bool(state)),
            (None, Some(0)) => Ok(Value::Bool(false)),
            (None, Some(1)) => Ok(Value::Bool(true)),
            _ => wanted("true, false, 0 or 1"),
        },
        Some(DataType::Enum) => match value {
            Json::String(text) => bounded(text),
            _ => whole(value).map_or_else(|| wanted("a key of the enumeration"), |i| Ok(Value::Int(i))),
        },
        Some(DataType::String | DataType::Date) => match value {
            Json::String(text) => bounded(text),
            _ => wanted("a text"),
        },
        Some(DataType::Struct | DataType::Array | DataType::File) => {
            Err("points of type struct, array and file can not be written".to_owned())
        }
        None => match value {
            Json::Bool(state) => Ok(Value::Bool(*state)),
            Json::String(text) => bounded(text),
            _ => whole(value)
                .map(Value::Int)
                .or_else(|| value.as_f64().map(Value::Double))
                .map_or_else(|| wanted("a value"), Ok),
        },
    }
}

/// Whole numbers, also when they are written as 5.0: languages without whole numbers send them so.
fn whole(value: &Json) -> Option<i64> {
    /// Beyond 2^53 a double does not tell one whole number from the next.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
    let written_as_float = || value.as_f64().filter(|x| x.fract() == 0.0 && x.abs() <= EXACT).map(|x| x as i64);
    value.as_i64().or_else(written_as_float)
}

fn bounded(text: &str) -> Result<Value, String> {
    if text.len() > TEXT_LIMIT {
        return Err(format!("a text of {} bytes is longer than {TEXT_LIMIT}", text.len()));
    }
    Ok(Value::Text(text.into()))
}

/// A value for a sentence: short, whatever somebody sent.
fn shown(value: &Json) -> String {
    let text = value.to_string();
    if text.chars().count() <= 40 { text } else { format!("{}…", text.chars().take(40).collect::<String>()) }
}

fn within(limits: &Limits, value: &Value) -> Result<(), String> {
    if !limits.values.is_empty() && !limits.values.iter().any(|one| one.equals(value)) {
        let known: Vec<String> = limits.values.iter().take(20).map(ToString::to_string).collect();
        return Err(format!("{value} is none of {}", known.join(", ")));
    }
    let Some(x) = value.as_f64() else { return Ok(()) };
    if let Some(min) = limits.min.filter(|min| x < *min) {
        return Err(format!("{value} is less than {min}"));
    }
    if let Some(max) = limits.max.filter(|max| x > *max) {
        return Err(format!("{value} is more than {max}"));
    }
    if let Some(step) = limits.step {
        let steps = (x - limits.min.unwrap_or(0.0)) / step;
        if (steps - steps.round()).abs() > STEP_SLACK.max(steps.abs() * f64::from(f32::EPSILON)) {
            return Err(format!("{value} is no multiple of the step {step}"));
        }
    }
    Ok(())
}

impl Constant {
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Constant::Bool(state) => Some(f64::from(u8::from(*state))),
            Constant::Number(x) => Some(*x),
            Constant::Text(_) => None,
        }
    }

    #[must_use]
    #[expect(clippy::float_cmp, reason = "a key or a state is met exactly or not at all")]
    pub fn equals(&self, value: &Value) -> bool {
        match (self, value) {
            (Constant::Text(text), Value::Text(other)) => **text == **other,
            (Constant::Text(_), _) | (_, Value::Text(_)) => false,
            // 0.1 as a 32-bit number is what somebody wrote as 0.1.
            #[expect(clippy::cast_possible_truncation, reason = "nearest 32-bit number")]
            (constant, Value::Float(x)) => constant.as_f64().is_some_and(|own| own as f32 == *x),
            (constant, other) => constant.as_f64() == other.as_f64(),
        }
    }

    /// As somebody would send it.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Constant::Bool(state) => Json::Bool(*state),
            Constant::Number(x) => {
                let number = Json::from(*x);
                whole(&number).map_or(number, Json::from)
            }
            Constant::Text(text) => Json::from(text.as_str()),
        }
    }

    /// True when `value operator self` holds; `None` when the two can not be compared.
    #[must_use]
    pub fn holds(&self, operator: Comparison, value: &Value) -> Option<bool> {
        match operator {
            Comparison::Equal => return Some(self.equals(value)),
            Comparison::NotEqual => return Some(!self.equals(value)),
            _ => {}
        }
        let (x, own) = (value.as_f64()?, self.as_f64()?);
        Some(match operator {
            Comparison::Greater => x > own,
            Comparison::GreaterOrEqual => x >= own,
            Comparison::Less => x < own,
            Comparison::LessOrEqual => x <= own,
            Comparison::Equal | Comparison::NotEqual => return None,
        })
    }
}

impl std::fmt::Display for Constant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Constant::Bool(state) => write!(f, "{state}"),
            Constant::Number(x) => write!(f, "{x}"),
            Constant::Text(text) => write!(f, "{text}"),
        }
    }
}

impl Comparison {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn taken(data_type: DataType, value: &Json) -> Option<Value> {
        accept(Some(data_type), &Limits::default(), value).ok()
    }

    #[test]
    fn types_are_those_of_the_model() {
        assert_eq!(taken(DataType::Int, &json!(7)), Some(Value::Int(7)));
        assert_eq!(taken(DataType::Int, &json!(7.0)), Some(Value::Int(7)));
        for wrong in [json!(7.5), json!("7"), json!(true), json!(3_000_000_000_i64), json!(null), json!([7]), json!({})]
        {
            assert_eq!(taken(DataType::Int, &wrong), None, "{wrong}");
        }
        assert_eq!(taken(DataType::Double, &json!(7)), Some(Value::Double(7.0)));
        assert_eq!(taken(DataType::Float, &json!(1e300)), None);
        assert_eq!(taken(DataType::Bool, &json!(1)), Some(Value::Bool(true)));
        assert_eq!(taken(DataType::Bool, &json!(2)), None);
        assert_eq!(taken(DataType::Bool, &json!("true")), None);
        assert_eq!(taken(DataType::Enum, &json!("on")), Some(Value::Text("on".into())));
        assert_eq!(taken(DataType::String, &json!(7)), None);
        assert_eq!(taken(DataType::String, &json!("x".repeat(2000))), None);
        assert_eq!(taken(DataType::Timestamp, &json!(1_700_000_000_000_i64)), Some(Value::Int(1_700_000_000_000)));
        assert_eq!(taken(DataType::Array, &json!(1)), None);
    }

    #[test]
    fn limits_hold_at_their_edges() {
        let limits = Limits { min: Some(-1.0), max: Some(1.0), step: Some(0.1), ..Limits::default() };
        let accepts = |x: f64| accept(Some(DataType::Float), &limits, &json!(x)).is_ok();
        assert!(accepts(-1.0) && accepts(1.0) && accepts(0.3) && accepts(0.7));
        assert!(!accepts(-1.01) && !accepts(1.1) && !accepts(0.35) && !accepts(f64::from(f32::MAX)));
        let keys = Limits { values: vec![Constant::Number(1.0), Constant::Text("auto".into())], ..Limits::default() };
        let accepts = |value: Json| accept(Some(DataType::Enum), &keys, &value).is_ok();
        assert!(accepts(json!(1)) && accepts(json!("auto")) && !accepts(json!(2)) && !accepts(json!("1")));
    }

    #[test]
    fn comparing_a_text_with_a_number_tells_nothing() {
        let one = Constant::Number(1.0);
        assert_eq!(one.holds(Comparison::Greater, &Value::Text("2".into())), None);
        assert_eq!(one.holds(Comparison::Equal, &Value::Bool(true)), Some(true));
        assert_eq!(one.holds(Comparison::LessOrEqual, &Value::Int(2)), Some(false));
        assert_eq!(Constant::Number(0.1).holds(Comparison::Equal, &Value::Float(0.1)), Some(true));
    }
}
