//! Writes what a package says of the program: man pages and shell completions, from the command line as it is.
//!
//! `enos-edge-texts FOLDER DATE`, the date as 2026-11-22. A program of its own, so that none of this is in the daemon.

mod man;
mod settings;

use anyhow::Context;
use clap_complete::{Shell, generate};
use std::path::{Path, PathBuf};

const PROGRAM: &str = "enos-edge";
/// File of each shell as its packages look for it.
const COMPLETIONS: &[(Shell, &str)] =
    &[(Shell::Bash, "enos-edge.bash"), (Shell::Zsh, "_enos-edge"), (Shell::Fish, "enos-edge.fish")];
const SETTINGS: &str = include_str!("../../deb/edge.yaml");

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (folder, date) = arguments.next().zip(arguments.next()).context("usage: enos-edge-texts FOLDER DATE")?;
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let command = enos_edge::cli::command();
    put(&folder, "enos-edge.1", man::page(command.clone(), &date).as_bytes())?;
    put(&folder, "edge.yaml.5", settings::page(SETTINGS, command.get_version().unwrap_or_default(), &date).as_bytes())?;
    for (shell, name) in COMPLETIONS {
        let mut text = Vec::new();
        generate(*shell, &mut command.clone(), PROGRAM, &mut text);
        put(&folder, name, &text)?;
    }
    Ok(())
}

fn put(folder: &Path, name: &str, text: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}
