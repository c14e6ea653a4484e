//! Logs in to the cloud's HTTP broker, which keeps files of the scheme `enos-connect://`.

use crate::config::UpdateConfig;
use crate::fetch::journal::{Chance, Step, Trouble};
use crate::model::Secret;
use crate::model::identity::{Identity, LoginSecret};
use reqwest::{Client, Proxy, StatusCode, redirect};
use serde_json::{Value as Json, json};
use std::error::Error;
use std::path::Path;
use std::time::Duration;

/// How long the session may be idle: a stalled download is taken up again with a new one.
const LIFETIME_MS: u64 = 300_000;
/// An answer is a few hundred bytes.
const ANSWER: u64 = 64 << 10;
/// What can be done when it does not answer, or not as the broker does.
const ADDRESS: &str = "check update.http_broker, and whether a portal or proxy stands between";

fn failed(words: impl Into<String>) -> Trouble {
    Trouble::new(Step::Login, words)
}

/// The configuration has to be changed.
fn unfit(words: impl Into<String>) -> Trouble {
    Trouble::new(Step::Setup, words)
}

/// A session for downloads.
///
/// # Errors
/// In words: no device secret, no broker, its refusal.
pub async fn login(
    client: &Client,
    base: &str,
    (product_key, device_key): (&str, &str),
    identity: &dyn Identity,
) -> Result<String, Trouble> {
    let proof = identity.proof().await.map_err(|why| failed(format!("log in to the HTTP broker: {why}")))?;
    let LoginSecret::Device(secret) = proof.secret else {
        return Err(failed("log in to the HTTP broker: the gateway has no device secret").chance(Chance::Slim));
    };
    let body = json!({
        "signMethod": "sha256",
        "lifetime": LIFETIME_MS,
        "sign": sign(product_key, device_key, &secret),
    });
    let mut url = reqwest::Url::parse(base).map_err(|error| unfit(format!("update.http_broker: {error}")))?;
    url.path_segments_mut().map_err(|()| unfit("update.http_broker is no base"))?.pop_if_empty().extend([
        "auth",
        product_key,
        device_key,
    ]);
    let request = client.post(url).header("content-type", "application/json").body(body.to_string());
    let Answer { status, json: answer, retry_after } = ask(request).await?;
    match answer["data"]["sessionId"].as_str() {
        Some(session) if status.is_success() && is_good(&answer) => Ok(session.to_owned()),
        _ => {
            let told =
                failed(format!("the HTTP broker refuses the login: status {}, {}", status.as_u16(), words(&answer)));
            // Those in trouble, or asked too often, say so.
            let busy = status.is_server_error() || status.as_u16() == 429;
            let chance = if busy { Chance::Good } else { Chance::Slim };
            Err(Trouble { retry_after, ..told.chance(chance) })
        }
    }
}

/// Where a file lies, at the store behind the broker.
///
/// # Errors
/// In words: its refusal.
pub async fn link(client: &Client, url: reqwest::Url) -> Result<String, Trouble> {
    let Answer { status, json: answer, retry_after } = ask(client.get(url)).await?;
    match answer["data"].as_str() {
        Some(link) if status.is_success() && is_good(&answer) => Ok(link.to_owned()),
        _ => {
            let problem = format!("the HTTP broker tells no address: status {}, {}", status.as_u16(), words(&answer));
            Err(Trouble { retry_after, ..Trouble::new(Step::Ask, problem) })
        }
    }
}

/// What the broker says.
struct Answer {
    status: StatusCode,
    json: Json,
    retry_after: Option<Duration>,
}

async fn ask(request: reqwest::RequestBuilder) -> Result<Answer, Trouble> {
    // Without the address, which holds keys.
    let told = |error: reqwest::Error| {
        failed(format!("ask the HTTP broker: {}", chain(&error))).chance(crate::fetch::chance(&error)).help(ADDRESS)
    };
    let response = request.send().await.map_err(told)?;
    let (status, retry_after) = (response.status(), crate::fetch::retry_after(response.headers()));
    if response.content_length().is_some_and(|length| length > ANSWER) {
        return Err(failed("the HTTP broker's answer is longer than any"));
    }
    let answer = read(response).await;
    let json = answer.ok_or_else(|| Trouble { retry_after, ..no_broker(status) })?;
    Ok(Answer { status, json, retry_after })
}

/// Its answers are JSON, whatever they say: this came from somebody else, or from a broker in trouble.
fn no_broker(status: StatusCode) -> Trouble {
    let told = failed(format!("the HTTP broker answers with status {} and no JSON", status.as_u16()));
    if status.is_redirection() {
        return told
            .help("it points elsewhere, where the login is not sent; write that address in update.http_broker")
            .chance(Chance::Slim);
    }
    let busy = status.is_server_error() || status.as_u16() == 429;
    told.help(ADDRESS).chance(if busy { Chance::Good } else { Chance::Slim })
}

/// What the broker says in place of a file, if it is that: a session that is over, a file that is not there.
pub fn refusal(path: &Path, bytes: u64) -> Option<Trouble> {
    if bytes > ANSWER {
        return None;
    }
    let answer: Json = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let is_refusal = answer["code"].is_i64() && !is_good(&answer);
    is_refusal.then(|| Trouble::new(Step::Ask, format!("the HTTP broker sends no file: {}", words(&answer))))
}

fn is_good(answer: &Json) -> bool {
    answer["code"].as_i64().is_none_or(|code| code == 200)
}

fn words(answer: &Json) -> String {
    let message = answer["message"].as_str().or(answer["msg"].as_str()).unwrap_or_default();
    format!("code {} {}", answer["code"], message.chars().take(200).collect::<String>()).trim_end().to_owned()
}

/// At most as much as an answer has.
async fn read(mut response: reqwest::Response) -> Option<Json> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > ANSWER {
            return None;
        }
    }
    serde_json::from_slice(&bytes).ok()
}

/// Its client, with the trust and the proxy of downloads.
///
/// # Errors
/// When the configuration is not as it should be.
pub fn client(config: &UpdateConfig) -> Result<Client, Trouble> {
    let tls = crate::fetch::tls_client(&config.trust)?;
    let mut builder = Client::builder()
        .tls_backend_preconfigured((*tls).clone())
        .user_agent(crate::version::user_agent())
        // The sign must not follow a redirect to somebody else.
        .redirect(redirect::Policy::none())
        .connect_timeout(config.connect_timeout)
        .timeout(config.connect_timeout + config.stall)
        .no_proxy();
    if let Some(proxy) = &config.proxy {
        builder = builder.proxy(Proxy::all(proxy.reveal()).map_err(|_| unfit("update.proxy is no address"))?);
    }
    builder.build().map_err(|error| failed(format!("make the client of the HTTP broker: {}", chain(&error))))
}

/// SHA-256 of names and values in alphabetical order, then the secret.
fn sign(product_key: &str, device_key: &str, secret: &Secret) -> String {
    let text = Secret::new(format!(
        "deviceKey{device_key}lifetime{LIFETIME_MS}productKey{product_key}signMethodsha256{}",
        secret.reveal()
    ));
    crate::store::sha256(text.reveal().as_bytes())
}

fn chain(error: &dyn Error) -> String {
    let mut words = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        words.push(cause.to_string());
        next = cause.source();
    }
    if words.is_empty() { "no answer in time".to_owned() } else { words.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_no_broker_is_asked_three_times_and_who_is_busy_more_often() {
        for (status, chance, words) in [
            (200, Chance::Slim, "update.http_broker"),
            (302, Chance::Slim, "write that address"),
            (404, Chance::Slim, "update.http_broker"),
            (429, Chance::Good, "status 429"),
            (503, Chance::Good, "status 503"),
        ] {
            let told = no_broker(StatusCode::from_u16(status).unwrap());
            assert!(told.chance == chance && told.to_string().contains(words), "{status}: {told}");
        }
    }

    /// What a broker in front of a busy platform says is heeded, JSON or not.
    #[tokio::test]
    async fn a_busy_broker_says_when_it_may_be_asked_again() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let server = async {
            for body in ["", "{\"code\":503}"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await.unwrap();
                let head = format!("HTTP/1.1 503 X\r\nretry-after: 77\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(head.as_bytes()).await.unwrap();
            }
        };
        let config = UpdateConfig { cleartext: true, ..UpdateConfig::default() };
        let client = client(&config).unwrap();
        let asking = async {
            for _ in 0..2 {
                let url = reqwest::Url::parse(&base).unwrap();
                let trouble = link(&client, url).await.unwrap_err();
                assert_eq!((trouble.retry_after, trouble.chance), (Some(Duration::from_secs(77)), Chance::Good));
            }
        };
        tokio::join!(server, asking);
    }

    /// The form of the vendor's HTTP uplink, with its sample keys.
    #[test]
    fn the_sign_is_over_names_and_values_in_order() {
        let sign = sign("gwPK01", "gwDK01", &Secret::new("gwDS01SecretXYZ".to_owned()));
        assert_eq!(sign, "c51d6fe85c9a78bc77bda49807ed727bc645e2bbf0e5719c0e1a47c8e21a2cd8");
    }
}
