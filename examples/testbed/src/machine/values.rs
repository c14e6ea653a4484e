//! The formula behind every variable, so that a ledger can tell a right value from a wrong one. PURE.

use opcua::types::{DataTypeId, Variant};

/// Setpoints of the machine, one of each type.
pub const SETPOINTS: usize = 4;

/// The NodeId text of variable `index`.
#[must_use]
pub fn node(index: usize) -> String {
    format!("ns=2;s={}", name(index))
}

pub(super) fn name(index: usize) -> String {
    format!("Machine.Var{index:03}")
}

pub(super) fn setpoint_name(index: usize) -> String {
    format!("Machine.Set{index}")
}

/// The value of variable `index` at `tick`. A tick is the value's source time divided by the period.
#[must_use]
pub fn value(index: usize, tick: u64) -> Variant {
    let n = i32::try_from(index % 1000).expect("below 1000");
    let t = i32::try_from(tick % 1_000_000).expect("below a million");
    match index % 4 {
        0 => Variant::Double(f64::from(n) * 1e6 + f64::from(t)),
        1 => Variant::Int32(n * 1_000_000 + t),
        2 => Variant::Boolean((n + t) % 2 == 0),
        _ => Variant::String(format!("Var{index:03}:{t}").into()),
    }
}

pub(super) fn data_type(index: usize) -> DataTypeId {
    match index % 4 {
        0 => DataTypeId::Double,
        1 => DataTypeId::Int32,
        2 => DataTypeId::Boolean,
        _ => DataTypeId::String,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_variable_and_its_tick() {
        assert_eq!(value(4, 7), Variant::Double(4_000_007.0));
        assert_eq!(value(5, 7), Variant::Int32(5_000_007));
        assert_eq!(value(6, 7), Variant::Boolean(false));
        assert_eq!(value(7, 7), Variant::String("Var007:7".into()));
        assert_eq!(value(997, 999_999), Variant::Int32(997_999_999), "the largest fits 32 bits");
    }
}
