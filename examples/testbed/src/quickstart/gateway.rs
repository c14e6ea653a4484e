//! The gateway as a process of its own: started, asked, told to stop, or killed.

use crate::cloud::Options;
use anyhow::{Context as _, bail};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A clean stop takes at most 5 s by promise; a loaded machine gets some more before the kill.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// Status is asked every second: one that takes longer is given up.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Which gateway, and how it speaks to the cloud.
#[derive(Debug, clap::Args)]
pub struct ProgramArguments {
    /// This enos-edge, instead of the one within this program.
    #[arg(long, value_name = "FILE")]
    gateway: Option<PathBuf>,
    /// The cloud is spoken to over TLS.
    #[arg(long)]
    tls: bool,
}

impl ProgramArguments {
    #[must_use]
    pub fn program(&self) -> Program {
        self.gateway.clone().map_or(Program::Own, Program::At)
    }

    /// A cloud as it wants one.
    #[must_use]
    pub fn cloud(&self) -> Options {
        cloud(self.tls)
    }
}

/// A cloud that speaks TLS as well, if it has to.
#[must_use]
pub fn cloud(tls: bool) -> Options {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Options { tls_address: tls.then_some(any), ..Options::default() }
}

/// What is started as the gateway.
#[derive(Clone, Debug)]
pub enum Program {
    /// This very program, as `testbed gateway …`.
    Own,
    /// An `enos-edge`.
    At(PathBuf),
}

impl Program {
    pub(crate) fn command(&self) -> anyhow::Result<Command> {
        Ok(match self {
            Program::At(path) => Command::new(path),
            Program::Own => {
                let mut command = Command::new(std::env::current_exe().context("own program")?);
                // As `enos-edge run` would set it for itself.
                command.arg("gateway").envs(enos_edge::heap::WORDS);
                command
            }
        })
    }
}

/// A running gateway. Dropping it kills it.
pub struct Gateway {
    child: Child,
    program: Program,
    config: PathBuf,
}

impl Gateway {
    /// Starts the gateway's `run`, its log in `log`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(program: Program, config: &Path, log: &Path) -> anyhow::Result<Gateway> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
        let file = file.with_context(|| format!("open {}", log.display()))?;
        let child = program
            .command()?
            .arg("run")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("log")?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {program:?}"))?;
        Ok(Gateway { child, program, config: config.to_owned() })
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What the gateway says of itself, or nothing while it does not answer.
    pub async fn status(&self) -> Option<serde_json::Value> {
        let mut asking = self.program.command().ok()?;
        asking.arg("status").arg("--json").arg("--config").arg(&self.config).kill_on_drop(true);
        let output = timeout(STATUS_TIMEOUT, asking.stdin(Stdio::null()).output()).await.ok()?.ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Whether it ended by itself, and how.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("ask for the gateway's end")
    }

    /// SIGTERM, then waits for its end.
    ///
    /// # Errors
    /// When it does not end in time, or not cleanly.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?)) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("send SIGTERM")?;
        }
        let status = timeout(STOP_TIMEOUT, self.child.wait()).await.context("gateway does not stop")??;
        if !status.success() {
            bail!("gateway ended with {status}");
        }
        Ok(())
    }

    /// SIGKILL, for crash tests.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("kill the gateway")
    }
}
