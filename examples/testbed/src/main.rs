//! The testbed's commands.

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;
use testbed::{alone, bench, crash, quickstart, serve, swaps};

/// Stand-ins for a site and for the EnOS Cloud.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A site, the gateway and the cloud on this machine, with an outage; live on screen.
    Quickstart(quickstart::Arguments),
    /// The gateway itself, so that one program runs the whole quickstart.
    #[command(hide = true)]
    Gateway {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Measure the gateway: CPU per value, memory, latency, and catching up after an outage.
    Bench(bench::Arguments),
    /// Kill the gateway and fail the cloud at random moments, and count what was lost and what came twice.
    Crash(crash::Arguments),
    /// Run devices and cloud for a gateway that runs elsewhere, and write its files.
    Site(alone::Arguments),
    /// Change the package again and again under load, and count what unchanged devices lost by it.
    Swaps(swaps::Arguments),
    /// Run only the stand-in cloud, until stopped.
    Cloud(Box<serve::CloudArguments>),
    /// Run only the stand-in Modbus devices, until stopped.
    Meter(serve::MeterArguments),
    /// Run only the stand-in OPC UA machine, until stopped.
    Machine(serve::MachineArguments),
}

fn main() -> ExitCode {
    let command = match Arguments::parse().command {
        Command::Gateway { arguments } => {
            return enos_edge::cli::main_from(std::iter::once(OsString::from("enos-edge")).chain(arguments));
        }
        other => other,
    };
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Warnings of our own. The OPC UA server finds fault with everything a stand-in is: no users, a certificate it signed.
fn quiet_logs() {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::prelude::*;
    const OPCUA: &[&str] =
        &["opcua_server", "opcua_client", "opcua_core", "opcua_crypto", "opcua_types", "opcua_nodes"];
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_targets(OPCUA.iter().map(|target| (*target, LevelFilter::OFF)));
    tracing_subscriber::registry()
        .with(filter)
        .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr))
        .init();
}

fn run(command: Command) -> anyhow::Result<()> {
    quiet_logs();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Quickstart(arguments) => quickstart::run(arguments).await,
            Command::Bench(arguments) => bench::run(arguments).await,
            Command::Crash(arguments) => crash::run(arguments).await,
            Command::Site(arguments) => alone::run(arguments).await,
            Command::Swaps(arguments) => swaps::run(arguments).await,
            Command::Gateway { .. } => unreachable!("the gateway has a runtime of its own"),
            Command::Cloud(arguments) => serve::cloud(*arguments).await,
            Command::Meter(arguments) => serve::meter(arguments).await,
            Command::Machine(arguments) => serve::machine(arguments).await,
        }
    })
}
