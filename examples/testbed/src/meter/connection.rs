//! Serves one stream of bytes: one task, its buffers reused, answers in the order of the requests.

use super::faults::Faults;
use super::frame::{self, Taken};
use super::handle::{Shared, Wire};
use super::request::{Deed, answer};
use std::io;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

/// Until the peer closes, or a fault tells to.
pub(super) async fn serve<R, W>(mut reader: R, mut writer: W, wire: Wire, shared: &Shared) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = Vec::with_capacity(1024);
    let mut out = Vec::with_capacity(1024);
    loop {
        let mut at = 0;
        loop {
            match frame::take(wire, &buffer[at..]) {
                Taken::More => break,
                Taken::Skip(len) => at += len,
                Taken::Request { transaction, unit, pdu, len } => {
                    let pdu = &buffer[at + pdu.0..at + pdu.1];
                    if !one(pdu, transaction, unit, wire, shared, &mut out, &mut writer).await? {
                        return Ok(());
                    }
                    at += len;
                }
            }
        }
        buffer.drain(..at);
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Answers one request. False when the connection is to be closed.
async fn one<W: AsyncWrite + Unpin>(
    pdu: &[u8],
    transaction: u16,
    unit: u8,
    wire: Wire,
    shared: &Shared,
    out: &mut Vec<u8>,
    writer: &mut W,
) -> io::Result<bool> {
    shared.served.fetch_add(1, Ordering::Relaxed);
    out.clear();
    if !shared.units.contains(&unit) {
        // A line has nobody to say so; a TCP gateway has.
        if wire == Wire::Tcp {
            frame::begin(wire, transaction, unit, None, out);
            out.extend_from_slice(&[pdu.first().copied().unwrap_or_default() | 0x80, 11]);
            frame::finish(wire, None, out);
            writer.write_all(out).await?;
        }
        return Ok(true);
    }
    let faults = shared.faults(unit);
    let faults: Option<&Faults> = faults.as_deref();
    let none = Faults::default();
    let struck = faults.filter(|faults| faults.strikes());
    // Holes and sizes are the device's nature; the other faults strike now and then.
    let nature = match (struck, faults) {
        (Some(faults), _) => faults,
        (None, Some(faults)) => &Faults { exception: None, ..faults.clone() },
        (None, None) => &none,
    };
    frame::begin(wire, transaction, unit, struck, out);
    let deed = answer(unit, pdu, &shared.registers, nature, out);
    frame::finish(wire, struck, out);
    if let Some(faults) = struck {
        let wait = faults.wait();
        if !wait.is_zero() {
            sleep(wait).await;
        }
        if faults.drop_connection {
            // A line can not be hung up; there it is silence.
            return Ok(shared.on_a_line);
        }
        if faults.silent {
            return Ok(true);
        }
    }
    if deed == Deed::Answer {
        writer.write_all(out).await?;
        shared.answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(true)
}
