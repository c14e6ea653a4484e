//! Opens a session: discovery, trust, secure channel, CreateSession, ActivateSession, limits.

use crate::identity::{self, Identity};
use crate::line::{Failure, Line, Task};
use crate::plan::Inner;
use crate::session::OpcUaSession;
use crate::settings::{Password, Settings};
use crate::{socket, trust};
use driver::{FrameTap, Session, SessionError};
use opcua::client::services::{ActivateSession, CreateSession, Read};
use opcua::client::transport::AsyncSecureChannel;
use opcua::client::{ClientBuilder, ClientConfig, IdentityToken, SessionBuilder};
use opcua::core::ResponseMessage;
use opcua::core::sync::RwLock;
use opcua::crypto::{CertificateStore, SecurityPolicy};
use opcua::types::{
    ApplicationDescription, ApplicationType, AttributeId, EndpointDescription, Error, GetEndpointsRequest,
    MessageSecurityMode, NodeId, ReadValueId, RequestHeader, StatusCode, TimestampsToReturn, UAString, VariableId,
    Variant,
};
use std::sync::Arc;
use std::time::Duration;

/// How long a server keeps a session it hears nothing of. Short: a gateway that lost its power must
/// not meet BadTooManySessions when it is back.
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);

type Store = Arc<RwLock<CertificateStore>>;

/// What a new session knows of its server.
pub(crate) struct Facts {
    pub(crate) namespaces: Vec<UAString>,
    pub(crate) session_timeout: Duration,
}

/// Opens a session within the connection's dead-line, in a task of its own: a panic in the library's
/// crypto becomes an error, and a dropped future leaves no session behind on the server.
pub(crate) async fn open(inner: Arc<Inner>, tap: Arc<dyn FrameTap>) -> Result<Box<dyn Session>, SessionError> {
    let patience = inner.settings.connect_timeout;
    let mut task = Task(tokio::spawn(conversation(inner, tap)));
    match tokio::time::timeout(patience, &mut task.0).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(SessionError::Disconnected("the OPC UA library failed while connecting".to_owned())),
        Err(_) => Err(SessionError::Timeout(patience)),
    }
}

async fn conversation(inner: Arc<Inner>, tap: Arc<dyn FrameTap>) -> Result<Box<dyn Session>, SessionError> {
    let settings = &inner.settings;
    // Never asked for anything without security, so nothing has to exist.
    let store = Arc::new(RwLock::new(CertificateStore::new(&settings.pki_dir)));
    let plain = EndpointDescription::from((
        settings.endpoint.url.as_str(),
        SecurityPolicy::None.to_str(),
        MessageSecurityMode::None,
    ));
    let line = dial(settings, &store, plain, &tap).await?;
    let endpoint = choose(settings, discover(settings, &line).await?)?;
    let token = identity_token(settings).await?;
    if !settings.secure() {
        return start(inner, line, LogIn { store, endpoint, identity: None, token }).await;
    }
    line.close().await;
    accept(settings, &endpoint).await?;
    let identity = Some(own_identity(settings).await?);
    let store = library_store(settings).await?;
    let log_in = LogIn { store, endpoint, identity, token };
    apart(async move {
        let line = dial(&inner.settings, &log_in.store, log_in.endpoint.clone(), &tap).await?;
        start(inner, line, log_in).await
    })
    .await
}

/// Runs what signs and decrypts on a thread of its own: a private key takes tens of milliseconds on a small
/// processor, and no other device shall wait for that. Only servers that answered the discovery come this far, so dead
/// ones hold no thread. Dropped, it ends there too.
async fn apart(
    work: impl Future<Output = Result<Box<dyn Session>, SessionError>> + Send + 'static,
) -> Result<Box<dyn Session>, SessionError> {
    let runtime = tokio::runtime::Handle::current();
    // Nothing is ever sent: dropping it is the message.
    let (_held, released) = tokio::sync::oneshot::channel::<()>();
    let thread = tokio::task::spawn_blocking(move || {
        runtime.block_on(async {
            tokio::select! {
                answer = work => answer,
                _ = released => Err(SessionError::Disconnected("given up while connecting".to_owned())),
            }
        })
    });
    thread
        .await
        .unwrap_or_else(|_| Err(SessionError::Disconnected("the OPC UA library failed while connecting".to_owned())))
}

/// What a log-in needs.
struct LogIn {
    store: Store,
    endpoint: EndpointDescription,
    identity: Option<Identity>,
    token: IdentityToken,
}

async fn start(inner: Arc<Inner>, line: Line, with: LogIn) -> Result<Box<dyn Session>, SessionError> {
    let session_timeout = log_in(&line, with, &inner.settings).await?;
    let facts = Facts { namespaces: learn(&inner, &line).await?, session_timeout };
    Ok(Box::new(OpcUaSession::start(inner, line, &facts)))
}

async fn library_store(settings: &Settings) -> Result<Store, SessionError> {
    let pki = settings.pki_dir.clone();
    blocking(move || Ok(identity::store(&pki))).await
}

async fn own_identity(settings: &Settings) -> Result<Identity, SessionError> {
    let pki = settings.pki_dir.clone();
    blocking(move || identity::load_or_make(&pki).map_err(|e| format!("own certificate: {e}"))).await
}

async fn accept(settings: &Settings, endpoint: &EndpointDescription) -> Result<(), SessionError> {
    let settings = settings.clone();
    let certificate = endpoint.server_certificate.clone();
    let uri = endpoint.server.application_uri.as_ref().to_owned();
    blocking(move || trust::check(&settings, &certificate, &uri)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, SessionError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer.map_err(SessionError::Disconnected),
        Err(_) => Err(SessionError::Disconnected("the OPC UA library failed on a certificate".to_owned())),
    }
}

async fn dial(
    settings: &Settings,
    store: &Store,
    endpoint: EndpointDescription,
    tap: &Arc<dyn FrameTap>,
) -> Result<Line, SessionError> {
    let channel = channel(settings, store, endpoint).map_err(|e| Failure::new("open channel", &e, settings.timeout))?;
    let connector = socket::connector(&settings.endpoint, Arc::clone(tap));
    Ok(Line::open(channel, connector, settings.timeout).await?)
}

fn channel(settings: &Settings, store: &Store, endpoint: EndpointDescription) -> Result<AsyncSecureChannel, Error> {
    SessionBuilder::new(&library_config(settings))
        .connect_to_endpoint_directly(endpoint)?
        .build_channel(Arc::clone(store))
}

/// Limits against a hostile server: at most 16 MiB a message, arrays far below what would hurt.
fn library_config(settings: &Settings) -> ClientConfig {
    ClientBuilder::new()
        .application_name("enos-edge")
        .application_uri("urn:enos-edge")
        .pki_dir(&settings.pki_dir)
        .session_retry_limit(0)
        .request_timeout(settings.timeout)
        .channel_lifetime(600_000)
        .max_message_size(16 << 20)
        .max_chunk_count(256)
        .max_array_length(65_536)
        .max_string_length(1 << 20)
        .max_byte_string_length(1 << 20)
        // A gateway without a clock would renew its token always or never.
        .ignore_clock_skew(true)
        .into_config()
}

async fn discover(settings: &Settings, line: &Line) -> Result<Vec<EndpointDescription>, SessionError> {
    let talk = &line.talk;
    let request = GetEndpointsRequest {
        request_header: RequestHeader::new(
            &NodeId::null(),
            &opcua::types::DateTime::now(),
            talk.channel.request_handle(),
        ),
        endpoint_url: settings.endpoint.url.as_str().into(),
        locale_ids: None,
        profile_uris: None,
    };
    match talk.bounded("get endpoints", talk.channel.send(request, talk.timeout)).await? {
        ResponseMessage::GetEndpoints(answer) => Ok(answer.endpoints.unwrap_or_default()),
        ResponseMessage::ServiceFault(fault) => {
            Err(SessionError::Disconnected(format!("get endpoints: {}", fault.response_header.service_result)))
        }
        _ => Err(SessionError::Broken("get endpoints: another answer".to_owned())),
    }
}

/// The endpoint with the policy and mode asked for. It keeps the address the package gives: what a
/// server advertises is often its inner name or port.
fn choose(settings: &Settings, offered: Vec<EndpointDescription>) -> Result<EndpointDescription, SessionError> {
    let fits = |e: &EndpointDescription| {
        e.security_mode == settings.security_mode
            && SecurityPolicy::from_uri(e.security_policy_uri.as_ref()) == settings.policy
    };
    let mut list = Vec::new();
    for mut endpoint in offered {
        if fits(&endpoint) {
            endpoint.endpoint_url = settings.endpoint.url.as_str().into();
            // A password encrypted for a policy we do not know is none.
            if let Some(tokens) = &mut endpoint.user_identity_tokens {
                tokens.retain(|t| {
                    t.security_policy_uri.is_empty()
                        || SecurityPolicy::from_uri(t.security_policy_uri.as_ref()) != SecurityPolicy::Unknown
                });
            }
            return Ok(endpoint);
        }
        list.push(format!(
            "{} {:?}",
            SecurityPolicy::from_uri(endpoint.security_policy_uri.as_ref()),
            endpoint.security_mode
        ));
    }
    list.sort();
    list.dedup();
    list.truncate(12);
    Err(SessionError::Disconnected(format!(
        "the server offers no endpoint with security {} {:?}; it has: {}",
        settings.policy,
        settings.security_mode,
        list.join(", ")
    )))
}

/// CreateSession and ActivateSession. Answers how long the server keeps a silent session.
async fn log_in(line: &Line, with: LogIn, settings: &Settings) -> Result<Duration, SessionError> {
    let LogIn { store, endpoint, identity, token } = with;
    let talk = &line.talk;
    let (number, timeout, null, handle) = talk.head();
    #[expect(clippy::cast_precision_loss, reason = "a minute in milliseconds")]
    let mut create = CreateSession::new_manual(&store, &endpoint, number, timeout, null, handle)
        .client_description(description(identity.as_ref()))
        .endpoint_url(settings.endpoint.url.as_str())
        .session_name("enos-edge")
        .session_timeout(SESSION_TIMEOUT.as_millis() as f64)
        .max_response_message_size(16 << 20);
    let mut key = None;
    if let Some(identity) = identity {
        create = create.client_certificate(identity.certificate);
        key = Some(identity.key);
    }
    let created = talk.call("create session", create).await?;
    talk.set_token(&created.authentication_token);
    let (number, timeout, token_id, handle) = talk.head();
    let mut activate = ActivateSession::new_manual(endpoint, number, timeout, token_id, handle).identity_token(token);
    if let Some(key) = key {
        activate = activate.private_key(key);
    }
    talk.call("activate session", activate).await?;
    Ok(millis(created.revised_session_timeout, SESSION_TIMEOUT))
}

/// A duration the server chose, kept within reason.
pub(crate) fn millis(ms: f64, instead: Duration) -> Duration {
    if ms.is_finite() && (1.0..=86_400_000.0).contains(&ms) { Duration::from_secs_f64(ms / 1000.0) } else { instead }
}

fn description(identity: Option<&Identity>) -> ApplicationDescription {
    ApplicationDescription {
        application_uri: identity.map_or("urn:enos-edge", |i| i.application_uri.as_str()).into(),
        product_uri: "urn:enos-edge".into(),
        application_name: "enos-edge".into(),
        application_type: ApplicationType::Client,
        ..Default::default()
    }
}

async fn identity_token(settings: &Settings) -> Result<IdentityToken, SessionError> {
    let Some((user, password)) = &settings.user else {
        return Ok(IdentityToken::new_anonymous());
    };
    if !settings.secure() {
        tracing::warn!(endpoint = %settings.endpoint.url, "a password goes to an unauthenticated server: security_policy is None");
    }
    let password = match password {
        Password::Text(text) => text.clone(),
        Password::File(file) => {
            let file = file.clone();
            blocking(move || {
                std::fs::read_to_string(&file).map_err(|e| format!("password_file {}: {e}", file.display()))
            })
            .await?
            .trim_end_matches(['\r', '\n'])
            .to_owned()
        }
    };
    Ok(IdentityToken::new_user_name(user.as_str(), password))
}

/// Reads the namespace table and the server's limits.
async fn learn(inner: &Inner, line: &Line) -> Result<Vec<UAString>, SessionError> {
    const FACTS: [VariableId; 3] = [
        VariableId::Server_NamespaceArray,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
    ];
    let mut values = Vec::with_capacity(FACTS.len());
    // One at a time: a limit of one node in a Read is legal, and this is asked once a session.
    for fact in FACTS {
        values.push(read_one(line, fact).await?);
    }
    let limit = |value: &Option<Variant>| match value {
        Some(Variant::UInt32(n)) => *n,
        _ => 0,
    };
    Inner::lower(&inner.nodes_per_read, limit(&values[1]));
    Inner::lower(&inner.items_per_call, limit(&values[2]));
    match values.swap_remove(0) {
        Some(Variant::Array(array)) => Ok(array
            .values
            .into_iter()
            .map(|v| if let Variant::String(s) = v { s } else { UAString::null() })
            .collect()),
        _ if inner.points.iter().any(|p| p.node.needs_namespaces()) => {
            Err(SessionError::Disconnected("the server has no namespace table".to_owned()))
        }
        _ => Ok(Vec::new()),
    }
}

async fn read_one(line: &Line, id: VariableId) -> Result<Option<Variant>, SessionError> {
    let (number, timeout, token, handle) = line.talk.head();
    let request = Read::new_manual(number, timeout, token, handle)
        .timestamps_to_return(TimestampsToReturn::Neither)
        .node(ReadValueId::new(id.into(), AttributeId::Value));
    let answer = line.talk.call("read server facts", request).await;
    match answer {
        Ok(answer) => Ok(answer.results.and_then(|mut r| r.pop()).and_then(|v| v.value)),
        // Some small servers refuse the whole Read for a node they do not have.
        Err(failure) if failure.status == StatusCode::BadNodeIdUnknown => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}
