//! From a name to a proven server, step by step, and what its certificate says when it is not taken.

use super::finding::Finding;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// One step. Three of them, twice for a certificate that is looked at again, stay below a probe's dead-line.
const STEP: Duration = Duration::from_secs(3);
/// A name has more addresses only by mistake.
const ADDRESSES: usize = 3;
/// A server's certificate that ends sooner is told.
const SOON_MS: i64 = 14 * 86_400_000;

/// What the name server says.
///
/// # Errors
/// The finding.
pub async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Finding> {
    let fault = |why: String| {
        Finding::fault(format!("{host}: {why}")).help(
            "check the name, and the name server of this gateway: /etc/resolv.conf, `resolvectl status`, UDP and TCP port 53",
        )
    };
    match timeout(STEP, tokio::net::lookup_host((host, port))).await {
        Err(_) => Err(fault(format!("no name server answers within {STEP:?}"))),
        Ok(Err(error)) => Err(fault(error.to_string())),
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.take(ADDRESSES).collect();
            if found.is_empty() { Err(fault("has no address".to_owned())) } else { Ok(found) }
        }
    }
}

/// An open TCP connection, each address in its turn.
///
/// # Errors
/// The finding.
pub async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Finding> {
    let each = STEP / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    let mut last = None;
    for address in addresses {
        match timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = Some(closed(*address, &error)),
            Err(_) => last = Some(dropped(*address, each)),
        }
    }
    Err(last.unwrap_or_else(|| Finding::fault("has no address")))
}

fn dropped(address: SocketAddr, within: Duration) -> Finding {
    let (port, ip) = (address.port(), address.ip());
    Finding::fault(format!("tcp: port {port} of {ip} does not answer within {within:.1?}")).help(format!(
        "a firewall on the way drops it, or the machine is off: open TCP port {port} for outgoing connections of this gateway"
    ))
}

fn closed(address: SocketAddr, error: &std::io::Error) -> Finding {
    let (port, ip) = (address.port(), address.ip());
    match error.kind() {
        ErrorKind::ConnectionRefused => Finding::fault(format!("tcp: port {port} of {ip} is closed")).help(format!(
            "nothing listens there: check the port in the configuration, start the server, or open port {port}"
        )),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => {
            Finding::fault(format!("tcp: there is no way to {ip}: {error}"))
                .help("check cable, address and default route of this gateway (`ip address`, `ip route`)")
        }
        _ => Finding::fault(format!("tcp: port {port} of {ip}: {error}")),
    }
}

/// Proves the server with the configuration the daemon uses; tells what of its certificate is wrong when it is not taken.
pub async fn tls(
    host: &str,
    addresses: &[SocketAddr],
    stream: TcpStream,
    config: Arc<ClientConfig>,
    now: i64,
) -> Finding {
    let Ok(name) = ServerName::try_from(host.to_owned()) else {
        return Finding::fault("tls: the host is no name that a certificate can bear")
            .help("write a name or an address in url");
    };
    let error = match timeout(STEP, TlsConnector::from(config).connect(name.clone(), stream)).await {
        Ok(Ok(stream)) => {
            let own = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
            return proven(own.and_then(|der| Shown::of(&der)), now);
        }
        Err(_) => {
            return Finding::fault(format!("tls: connected, but no answer within {STEP:?}"))
                .help("this port may speak no TLS: check scheme and port of url");
        }
        Ok(Err(error)) => error,
    };
    let told =
        error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).map_or(error.to_string(), Error::to_string);
    let told = told.split(": https://docs.rs").next().unwrap_or_default().to_owned();
    if !told.contains("certificate") && !told.contains("Certificate") {
        return Finding::fault(format!("tls: {told}")).help("this port may speak no TLS: check scheme and port of url");
    }
    match look(name, addresses).await {
        Some(shown) => shown.blame(host, &told, now),
        None => Finding::fault(format!("tls: {told}")).help("check ca_file, the host in url and this machine's clock"),
    }
}

fn proven(shown: Option<Shown>, now: i64) -> Finding {
    let Some(shown) = shown else { return Finding::ok("tls: the server proved who it is") };
    let until = crate::cli::moments::stamp(shown.not_after);
    if shown.not_after - now < SOON_MS {
        let days = (shown.not_after - now).max(0) / 86_400_000;
        return Finding::warning(format!("tls: the server's certificate ends in {days} days, {until}"))
            .help("whoever runs the server has to renew it");
    }
    Finding::ok(format!("tls: {} proved who it is, its certificate counts until {until}", shown.subject))
}

/// What stands in a server's certificate.
struct Shown {
    subject: String,
    issuer: String,
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
}

impl Shown {
    fn of(der: &CertificateDer<'_>) -> Option<Shown> {
        let (_, found) = parse_x509_certificate(der).ok()?;
        let names = found.subject_alternative_name().ok().flatten().map(|names| {
            let name = |name: &GeneralName<'_>| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                GeneralName::IPAddress(bytes) => ip(bytes),
                _ => None,
            };
            names.value.general_names.iter().filter_map(name).collect()
        });
        Some(Shown {
            subject: found.subject().to_string(),
            issuer: found.issuer().to_string(),
            names: names.unwrap_or_default(),
            not_before: found.validity().not_before.timestamp().saturating_mul(1000),
            not_after: found.validity().not_after.timestamp().saturating_mul(1000),
        })
    }

    fn blame(&self, host: &str, told: &str, now: i64) -> Finding {
        let stamp = crate::cli::moments::stamp;
        if now > self.not_after {
            return Finding::fault(format!("tls: the server's certificate ended on {}", stamp(self.not_after)))
                .help("whoever runs the server has to renew it; or the clock of this machine is ahead");
        }
        if now < self.not_before {
            return Finding::fault(format!("tls: the server's certificate counts from {} on", stamp(self.not_before)))
                .help("the clock of this machine is behind: set it");
        }
        if told.contains("NotValidForName") || told.contains("not valid for name") {
            let names = if self.names.is_empty() { "no name at all".to_owned() } else { self.names.join(", ") };
            return Finding::fault(format!("tls: the server's certificate is for {names}, not for {host}")).help(
                "write one of these names in url, or give the server a certificate with this name (subjectAltName)",
            );
        }
        if told.contains("UnknownIssuer") || told.contains("BadSignature") {
            return Finding::fault(format!(
                "tls: the server's certificate is signed by \"{}\", whom nobody here trusts",
                self.issuer
            ))
            .help("name that authority's certificate in ca_file; a server must also send what leads to it");
        }
        Finding::fault(format!("tls: {told} (certificate of \"{}\")", self.subject))
            .help("check ca_file, the host in url and this machine's clock")
    }
}

fn ip(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| std::net::Ipv6Addr::from(sixteen).to_string())
}

/// A second handshake that notes the certificate and takes none: nothing is ever sent over it.
async fn look(name: ServerName<'static>, addresses: &[SocketAddr]) -> Option<Shown> {
    let begun = Instant::now();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let glance = Arc::new(Glance { seen: Mutex::new(None), provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&glance) as _)
        .with_no_client_auth();
    let stream = connect(addresses).await.ok()?;
    let left = STEP.saturating_sub(begun.elapsed());
    // It always fails: that is what it is for.
    let _ = timeout(left, TlsConnector::from(Arc::new(config)).connect(name, stream)).await;
    let seen = glance.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    seen.as_ref().and_then(Shown::of)
}

/// Notes the certificate and refuses it.
#[derive(Debug)]
struct Glance {
    seen: Mutex<Option<CertificateDer<'static>>>,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Glance {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        Err(Error::General("it was only looked at".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("it was only looked at".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("it was only looked at".to_owned()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::Level;

    const DAY: i64 = 86_400_000;

    fn shown() -> Shown {
        Shown {
            subject: "CN=broker".to_owned(),
            issuer: "CN=plant".to_owned(),
            names: vec!["broker.example".to_owned()],
            not_before: 0,
            not_after: 100 * DAY,
        }
    }

    #[test]
    fn the_same_certificate_is_good_about_to_end_ended_or_to_come_as_the_clock_says() {
        let level = |day: i64| proven(Some(shown()), day * DAY).level;
        assert_eq!([1, 80, 95].map(level), [Level::Ok, Level::Ok, Level::Warning]);
        let blamed = |now: i64| shown().blame("h", "certificate expired", now).what;
        assert!(blamed(101 * DAY).contains("ended on 1970-04-11"), "{}", blamed(101 * DAY));
        assert!(blamed(-DAY).contains("counts from 1970-01-01"), "{}", blamed(-DAY));
        assert!(blamed(DAY).contains("CN=broker"));
    }

    #[test]
    fn another_name_and_a_stranger_are_told_apart() {
        let told = |words: &str| shown().blame("other.example", words, DAY).what;
        assert!(
            told("invalid peer certificate: NotValidForName").contains("is for broker.example, not for other.example")
        );
        assert!(told("invalid peer certificate: UnknownIssuer").contains("signed by \"CN=plant\""));
    }
}
