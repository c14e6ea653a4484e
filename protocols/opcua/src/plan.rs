//! What is read together, decided once from the text; and what is learned of the server on the way.

use crate::file::FileStore;
use crate::node::Node;
use crate::open;
use crate::settings::{Mode, Settings};
use driver::{
    Answer, ConnectionText, DeviceText, Diagnostic, FrameTap, Place, Plan, Resource, RowText, ScanGroup, Session,
    SessionError, TransferShape, ValueType,
};
use opcua::types::VariantScalarTypeId;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One point of the connection.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) node: Node,
    pub(crate) value_type: ValueType,
}

/// The plan's content, shared with its sessions.
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) points: Vec<Point>,
    pub(crate) groups: Vec<ScanGroup>,
    /// How each device takes a file.
    pub(crate) files: Vec<Option<FileStore>>,
    /// Nodes in one Read; shrinks when the server asks for less.
    pub(crate) nodes_per_read: AtomicUsize,
    /// Monitored items in one call; shrinks likewise.
    pub(crate) items_per_call: AtomicUsize,
    /// Types of nodes that refused a write in the table's type.
    pub(crate) wire_types: Mutex<HashMap<u32, VariantScalarTypeId>>,
}

pub(crate) struct OpcUaPlan {
    inner: Arc<Inner>,
    /// Devices whose table uses `{address}`: to all others the address says nothing.
    addressed: Vec<bool>,
}

impl OpcUaPlan {
    pub(crate) fn new(connection: &ConnectionText<'_>, state_dir: &Path) -> Result<OpcUaPlan, Vec<Diagnostic>> {
        let mut faults = Vec::new();
        let settings = Settings::read(connection, state_dir, &mut faults);
        let mut points = Vec::new();
        let mut groups = BTreeMap::new();
        let mut addressed = Vec::with_capacity(connection.devices.len());
        let mut files = Vec::with_capacity(connection.devices.len());
        for (index, device) in connection.devices.iter().enumerate() {
            let index = u32::try_from(index).expect("a connection has far fewer devices");
            let mut reader = DeviceReader::new(device, &mut faults);
            addressed.push(reader.read(index, &settings, &mut points, &mut groups));
            let address = device.address.map(|text| text.text.trim());
            let mut found = Vec::new();
            files.push(device.transfer.and_then(|own| FileStore::parse(own, &device.place, address, &mut found)));
            // Devices of one template have the same.
            found.retain(|fault| !faults.contains(fault));
            faults.extend(found);
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(OpcUaPlan { inner: Arc::new(Inner::new(settings, points, groups, files)), addressed })
    }
}

impl Inner {
    fn new(
        settings: Settings,
        points: Vec<Point>,
        groups: BTreeMap<(u32, Duration), Vec<u32>>,
        files: Vec<Option<FileStore>>,
    ) -> Inner {
        let group = |((device, period), points): ((u32, Duration), Vec<u32>)| {
            let requests = points.len().div_ceil(settings.max_nodes_per_read);
            ScanGroup {
                device,
                period,
                pushed: settings.mode == Mode::Subscribe,
                points,
                patience: settings.timeout * u32::try_from(requests).unwrap_or(u32::MAX),
            }
        };
        let groups = groups.into_iter().map(group).collect();
        Inner {
            nodes_per_read: AtomicUsize::new(settings.max_nodes_per_read),
            items_per_call: AtomicUsize::new(settings.max_items_per_call),
            wire_types: Mutex::default(),
            settings,
            points,
            groups,
            files,
        }
    }

    /// Takes a smaller limit from the server; 0 means it has none (OPC 10000-5, clause 6.3.11).
    pub(crate) fn lower(limit: &AtomicUsize, to: u32) {
        if to > 0 {
            limit.fetch_min(to as usize, Ordering::Relaxed);
        }
    }

    /// Halves a limit after the server found a request too large; false when it can not shrink.
    pub(crate) fn halve(limit: &AtomicUsize, tried: usize) -> bool {
        limit.fetch_min((tried / 2).max(1), Ordering::Relaxed);
        tried > 1
    }
}

/// The column that says where a point lives when its number is something else.
const NODE_ID: &str = "node_id";

/// More complaints of one connection than anybody reads.
const FAULTS: usize = 1_000;

/// Stands for the device's logical address.
pub(crate) const ADDRESS: &str = "{address}";

struct DeviceReader<'a, 'd> {
    device: &'a DeviceText<'d>,
    hasher: RandomState,
    /// Hash of each node with its direction, row of the table, and place among the points. A million of them are 16 MB.
    seen: Vec<(u64, u32, u32)>,
    faults: &'a mut Vec<Diagnostic>,
}

/// What names the node of a row, and where it stands.
fn written<'t>(row: RowText<'t>, number: &'t str) -> (&'t str, Place) {
    match row.cell(NODE_ID) {
        Some(cell) => (cell, row.cell_place(NODE_ID)),
        None => (number, row.number_place()),
    }
}

impl<'a, 'd> DeviceReader<'a, 'd> {
    fn new(device: &'a DeviceText<'d>, faults: &'a mut Vec<Diagnostic>) -> DeviceReader<'a, 'd> {
        DeviceReader { device, hasher: RandomState::new(), seen: Vec::with_capacity(device.table.len()), faults }
    }

    /// True when the table uses the device's address.
    fn read(
        &mut self,
        index: u32,
        settings: &Settings,
        points: &mut Vec<Point>,
        groups: &mut BTreeMap<(u32, Duration), Vec<u32>>,
    ) -> bool {
        let device = self.device;
        let mut addressed = false;
        points.reserve_exact(device.table.len());
        for (row, number) in device.table.rows().zip(device.numbers()) {
            if self.faults.len() >= FAULTS {
                let place = Place::new(&device.table.file, row.row().line, 0);
                let fault = Diagnostic::error(place, "the rows from here on were not looked at");
                self.faults.push(fault.help("mend those above first"));
                break;
            }
            let period = self.period(row, settings.scan_period);
            let (text, place) = written(row, &number);
            addressed |= text.contains(ADDRESS);
            let Some(node) = self.node(text, place) else { continue };
            let is_control = row.row().kind.is_control();
            let at = u32::try_from(points.len()).expect("the reader caps a table");
            let index_in_table = u32::try_from(row.index()).expect("the reader caps a table");
            self.seen.push((self.hasher.hash_one((&node, is_control)), index_in_table, at));
            // Points keep their place even when an earlier one is at fault: the plan is refused then anyway.
            let point = device.first_point + index_in_table;
            if !is_control {
                groups.entry((index, period)).or_default().push(point);
            }
            points.push(Point { node, value_type: row.row().value_type });
        }
        self.refuse_repeats(points);
        addressed
    }

    fn node(&mut self, written: &str, place: Place) -> Option<Node> {
        let text = self.with_address(written, &place)?;
        let node = Node::parse(&text);
        if node.is_none() {
            self.faults.push(
                Diagnostic::error(place, format!("\"{text}\" is no NodeId"))
                    .help("write ns=2;s=Name, ns=2;i=17, or nsu=urn:maker;s=Name"),
            );
        }
        node
    }

    /// One node is one point for each direction. Only rows of equal hash are looked at again.
    fn refuse_repeats(&mut self, points: &[Point]) {
        self.seen.sort_unstable();
        for group in self.seen.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1) {
            let node = |at: u32| &points[at as usize].node;
            for (index, (_, row, at)) in group.iter().enumerate().skip(1) {
                let same = group[..index].iter().find(|(_, _, before)| node(*before) == node(*at));
                let Some((_, first, _)) = same else { continue };
                let (row, first) = (self.device.table.row(*row as usize), self.device.table.row(*first as usize));
                let first = first.row().line;
                let (text, place) = written(row, row.number());
                self.faults.push(
                    Diagnostic::error(place, format!("node {text} is already the point of line {first}"))
                        .help("keep one of the two"),
                );
            }
        }
    }

    /// `{address}` stands for the device's logical address, so that one table serves many machines.
    fn with_address<'t>(&mut self, written: &'t str, place: &Place) -> Option<Cow<'t, str>> {
        if !written.contains(ADDRESS) {
            return Some(Cow::Borrowed(written));
        }
        let Some(address) = self.device.address else {
            let problem = format!("{{address}} is used, but device {} has no address", self.device.name);
            let help = "give the device an address in assets.yaml";
            self.faults.push(Diagnostic::error(place.clone(), problem).help(help));
            return None;
        };
        Some(Cow::Owned(written.replace(ADDRESS, address.text.trim())))
    }

    fn period(&mut self, row: RowText<'_>, default: Duration) -> Duration {
        const COLUMN: &str = "scan_period_ms";
        let Some(cell) = row.cell(COLUMN) else { return default };
        match cell.trim().parse::<u64>() {
            Ok(ms @ 10..=86_400_000) => Duration::from_millis(ms),
            _ => {
                self.faults.push(
                    Diagnostic::error(row.cell_place(COLUMN), format!("{COLUMN}: \"{cell}\" does not fit"))
                        .help("write milliseconds from 10 to 86400000"),
                );
                default
            }
        }
    }
}

impl Plan for OpcUaPlan {
    fn scan_groups(&self) -> &[ScanGroup] {
        &self.inner.groups
    }

    fn resources(&self) -> &[Resource] {
        &[]
    }

    fn station(&self, index: usize) -> Option<String> {
        // A table with `{address}` lets the address speak for itself.
        self.addressed.get(index).filter(|addressed| !**addressed).map(|_| "the server".to_owned())
    }

    fn endpoint(&self) -> String {
        self.inner.settings.endpoint.url.clone()
    }

    fn transfer(&self, index: usize) -> Option<TransferShape> {
        let store = self.inner.files.get(index)?.as_ref()?;
        Some(store.shape(self.inner.settings.timeout))
    }

    fn connect(&self, tap: Arc<dyn FrameTap>) -> Answer<'_, Result<Box<dyn Session>, SessionError>> {
        Box::pin(open::open(Arc::clone(&self.inner), tap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::testkit::parameters;
    use driver::{Offsets, Place, PointKind, PointTable, PointTableBuilder, Text};

    fn table(rows: &[(&str, PointKind, &str)]) -> Arc<PointTable> {
        let file: Arc<str> = "point.csv".into();
        let mut builder = PointTableBuilder::new(&file, [1, 2, 3, 4, 5, 6, 7], vec![("scan_period_ms".into(), 8)]);
        for (at, (number, kind, period)) in rows.iter().enumerate() {
            let line = u32::try_from(at).expect("few rows") + 2;
            builder.push(line, "n", number, ValueType::Double, *kind, 1.0, 0.0, "", &[period]);
        }
        Arc::new(builder.finish())
    }

    fn plan(rows: &[(&str, PointKind, &str)], address: Option<&str>) -> Result<OpcUaPlan, Vec<String>> {
        let parameters = parameters(&[("endpoint", "opc.tcp://x"), ("max_nodes_per_read", "2")]);
        let place = Place::new(&"c.yaml".into(), 1, 1);
        let address = address.map(|text| Text { text: text.to_owned(), place: place.clone() });
        let device = DeviceText {
            name: "press",
            place: place.clone(),
            address: address.as_ref(),
            table: table(rows),
            offsets: Offsets::default(),
            first_point: 0,
            transfer: None,
        };
        let devices = [device];
        let connection = ConnectionText { name: "m", place, parameters: &parameters, devices: &devices };
        OpcUaPlan::new(&connection, Path::new("/state"))
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn points_of_one_period_are_one_group_and_control_points_are_in_none() {
        use PointKind::{Ai, Ao, Di};
        let rows = [("i=10", Ai, ""), ("i=11", Di, "200"), ("i=12", Ai, ""), ("i=10", Ao, ""), ("i=13", Ai, "")];
        let plan = plan(&rows, None).expect("sound");
        let groups: Vec<_> =
            plan.scan_groups().iter().map(|g| (g.period.as_millis(), g.points.clone(), g.pushed)).collect();
        assert_eq!(groups, [(200, vec![1], true), (1000, vec![0, 2, 4], true)]);
        assert_eq!(plan.scan_groups()[1].patience, Duration::from_secs(10), "two requests of 5 s");
    }

    #[test]
    fn malformed_and_duplicate_nodes_are_faults_at_their_cell() {
        use PointKind::Ai;
        let rows = [("i=10", Ai, ""), ("3010", Ai, "x"), ("i=10", Ai, "")];
        let faults = plan(&rows, None).err().expect("three faults");
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].starts_with("point.csv:3:8: scan_period_ms"), "{}", faults[0]);
        assert!(faults[1].starts_with("point.csv:3:2: \"3010\" is no NodeId"), "{}", faults[1]);
        assert!(faults[2].starts_with("point.csv:4:2: node i=10 is already the point of line 2"), "{}", faults[2]);
    }

    #[test]
    fn one_table_serves_many_machines_by_their_address() {
        let rows = [("ns=2;s={address}.Speed", PointKind::Ai, "")];
        let plan_ = plan(&rows, Some("Press7")).expect("sound");
        assert_eq!(Some(&plan_.inner.points[0].node), Node::parse("ns=2;s=Press7.Speed").as_ref());
        assert!(plan(&rows, None).err().expect("no address")[0].contains("has no address"));
    }
}
