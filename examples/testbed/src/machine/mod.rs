//! A stand-in OPC UA machine: variables that follow a formula, and knobs for everything that goes wrong.

mod door;
mod server;
pub mod values;

use door::Door;
use opcua::types::StatusCode;
use server::Server;
use std::path::PathBuf;
use std::time::Duration;

/// What the machine is like.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// 0 takes any free port.
    pub port: u16,
    /// Variables `ns=2;s=Machine.Var000` and on: Double, Int32, Boolean, String in turn.
    pub variables: usize,
    /// How often they change.
    pub tick: Duration,
    /// Who may log in beside anonymous users. Nobody unless written down.
    pub users: Vec<(String, String)>,
    /// Nodes in a Read and items in a call, at most.
    pub operation_limit: usize,
    pub max_sessions: usize,
    /// Offers Basic256Sha256 beside None; needs a certificate, which takes a moment to make.
    pub secure: bool,
}

impl Default for MachineConfig {
    fn default() -> MachineConfig {
        MachineConfig {
            port: 0,
            variables: 8,
            tick: Duration::from_secs(1),
            users: Vec::new(),
            operation_limit: 100,
            max_sessions: 20,
            secure: true,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error("stand-in machine: {0}")]
    Io(#[from] std::io::Error),
    #[error("stand-in machine: {0}")]
    Server(String),
}

/// A running machine. Clients meet its front door; the server stands behind it, so that a dead, a
/// silent and a restarted machine look as they do in the field.
pub struct Machine {
    config: MachineConfig,
    /// Certificates; they outlive a restart as they do in a real machine.
    pki: tempfile::TempDir,
    door: Door,
    server: Option<Server>,
}

impl Machine {
    /// Starts the machine and waits until it answers.
    ///
    /// # Errors
    /// The port is taken, or the server can not start.
    pub async fn start(config: MachineConfig) -> Result<Machine, MachineError> {
        let pki = tempfile::tempdir()?;
        let door = Door::open(config.port).await?;
        let mut machine = Machine { config, pki, door, server: None };
        machine.restart().await?;
        Ok(machine)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.door.port()
    }

    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("opc.tcp://127.0.0.1:{}/", self.port())
    }

    /// The machine's certificate in DER, for the gateway's trust list.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.pki.path().join("own/cert.der")
    }

    /// Dies: connections break, sessions are forgotten, nobody listens.
    pub fn kill(&mut self) {
        self.door.close();
        self.server = None;
    }

    /// Comes back on the same port with the same certificate. Kills what still runs.
    ///
    /// # Errors
    /// The port was taken meanwhile, or the server can not start.
    pub async fn restart(&mut self) -> Result<(), MachineError> {
        self.kill();
        let server = Server::start(&self.config, self.pki.path()).await?;
        self.door.reopen(server.port()).await?;
        self.server = Some(server);
        Ok(())
    }

    /// Stops moving bytes without closing anything, or goes on: a half-open connection.
    pub fn pause(&self, paused: bool) {
        self.door.pause(paused);
    }

    /// Breaks all connections; the server goes on and keeps its sessions.
    pub fn drop_connections(&self) {
        self.door.drop_connections();
    }

    /// TCP connections ever accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.door.accepted()
    }

    /// Gives variable `index` a bad status instead of values; `None` heals it.
    pub fn spoil(&self, index: usize, status: Option<StatusCode>) {
        if let Some(server) = &self.server {
            server.spoil(index, status);
        }
    }

    /// Removes the node of variable `index`.
    pub fn remove(&self, index: usize) {
        if let Some(server) = &self.server {
            server.remove(index);
        }
    }

    /// What was last written to setpoint `Machine.Set0` (Double), `Set1` (Int32), `Set2` (Boolean)
    /// or `Set3` (String), as text.
    #[must_use]
    pub fn setpoint(&self, index: usize) -> Option<String> {
        self.server.as_ref()?.setpoint(index)
    }
}
