//! Protocol data units of somebody else, passed on to one unit as they are, where the connection allows it.

use crate::link::Framing;
use crate::pdu::{MAX_PDU, Reply, Request, raw_reply_len};
use crate::session::ModbusSession;
use driver::RawError;

/// The highest function code; above it are exceptions.
const LAST_FUNCTION: u8 = 127;

/// Function code and data to the device's unit, and the same of its answer, an exception included.
pub async fn pdu(session: &mut ModbusSession, device: u32, bytes: &[u8]) -> Result<Vec<u8>, RawError> {
    let ModbusSession { inner, link, .. } = session;
    let refused = |why: String| Err(RawError::Refused(why));
    if !inner.settings.raw {
        return refused(
            "raw bytes are forbidden on this connection; `raw: true` in protocol.sys allows them".to_owned(),
        );
    }
    let Some(device) = inner.devices.get(device as usize) else {
        return refused(format!("the connection has no device {device}"));
    };
    match bytes {
        [] => return refused("there are no bytes; a function code and its data are wanted".to_owned()),
        [function, ..] if !(1..=LAST_FUNCTION).contains(function) => {
            return refused(format!("{function} is no function code"));
        }
        _ if bytes.len() > MAX_PDU => {
            return refused(format!("{} bytes are more than the {MAX_PDU} of a protocol data unit", bytes.len()));
        }
        [function, ..] if link.framing() == Framing::Rtu && raw_reply_len(bytes).is_none() => {
            return refused(format!("the length of the answer to function {function} is not known, as RTU needs it"));
        }
        _ => {}
    }
    match link.exchange(device.unit, &Request::Raw { pdu: bytes }).await? {
        Reply::Data(data) => Ok([&bytes[..1], data].concat()),
        Reply::Exception(code) => Ok(vec![bytes[0] | 0x80, code]),
    }
}
