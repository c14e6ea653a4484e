//! The three traits of a protocol, and the one table of errors that says what ends a session.

use crate::{
    Diagnostic, Offsets, Parameters, Place, PointTable, Reason, Sample, Text, Transfer, TransferError, TransferShape,
    Value,
};
use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A boxed future, so that the traits work as `dyn`. One box a scan, none a value.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the package says about one connection. Parsed text, not yet understood by a protocol.
pub struct ConnectionText<'a> {
    pub name: &'a str,
    pub place: Place,
    pub parameters: &'a Parameters,
    pub devices: &'a [DeviceText<'a>],
}

/// One device of a connection.
pub struct DeviceText<'a> {
    pub name: &'a str,
    /// Where the package speaks of the device, for complaints without a better place.
    pub place: Place,
    /// The logical address, for example a Modbus unit id.
    pub address: Option<&'a Text>,
    pub table: Arc<PointTable>,
    pub offsets: Offsets,
    /// Index of the device's first point among all points of the connection; row `i` of the table
    /// is point `first_point + i`.
    pub first_point: u32,
    /// How the device takes a file, where the package says that it does.
    pub transfer: Option<&'a Parameters>,
}

impl DeviceText<'_> {
    /// The number of every row, in order: from the device's offset ranges where its kind has
    /// them, else as the table says.
    pub fn numbers(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let mut seen = [0u32; 6];
        self.table.rows().map(move |row| {
            let kind = row.row().kind;
            let nth = seen[kind as usize];
            seen[kind as usize] += 1;
            match self.offsets.number(kind, nth) {
                Some(number) => Cow::Owned(number.to_string()),
                None => Cow::Borrowed(row.number()),
            }
        })
    }
}

/// A protocol: stateless, named in one line of the daemon.
pub trait Protocol: Send + Sync {
    /// The word a package uses, for example `modbus-tcp`.
    fn name(&self) -> &'static str;

    /// Reads the text, decides what is read together, and touches nothing outside.
    ///
    /// # Errors
    /// All faults of the connection, its devices and their point tables, each with its place.
    fn plan(&self, connection: &ConnectionText<'_>) -> Result<Arc<dyn Plan>, Vec<Diagnostic>>;
}

/// Points read together, on a period of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanGroup {
    /// Index of the device within the connection.
    pub device: u32,
    pub period: Duration,
    /// True when the device sends these on its own: never scheduled, see [`Session::pushed`].
    pub pushed: bool,
    /// The points of the group, ascending.
    pub points: Vec<u32>,
    /// Longest time one read of the whole group may take, with every request at its own dead-line.
    pub patience: Duration,
}

/// Something that only one connection can own, for example a serial port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// Canonical name, for example `serial:/dev/ttyS1`.
    pub name: String,
    pub place: Place,
}

/// What one scan of a group costs its line.
///
/// ```
/// use std::time::Duration;
/// let cost = enos_edge_driver::ScanCost { requests: 1, bytes: 8 + 9, busy: Duration::from_millis(20) };
/// assert!(cost.busy < Duration::from_secs(1), "the group can be read each second");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanCost {
    pub requests: u32,
    /// Both ways, framing of the protocol included, that of TCP not.
    pub bytes: u64,
    /// The least time the line is taken: bits on the wire, silences and pauses that are configured. The time a
    /// device takes to answer comes on top.
    pub busy: Duration,
}

/// What was decided about a connection, once. What is learned of a device (largest read, holes)
/// is kept here too and so survives the session.
pub trait Plan: Send + Sync {
    fn scan_groups(&self) -> &[ScanGroup];
    /// Exclusive things this connection needs.
    fn resources(&self) -> &[Resource];
    /// Which station of the line device `index` is, in words that are equal exactly when the station is: `unit 1`
    /// for a device with address `01` as for one without an address, if the connection's unit is 1. Devices of one
    /// station must not read the same points. `None`: the address as it is written says it.
    fn station(&self, index: usize) -> Option<String> {
        let _ = index;
        None
    }
    /// Where the session will go, for logs and people: `tcp://10.0.0.7:502`.
    fn endpoint(&self) -> String;
    /// What one scan of a group costs its line; `None` where the protocol can not tell. For forecasts only.
    fn scan_cost(&self, group: usize) -> Option<ScanCost> {
        let _ = group;
        None
    }
    /// How device `index` takes a file; `None`: the protocol has no transfer of files, or the package speaks of none.
    fn transfer(&self, index: usize) -> Option<TransferShape> {
        let _ = index;
        None
    }
    /// What was learned of the devices and is respected from now on, a line each, for people:
    /// `unit 1: at most 62 registers a request`.
    fn learned(&self) -> Vec<String> {
        Vec::new()
    }
    /// Opens a conversation, within the dead-line the parameters give.
    fn connect(&self, tap: Arc<dyn FrameTap>) -> Answer<'_, Result<Box<dyn Session>, SessionError>>;
}

/// One conversation. Dropped or closed after the first error that ends it.
pub trait Session: Send {
    /// Reads scan group `group` and appends a sample for every point that got an answer, good or
    /// bad. On `Err` the samples appended so far stay valid; the runtime marks the rest.
    ///
    /// # Errors
    /// See [`SessionError`]. A device exception is no error: the span is read again in halves and
    /// the guilty point comes back `Bad`.
    fn read<'a>(&'a mut self, group: usize, samples: &'a mut Vec<Sample>) -> Answer<'a, Result<(), SessionError>>;

    /// Writes one control point and waits for the device's confirmation.
    fn write<'a>(&'a mut self, point: u32, value: &'a Value) -> Answer<'a, Result<(), SessionError>>;

    /// Hands bytes to device `device` (its index within the connection) as they are and waits for its answer, for
    /// protocols that have such a thing and connections that are configured to allow it.
    fn raw<'a>(&'a mut self, device: u32, bytes: &'a [u8]) -> Answer<'a, Result<Vec<u8>, RawError>> {
        let _ = (device, bytes);
        Box::pin(async { Err(RawError::Refused("the protocol passes no raw bytes on".to_owned())) })
    }

    /// Takes one step of sending a file to device `device`: a few requests at most, each with its dead-line, within the
    /// shape's patience. Sends nothing when the bytes it needs are not loaded. A session that does not know the
    /// transfer's id begins where the protocol can: with what `done` says, or with nothing. A step that was dropped or
    /// failed may be taken again.
    ///
    /// # Errors
    /// See [`TransferError`]; only [`TransferError::Session`] may end the session.
    fn transfer<'a>(&'a mut self, device: u32, file: &'a mut Transfer) -> Answer<'a, Result<(), TransferError>> {
        let _ = (device, file);
        Box::pin(async { Err(TransferError::Refused("the protocol has no transfer of files".to_owned())) })
    }

    /// What the device sends on its own. Pollers never resolve. Cancel-safe: a dropped future
    /// loses no sample.
    fn pushed<'a>(&'a mut self, samples: &'a mut Vec<Sample>) -> Answer<'a, Result<(), SessionError>> {
        let _ = samples;
        Box::pin(std::future::pending())
    }

    /// Ends the conversation. After a timeout on a serial line this waits until the line is
    /// silent, so that a late answer never meets the next request.
    fn close(self: Box<Self>) -> Answer<'static, ()>;
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// No conversation could be opened, or the open one broke.
    #[error("disconnected: {0}")]
    Disconnected(String),
    /// The device did not answer in time. The conversation is over: its answer may still come.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The device refused one point of a write; the conversation goes on.
    #[error("point {point} refused: {reason}")]
    Rejected { point: u32, reason: Reason },
    /// The peer broke the protocol; what follows on this conversation can not be trusted.
    #[error("protocol broken: {0}")]
    Broken(String),
}

impl SessionError {
    /// The one table that says which errors end the session.
    #[must_use]
    pub fn ends_session(&self) -> bool {
        match self {
            SessionError::Disconnected(_) | SessionError::Timeout(_) | SessionError::Broken(_) => true,
            SessionError::Rejected { .. } => false,
        }
    }

    /// The reason the runtime gives to points that got no sample because of this error.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            SessionError::Disconnected(_) => Reason::NotConnected,
            SessionError::Timeout(_) | SessionError::Broken(_) => Reason::NoAnswer,
            SessionError::Rejected { reason, .. } => *reason,
        }
    }
}

/// Why raw bytes brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RawError {
    /// Nothing was sent.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Session(#[from] SessionError),
}

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Sent,
    Received,
}

/// Sees every raw frame of a session; the runtime decides whether anybody listens.
pub trait FrameTap: Send + Sync {
    fn frame(&self, direction: Direction, bytes: &[u8]);
}

/// A tap nobody listens to.
pub struct Silent;

impl FrameTap for Silent {
    fn frame(&self, _: Direction, _: &[u8]) {}
}
