//! Writes one point: first in the table's type, then in the node's own if the server insists.

use crate::convert;
use crate::session::Shared;
use driver::{Reason, SessionError, Value};
use opcua::client::services::{Read, Write};
use opcua::types::{
    AttributeId, DataTypeId, DataValue, NodeId, ReadValueId, StatusCode, TimestampsToReturn, Variant,
    VariantScalarTypeId, WriteValue,
};
use std::sync::PoisonError;

pub(crate) async fn write(shared: &Shared, point: u32, node: &NodeId, value: &Value) -> Result<(), SessionError> {
    let learned = shared.inner.wire_types.lock().unwrap_or_else(PoisonError::into_inner).get(&point).copied();
    let usual = convert::usual_type(shared.inner.points[point as usize].value_type);
    let status = write_as(shared, point, node, value, learned.unwrap_or(usual)).await?;
    if status != StatusCode::BadTypeMismatch || learned.is_some() {
        return judge(point, status);
    }
    let Some(wire) = wire_type(shared, node).await? else {
        return judge(point, status);
    };
    let status = write_as(shared, point, node, value, wire).await?;
    if status.is_good() {
        shared.inner.wire_types.lock().unwrap_or_else(PoisonError::into_inner).insert(point, wire);
    }
    judge(point, status)
}

/// Good, and the Good codes that say the value is on its way (GoodCompletesAsynchronously, GoodClamped).
fn judge(point: u32, status: StatusCode) -> Result<(), SessionError> {
    if status.is_good() {
        return Ok(());
    }
    Err(SessionError::Rejected { point, reason: Reason::StatusCode(status.bits()) })
}

async fn write_as(
    shared: &Shared,
    point: u32,
    node: &NodeId,
    value: &Value,
    wire: VariantScalarTypeId,
) -> Result<StatusCode, SessionError> {
    let variant = convert::to_variant(value, wire).map_err(|reason| SessionError::Rejected { point, reason })?;
    let (number, timeout, token, handle) = shared.talk.head();
    // Value only: many servers refuse a write that brings its own status or stamps (BadWriteNotSupported).
    let one = WriteValue {
        node_id: node.clone(),
        attribute_id: AttributeId::Value as u32,
        index_range: opcua::types::NumericRange::None,
        value: DataValue::value_only(variant),
    };
    let request = Write::new_manual(number, timeout, token, handle).nodes_to_write(vec![one]);
    let answer = shared.talk.call("write", request).await?;
    shared.hear();
    match answer.results.as_deref() {
        Some([status]) => Ok(*status),
        _ => Err(SessionError::Broken("write of one node: not one result".to_owned())),
    }
}

/// The node's type by its DataType attribute, or by its present value when that is the maker's own type.
async fn wire_type(shared: &Shared, node: &NodeId) -> Result<Option<VariantScalarTypeId>, SessionError> {
    let (number, timeout, token, handle) = shared.talk.head();
    let request = Read::new_manual(number, timeout, token, handle)
        .timestamps_to_return(TimestampsToReturn::Neither)
        .node(ReadValueId::new(node.clone(), AttributeId::DataType))
        .node(ReadValueId::new(node.clone(), AttributeId::Value));
    let answer = shared.talk.call("read data type", request).await?;
    let results = answer.results.unwrap_or_default();
    let declared = match results.first().and_then(|v| v.value.as_ref()) {
        Some(Variant::NodeId(id)) => built_in(id),
        _ => None,
    };
    Ok(declared.or_else(|| results.get(1)?.value.as_ref()?.scalar_type_id()))
}

fn built_in(data_type: &NodeId) -> Option<VariantScalarTypeId> {
    Some(match data_type.as_data_type_id().ok()? {
        DataTypeId::Boolean => VariantScalarTypeId::Boolean,
        DataTypeId::SByte => VariantScalarTypeId::SByte,
        DataTypeId::Byte => VariantScalarTypeId::Byte,
        DataTypeId::Int16 => VariantScalarTypeId::Int16,
        DataTypeId::UInt16 => VariantScalarTypeId::UInt16,
        DataTypeId::Int32 | DataTypeId::Enumeration => VariantScalarTypeId::Int32,
        DataTypeId::UInt32 => VariantScalarTypeId::UInt32,
        DataTypeId::Int64 => VariantScalarTypeId::Int64,
        DataTypeId::UInt64 => VariantScalarTypeId::UInt64,
        DataTypeId::Float => VariantScalarTypeId::Float,
        DataTypeId::Double | DataTypeId::Duration => VariantScalarTypeId::Double,
        DataTypeId::String => VariantScalarTypeId::String,
        DataTypeId::LocalizedText => VariantScalarTypeId::LocalizedText,
        DataTypeId::DateTime | DataTypeId::UtcTime => VariantScalarTypeId::DateTime,
        _ => return None,
    })
}
