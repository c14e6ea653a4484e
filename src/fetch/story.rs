//! What the cloud is told of one attempt: that it began, how far it is and where it ended. A look that finds nothing new is
//! told only when the cloud asked for it.

use super::desk::Desk;
use super::journal::Trouble;
use super::status::Status;
use crate::model::progress::Progress;
use crate::model::{Publish, Stage};
use serde_json::{Value as Json, json};
use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, interval};

/// How often the growing archive is looked at.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Story<'a> {
    desk: &'a Desk,
    publish: Publish,
    /// Between two words of progress.
    pause: Duration,
    begun: bool,
}

impl<'a> Story<'a> {
    pub fn new(desk: &'a Desk, publish: Publish, pause: Duration) -> Story<'a> {
        Story { desk, publish, pause, begun: false }
    }

    pub fn publish(&self) -> &Publish {
        &self.publish
    }

    /// That it began was told with an earlier try.
    pub fn has_begun(&mut self) {
        self.begun = true;
    }

    pub fn begun(&mut self) {
        if !std::mem::replace(&mut self.begun, true) {
            self.desk.tell(&self.publish, Stage::Begun, "", &[]);
        }
    }

    pub fn failed(&self, trouble: &Trouble) {
        self.desk.tell(&self.publish, Stage::Failed, &trouble.to_string(), &[("step", json!(trouble.step.word()))]);
    }

    /// Looks at the archive as it grows, for ever.
    pub async fn watch(&mut self, part: &Path, progress: &Progress, status: &Status) -> Infallible {
        let mut ticks = interval(LOOK);
        let (mut told_at, mut told) = (Instant::now(), 0);
        // At once is too early: what is half here is not progress of this attempt.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let bytes = std::fs::metadata(part).map_or(0, |found| found.len());
            let total = progress.look().total;
            {
                let mut state = status.state();
                (state.bytes, state.total) = (bytes, total);
            }
            if bytes != told && told_at.elapsed() >= self.pause {
                self.begun();
                self.desk.tell(&self.publish, Stage::Progress, "", &so_far(bytes, total));
                (told_at, told) = (Instant::now(), bytes);
            }
        }
    }
}

fn so_far(bytes: u64, total: u64) -> Vec<(&'static str, Json)> {
    let mut fields = vec![("bytes", json!(bytes))];
    if total > 0 {
        fields.push(("total", json!(total)));
        fields.push(("percent", json!(bytes.min(total).saturating_mul(100) / total)));
    }
    fields
}
