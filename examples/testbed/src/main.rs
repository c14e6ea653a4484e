//! The testbed's commands.

use clap::{Parser, Subcommand};
use testbed::{quickstart, serve};

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
    /// Run only the stand-in cloud, until stopped.
    Cloud(serve::CloudArguments),
    /// Run only the stand-in Modbus devices, until stopped.
    Meter(serve::MeterArguments),
    /// Run only the stand-in OPC UA machine, until stopped.
    Machine(serve::MachineArguments),
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.command {
            Command::Quickstart(arguments) => quickstart::run(arguments).await,
            Command::Cloud(arguments) => serve::cloud(arguments).await,
            Command::Meter(arguments) => serve::meter(arguments).await,
            Command::Machine(arguments) => serve::machine(arguments).await,
        }
    })
}
