//! Logs for the engineer in the field: one line an event, journald-friendly, secrets never.

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
    /// For journald when it listens, else text.
    #[default]
    Auto,
    Text,
    Json,
    /// Text with the priority in front (`<4>`), as systemd reads it; no time, the journal has its own.
    Journal,
}

/// Starts logging to standard error. Calling it twice keeps the first.
pub fn start(level: Level, format: LogFormat) {
    let format = match format {
        LogFormat::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => LogFormat::Journal,
        LogFormat::Auto => LogFormat::Text,
        other => other,
    };
    // The OPC UA library logs every step of a failing connect as an error; the driver reports it once.
    let libraries = level.min(Level::WARN);
    let filter = Targets::new()
        .with_default(libraries)
        .with_target("enos_edge", level)
        .with_target("enos_edge_modbus", level)
        .with_target("enos_edge_opcua", level)
        .with_target("testbed", level)
        // It complains at every unsecured connect that there is no key.
        .with_target("opcua_core", if level >= Level::DEBUG { LevelFilter::INFO } else { LevelFilter::OFF })
        .with_target("opcua_client", if level >= Level::DEBUG { Level::INFO } else { Level::ERROR })
        .with_target("async_opcua_client", if level >= Level::DEBUG { Level::INFO } else { Level::ERROR });
    let registry = tracing_subscriber::registry().with(filter);
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

/// Syslog priority in front of the line (sd-daemon(3)).
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        Format::default()
            .without_time()
            .with_level(false)
            .with_target(false)
            .with_ansi(false)
            .format_event(context, writer, event)
    }
}
