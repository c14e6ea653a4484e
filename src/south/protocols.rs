//! The one file that names protocols: one line each.

use driver::Protocol;
use std::path::Path;

/// Every protocol this engine speaks.
pub struct Protocols {
    opcua: opcua::OpcUa,
}

impl Protocols {
    /// `state_dir`: where a protocol may keep what it needs, such as an OPC UA certificate.
    #[must_use]
    pub fn new(state_dir: &Path) -> Protocols {
        Protocols { opcua: opcua::OpcUa::new(state_dir.to_owned()) }
    }

    /// In the order they are shown to people.
    #[must_use]
    pub fn list(&self) -> Vec<&dyn Protocol> {
        let mut list: Vec<&dyn Protocol> = Vec::new();
        list.extend(modbus::protocols());
        list.push(&self.opcua);
        list.push(&virtual_source::Virtual);
        list
    }
}
