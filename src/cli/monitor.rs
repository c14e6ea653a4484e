//! `enos-edge monitor`: a live table of values in the terminal, or a line of JSON for each round.

use super::moments::relative;
use super::status::text;
use super::terminal::{cut, is_screen, table};
use super::{DoorArguments, failed};
use crate::doors::local::Visitor;
use crate::model::Timestamp;
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
            let now = Timestamp::now().0;
            let header = if live {
                // Gaps and refusals are for `status`: the disk is not asked every second.
                let status = visitor.ask("status", &json!({"listings": false}))?;
                super::status::shown(&status, now)
            } else {
                String::new()
            };
            show(&mut out, &header, &values, live, now)
        };
        // A reader that has gone (`| head`) ends the watch, and is no failure.
        if written.and_then(|()| out.flush()).is_err() || arguments.once {
            return Ok(());
        }
        drop(out);
        std::thread::sleep(Duration::from_millis(arguments.interval));
    }
}

fn show(out: &mut impl Write, header: &str, values: &Json, live: bool, now: i64) -> std::io::Result<()> {
    let rows: Vec<Vec<String>> = values.as_array().into_iter().flatten().map(|value| row(value, now)).collect();
    let body = format!("{header}\n{}", table(&["device", "point", "value", "unit", "quality", "read", "raw"], &rows));
    if !live {
        return out.write_all(body.trim_start().as_bytes());
    }
    // Home, each line cleared to its end, then everything below: no flicker. Cut to the screen.
    let screen = rustix::termios::tcgetwinsize(std::io::stdout());
    let (height, width) = screen.map_or((24, 80), |s| (usize::from(s.ws_row.max(10)), usize::from(s.ws_col.max(20))));
    let lines: Vec<&str> = body.lines().collect();
    write!(out, "\x1b[H")?;
    for line in lines.iter().take(height - 1) {
        write!(out, "{}\x1b[K\r\n", cut(line, width))?;
    }
    if lines.len() > height - 1 {
        write!(out, "… {} more; name a device or point to see only those\x1b[K", lines.len() - height + 1)?;
    }
    write!(out, "\x1b[J")
}

fn row(value: &Json, now: i64) -> Vec<String> {
    let cell = |key: &str| text(&value[key]);
    let read = relative(value["time"].as_i64().unwrap_or(0), now);
    vec![cell("device"), cell("point"), cell("value"), cell("unit"), cell("quality"), read, cell("raw")]
}
