//! Commands under way and the answers they will get. They outlive a connection: what could not be sent is sent on the
//! next one, while anybody may still wait for it.

use super::downstream::ReplyTo;
use crate::model::{Command, Commands, Outcome};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Commands under way, answers that wait, and answers that were sent a moment ago. Beyond it a command is answered as
/// busy, and the oldest answer is dropped: the caller gets it when it repeats its command.
const MOST: usize = 256;
/// How long a caller waits that does not say so. EnOS: 1 to 60 s, 30 s by default.
const WAITED_FOR: Duration = Duration::from_secs(30);

/// What is published.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Topic and payload, in order.
    pub messages: Vec<(String, Vec<u8>)>,
    until: Instant,
}

#[derive(Default)]
pub struct Answers {
    under_way: JoinSet<Reply>,
    unsent: VecDeque<Reply>,
    /// Sent on this connection; nobody told that they arrived.
    sent: VecDeque<Reply>,
}

impl Answers {
    /// Starts a command. The reply at once, when there are too many.
    pub fn start(&mut self, commands: &dyn Commands, command: Command, to: ReplyTo) -> Option<Reply> {
        let until = Instant::now() + command.time_to_live.unwrap_or(WAITED_FOR).min(WAITED_FOR * 2);
        if self.under_way.len() >= MOST {
            let busy = Outcome::refused(crate::model::command::code::BUSY, "too many commands; nothing was done");
            return Some(Reply { messages: to.messages(&busy), until });
        }
        let outcome = commands.perform(command);
        self.under_way.spawn(async move {
            let outcome = outcome.await;
            Reply { messages: to.messages(&outcome), until }
        });
        None
    }

    /// The next answer; `None` at once when no command is under way. Cancel-safe.
    pub async fn next(&mut self) -> Option<Reply> {
        loop {
            // A task that panicked has said so already; its caller gets the outcome when it repeats the command.
            if let Ok(reply) = self.under_way.join_next().await? {
                return Some(reply);
            }
        }
    }

    pub fn keep(&mut self, reply: Reply) {
        push(&mut self.unsent, reply);
    }

    /// Answers that wait and are still wanted.
    pub fn take_unsent(&mut self) -> Option<Reply> {
        let now = Instant::now();
        self.unsent.retain(|reply| now < reply.until);
        self.unsent.pop_front()
    }

    pub fn sent(&mut self, reply: Reply) {
        let now = Instant::now();
        self.sent.retain(|reply| now < reply.until);
        push(&mut self.sent, reply);
    }

    /// The connection broke: whatever it carried a moment ago may not have arrived. An answer may come twice.
    pub fn lost(&mut self) {
        while let Some(reply) = self.sent.pop_front() {
            self.keep(reply);
        }
    }

    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.unsent.is_empty()
    }
}

fn push(queue: &mut VecDeque<Reply>, reply: Reply) {
    if queue.len() >= MOST {
        queue.pop_front();
    }
    queue.push_back(reply);
}
