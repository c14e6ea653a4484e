//! What a person sees: a few lines that change in place, or plain lines where nobody looks.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// One moment of the run.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub elapsed: Duration,
    pub cloud_up: bool,
    /// Values a second the sub-devices gave out, and the cloud received.
    pub polled: u64,
    pub received: u64,
    pub delivered: u64,
    /// Readings that exist and that the cloud does not have yet.
    pub missing: u64,
    pub duplicated: u64,
    /// As the gateway says: readings waiting, and bytes on disk.
    pub waiting: Option<u64>,
    pub bytes_on_disk: Option<u64>,
    pub last_values: Vec<(String, f64)>,
    pub note: &'static str,
}

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Rewritten in place on standard output.
    Live,
    /// One line a second on standard output.
    Plain,
    /// One line a second on standard error: standard output is for the verdict.
    Aside,
}

/// The screen of one run.
#[derive(Debug)]
pub struct Screen {
    style: Style,
    drawn: usize,
}

impl Screen {
    #[must_use]
    pub fn new(json: bool) -> Screen {
        let style = match json {
            true => Style::Aside,
            false if std::io::stdout().is_terminal() => Style::Live,
            false => Style::Plain,
        };
        Screen { style, drawn: 0 }
    }

    /// How often a view is worth showing.
    #[must_use]
    pub fn period(&self) -> Duration {
        Duration::from_millis(if self.style == Style::Live { 250 } else { 1000 })
    }

    pub fn show(&mut self, view: &View) {
        match self.style {
            Style::Live => {
                let text = block(view);
                let mut out = std::io::stdout().lock();
                // A screen that is gone is no reason to stop the run.
                let _ = write!(out, "{}{text}", erase(self.drawn)).and_then(|()| out.flush());
                self.drawn = text.lines().count();
            }
            Style::Plain => println!("{}", line(view)),
            Style::Aside => eprintln!("{}", line(view)),
        }
    }

    /// A line that stays.
    pub fn say(&mut self, text: &str) {
        self.drawn = 0;
        match self.style {
            Style::Live | Style::Plain => println!("{text}"),
            Style::Aside => eprintln!("{text}"),
        }
    }
}

/// Goes up and clears what was drawn before.
fn erase(lines: usize) -> String {
    if lines == 0 { String::new() } else { format!("\x1b[{lines}A\x1b[J") }
}

fn block(view: &View) -> String {
    let mut out = String::new();
    let cloud = if view.cloud_up { "\x1b[32mup\x1b[0m" } else { "\x1b[31mdown\x1b[0m" };
    let _ = writeln!(out, "{:>5} s   cloud {cloud}   {}", view.elapsed.as_secs(), view.note);
    let _ = writeln!(out, "  sub-devices  {:>8} values/s", view.polled);
    let _ = writeln!(
        out,
        "  outbox       {:>8} readings waiting   {} on disk",
        count(view.waiting),
        bytes(view.bytes_on_disk)
    );
    let _ = writeln!(out, "  cloud        {:>8} values/s   {} in all", view.received, view.delivered);
    let _ = writeln!(out, "  ledger       {:>8} not there yet   {} twice", view.missing, view.duplicated);
    for (name, value) in &view.last_values {
        let _ = writeln!(out, "  {name:<24} {value}");
    }
    out
}

fn line(view: &View) -> String {
    let values: Vec<String> = view.last_values.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!(
        "{:>4}s cloud={} polled={}/s received={}/s delivered={} waiting={} disk={} missing={} duplicated={} {} {}",
        view.elapsed.as_secs(),
        if view.cloud_up { "up" } else { "down" },
        view.polled,
        view.received,
        view.delivered,
        count(view.waiting),
        bytes(view.bytes_on_disk),
        view.missing,
        view.duplicated,
        values.join(" "),
        view.note,
    )
    .trim_end()
    .to_owned()
}

fn count(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn bytes(number: Option<u64>) -> String {
    match number {
        None => "-".to_owned(),
        Some(bytes) if bytes < 10 * 1024 => format!("{bytes} B"),
        Some(bytes) if bytes < 10 * 1024 * 1024 => format!("{} KB", bytes / 1024),
        Some(bytes) => format!("{} MB", bytes / (1024 * 1024)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_holds_what_a_person_looks_for() {
        let view = View { cloud_up: false, waiting: Some(120), bytes_on_disk: Some(40_960), ..View::default() };
        let text = line(&view);
        assert!(text.contains("cloud=down") && text.contains("waiting=120") && text.contains("disk=40 KB"), "{text}");
    }

    #[test]
    fn a_block_is_erased_before_the_next() {
        assert_eq!(erase(0), "");
        assert_eq!(erase(block(&View::default()).lines().count()), "\x1b[5A\x1b[J");
    }
}
