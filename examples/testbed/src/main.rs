//! The testbed's commands.

use clap::{Parser, Subcommand};
use testbed::serve;

/// Stand-ins for a site and for the EnOS Cloud.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run only the stand-in cloud, until stopped.
    Cloud(serve::CloudArguments),
}

fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.command {
            Command::Cloud(arguments) => serve::cloud(arguments).await,
        }
    })
}
