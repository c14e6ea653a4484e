//! From a name to an open TCP connection, with words for whoever has to open the port (R6).

use super::journal::{Chance, Journal, Step, Trouble};
use crate::config::Places;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A name has more addresses only by mistake.
const ADDRESSES: usize = 8;

/// Each address is tried; the first that answers is taken.
///
/// # Errors
/// The step that failed: the name, or the port.
pub(super) async fn connect(
    host: &str,
    port: u16,
    within: Duration,
    journal: &mut Journal<'_>,
) -> Result<TcpStream, Trouble> {
    connect_to(host, port, within, &Places::Anywhere, journal).await
}

/// As [`connect`], to an address that `places` allows.
///
/// # Errors
/// The step that failed.
pub(super) async fn connect_to(
    host: &str,
    port: u16,
    within: Duration,
    places: &Places,
    journal: &mut Journal<'_>,
) -> Result<TcpStream, Trouble> {
    let addresses = resolve(host, port, within, journal).await?;
    for address in addresses.iter().take(ADDRESSES) {
        let refuse = |problem| {
            Trouble::new(Step::Resolve, problem)
                .help("name the host in hosts: if it is meant")
                .chance(Chance::Forbidden)
        };
        places.allow_address(host, address.ip()).map_err(refuse)?;
    }
    let mut last = None;
    for address in addresses.iter().take(ADDRESSES) {
        match timeout(within, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                journal.done(Step::Connect, format!("port {port} of {} is open", address.ip()));
                // Best effort: requests are small and waited for.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = Some((*address, Some(error))),
            Err(_) => last = Some((*address, None)),
        }
    }
    Err(last.map_or_else(
        || Trouble::new(Step::Resolve, format!("{host} has no address")),
        |(at, error)| closed(at, error, within),
    ))
}

async fn resolve(
    host: &str,
    port: u16,
    within: Duration,
    journal: &mut Journal<'_>,
) -> Result<Vec<SocketAddr>, Trouble> {
    let remedy = "check the name in url, and the name server of this gateway (/etc/resolv.conf)";
    let trouble = |problem: String| Trouble::new(Step::Resolve, problem).help(remedy);
    let found = timeout(within, tokio::net::lookup_host((host, port))).await;
    let found = found.map_err(|_| trouble(format!("{host}: no answer within {within:?}")))?;
    let addresses: Vec<SocketAddr> = found.map_err(|error| trouble(format!("{host}: {error}")))?.collect();
    let shown: Vec<String> = addresses.iter().take(ADDRESSES).map(|address| address.ip().to_string()).collect();
    journal.done(Step::Resolve, format!("{host} is {}", shown.join(", ")));
    Ok(addresses)
}

fn closed(address: SocketAddr, error: Option<std::io::Error>, within: Duration) -> Trouble {
    let (port, ip) = (address.port(), address.ip());
    let Some(error) = error else {
        return Trouble::new(Step::Connect, format!("port {port} of {ip} does not answer within {within:?}")).help(format!(
            "a firewall on the way drops it, or the server is off: port {port} must be open for outgoing connections \
             at the gateway and for incoming ones at the server"
        ));
    };
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            Trouble::new(Step::Connect, format!("port {port} of {ip} is closed")).help(format!(
                "nothing listens there, or a firewall refuses: start the server, or open port {port} on both sides"
            ))
        }
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => {
            Trouble::new(Step::Connect, format!("there is no way to {ip}: {error}"))
                .help("check cable, address and route of this gateway")
        }
        _ => Trouble::new(Step::Connect, format!("port {port} of {ip}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_told_as_such_and_a_wrong_name_too() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut journal = Journal::new(&|_| ());
        let second = Duration::from_secs(1);
        let trouble = connect("127.0.0.1", free, second, &mut journal).await.unwrap_err();
        assert_eq!(trouble.step, Step::Connect);
        assert!(trouble.to_string().contains(&format!("port {free} of 127.0.0.1 is closed")), "{trouble}");
        assert_eq!(journal.steps().len(), 1);
        let trouble = connect("no-such-host.invalid", 1, second * 5, &mut journal).await.unwrap_err();
        assert_eq!(trouble.step, Step::Resolve);
    }
}
