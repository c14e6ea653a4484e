//! The OPC UA server behind the front door, and the task that moves its variables.

use super::{MachineConfig, MachineError, values};
use opcua::crypto::SecurityPolicy;
use opcua::server::address_space::VariableBuilder;
use opcua::server::diagnostics::NamespaceMetadata;
use opcua::server::node_manager::memory::{SimpleNodeManager, simple_node_manager};
use opcua::server::{ANONYMOUS_USER_TOKEN_ID, ServerBuilder, ServerHandle, ServerUserToken};
use opcua::types::{
    AttributeId, DataEncoding, DataValue, DateTime, MessageSecurityMode, NodeId, NumericRange, StatusCode,
    TimestampsToReturn,
};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const NAMESPACE: &str = "urn:enos-edge:testbed:machine";
/// 0 is OPC UA's own, 1 the server's diagnostics.
const NAMESPACE_INDEX: u16 = 2;

pub(super) struct Server {
    handle: ServerHandle,
    manager: Arc<SimpleNodeManager>,
    port: u16,
    faults: Arc<Mutex<Faults>>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Default)]
struct Faults {
    spoilt: HashMap<usize, StatusCode>,
    removed: HashSet<usize>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.cancel();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Server {
    pub(super) async fn start(config: &MachineConfig, pki: &Path) -> Result<Server, MachineError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (like, folder) = (config.clone(), pki.to_owned());
        // Making the first certificate takes seconds in a debug build.
        let built = tokio::task::spawn_blocking(move || builder(&like, &folder, port).build()).await;
        let (server, handle) = built.map_err(|e| MachineError::Server(e.to_string()))?.map_err(MachineError::Server)?;
        let manager = handle
            .node_managers()
            .get_of_type::<SimpleNodeManager>()
            .ok_or_else(|| MachineError::Server("no node manager".to_owned()))?;
        let run = tokio::spawn(async move {
            let _ = server.run_with(listener).await;
        });
        let faults = Arc::new(Mutex::new(Faults::default()));
        add_nodes(&manager, config);
        move_once(&handle, &manager, &faults, config, now_in_ticks(config.tick));
        let mover = Mover { handle: handle.clone(), manager: Arc::clone(&manager), faults: Arc::clone(&faults) };
        let mover = tokio::spawn(mover.run(config.clone()));
        Ok(Server { handle, manager, port, faults, tasks: [run, mover] })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn spoil(&self, index: usize, status: Option<StatusCode>) {
        let mut faults = lock(&self.faults);
        match status {
            Some(status) => faults.spoilt.insert(index, status),
            None => faults.spoilt.remove(&index),
        };
    }

    pub(super) fn remove(&self, index: usize) {
        lock(&self.faults).removed.insert(index);
        let id = node_id(values::name(index));
        self.manager.address_space().write().delete(&id, true);
        let gone = DataValue { status: Some(StatusCode::BadNodeIdUnknown), ..DataValue::null() };
        self.handle.subscriptions().notify_data_change([(gone, &id, AttributeId::Value)].into_iter());
    }

    pub(super) fn setpoint(&self, index: usize) -> Option<String> {
        let space = self.manager.address_space().read();
        let node = space.find(&node_id(values::setpoint_name(index)))?;
        let data = node.as_node().get_attribute(
            TimestampsToReturn::Neither,
            AttributeId::Value,
            &NumericRange::None,
            &DataEncoding::Binary,
        )?;
        Some(data.value?.to_string())
    }
}

fn lock(faults: &Mutex<Faults>) -> MutexGuard<'_, Faults> {
    faults.lock().unwrap_or_else(PoisonError::into_inner)
}

fn node_id(name: String) -> NodeId {
    NodeId::new(NAMESPACE_INDEX, name)
}

fn builder(config: &MachineConfig, pki: &Path, port: u16) -> ServerBuilder {
    let mut tokens = vec![ANONYMOUS_USER_TOKEN_ID];
    tokens.extend(config.users.iter().map(|(user, _)| user.as_str()));
    let tokens = tokens.as_slice();
    let mut builder = ServerBuilder::new()
        .application_name("testbed machine")
        .application_uri("urn:enos-edge:testbed:machine:server")
        .product_uri("urn:enos-edge:testbed")
        .create_sample_keypair(config.secure)
        .pki_dir(pki)
        .trust_client_certs(true)
        .host("127.0.0.1")
        .port(port)
        .discovery_urls(vec![format!("opc.tcp://127.0.0.1:{port}/")])
        .max_sessions(config.max_sessions)
        .with_node_manager(simple_node_manager(
            NamespaceMetadata { namespace_uri: NAMESPACE.to_owned(), ..Default::default() },
            "machine",
        ))
        .add_endpoint("none", ("/", SecurityPolicy::None, MessageSecurityMode::None, tokens));
    if config.secure {
        let mode = MessageSecurityMode::SignAndEncrypt;
        builder = builder.add_endpoint("secure", ("/", SecurityPolicy::Basic256Sha256, mode, tokens));
    }
    for (user, password) in &config.users {
        builder = builder.add_user_token(user.clone(), ServerUserToken::user_pass(user.clone(), password.clone()));
    }
    let limits = builder.limits_mut();
    limits.operational.max_nodes_per_read = config.operation_limit;
    limits.operational.max_nodes_per_write = config.operation_limit;
    limits.operational.max_monitored_items_per_call = config.operation_limit;
    builder
}

fn add_nodes(manager: &SimpleNodeManager, config: &MachineConfig) {
    let mut space = manager.address_space().write();
    let folder = node_id("Machine".to_owned());
    space.add_folder(&folder, "Machine", "Machine", &NodeId::objects_folder_id());
    for index in 0..config.variables {
        let name = values::name(index);
        VariableBuilder::new(&node_id(name.clone()), name.as_str(), name.as_str())
            .data_type(values::data_type(index))
            .value(values::value(index, 0))
            .organized_by(&folder)
            .insert(&mut *space);
    }
    for index in 0..values::SETPOINTS {
        let name = values::setpoint_name(index);
        VariableBuilder::new(&node_id(name.clone()), name.as_str(), name.as_str())
            .data_type(values::data_type(index))
            .value(values::value(index, 0))
            .writable()
            .organized_by(&folder)
            .insert(&mut *space);
    }
}

struct Mover {
    handle: ServerHandle,
    manager: Arc<SimpleNodeManager>,
    faults: Arc<Mutex<Faults>>,
}

impl Mover {
    async fn run(self, config: MachineConfig) {
        let mut tick = tokio::time::interval(config.tick);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut moved = now_in_ticks(config.tick);
        loop {
            tick.tick().await;
            // A late timer skips no tick: a ledger counts them, and takes a missing one for a lost reading.
            let now = now_in_ticks(config.tick);
            for number in moved + 1..=now {
                move_once(&self.handle, &self.manager, &self.faults, &config, number);
            }
            moved = moved.max(now);
        }
    }
}

/// Sets every variable to its value of a tick. The source time is the start of the tick, so that value
/// and time prove each other.
fn move_once(
    handle: &ServerHandle,
    manager: &SimpleNodeManager,
    faults: &Mutex<Faults>,
    config: &MachineConfig,
    tick: u64,
) {
    let source = start_of(tick, config.tick);
    let faults = lock(faults);
    let alive = (0..config.variables).filter(|i| !faults.removed.contains(i));
    let moved: Vec<(NodeId, DataValue)> = alive
        .map(|index| {
            let spoilt = faults.spoilt.get(&index).copied();
            let data = DataValue {
                // With its value: the library drops the status of a variable that has none.
                value: Some(values::value(index, tick)),
                status: Some(spoilt.unwrap_or(StatusCode::Good)),
                source_timestamp: Some(source),
                server_timestamp: Some(DateTime::now()),
                ..DataValue::null()
            };
            (node_id(values::name(index)), data)
        })
        .collect();
    let moved = moved.iter().map(|(id, data)| (id, None, data.clone()));
    if let Err(status) = manager.set_values(handle.subscriptions(), moved) {
        tracing::warn!(%status, "stand-in machine can not move its variables");
    }
}

fn period_ms(period: Duration) -> u64 {
    u64::try_from(period.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn now_in_ticks(period: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX) / period_ms(period)
}

fn start_of(tick: u64, period: Duration) -> DateTime {
    // Ticks of 100 ns since 1601, as the wire has them (OPC 10000-6, clause 5.2.2.5).
    let ms = i64::try_from(tick * period_ms(period)).unwrap_or(i64::MAX / 20_000);
    DateTime::from((ms + 11_644_473_600_000) * 10_000)
}
