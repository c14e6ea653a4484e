//! Sends the file: loads the next piece, lets the line take a step of it, remembers what the device has.

use super::notes::Notes;
use super::{AGAIN, DeviceFirmware, Trouble};
use crate::update::{Failure, Stage, Staged, Tell};
use driver::{Phase, Transfer, TransferShape};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Bytes that are read at once: some hundred steps of Modbus.
const WINDOW: usize = 64 << 10;
/// What was sent is remembered after this, or after a share of the file; no more often, for flash wears out.
const REMEMBER: Duration = Duration::from_secs(15);
const SHARES: u64 = 20;
/// A line that has much to do may take so long to come to a step.
const START: Duration = Duration::from_secs(10);
/// A device that says "later" is asked again after this.
const LATER: Duration = Duration::from_millis(500);
/// So often a conversation may break while the file is on its way, silence between them counting once.
const BREAKS: u32 = 20;
/// Steps in a row that bring nothing: opening, finding a piece that passes. A driver that does more of them is broken.
const IDLE: u32 = 64;

pub(super) async fn send(own: &DeviceFirmware, update: &Staged, tell: &dyn Tell) -> Result<(), Failure> {
    let writing = |why: String| own.failed(Stage::Writing, &why);
    let disk = |error: io::Error| own.failed(Stage::Other, &error.to_string());
    let notes = Notes::read(update).map_err(disk)?;
    if notes.whole {
        return Ok(());
    }
    let shape = own.device.shape().ok_or_else(|| writing("its connection carries no files".to_owned()))?;
    own.write(&own.rules.before, update, false).await.map_err(writing)?;
    let size = update.manifest.payload_bytes;
    let sent = if shape.resumes { notes.sent } else { 0 };
    let mut sending = Sending {
        own,
        tell,
        shape,
        update,
        payload: Arc::new(File::open(&update.payload).map_err(disk)?),
        file: Transfer::resumed(fastrand::u64(..), size, sent),
        further: Instant::now(),
        remembered: (Instant::now(), sent),
        breaks: 0,
        broken: false,
        idle: 0,
    };
    sending.all().await?;
    Notes { sent: size, whole: true, ..notes }.write(update).map_err(disk)
}

struct Sending<'a> {
    own: &'a DeviceFirmware,
    tell: &'a dyn Tell,
    shape: TransferShape,
    update: &'a Staged,
    payload: Arc<File>,
    file: Transfer,
    /// When the device last took something.
    further: Instant,
    remembered: (Instant, u64),
    breaks: u32,
    /// Since then.
    broken: bool,
    idle: u32,
}

impl Sending<'_> {
    async fn all(&mut self) -> Result<(), Failure> {
        while self.file.phase != Phase::Done {
            self.load().await?;
            let before = (self.file.phase, self.file.done, self.file.again);
            match self.own.device.send(&mut self.file, START).await {
                Ok(()) => self.went_on((self.file.phase, self.file.done, self.file.again) != before).await?,
                Err(Trouble::Refused(why)) => return Err(self.failed(&why)),
                Err(Trouble::Later(why)) => self.wait(&why, LATER).await?,
                Err(Trouble::Away(why)) => {
                    if !std::mem::replace(&mut self.broken, true) {
                        self.breaks += 1;
                    }
                    if self.breaks > BREAKS {
                        return Err(self.failed(&format!("the conversation broke {} times: {why}", self.breaks)));
                    }
                    self.wait(&why, AGAIN).await?;
                }
            }
        }
        Ok(())
    }

    fn failed(&self, why: &str) -> Failure {
        let doing = if self.file.phase == Phase::Checking { "read back" } else { "sent" };
        let words = format!("{why} ({} of {} bytes {doing})", self.file.done, self.file.size);
        self.own.failed(Stage::Writing, &words)
    }

    /// The piece at hand, if it is not loaded.
    async fn load(&mut self) -> Result<(), Failure> {
        if self.file.is_through() || self.file.bytes(self.shape.piece).is_some() {
            return Ok(());
        }
        let (payload, at) = (Arc::clone(&self.payload), self.file.done);
        let left = usize::try_from(self.file.size - at).unwrap_or(usize::MAX);
        let len = left.min(WINDOW.max(self.shape.piece));
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; len];
            payload.read_exact_at(&mut bytes, at).map(|()| bytes)
        });
        let read = read.await.unwrap_or_else(|_| Err(io::Error::other("reading broke")));
        let bytes = read.map_err(|error| self.own.failed(Stage::Other, &format!("read the payload: {error}")))?;
        self.file.load(at, bytes);
        Ok(())
    }

    async fn went_on(&mut self, further: bool) -> Result<(), Failure> {
        self.idle = if further { 0 } else { self.idle + 1 };
        if self.idle > IDLE {
            return Err(self.failed("it takes nothing of the file"));
        }
        (self.further, self.broken) = (Instant::now(), false);
        let (done, size) = (self.file.done, self.file.size);
        let share = |of: u64| u8::try_from(done.saturating_mul(of) / size.max(1)).unwrap_or(0);
        let name = self.own.device.name();
        match self.file.phase {
            Phase::Writing => self.tell.tell(share(70), &format!("{done} of {size} bytes sent to {name}")),
            Phase::Checking => self.tell.tell(70 + share(30), &format!("{done} of {size} bytes read back from {name}")),
            Phase::Done => self.tell.tell(100, &format!("{name} has the file")),
        }
        self.remember();
        if further && !self.own.rules.pause.is_zero() {
            sleep(self.own.rules.pause).await;
        }
        Ok(())
    }

    /// Best effort: what is not remembered is sent again.
    fn remember(&mut self) {
        let (at, sent) = self.remembered;
        let due = at.elapsed() >= REMEMBER || self.file.done >= sent + (self.file.size / SHARES).max(1);
        if !self.shape.resumes || self.file.phase != Phase::Writing || !due {
            return;
        }
        self.remembered = (Instant::now(), self.file.done);
        if let Err(error) = (Notes { sent: self.file.done, ..Notes::default() }).write(self.update) {
            tracing::debug!(%error, "how much of a file a device has is not on disk");
        }
    }

    async fn wait(&mut self, why: &str, rest: Duration) -> Result<(), Failure> {
        let patience = self.own.rules.patience;
        if self.further.elapsed() + rest >= patience {
            return Err(self.failed(&format!("no answer for {} s: {why}", patience.as_secs())));
        }
        tracing::debug!(device = self.own.device.name(), why, "a device does not take the file on; it is asked again");
        sleep(rest).await;
        Ok(())
    }
}
