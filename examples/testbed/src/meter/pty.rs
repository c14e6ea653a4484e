//! A serial line without a serial port: the device holds one end of a pseudo-terminal, the driver
//! opens the other by its path.

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use tokio::net::unix::pipe;

/// The device's end, and the path of the driver's end.
pub(super) struct Pty {
    pub(super) reader: pipe::Receiver,
    pub(super) writer: pipe::Sender,
    pub(super) path: PathBuf,
    /// Held open, or the device's end reads errors whenever the driver closes its own.
    pub(super) _other: OwnedFd,
}

impl Pty {
    pub(super) fn open() -> io::Result<Pty> {
        let device = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&device)?;
        unlockpt(&device)?;
        let name = ptsname(&device, Vec::new())?;
        let path = PathBuf::from(name.to_str().map_err(io::Error::other)?);
        let other = rustix::fs::open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let mut settings = tcgetattr(&other)?;
        settings.make_raw();
        tcsetattr(&other, OptionalActions::Now, &settings)?;
        rustix::fs::fcntl_setfl(&device, OFlags::NONBLOCK | OFlags::RDWR)?;
        let reader = pipe::Receiver::from_owned_fd_unchecked(device.try_clone()?)?;
        let writer = pipe::Sender::from_owned_fd_unchecked(device)?;
        Ok(Pty { reader, writer, path, _other: other })
    }
}
