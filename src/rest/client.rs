//! The client: signed calls and multipart calls, each within its dead-line.

use super::account::{Account, Door};
use super::answer::{self, Verdict};
use super::multipart::{self, Part};
use super::{RestError, sign, transport};
use crate::config::RestConfig;
use crate::model::{Secret, Timestamp};
use reqwest::{RequestBuilder, Url, header};
use serde_json::Value as Json;

/// A signed call.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Below the configured address: `/connect-service/v2.0/certificates`.
    pub path: &'a str,
    pub query: &'a [(&'a str, &'a str)],
    /// `None` asks with GET.
    pub body: Option<&'a Json>,
}

/// One account at one cloud. Cheap to share by reference; the token is kept inside.
pub struct Client {
    http: reqwest::Client,
    config: RestConfig,
    account: Account,
    host: String,
    integration_host: String,
}

impl Client {
    /// Reads the authority file; touches no network.
    ///
    /// # Errors
    /// `Setup`, in words.
    pub fn new(config: RestConfig) -> Result<Client, RestError> {
        let http = transport::client(&config)?;
        let (host, integration_host) = (host_of(&config.url)?, host_of(&config.integration_url)?);
        for (url, host) in [(&config.url, &host), (&config.integration_url, &integration_host)] {
            if url.starts_with("http://") && !is_loopback(host) {
                tracing::warn!(%host, "rest calls and their token travel without encryption; write https:// to change it");
            }
        }
        Ok(Client { http, config, account: Account::new(), host, integration_host })
    }

    /// The organisation the account asks for.
    #[must_use]
    pub fn org_id(&self) -> &str {
        &self.config.org_id
    }

    /// Gets a token and asks nothing with it: what a wrong account or a closed port looks like is known then.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn token(&self) -> Result<(), RestError> {
        let door = Door { http: &self.http, config: &self.config, host: &self.host };
        let silent = |_| RestError::Silent { host: self.host.clone(), within: self.config.timeout };
        let asked = tokio::time::timeout(self.config.timeout, self.account.token(door));
        asked.await.map_err(silent)?.map(drop)
    }

    /// What the server's clock says, as its answers carry it; `None` when they do not.
    ///
    /// # Errors
    /// See [`RestError`].
    pub async fn date(&self) -> Result<Option<i64>, RestError> {
        let silent = |_| RestError::Silent { host: self.host.clone(), within: self.config.timeout };
        let asked = transport::date(&self.host, self.http.get(&self.config.url));
        let date = tokio::time::timeout(self.config.timeout, asked).await.map_err(silent)??;
        Ok(date.as_deref().and_then(super::date::parse))
    }

    /// Asks with token and signature; answers `data`.
    ///
    /// # Errors
    /// See [`RestError`]. A token that the cloud no longer takes is got anew once.
    pub async fn signed(&self, call: &Call<'_>) -> Result<Json, RestError> {
        let body = call.body.map(Json::to_string);
        let build = |token: &Secret| self.signed_request(call, body.as_deref(), token);
        self.in_time(&self.host, self.with_token(&self.host, build)).await
    }

    /// Posts parts to the integration address with the token alone; answers `data`.
    ///
    /// # Errors
    /// See [`RestError`]. A token that the cloud no longer takes is got anew once.
    pub async fn multipart(&self, path: &str, query: &[(&str, &str)], parts: &[Part<'_>]) -> Result<Json, RestError> {
        let (body, content_type) = multipart::body(parts, fastrand::u64(..));
        let body = bytes::Bytes::from(body);
        let build = |token: &Secret| {
            let url = address(&self.config.integration_url, path, query)?;
            let request = self.http.post(url).header(header::CONTENT_TYPE, &content_type).body(body.clone());
            Ok(request.header("apim-accesstoken", secret_header(token.reveal())?))
        };
        self.in_time(&self.integration_host, self.with_token(&self.integration_host, build)).await
    }

    fn signed_request(&self, call: &Call<'_>, body: Option<&str>, token: &Secret) -> Result<RequestBuilder, RestError> {
        let url = address(&self.config.url, call.path, call.query)?;
        let timestamp = Timestamp::now().0.to_string();
        let signature = sign::of_call(token.reveal(), call.query, body, &timestamp, self.config.secret_key.reveal());
        let request = match body {
            Some(body) => {
                self.http.post(url).header(header::CONTENT_TYPE, "application/json;charset=UTF-8").body(body.to_owned())
            }
            None => self.http.get(url),
        };
        Ok(request
            .header("apim-accesstoken", secret_header(token.reveal())?)
            .header("apim-timestamp", timestamp)
            .header("apim-signature", signature))
    }

    async fn with_token(
        &self,
        host: &str,
        build: impl Fn(&Secret) -> Result<RequestBuilder, RestError>,
    ) -> Result<Json, RestError> {
        let door = Door { http: &self.http, config: &self.config, host: &self.host };
        let mut again = true;
        loop {
            let token = self.account.token(door).await?;
            let (status, body) = transport::exchange(host, build(&token)?).await?;
            match answer::read(host, status, &body) {
                Verdict::Data(data) => return Ok(data),
                Verdict::StaleToken(_) if again => self.account.forget(&token).await,
                Verdict::StaleToken(error) | Verdict::Failed(error) => return Err(error),
            }
            again = false;
        }
    }

    async fn in_time(
        &self,
        host: &str,
        call: impl Future<Output = Result<Json, RestError>>,
    ) -> Result<Json, RestError> {
        let within = self.config.timeout;
        let silent = |_| Err(RestError::Silent { host: host.to_owned(), within });
        tokio::time::timeout(within, call).await.unwrap_or_else(silent)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

fn address(base: &str, path: &str, query: &[(&str, &str)]) -> Result<Url, RestError> {
    let url = Url::parse_with_params(&format!("{base}{path}"), query);
    url.map_err(|error| RestError::Setup(format!("address {base}{path}: {error}")))
}

fn host_of(url: &str) -> Result<String, RestError> {
    let parsed = Url::parse(url).map_err(|error| RestError::Setup(format!("address {url}: {error}")))?;
    Ok(parsed.host_str().unwrap_or_default().to_owned())
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A header no library logs.
fn secret_header(text: &str) -> Result<header::HeaderValue, RestError> {
    let mut value = header::HeaderValue::from_str(text)
        .map_err(|_| RestError::Setup("the token holds what no header can carry".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}
