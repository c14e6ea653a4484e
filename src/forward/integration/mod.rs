//! Readings of logic assets to the cloud's REST integration: they have no MQTT login and are addressed by asset id
//! (R20-R22). Chosen by the kind of asset, so both kinds may stand behind one connection.

mod message;
mod run;
mod status;
mod work;

pub use run::{IntegrationPorts, run};
pub use status::{Snapshot, State, Status};
