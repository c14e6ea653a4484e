//! `enos-edge package new`: a package to start from.

use super::Outcome;
use crate::package::scaffold::{self, Wanted};
use clap::Args;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Start a package: a folder that passes its check at once, with comments where to fill in
#[derive(Args, Debug)]
pub(super) struct NewArgs {
    /// Folder to make
    dir: PathBuf,
    /// modbus-tcp, modbus-rtu, opcua or virtual
    #[arg(long)]
    protocol: String,
    /// Model file (models/*.yaml of a package): a point is made for each of its measurement points
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Name of the package. Default: the folder's
    #[arg(long)]
    name: Option<String>,
}

pub(super) fn run(args: &NewArgs) -> Outcome {
    let folder = args.dir.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = args.name.clone().or(folder).unwrap_or_default();
    let wanted = Wanted { name: &name, protocol: &args.protocol, model: args.model.as_deref() };
    let files = scaffold::create(&args.dir, &wanted)?;
    let mut said = String::new();
    for file in &files {
        let _ = writeln!(said, "{}", args.dir.join(file).display());
    }
    let _ = writeln!(said, "fill in the places marked `fill in`, then: enos-edge check {}", args.dir.display());
    Ok(said)
}
