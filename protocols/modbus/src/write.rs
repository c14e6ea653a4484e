//! Writes one control point, with whichever function the unit knows.

use crate::area::Area;
use crate::codec::{self, Written};
use crate::link::Link;
use crate::pdu::{Reply, Request};
use crate::plan::{Device, Inner};
use crate::point::Spec;
use crate::session::{ModbusSession, learned};
use driver::{Reason, SessionError, Value};

/// The exception "illegal function".
const ILLEGAL_FUNCTION: u8 = 1;

/// Writes and waits for the unit's echo.
pub async fn point(session: &mut ModbusSession, point: u32, value: &Value) -> Result<(), SessionError> {
    let ModbusSession { inner, link, .. } = session;
    let rejected = |reason| SessionError::Rejected { point, reason };
    let (device, spec) = find(inner, point).ok_or(rejected(Reason::TypeMismatch))?;
    if spec.area.is_read_only() {
        return Err(rejected(Reason::ModbusException(ILLEGAL_FUNCTION)));
    }
    let written = codec::encode(spec, value).map_err(rejected)?;
    let code = match &written {
        Written::Coil(on) => coil(link, device, spec.address, *on).await?,
        Written::Bit { bit, on } => single_bit(link, device, spec, *bit, *on).await?,
        Written::Registers { bytes, len } => registers(link, device, spec.address, &bytes[..*len]).await?,
    };
    match code {
        None => Ok(()),
        Some(code) => Err(rejected(Reason::ModbusException(code))),
    }
}

fn find(inner: &Inner, point: u32) -> Option<(&Device, &Spec)> {
    let behind = inner.devices.partition_point(|device| device.first_point <= point);
    let device = inner.devices.get(behind.checked_sub(1)?)?;
    let spec = device.specs.get((point - device.first_point) as usize)?;
    Some((device, spec))
}

async fn ask(link: &mut Link, device: &Device, request: &Request<'_>) -> Result<Option<u8>, SessionError> {
    match link.exchange(device.unit, request).await? {
        Reply::Data(_) => Ok(None),
        Reply::Exception(code) => Ok(Some(code)),
    }
}

/// Function 5, or 15 where 5 is unknown.
async fn coil(link: &mut Link, device: &Device, address: u16, on: bool) -> Result<Option<u8>, SessionError> {
    if !learned(device).no_single_write[1] {
        let code = ask(link, device, &Request::WriteCoil { address, on }).await?;
        if code != Some(ILLEGAL_FUNCTION) {
            return Ok(code);
        }
        learned(device).no_single_write[1] = true;
    }
    ask(link, device, &Request::WriteCoils { address, on }).await
}

/// Function 6 for one register, or 16 where 6 is unknown; 16 for more.
async fn registers(link: &mut Link, device: &Device, address: u16, bytes: &[u8]) -> Result<Option<u8>, SessionError> {
    if let [high, low] = *bytes
        && !learned(device).no_single_write[0]
    {
        let code = ask(link, device, &Request::WriteRegister { address, bytes: [high, low] }).await?;
        if code != Some(ILLEGAL_FUNCTION) {
            return Ok(code);
        }
        learned(device).no_single_write[0] = true;
    }
    ask(link, device, &Request::WriteRegisters { address, bytes }).await
}

/// Function 22 changes the one bit inside the unit. Without it the register is read and written
/// back, which loses what anybody else writes in between: nothing better exists then.
async fn single_bit(
    link: &mut Link,
    device: &Device,
    spec: &Spec,
    bit: u8,
    on: bool,
) -> Result<Option<u8>, SessionError> {
    let address = spec.address;
    // The bit counts in the value's order; on the wire a swapped register has it in the other byte.
    let mask = u16::from_be_bytes(spec.order.apply((1u16 << bit).to_be_bytes()));
    if !learned(device).no_mask_write {
        let request = Request::MaskWrite { address, and: !mask, or: if on { mask } else { 0 } };
        let code = ask(link, device, &request).await?;
        if code != Some(ILLEGAL_FUNCTION) {
            return Ok(code);
        }
        learned(device).no_mask_write = true;
    }
    let request = Request::Read { area: Area::Holding, address, count: 1 };
    let now = match link.exchange(device.unit, &request).await? {
        Reply::Data(data) => data.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes)),
        Reply::Exception(code) => return Ok(Some(code)),
    };
    let next = if on { now | mask } else { now & !mask };
    registers(link, device, address, &next.to_be_bytes()).await
}
