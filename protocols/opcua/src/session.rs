//! One conversation: batched reads, writes, and what the subscription's task delivers.

use crate::convert::{self, Clock};
use crate::file::{self, FileStore, Upload};
use crate::line::{Failure, Line, Talk, Task};
use crate::mailbox::Mailbox;
use crate::open::Facts;
use crate::plan::Inner;
use crate::publish;
use crate::settings::{Mode, Stamp};
use crate::write;
use driver::{Answer, Reason, Sample, Session, SessionError, Timestamp, Transfer, TransferError, Value};
use opcua::client::services::Read;
use opcua::types::{AttributeId, DataValue, NodeId, ReadValueId, StatusCode, TimestampsToReturn, Variant};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(crate) struct OpcUaSession {
    pub(crate) shared: Arc<Shared>,
    /// The object that takes each device's files; `None` also when the server lacks its namespace.
    pub(crate) files: Vec<Option<NodeId>>,
    /// The file that is under way.
    pub(crate) upload: Option<Upload>,
    line: Line,
    /// Ends with the session.
    companion: Task<()>,
}

/// What the session and its subscription task share.
pub(crate) struct Shared {
    pub(crate) inner: Arc<Inner>,
    pub(crate) talk: Arc<Talk>,
    pub(crate) mailbox: Mailbox,
    /// The NodeId of every point; `None` when the server lacks its namespace.
    pub(crate) nodes: Vec<Option<NodeId>>,
    /// When the server last answered a request of the session.
    pub(crate) heard: std::sync::Mutex<Instant>,
}

impl Shared {
    pub(crate) fn clock(&self) -> Clock {
        Clock { stamp: self.inner.settings.stamp, now: Timestamp::now() }
    }

    /// Turns what the server said into a sample.
    pub(crate) fn sample(&self, point: u32, data: &mut DataValue, clock: Clock) -> Sample {
        self.restore_clock(data);
        convert::sample(point, self.inner.points[point as usize].value_type, data, clock)
    }

    /// The library shifts every time it decodes by the difference of the two clocks, but for source
    /// stamps; undo that, so that a time is what the server said.
    fn restore_clock(&self, data: &mut DataValue) {
        let value = match &mut data.value {
            Some(Variant::DateTime(time)) => Some(&mut **time),
            _ => None,
        };
        let times = [value, data.server_timestamp.as_mut()];
        if times.iter().all(Option::is_none) {
            return;
        }
        let offset = self.talk.channel.encoding_context().read().options().client_offset;
        for time in times.into_iter().flatten() {
            *time = *time + offset;
        }
    }

    pub(crate) fn stamps(&self) -> TimestampsToReturn {
        match self.inner.settings.stamp {
            Stamp::Gateway => TimestampsToReturn::Neither,
            Stamp::Source => TimestampsToReturn::Both,
            Stamp::Server => TimestampsToReturn::Server,
        }
    }

    pub(crate) fn hear(&self) {
        *self.heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Instant::now();
    }
}

impl OpcUaSession {
    pub(crate) fn start(inner: Arc<Inner>, line: Line, facts: &Facts) -> OpcUaSession {
        let file = |store: &Option<FileStore>| store.as_ref().and_then(|store| store.node.resolve(&facts.namespaces));
        let files = inner.files.iter().map(file).collect();
        let nodes = inner.points.iter().map(|p| p.node.resolve(&facts.namespaces)).collect();
        let shared = Arc::new(Shared {
            mailbox: Mailbox::new(inner.points.len()),
            nodes,
            talk: Arc::clone(&line.talk),
            heard: std::sync::Mutex::new(Instant::now()),
            inner,
        });
        let companion = Task(tokio::spawn(publish::accompany(Arc::clone(&shared), facts.session_timeout)));
        OpcUaSession { shared, files, upload: None, line, companion }
    }

    async fn read_group(&self, group: usize, samples: &mut Vec<Sample>) -> Result<(), SessionError> {
        let points = &self.shared.inner.groups[group].points;
        let mut done = 0;
        while done < points.len() {
            let limit = self.shared.inner.nodes_per_read.load(Ordering::Relaxed);
            let chunk = &points[done..points.len().min(done + limit)];
            match self.read_chunk(chunk, samples).await {
                Ok(()) => done += chunk.len(),
                Err(failure) if failure.too_much() && Inner::halve(&self.shared.inner.nodes_per_read, chunk.len()) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(())
    }

    async fn read_chunk(&self, points: &[u32], samples: &mut Vec<Sample>) -> Result<(), Failure> {
        let shared = &self.shared;
        let known: Vec<(u32, &NodeId)> =
            points.iter().filter_map(|p| Some((*p, shared.nodes[*p as usize].as_ref()?))).collect();
        let mut results = Vec::new();
        if !known.is_empty() {
            let nodes = known.iter().map(|(_, id)| ReadValueId::new((*id).clone(), AttributeId::Value)).collect();
            let (number, timeout, token, handle) = shared.talk.head();
            let request = Read::new_manual(number, timeout, token, handle)
                .timestamps_to_return(shared.stamps())
                .nodes_to_read(nodes);
            let answer = shared.talk.call("read", request).await?;
            shared.hear();
            results = answer.results.unwrap_or_default();
            if results.len() != known.len() {
                return Err(Failure {
                    status: StatusCode::BadUnknownResponse,
                    error: SessionError::Broken(format!("read of {} nodes: {} results", known.len(), results.len())),
                });
            }
        }
        let clock = shared.clock();
        samples.extend(known.iter().zip(&mut results).map(|((point, _), data)| shared.sample(*point, data, clock)));
        let unknown = points.iter().filter(|p| shared.nodes[**p as usize].is_none());
        samples.extend(unknown.map(|p| convert::bad(*p, StatusCode::BadNodeIdUnknown.bits(), clock.now)));
        Ok(())
    }
}

impl Session for OpcUaSession {
    fn read<'a>(&'a mut self, group: usize, samples: &'a mut Vec<Sample>) -> Answer<'a, Result<(), SessionError>> {
        Box::pin(async move {
            match self.shared.mailbox.error() {
                Some(error) => Err(error),
                None => self.read_group(group, samples).await,
            }
        })
    }

    fn write<'a>(&'a mut self, point: u32, value: &'a Value) -> Answer<'a, Result<(), SessionError>> {
        Box::pin(async move {
            match &self.shared.nodes[point as usize] {
                Some(node) => write::write(&self.shared, point, node, value).await,
                None => {
                    let reason = Reason::StatusCode(StatusCode::BadNodeIdUnknown.bits());
                    Err(SessionError::Rejected { point, reason })
                }
            }
        })
    }

    fn pushed<'a>(&'a mut self, samples: &'a mut Vec<Sample>) -> Answer<'a, Result<(), SessionError>> {
        match self.shared.inner.settings.mode {
            Mode::Subscribe => Box::pin(self.shared.mailbox.take(samples)),
            Mode::Read => Box::pin(std::future::pending()),
        }
    }

    fn transfer<'a>(&'a mut self, device: u32, file: &'a mut Transfer) -> Answer<'a, Result<(), TransferError>> {
        Box::pin(file::step(self, device, file))
    }

    fn close(self: Box<Self>) -> Answer<'static, ()> {
        let OpcUaSession { line, companion, .. } = *self;
        drop(companion);
        Box::pin(line.close())
    }
}
