//! A file for a device, one step at a time: what whoever sends it sees, and what the connection's task does.

use super::Lines;
use super::connection::Line;
use super::guard::Fault;
use super::request::{Ask, AskError, Moments, Request, Slot};
use driver::{Session, SessionError, Transfer, TransferError, TransferShape};
use std::time::Duration;

/// What a driver may take beyond its own word before its session is given up.
const SLACK: Duration = Duration::from_secs(1);

impl Lines {
    /// How a device takes a file; `None`: it takes none.
    #[must_use]
    pub fn transfer_shape(&self, device: u32) -> Option<TransferShape> {
        let (line, at) = self.place(device).ok()?;
        line.plan.transfer(at)
    }

    /// Takes one step of sending a file, in turn with the scans of the connection, and gives the file back. What a step
    /// had begun when its conversation broke is asked of the next one.
    ///
    /// # Errors
    /// [`AskError::FileRefused`] when it is in vain to go on; all others may be asked again.
    pub async fn transfer(&self, device: u32, file: &mut Transfer, start_within: Duration) -> Result<(), AskError> {
        let (line, at) = self.place(device)?;
        let shape =
            line.plan.transfer(at).ok_or_else(|| AskError::FileRefused("the device takes no files".to_owned()))?;
        let at = u32::try_from(at).expect("devices are counted in 32 bits");
        let slot = Slot::new(file.clone());
        let start_by = tokio::time::Instant::now() + start_within;
        // The step ends by itself; this is for a task that was ended in the middle.
        let moments = Moments { start_by, end_by: start_by + shape.patience + SLACK * 2 };
        let asked = line.ask_by(&line.transfers, Ask::Transfer(at, slot.clone()), moments).await;
        if let Some(further) = slot.take() {
            *file = further;
        }
        asked.map(drop)
    }
}

impl Line {
    /// One step. An error ends the session.
    pub(super) async fn transfer(
        &mut self,
        session: &mut dyn Session,
        device: u32,
        slot: &Slot,
        request: Request,
    ) -> Result<(), Fault> {
        let shape = self.plan.transfer(device as usize);
        let (Some(shape), Some(mut file)) = (shape, slot.take()) else {
            request.answer(Err(AskError::FileRefused("the device takes no files".to_owned())));
            return Ok(());
        };
        let step = async {
            match session.transfer(device, &mut file).await {
                Ok(()) => Ok(Ok(())),
                Err(TransferError::Session(error)) => Err(error),
                Err(other) => Ok(Err(other)),
            }
        };
        let result = self.call(shape.patience + SLACK, step).await;
        slot.give_back(file);
        let (said, result) = match result {
            Ok(Ok(())) => (Ok(()), Ok(())),
            Ok(Err(TransferError::Busy(why))) => (Err(AskError::Later(why)), Ok(())),
            Ok(Err(other)) => (Err(AskError::FileRefused(other.to_string())), Ok(())),
            Err(fault) => {
                if fault.is_timeout() {
                    self.counters.timeouts.add(1);
                }
                let error = SessionError::from(fault.clone());
                let ends = error.ends_session();
                (Err(AskError::Unconfirmed(error)), if ends { Err(fault) } else { Ok(()) })
            }
        };
        request.answer(said.map(|()| Vec::new()));
        result
    }
}
