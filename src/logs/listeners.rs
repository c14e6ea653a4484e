//! Lets somebody far away listen to log lines. Costs one look at a counter while nobody does.

use serde::Serialize;
use std::fmt::{self, Write as _};
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Lines kept for a listener that is slow; then it loses the oldest and is told how many.
const KEPT: usize = 256;
/// A longer text is cut.
const LONGEST: usize = 4096;

static LINES: LazyLock<broadcast::Sender<Arc<Line>>> = LazyLock::new(|| broadcast::channel(KEPT).0);

/// One line as it was logged.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Milliseconds since 1970.
    pub time: i64,
    #[serde(serialize_with = "word")]
    pub level: Level,
    /// The message with its fields.
    pub text: String,
}

fn word<S: serde::Serializer>(level: &Level, out: S) -> Result<S::Ok, S::Error> {
    out.collect_str(&level.as_str().to_ascii_lowercase())
}

/// Lines from now on, as far as the configured level lets them be made.
#[must_use]
pub fn listen() -> broadcast::Receiver<Arc<Line>> {
    LINES.subscribe()
}

/// Hands lines to whoever listens.
pub(super) struct Listeners;

impl<S: Subscriber> Layer<S> for Listeners {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if LINES.receiver_count() == 0 {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let mut text = text.message + &text.fields;
        if text.len() > LONGEST {
            text.truncate(text.floor_char_boundary(LONGEST));
            text.push('…');
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        // Fails only when the last listener has just left.
        let _ = LINES.send(Arc::new(Line { time, level: *event.metadata().level(), text }));
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            name => drop(write!(self.fields, " {name}={value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => drop(write!(self.message, "{value:?}")),
            name => drop(write!(self.fields, " {name}={value:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::prelude::*;

    #[test]
    fn a_listener_gets_lines_with_their_fields_and_level() {
        let _ours = tracing::subscriber::set_default(tracing_subscriber::registry().with(Listeners));
        let mut lines = listen();
        tracing::warn!(connection = "line-7", attempt = 3, "does not answer");
        // Other tests of this process may log as well.
        let line = loop {
            let line = lines.try_recv().unwrap();
            if line.text.starts_with("does not answer") {
                break line;
            }
        };
        assert_eq!(line.text, "does not answer connection=line-7 attempt=3");
        assert!(serde_json::to_string(&*line).unwrap().contains(r#""level":"warn""#));
    }
}
