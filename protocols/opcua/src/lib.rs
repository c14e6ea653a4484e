//! Protocol `opcua`: reads, subscribes to and writes the variables of an OPC UA server.
//!
//! One [`driver::Session`] is one OPC UA session on one secure channel. The library's own session keeps
//! reconnecting and loses its subscriptions each time; so only its channel, codec and crypto are used,
//! and the first loss of anything ends the session. The runtime opens the next one.

mod convert;
mod file;
mod identity;
mod items;
mod line;
mod mailbox;
mod node;
mod open;
mod plan;
mod publish;
mod session;
mod settings;
mod socket;
mod trust;
mod write;

use driver::{ConnectionText, Diagnostic, Plan, Protocol};
use std::path::PathBuf;
use std::sync::Arc;

/// The protocol `opcua`.
pub struct OpcUa {
    state_dir: Arc<PathBuf>,
}

impl OpcUa {
    /// `state_dir` is where the daemon may write: relative paths of a connection lie below it.
    #[must_use]
    pub fn new(state_dir: PathBuf) -> OpcUa {
        OpcUa { state_dir: Arc::new(state_dir) }
    }
}

impl Protocol for OpcUa {
    fn name(&self) -> &'static str {
        "opcua"
    }

    fn plan(&self, connection: &ConnectionText<'_>) -> Result<Arc<dyn Plan>, Vec<Diagnostic>> {
        let plan = plan::OpcUaPlan::new(connection, &self.state_dir)?;
        Ok(Arc::new(plan))
    }
}
