//! `enos-edge launch`: starts the engine that the pointer names, proves it, and carries a trial through.

use super::run;
use crate::engine::launch::{Go, Launcher};
use crate::engine::{self, Folder, Slot, proof, supervise};
use crate::store::RealDisk;
use crate::update::keys;
use crate::{config, diagnostic, logs, outbox, version};
use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

/// An engine that is ending has let go of its outbox by then.
const LET_GO: Duration = crate::shutdown::WHOLE;
const LOOK: Duration = Duration::from_millis(20);

/// The child of a launcher, on its way to becoming an engine.
#[derive(clap::Args)]
pub(super) struct Become {
    parent: u32,
    program: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(super) fn become_engine(arguments: &Become) -> ExitCode {
    let error = supervise::become_engine(arguments.parent, &arguments.program, &arguments.arguments);
    super::failed(&anyhow::Error::new(error).context(format!("start {}", arguments.program.display())))
}

pub(super) fn run(arguments: run::Arguments) -> ExitCode {
    let config = match config::launch(&arguments.config, arguments.state_dir.clone()) {
        Ok(config) => config,
        // The engine tells all faults, with their places.
        Err(_) => return run::run(arguments),
    };
    let folder = Folder::of(&config.state_dir);
    logs::start(arguments.log_level.unwrap_or(tracing::Level::INFO), arguments.log_format.unwrap_or_default());
    let keys = keys::load(&config.update, &config.state_dir);
    let outbox = config.state_dir.join("outbox");
    let own = own_program();
    let user = rustix::process::geteuid().as_raw();
    let launcher = Launcher {
        disk: &RealDisk,
        folder: folder.clone(),
        packaged: version::current(),
        own: own.clone(),
        arguments: arguments.words(),
        prove: &|slot| {
            let keys = keys.as_ref().map_err(|faults| diagnostic::joined(faults))?;
            proof::prove(&folder, slot, keys, user).map(drop)
        },
        quiet: &|| is_quiet(&outbox),
    };
    match launcher.go() {
        Ok(Go::Packaged) => super::failed(&become_program(&own, None, &arguments)),
        Ok(Go::Slot(slot)) => {
            // It was proven, and yet it may not be run here, as on a file system mounted noexec.
            let error = become_program(&folder.program(slot), Some(slot), &arguments);
            tracing::error!(
                slot = slot.word(),
                "the engine of the slot can not be run, the packaged one runs: {error:#}"
            );
            super::failed(&become_program(&own, None, &arguments))
        }
        Ok(Go::Ended(status)) => exit_as(status),
        Ok(Go::Stopped) => ExitCode::SUCCESS,
        Err(error) => super::failed(&anyhow::Error::new(error).context("launch the engine")),
    }
}

/// Same process, other program: `Type=notify` and the watchdog go on with the same PID. Comes back only with an error.
fn become_program(program: &Path, slot: Option<Slot>, arguments: &run::Arguments) -> anyhow::Error {
    let mut command = Command::new(program);
    command.args(arguments.words()).env(engine::LAUNCHER_VARIABLE, version::current());
    match slot {
        Some(slot) => command.env(engine::SLOT_VARIABLE, slot.word()),
        None => command.env_remove(engine::SLOT_VARIABLE),
    };
    anyhow::Error::new(command.exec()).context(format!("start {}", program.display()))
}

/// As the engine ended: its status, or 128 and the signal, as a shell says it.
fn exit_as(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// The file this program was started from, so that its name stays in lists of processes; if a package of the operating
/// system has replaced it meanwhile, what is still in memory.
fn own_program() -> PathBuf {
    std::env::current_exe().ok().filter(|path| path.exists()).unwrap_or_else(|| "/proc/self/exe".into())
}

/// Waits for an engine that is ending.
fn is_quiet(outbox: &Path) -> bool {
    let until = Instant::now() + LET_GO;
    while !outbox::is_free(outbox) {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}
