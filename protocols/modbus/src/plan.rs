//! What was decided about a connection: devices, their points, and what is read together.

use crate::blocks::{self, Block, Item};
use crate::learned::Learned;
use crate::line::Line;
use crate::link::{Framing, Link, Timing};
use crate::point::{self, Spec};
use crate::records::Store;
use crate::session::{ModbusSession, learned};
use crate::settings::{Dialect, Parity, SerialSettings, Settings, Target, parse_unit};
use crate::transfer;
use driver::{
    Answer, ConnectionText, DeviceText, Diagnostic, FrameTap, Place, Plan, PointTable, Resource, ScanCost, ScanGroup,
    Session, SessionError, TransferShape,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_serial::SerialPortBuilderExt as _;

/// One device: a unit and the points of its template.
pub struct Device {
    /// For log lines: many devices are unit 1 of their own connection.
    pub name: Arc<str>,
    pub unit: u8,
    pub first_point: u32,
    pub specs: Arc<[Spec]>,
    /// Shared by devices on the same unit.
    pub learned: Arc<Mutex<Learned>>,
    /// How it takes a file.
    pub store: Option<Store>,
}

/// The points of one scan group, in the order of their addresses.
pub struct Group {
    pub device: usize,
    pub items: Arc<[Item]>,
    pub patience: Duration,
    pub cost: ScanCost,
}

/// What sessions share.
pub struct Inner {
    pub settings: Settings,
    pub devices: Vec<Device>,
    pub groups: Vec<Group>,
    pub timing: Timing,
}

/// The plan of one Modbus connection.
pub struct ModbusPlan {
    inner: Arc<Inner>,
    scan_groups: Vec<ScanGroup>,
    resources: Vec<Resource>,
}

/// What a template comes to under the settings of this connection.
struct Template {
    specs: Arc<[Spec]>,
    groups: Vec<(Duration, Arc<[Item]>)>,
}

impl ModbusPlan {
    /// # Errors
    /// All faults, each once even if a hundred devices share the template.
    pub fn new(dialect: Dialect, connection: &ConnectionText<'_>) -> Result<ModbusPlan, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let settings = Settings::parse(dialect, connection, &mut faults);
        let timing = timing(&settings);
        let mut inner = Inner { settings, devices: Vec::new(), groups: Vec::new(), timing };
        let mut scan_groups = Vec::new();
        let mut templates = BTreeMap::new();
        let mut units: BTreeMap<u8, Arc<Mutex<Learned>>> = BTreeMap::new();
        for (index, device) in connection.devices.iter().enumerate() {
            let unit = unit_of(device, &inner.settings, &mut faults);
            let template = template(device, &inner.settings, &mut templates, &mut faults);
            for (period, items) in &template.groups {
                let (patience, cost) = effort(items, &inner);
                scan_groups.push(scan_group(index, device.first_point, *period, items, patience));
                inner.groups.push(Group { device: index, items: Arc::clone(items), patience, cost });
            }
            inner.devices.push(Device {
                name: device.name.into(),
                unit,
                first_point: device.first_point,
                specs: Arc::clone(&template.specs),
                learned: Arc::clone(units.entry(unit).or_default()),
                store: device.transfer.map(|own| Store::parse(own, inner.settings.timeout, &mut faults)),
            });
        }
        if !faults.is_empty() {
            return Err(once_each(faults));
        }
        let resources = resources(connection, &inner.settings);
        Ok(ModbusPlan { inner: Arc::new(inner), scan_groups, resources })
    }
}

fn once_each(faults: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = BTreeSet::new();
    faults.into_iter().filter(|fault| seen.insert(fault.clone())).collect()
}

fn unit_of(device: &DeviceText<'_>, settings: &Settings, faults: &mut Vec<Diagnostic>) -> u8 {
    let Some(address) = device.address else { return settings.unit };
    parse_unit(address, settings.dialect).unwrap_or_else(|mut fault| {
        fault.problem = format!("device {}: {}", device.name, fault.problem);
        faults.push(*fault);
        settings.unit
    })
}

type Templates = BTreeMap<(usize, String), Arc<Template>>;

/// Devices of one template with the same offsets share everything.
fn template(
    device: &DeviceText<'_>,
    settings: &Settings,
    known: &mut Templates,
    faults: &mut Vec<Diagnostic>,
) -> Arc<Template> {
    let key = (Arc::as_ptr(&device.table).addr(), format!("{:?}", device.offsets));
    if let Some(template) = known.get(&key) {
        return Arc::clone(template);
    }
    let template = Arc::new(read_template(device, settings, faults));
    known.insert(key, Arc::clone(&template));
    template
}

/// More complaints of one table than anybody reads.
const FAULTS: usize = 1_000;

fn read_template(device: &DeviceText<'_>, settings: &Settings, faults: &mut Vec<Diagnostic>) -> Template {
    let table: &PointTable = &device.table;
    point::check_columns(table, faults);
    let mut specs = Vec::with_capacity(table.len());
    let mut groups: BTreeMap<Duration, Vec<Item>> = BTreeMap::new();
    let before = faults.len();
    for (row, number) in table.rows().zip(device.numbers()) {
        if faults.len() - before >= FAULTS {
            let place = Place::new(&table.file, row.row().line, 0);
            faults.push(
                Diagnostic::error(place, "the rows from here on were not looked at").help("mend those above first"),
            );
            break;
        }
        let spec = match point::parse(row, &number, settings) {
            Ok(spec) => spec,
            Err(more) => {
                faults.extend(more);
                continue;
            }
        };
        specs.push(spec);
        if !row.row().kind.is_control() {
            let period = point::scan_period(row, settings, faults);
            let row = u32::try_from(row.index()).expect("the reader caps a table far below 4 G rows");
            let item = Item { area: spec.area, address: spec.address, len: spec.len, row };
            groups.entry(period).or_default().push(item);
        }
    }
    let sorted = |mut items: Vec<Item>| {
        items.sort_unstable();
        Arc::from(items)
    };
    let groups = groups.into_iter().map(|(period, items)| (period, sorted(items))).collect();
    Template { specs: specs.into(), groups }
}

fn scan_group(device: usize, first_point: u32, period: Duration, items: &[Item], patience: Duration) -> ScanGroup {
    let mut points: Vec<u32> = items.iter().map(|item| first_point + item.row).collect();
    points.sort_unstable();
    let device = u32::try_from(device).expect("a connection has far fewer than 4 G devices");
    ScanGroup { device, period, pushed: false, points, patience }
}

/// Requests a scan may need beyond those planned: to find the guilty points of one block, and to
/// ask a few holes again. A read stops asking when its patience is used up.
const EXTRA_REQUESTS: u32 = 16;

/// How long a scan may take, and what it costs when all goes well.
fn effort(items: &[Item], inner: &Inner) -> (Duration, ScanCost) {
    let mut planned: Vec<Block> = Vec::new();
    blocks::plan(items, &inner.settings.limits, |_, _, _| false, &mut planned);
    let requests = u32::try_from(planned.len()).unwrap_or(u32::MAX).saturating_add(EXTRA_REQUESTS);
    let patience = Link::patience(&inner.timing).saturating_mul(requests);
    (patience, cost(&planned, &inner.settings, &inner.timing))
}

/// Frames around a request of five bytes and an answer of two and its data: unit and CRC, or MBAP (1.1b3, clause 4.1).
fn cost(planned: &[Block], settings: &Settings, timing: &Timing) -> ScanCost {
    let frame = if settings.dialect == Dialect::Tcp { 7 } else { 3 };
    let data = |block: &Block| {
        let count = u64::from(block.count);
        if block.area.is_bits() { count.div_ceil(8) } else { 2 * count }
    };
    let requests = u32::try_from(planned.len()).unwrap_or(u32::MAX);
    let bytes: u64 = planned.iter().map(|block| frame + 5 + frame + 2 + data(block)).sum();
    let wire = timing.character.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
    let pauses = (timing.silence * 2 + timing.delay).saturating_mul(requests);
    ScanCost { requests, bytes, busy: wire.saturating_add(pauses) }
}

/// Bits of a character on the line: start, eight data, parity, stop.
fn timing(settings: &Settings) -> Timing {
    let (character, silence) = match &settings.target {
        Target::Tcp { .. } => (Duration::ZERO, Duration::ZERO),
        Target::Serial(serial) => {
            let bits = 9 + u32::from(serial.parity != Parity::None) + u32::from(serial.stop_bits);
            let character = Duration::from_secs(1) * bits / serial.baud_rate;
            // Modbus over Serial Line 1.02, clause 2.5.1.1: 3.5 characters, 1.75 ms above 19200 baud.
            (character, (character * 7 / 2).max(Duration::from_micros(1750)))
        }
    };
    Timing { timeout: settings.timeout, delay: settings.request_delay, silence, character }
}

fn resources(connection: &ConnectionText<'_>, settings: &Settings) -> Vec<Resource> {
    let Target::Serial(serial) = &settings.target else { return Vec::new() };
    let place: Place = match connection.parameters.get("serial_port") {
        Some(text) => text.place.clone(),
        None => connection.place.clone(),
    };
    vec![Resource { name: format!("serial:{}", serial.port), place }]
}

impl Plan for ModbusPlan {
    fn scan_groups(&self) -> &[ScanGroup] {
        &self.scan_groups
    }

    fn resources(&self) -> &[Resource] {
        &self.resources
    }

    fn station(&self, index: usize) -> Option<String> {
        self.inner.devices.get(index).map(|device| format!("unit {}", device.unit))
    }

    fn scan_cost(&self, group: usize) -> Option<ScanCost> {
        self.inner.groups.get(group).map(|group| group.cost)
    }

    fn endpoint(&self) -> String {
        match (&self.inner.settings.target, self.inner.settings.dialect) {
            (Target::Tcp { host, port }, Dialect::RtuOverTcp) => format!("rtu+tcp://{host}:{port}"),
            (Target::Tcp { host, port }, _) => format!("tcp://{host}:{port}"),
            (Target::Serial(serial), _) => format!("serial:{}", serial.port),
        }
    }

    fn transfer(&self, index: usize) -> Option<TransferShape> {
        let store = self.inner.devices.get(index)?.store?;
        Some(transfer::shape(&store, &self.inner.timing))
    }

    fn learned(&self) -> Vec<String> {
        let mut units = BTreeMap::new();
        for device in &self.inner.devices {
            units.entry(device.unit).or_insert(device);
        }
        let lines = |(unit, device): (u8, &Device)| {
            let lines = learned(device).lines();
            lines.into_iter().map(move |line| format!("unit {unit}: {line}"))
        };
        units.into_iter().flat_map(lines).collect()
    }

    fn connect(&self, tap: Arc<dyn FrameTap>) -> Answer<'_, Result<Box<dyn Session>, SessionError>> {
        Box::pin(async move {
            let link = open(&self.inner, tap).await?;
            Ok(Box::new(ModbusSession::new(Arc::clone(&self.inner), link)) as Box<dyn Session>)
        })
    }
}

/// A name server that is dead says so itself: whoever reads "no connection" looks at the device.
async fn dial(host: &str, port: u16, wait: Duration) -> Result<TcpStream, SessionError> {
    let deadline = Instant::now() + wait;
    let addresses: Vec<SocketAddr> = timeout_at(deadline, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| SessionError::Disconnected(format!("host name {host} was not resolved within {wait:?}")))?
        .map_err(|error| SessionError::Disconnected(format!("host name {host}: {error}")))?
        .collect();
    timeout_at(deadline, TcpStream::connect(&addresses[..]))
        .await
        .map_err(|_| SessionError::Disconnected(format!("no connection within {wait:?}")))?
        .map_err(|error| SessionError::Disconnected(error.to_string()))
}

async fn open(inner: &Inner, tap: Arc<dyn FrameTap>) -> Result<Link, SessionError> {
    match &inner.settings.target {
        Target::Tcp { host, port } => {
            let wait = inner.settings.connect_timeout;
            let stream = dial(host, *port, wait).await?;
            // Requests are small and each waits for its answer: Nagle's algorithm only adds delay.
            stream.set_nodelay(true).map_err(|error| SessionError::Disconnected(error.to_string()))?;
            if inner.settings.dialect == Dialect::Tcp {
                return Ok(Link::new(Box::new(stream), Framing::Mbap, inner.timing, tap));
            }
            // The serial line behind a gateway keeps what its units still have to say, whoever connects.
            let line = Line::of(&format!("{host}:{port}"));
            ready(Link::new(Box::new(stream), Framing::Rtu, inner.timing, tap), line).await
        }
        Target::Serial(serial) => open_serial(serial, inner.timing, tap).await,
    }
}

async fn open_serial(serial: &SerialSettings, timing: Timing, tap: Arc<dyn FrameTap>) -> Result<Link, SessionError> {
    let line = Line::of(&serial.port);
    let parity = match serial.parity {
        Parity::None => tokio_serial::Parity::None,
        Parity::Even => tokio_serial::Parity::Even,
        Parity::Odd => tokio_serial::Parity::Odd,
    };
    let stop_bits = if serial.stop_bits == 2 { tokio_serial::StopBits::Two } else { tokio_serial::StopBits::One };
    let stream = tokio_serial::new(&serial.port, serial.baud_rate)
        .data_bits(if serial.data_bits == 7 { tokio_serial::DataBits::Seven } else { tokio_serial::DataBits::Eight })
        .parity(parity)
        .stop_bits(stop_bits)
        .flow_control(tokio_serial::FlowControl::None)
        .open_native_async()
        .map_err(|error| SessionError::Disconnected(format!("{}: {error}", serial.port)))?;
    ready(Link::new(Box::new(stream), Framing::Rtu, timing, tap), line).await
}

/// Waits until no answer to a request that was given up can come any more. Bounded by the line:
/// the dead-line of that request, or half as much again as the latest answer seen.
async fn ready(mut link: Link, line: Arc<Line>) -> Result<Link, SessionError> {
    link.quarantine(&line).await?;
    Ok(link.on(line))
}
