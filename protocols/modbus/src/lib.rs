//! Modbus TCP, Modbus RTU and RTU over TCP on the driver contract.
//!
//! One planner and one codec for all three; only the framing and the way the stream is opened
//! differ. Why the framing is our own: `docs/decisions/0002-own-modbus-framing.md`.

mod area;
mod barrier;
mod blocks;
mod codec;
mod learned;
mod line;
mod link;
mod mbap;
mod number;
mod order;
mod pdu;
mod plan;
mod point;
mod raw;
mod read;
mod records;
mod rtu;
mod session;
mod settings;
mod transfer;
mod write;

use driver::{ConnectionText, Diagnostic, Plan, Protocol};
use settings::Dialect;
use std::sync::Arc;

/// `modbus-tcp`, `modbus-rtu` and `modbus-rtu-over-tcp`.
#[must_use]
pub fn protocols() -> [&'static dyn Protocol; 3] {
    [&Modbus(Dialect::Tcp), &Modbus(Dialect::Rtu), &Modbus(Dialect::RtuOverTcp)]
}

struct Modbus(Dialect);

impl Protocol for Modbus {
    fn name(&self) -> &'static str {
        match self.0 {
            Dialect::Tcp => "modbus-tcp",
            Dialect::Rtu => "modbus-rtu",
            Dialect::RtuOverTcp => "modbus-rtu-over-tcp",
        }
    }

    fn plan(&self, connection: &ConnectionText<'_>) -> Result<Arc<dyn Plan>, Vec<Diagnostic>> {
        Ok(Arc::new(plan::ModbusPlan::new(self.0, connection)?))
    }
}
