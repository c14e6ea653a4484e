//! What systemd and the daemon tell each other: states, the watchdog's period, the local door it keeps for us.

use sd_notify::NotifyState;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// The first of the sockets that are handed over (sd_listen_fds(3)).
const FIRST_SOCKET: i32 = 3;

/// Tells systemd. Best effort: without it nobody listens.
pub fn tell(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

/// Somebody listens to [`tell`].
#[must_use]
pub fn listens() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty())
}

/// How long systemd waits for a sign of life, if it does.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    period(number("WATCHDOG_USEC"), number("WATCHDOG_PID"), &ours())
}

fn period(microseconds: Option<u64>, meant: Option<u64>, ours: &[u64]) -> Option<Duration> {
    let period = Duration::from_micros(microseconds.filter(|period| *period > 0)?);
    meant.is_none_or(|pid| ours.contains(&pid)).then_some(period)
}

/// Whom systemd may mean by us: this process, or the launcher whose child it is while it is on trial.
fn ours() -> [u64; 2] {
    [u64::from(std::process::id()), u64::from(std::os::unix::process::parent_id())]
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The listening unix socket that systemd handed over: as standard input (`StandardInput=fd:`), or as the first of
/// `LISTEN_FDS`.
#[must_use]
pub fn door() -> Option<UnixListener> {
    let input = std::io::stdin();
    if is_door(&input) {
        return input.as_fd().try_clone_to_owned().ok().map(UnixListener::from);
    }
    let handed = number("LISTEN_FDS").is_some_and(|count| count > 0)
        && number("LISTEN_PID").is_some_and(|pid| ours().contains(&pid));
    let socket = handed.then(|| inherited(FIRST_SOCKET).ok()).flatten()?;
    is_door(&socket).then(|| UnixListener::from(socket))
}

fn is_door(fd: &impl AsFd) -> bool {
    let socket = socket2::SockRef::from(fd);
    socket.is_listener().unwrap_or(false) && socket.domain().is_ok_and(|domain| domain == socket2::Domain::UNIX)
}

/// A second handle on what was open when the program began. The kernel looks the number up, so a wrong one is an error
/// and no undefined behaviour; under a system call filter it may be forbidden (pidfd_getfd(2)).
fn inherited(number: i32) -> rustix::io::Result<OwnedFd> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    pidfd_getfd(this, number, PidfdGetfdFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_ours_when_it_means_us_our_launcher_or_nobody() {
        let (us, second) = ([7, 3], Duration::from_secs(1));
        for meant in [None, Some(7), Some(3)] {
            assert_eq!(period(Some(1_000_000), meant, &us), Some(second), "{meant:?}");
        }
        assert_eq!(period(Some(1_000_000), Some(8), &us), None);
        assert_eq!(period(Some(0), None, &us), None);
        assert_eq!(period(None, None, &us), None);
    }

    #[test]
    fn only_a_listening_unix_socket_is_a_door() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("door")).unwrap();
        assert!(is_door(&listener));
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!is_door(&one));
        assert!(!is_door(&std::fs::File::open("/dev/null").unwrap()));
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_door(&tcp));
    }

    #[test]
    fn an_inherited_socket_is_taken_by_its_number() {
        use std::os::fd::AsRawFd;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door");
        let listener = UnixListener::bind(&path).unwrap();
        let taken = UnixListener::from(inherited(listener.as_raw_fd()).unwrap());
        drop(listener);
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        taken.accept().unwrap();
        assert!(inherited(9_999).is_err());
    }
}
