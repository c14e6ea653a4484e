//! PURE. How long an answer may take, and what follows when it does not come.

use super::{Now, Publisher};
use crate::config::Acknowledge;
use std::time::Duration;

/// A plain broker that takes longer to acknowledge is no broker any more.
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);

impl Publisher {
    /// Messages without an answer are sent again. Returns whether the connection is to be given up.
    pub fn time_out(&mut self, now: Now) -> bool {
        if self.acknowledge == Acknowledge::Puback {
            return self.gives_up(now);
        }
        let Some(since) = now.at.checked_sub(self.reply_timeout) else {
            return false;
        };
        let late = self.in_flight.sent_before(since);
        if late.is_empty() {
            return false;
        }
        self.window.troubled();
        let mut hopeless = false;
        for id in late {
            if let Some(mut sent) = self.in_flight.answered(id) {
                sent.content.timeouts += 1;
                hopeless |= sent.content.timeouts >= 2;
                self.in_flight.send_again(sent.content);
            }
        }
        hopeless
    }

    /// A plain broker acknowledged nothing for too long. MQTT 3.1.1 4.4: a PUBLISH is only sent again on a new
    /// connection, and there it has twice the time, or a slow broker would never be served.
    pub(super) fn gives_up(&mut self, now: Now) -> bool {
        let silent = self.timeout().is_some_and(|end| end <= now.at);
        if silent {
            self.window.troubled();
            self.patience = (self.patience * 2).min(LONGEST_PATIENCE.max(self.reply_timeout));
        }
        silent
    }

    /// When what is under way has taken too long.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let oldest = self.in_flight.oldest()?;
        Some(match self.acknowledge {
            Acknowledge::Puback => oldest.max(self.progress) + self.patience,
            Acknowledge::Reply => oldest + self.reply_timeout,
        })
    }
}
