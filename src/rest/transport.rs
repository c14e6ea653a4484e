//! One HTTP exchange: the server is always verified, an answer has a limit, a redirect is not followed, and what goes
//! wrong is told by kind.

use super::RestError;
use crate::config::RestConfig;
use reqwest::{Client, Proxy, RequestBuilder, Response, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// No answer of this interface is larger; a longer one is refused before it fills the memory.
const ANSWER_LIMIT: usize = 1 << 20;
/// Kept for so long after a call; the next one saves the handshake.
const IDLE: Duration = Duration::from_secs(30);

/// # Errors
/// `Setup`, in words: authority file, proxy.
pub(super) fn client(config: &RestConfig) -> Result<Client, RestError> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls(config)?)
        .user_agent(crate::version::user_agent())
        // A token must not follow a redirect to somebody else.
        .redirect(redirect::Policy::none())
        .connect_timeout(config.connect_timeout)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(2)
        // The environment is not asked: what is sent where is written in one file.
        .no_proxy();
    if let Some(proxy) = &config.proxy {
        let proxy = Proxy::all(proxy.reveal()).map_err(|_| RestError::Setup("proxy: no address of a proxy".into()))?;
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| RestError::Setup(format!("make the rest client: {}", chain(&error))))
}

fn tls(config: &RestConfig) -> Result<ClientConfig, RestError> {
    let encrypted = [&config.url, &config.integration_url].iter().any(|url| url.starts_with("https://"));
    let roots = match &config.ca_file {
        Some(file) => file_roots(file)?,
        // Without encryption there is nobody to trust; should it come to TLS nevertheless, it fails.
        None if !encrypted => RootCertStore::empty(),
        None => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| RestError::Setup(format!("choose tls versions: {error}")))?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}

fn file_roots(file: &Path) -> Result<RootCertStore, RestError> {
    let complain = |problem: String| RestError::Setup(format!("ca_file {}: {problem}", file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| complain(error.to_string()))? {
        let certificate = certificate.map_err(|error| complain(error.to_string()))?;
        roots.add(certificate).map_err(|error| complain(error.to_string()))?;
    }
    if roots.is_empty() { Err(complain("holds no certificate".to_owned())) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, RestError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(RestError::Setup("the system trusts no authority; give ca_file in rest:".to_owned()));
    }
    Ok(roots)
}

/// Sends and takes the answer: status and body. The caller has a dead-line.
pub(super) async fn exchange(host: &str, request: RequestBuilder) -> Result<(u16, Vec<u8>), RestError> {
    let response = request.send().await.map_err(|error| failure(host, &error))?;
    let status = response.status().as_u16();
    Ok((status, limited(host, response).await?))
}

/// The head of the answer alone: its `Date`.
pub(super) async fn date(host: &str, request: RequestBuilder) -> Result<Option<String>, RestError> {
    let response = request.send().await.map_err(|error| failure(host, &error))?;
    let date = response.headers().get("date").and_then(|value| value.to_str().ok());
    Ok(date.map(str::to_owned))
}

async fn limited(host: &str, mut response: Response) -> Result<Vec<u8>, RestError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure(host, &error))? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            let reason = format!("it is longer than {ANSWER_LIMIT} bytes");
            return Err(RestError::Garbled { host: host.to_owned(), reason });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn failure(host: &str, error: &reqwest::Error) -> RestError {
    let host = host.to_owned();
    match causes(error).find_map(tls_cause) {
        Some(cause) => RestError::Tls { host, reason: cause.to_string() },
        None => RestError::Unreachable { host, reason: chain(error) },
    }
}

/// rustls hides in errors of the operating system, perhaps one within the other, which do not name what is in them as
/// their source.
fn tls_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let inside = |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref)?;
        Some(inner as &'a (dyn Error + 'static))
    };
    std::iter::successors(Some(error), inside).find_map(|error| error.downcast_ref())
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        error.source()
    })
}

/// The causes without the first, which is the address and "error sending request".
fn chain(error: &reqwest::Error) -> String {
    let mut words: Vec<String> = causes(error).skip(1).map(|cause| cause.to_string()).collect();
    words.dedup();
    if words.is_empty() { "no reason told".to_owned() } else { words.join(": ") }
}
