//! `enos-edge run`: the daemon in the foreground.

use crate::engine::{self, Folder};
use crate::store::RealDisk;
use crate::{app, config, diagnostic, logs, privacy};
use clap::ValueEnum;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Configuration.
    #[arg(long, short, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Resource package, instead of the one the configuration names.
    #[arg(long, short, value_name = "PATH")]
    package: Option<PathBuf>,
    /// State folder, instead of the one the configuration names.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// How log lines look.
    #[arg(long, value_enum)]
    pub log_format: Option<logs::LogFormat>,
    /// Least important level that is logged: error, warn, info, debug, trace.
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<tracing::Level>,
}

impl Arguments {
    /// The command line of an engine with these arguments.
    pub fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["run".into(), "--config".into(), self.config.clone().into()];
        let mut word =
            |flag: &str, value: Option<OsString>| words.extend(value.into_iter().flat_map(|v| [flag.into(), v]));
        word("--package", self.package.clone().map(Into::into));
        word("--state-dir", self.state_dir.clone().map(Into::into));
        let format = self.log_format.and_then(|format| format.to_possible_value());
        word("--log-format", format.map(|format| format.get_name().into()));
        word("--log-level", self.log_level.map(|level| level.to_string().into()));
        words
    }
}

pub(super) fn run(arguments: Arguments) -> ExitCode {
    let state_dir = arguments.state_dir.clone();
    let overrides = config::Overrides { package: arguments.package, state_dir: arguments.state_dir };
    let config = match config::read_with(&arguments.config, overrides) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{}", diagnostic::joined(&faults));
            if let Ok(found) = config::launch(&arguments.config, state_dir) {
                // Of edge.yaml, not of the engine.
                engine::starts::ended_in_order(&RealDisk, &Folder::of(&found.state_dir));
            }
            return ExitCode::from(2);
        }
    };
    logs::start(arguments.log_level.unwrap_or(config.log_level), arguments.log_format.unwrap_or(config.log_format));
    privacy::keep_memory_private();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let folder = Folder::of(&config.state_dir);
    match app::run_blocking(config) {
        Ok(()) => {
            engine::starts::ended_in_order(&RealDisk, &folder);
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
