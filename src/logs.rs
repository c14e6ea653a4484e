//! Logs for the engineer in the field: one line an event, journald-friendly, secrets never.

mod journal;
mod listeners;

pub use listeners::{Line, listen};

use std::fmt;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// To the journal with its fields when standard error goes there, else text.
    #[default]
    Auto,
    Text,
    Json,
    /// Text with the priority in front (`<4>`), as systemd reads it; no time, the journal has its own.
    Journal,
}

/// Starts logging to standard error. Calling it twice keeps the first.
pub fn start(level: Level, format: LogFormat) {
    let registry = tracing_subscriber::registry().with(filter(level)).with(listeners::Listeners);
    if format == LogFormat::Auto
        && let Some(journal) = journal::Journal::connect()
    {
        // A second start, as in tests, keeps the first subscriber.
        let _ = registry.with(journal).try_init();
        return;
    }
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let begun = match format {
        LogFormat::Json => registry.with(lines.json()).try_init(),
        LogFormat::Journal => registry.with(lines.event_format(Journal)).try_init(),
        LogFormat::Text | LogFormat::Auto => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(lines.with_ansi(colour).with_target(false)).try_init()
        }
    };
    // A second start, as in tests, keeps the first subscriber.
    let _ = begun;
}

/// The library logs each step of a failing connect as an error of its own, with internals, at every try. The driver
/// tells what came of it, once.
const OPCUA: &[&str] = &["opcua_client", "opcua_core", "opcua_crypto", "opcua_types", "opcua_xml"];

/// What of this program and of its libraries is worth a line.
fn filter(level: Level) -> Targets {
    let libraries = LevelFilter::from_level(level.min(Level::WARN));
    let chatty = match level {
        Level::ERROR | Level::WARN | Level::INFO => LevelFilter::OFF,
        Level::DEBUG => LevelFilter::INFO,
        Level::TRACE => LevelFilter::DEBUG,
    };
    Targets::new()
        .with_default(libraries)
        .with_target("enos_edge", level)
        .with_target("enos_edge_modbus", level)
        .with_target("enos_edge_opcua", level)
        .with_target("testbed", level)
        .with_targets(OPCUA.iter().map(|target| (*target, chatty)))
}

/// As syslog counts (sd-daemon(3)).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Syslog priority in front of the line (sd-daemon(3)).
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        Format::default()
            .without_time()
            .with_level(false)
            .with_target(false)
            .with_ansi(false)
            .format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_opc_ua_library_is_silent_unless_somebody_debugs() {
        for target in ["opcua_client::transport::connect", "opcua_core::comms", "opcua_crypto", "opcua_types"] {
            assert!(!filter(Level::INFO).would_enable(target, &Level::ERROR), "{target}");
            assert!(filter(Level::DEBUG).would_enable(target, &Level::INFO), "{target}");
        }
    }

    #[test]
    fn other_libraries_may_warn_and_the_gateway_says_what_it_was_asked_to() {
        let filter = filter(Level::DEBUG);
        assert!(filter.would_enable("rumqttc", &Level::WARN) && !filter.would_enable("rumqttc", &Level::INFO));
        assert!(filter.would_enable("enos_edge::south", &Level::DEBUG));
    }
}
