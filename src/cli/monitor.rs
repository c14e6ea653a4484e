//! `enos-edge monitor`: a live table of values in the terminal, or a line of JSON for each round.

use super::status::text;
use super::terminal::{is_screen, table};
use super::{DoorArguments, failed};
use crate::doors::local::Visitor;
use serde_json::{Value as Json, json};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    door: DoorArguments,
    /// Only devices and points whose name contains this.
    filter: Option<String>,
    /// One JSON array of values a round, for a script.
    #[arg(long)]
    json: bool,
    /// Show once and end.
    #[arg(long)]
    once: bool,
    /// Milliseconds between rounds.
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    interval: u64,
}

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    match watch(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn watch(arguments: &Arguments) -> anyhow::Result<()> {
    let mut visitor = Visitor::connect(&arguments.door.path()?)?;
    let filter = json!({"filter": arguments.filter.as_deref().unwrap_or_default()});
    let live = !arguments.once && !arguments.json && is_screen();
    loop {
        let values = visitor.ask("values", &filter)?;
        let mut out = std::io::stdout().lock();
        let written = if arguments.json {
            writeln!(out, "{values}")
        } else {
            let header =
                if live { visitor.ask("status", &json!({})).map(|s| super::status::shown(&s))? } else { String::new() };
            show(&mut out, &header, &values, live)
        };
        // A reader that has gone (`| head`) ends the watch, and is no failure.
        if written.and_then(|()| out.flush()).is_err() || arguments.once {
            return Ok(());
        }
        drop(out);
        std::thread::sleep(Duration::from_millis(arguments.interval));
    }
}

fn show(out: &mut impl Write, header: &str, values: &Json, live: bool) -> std::io::Result<()> {
    let rows: Vec<Vec<String>> = values.as_array().into_iter().flatten().map(row).collect();
    let body = format!("{header}\n{}", table(&["device", "point", "value", "unit", "quality", "time", "raw"], &rows));
    if !live {
        return out.write_all(body.trim_start().as_bytes());
    }
    // Home, each line cleared to its end, then everything below: no flicker. Cut to the screen's height.
    let height = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(24, |size| usize::from(size.ws_row.max(10)));
    let lines: Vec<&str> = body.lines().collect();
    write!(out, "\x1b[H")?;
    for line in lines.iter().take(height - 1) {
        write!(out, "{line}\x1b[K\r\n")?;
    }
    if lines.len() > height - 1 {
        write!(out, "… {} more; name a device or point to see only those\x1b[K", lines.len() - height + 1)?;
    }
    write!(out, "\x1b[J")
}

fn row(value: &Json) -> Vec<String> {
    ["device", "point", "value", "unit", "quality", "time", "raw"].iter().map(|key| text(&value[*key])).collect()
}
