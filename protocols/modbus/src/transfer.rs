//! Sends a file to a unit, one record block a step: function 21, and function 20 to read it back.

use crate::link::{Link, Timing};
use crate::pdu::{Reply, Request};
use crate::plan::Device;
use crate::records::{Run, Store};
use crate::session::ModbusSession;
use driver::{Phase, Reason, Transfer, TransferError, TransferShape};

/// A block that is not what was sent is sent again so often.
const MENDED: u8 = 2;
/// The way may have to be cleared of late answers before a read, see barrier.rs.
const BARRIERS: u32 = 3;

/// What the plan says of it.
#[must_use]
pub fn shape(store: &Store, timing: &Timing) -> TransferShape {
    let one = Link::patience(&Timing { timeout: store.timeout.max(timing.timeout), ..*timing });
    TransferShape {
        most: store.most(),
        piece: usize::from(store.block) * 2,
        // A block that is found wrong is sent again in the same step.
        patience: one * (2 + BARRIERS),
        // Nobody knows whether a unit that was away still has what it was sent, unless it is asked.
        resumes: store.read_back,
    }
}

/// One block.
pub async fn step(session: &mut ModbusSession, device: u32, file: &mut Transfer) -> Result<(), TransferError> {
    let ModbusSession { inner, link, begun, .. } = session;
    let refused = |why: &str| Err(TransferError::Refused(why.to_owned()));
    let Some(device) = inner.devices.get(device as usize) else { return refused("the connection has no such device") };
    let Some(store) = &device.store else { return refused("the package says not how this device takes a file") };
    if *begun != Some(file.id) {
        *begun = Some(file.id);
        // What was compared before may be gone since; what was only sent is compared later.
        if !store.read_back || file.phase == Phase::Checking {
            file.done = 0;
        }
    }
    match file.phase {
        Phase::Writing => write(link, device, store, file).await,
        Phase::Checking => check(link, device, store, file).await,
        Phase::Done => Ok(()),
    }
}

/// What lies at `done`; `None` when all is through.
fn next(store: &Store, file: &Transfer) -> Result<Option<Run>, TransferError> {
    match store.run(file.done, file.size) {
        None if !file.is_through() => {
            Err(TransferError::Refused(format!("the file has {} bytes, the records hold {}", file.size, store.most())))
        }
        run => Ok(run),
    }
}

async fn write(link: &mut Link, device: &Device, store: &Store, file: &mut Transfer) -> Result<(), TransferError> {
    if let Some(run) = next(store, file)? {
        let Some(bytes) = file.bytes(run.bytes) else { return Ok(()) };
        let bytes = store.padded(bytes);
        send(link, device, store, &run, &bytes).await?;
        file.advance(run.bytes);
    }
    if file.is_through() {
        file.enter(if store.read_back { Phase::Checking } else { Phase::Done });
    }
    Ok(())
}

async fn check(link: &mut Link, device: &Device, store: &Store, file: &mut Transfer) -> Result<(), TransferError> {
    if let Some(run) = next(store, file)? {
        let Some(bytes) = file.bytes(run.bytes) else { return Ok(()) };
        let bytes = store.padded(bytes);
        let request = Request::ReadFile { file: run.file, record: run.record, registers: run.registers };
        link.answer_within(store.timeout);
        let held = match link.exchange(device.unit, &request).await? {
            Reply::Data(data) => data == bytes,
            Reply::Exception(1) => {
                let why =
                    "the device knows no function 20, so nothing can be read back; `read_back: false` leaves that out";
                return Err(TransferError::Refused(why.to_owned()));
            }
            Reply::Exception(code) => return Err(exception("read back", &run, code)),
        };
        if held {
            file.advance(run.bytes);
        } else if file.again >= MENDED {
            let times = MENDED + 1;
            let why = format!("{} does not hold what was written to it, {times} times in a row", named(&run));
            return Err(TransferError::Refused(why));
        } else {
            file.again += 1;
            tracing::info!(device = %device.name, file = run.file, record = run.record, "a block is not what was written; sent again");
            send(link, device, store, &run, &bytes).await?;
        }
    }
    if file.is_through() {
        file.enter(Phase::Done);
    }
    Ok(())
}

async fn send(link: &mut Link, device: &Device, store: &Store, run: &Run, bytes: &[u8]) -> Result<(), TransferError> {
    link.answer_within(store.timeout);
    match link.exchange(device.unit, &Request::WriteFile { file: run.file, record: run.record, bytes }).await? {
        Reply::Data(_) => Ok(()),
        Reply::Exception(1) => {
            Err(TransferError::Refused("the device knows no function 21: it takes no files this way".to_owned()))
        }
        Reply::Exception(code) => Err(exception("write", run, code)),
    }
}

fn named(run: &Run) -> String {
    format!("file {} record {} ({} registers)", run.file, run.record, run.registers)
}

fn exception(doing: &str, run: &Run, code: u8) -> TransferError {
    let words = format!("{doing} {}: {}", named(run), Reason::ModbusException(code));
    match code {
        // 1.1b3, clause 7: 5 it takes its time, 6 busy, 10 and 11 a gateway does not reach the unit now.
        5 | 6 | 10 | 11 => TransferError::Busy(words),
        _ => TransferError::Refused(words),
    }
}
