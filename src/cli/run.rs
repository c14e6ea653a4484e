//! `enos-edge run`: the daemon in the foreground.

use crate::{app, config, diagnostic, logs, privacy};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Configuration.
    #[arg(long, short, value_name = "FILE", default_value = super::DEFAULT_CONFIG)]
    config: PathBuf,
    /// Resource package, instead of the one the configuration names.
    #[arg(long, short, value_name = "PATH")]
    package: Option<PathBuf>,
    /// State folder, instead of the one the configuration names.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// How log lines look.
    #[arg(long, value_enum)]
    log_format: Option<logs::LogFormat>,
    /// Least important level that is logged: error, warn, info, debug, trace.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<tracing::Level>,
}

pub(super) fn run(arguments: Arguments) -> ExitCode {
    let overrides = config::Overrides { package: arguments.package, state_dir: arguments.state_dir };
    let config = match config::read_with(&arguments.config, overrides) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{}", diagnostic::joined(&faults));
            return ExitCode::from(2);
        }
    };
    logs::start(arguments.log_level.unwrap_or(config.log_level), arguments.log_format.unwrap_or(config.log_format));
    privacy::keep_memory_private();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match app::run_blocking(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
