//! PURE. Devices of one connection must not read the same points: their offset ranges, or without
//! ranges the numbers of their tables, are compared within each logical address.

use crate::diagnostic::{Diagnostic, Place};
use crate::package::assets::Device;
use crate::package::check::plans::Planned;
use crate::package::fields::Faults;
use crate::package::texts::Texts;
use driver::{PointKind, PointTable};
use std::collections::{BTreeMap, HashMap, HashSet};

const KINDS: [PointKind; 6] =
    [PointKind::Ai, PointKind::Di, PointKind::Pi, PointKind::Ao, PointKind::Do, PointKind::Po];

pub fn check(texts: &Texts, plans: &[Planned], faults: &mut Faults) {
    let stations = stations(plans);
    let mut counted: HashMap<*const PointTable, [u64; 6]> = HashMap::new();
    let mut groups: BTreeMap<(&str, &str), Vec<Member<'_>>> = BTreeMap::new();
    for (index, device) in texts.assets.devices.iter().enumerate() {
        let Some(table) = table(texts, device) else { continue };
        let counts = *counted.entry(std::ptr::from_ref(table)).or_insert_with(|| count(table));
        check_counts(device, table, counts, faults);
        let Some(connection) = &device.connection else { continue };
        let written = device.address.as_ref().map_or("", |address| address.text.as_str());
        let station = stations.get(&index).map_or(written, String::as_str);
        groups.entry((&connection.text, station)).or_default().push(Member { device, table, counts });
    }
    for devices in groups.into_values().filter(|devices| devices.len() > 1) {
        check_group(&devices, faults);
    }
}

/// Which station a device is, where its protocol knows better than the text of its address.
fn stations(plans: &[Planned]) -> HashMap<usize, String> {
    let of_plan = |planned: &Planned| {
        let of_device = |(at, (device, _)): (usize, &(usize, u32))| Some((*device, planned.plan.station(at)?));
        planned.devices.iter().enumerate().filter_map(of_device).collect::<Vec<_>>()
    };
    plans.iter().flat_map(of_plan).collect()
}

fn table<'t>(texts: &'t Texts, device: &Device) -> Option<&'t PointTable> {
    texts.templates.get(&device.template.as_ref()?.text)?.table.as_deref()
}

fn count(table: &PointTable) -> [u64; 6] {
    let mut counts = [0; 6];
    for row in table.rows() {
        counts[row.row().kind as usize] += 1;
    }
    counts
}

/// The ranges of a kind hold exactly as many numbers as the device has points of that kind.
fn check_counts(device: &Device, table: &PointTable, counts: [u64; 6], faults: &mut Faults) {
    for kind in KINDS.into_iter().filter(|kind| !device.offsets.offsets.is_empty(*kind)) {
        let ranges = &device.offsets.offsets.ranges[kind as usize];
        let numbers: u64 = ranges.iter().map(|(first, last)| u64::from(last - first) + 1).sum();
        let points = counts[kind as usize];
        if numbers != points {
            let word = kind.word();
            let problem =
                format!("offset of {word} holds {numbers} numbers, and {} has {points} {word} points", table.file);
            faults.push(Diagnostic::error(offset_place(device, kind), problem).help("give each point one number"));
        }
    }
}

fn offset_place(device: &Device, kind: PointKind) -> Place {
    device.offsets.texts.iter().find(|(k, _)| *k == kind).map_or(&device.place, |(_, text)| &text.place).clone()
}

/// A device of a group, with the number of points of each kind.
struct Member<'t> {
    device: &'t Device,
    table: &'t PointTable,
    counts: [u64; 6],
}

/// What a device occupies, for the comparison.
struct Taken {
    first: u32,
    last: u32,
    device: usize,
}

fn check_group(devices: &[Member<'_>], faults: &mut Faults) {
    let mut reported: HashSet<(usize, usize)> = HashSet::new();
    for kind in KINDS {
        let mut numbers: Vec<Taken> = Vec::new();
        let mut words: HashMap<(&str, &str), usize> = HashMap::new();
        let mut same_table: HashMap<*const PointTable, usize> = HashMap::new();
        for (index, member) in devices.iter().enumerate() {
            let table = member.table;
            let ranges = &member.device.offsets.offsets.ranges[kind as usize];
            numbers.extend(ranges.iter().map(|(first, last)| Taken { first: *first, last: *last, device: index }));
            if !ranges.is_empty() || member.counts[kind as usize] == 0 {
                continue;
            }
            // Many devices on one table are compared by the table, not number by number.
            if let Some(other) = same_table.get(&std::ptr::from_ref(table)) {
                report(kind, devices, (*other, index), &mut reported, faults);
                continue;
            }
            same_table.insert(std::ptr::from_ref(table), index);
            for row in table.rows().filter(|row| row.row().kind == kind) {
                // Equal numbers in different areas are different data.
                let area = row.cell("area").or(row.cell("function")).unwrap_or("");
                // A column that says where the point lives leaves the number to the engineer.
                let number = row.cell("address").or(row.cell("node_id")).unwrap_or(row.number());
                match (area.is_empty(), number.parse::<u32>()) {
                    (true, Ok(number)) => numbers.push(Taken { first: number, last: number, device: index }),
                    _ => {
                        if let Some(other) = words.insert((area, number), index)
                            && other != index
                        {
                            report(kind, devices, (other, index), &mut reported, faults);
                        }
                    }
                }
            }
        }
        sweep(kind, devices, numbers, &mut reported, faults);
    }
}

fn sweep(
    kind: PointKind,
    devices: &[Member<'_>],
    mut numbers: Vec<Taken>,
    reported: &mut HashSet<(usize, usize)>,
    faults: &mut Faults,
) {
    numbers.sort_by_key(|taken| (taken.first, taken.device));
    let mut reach: Option<&Taken> = None;
    for taken in &numbers {
        if let Some(before) = reach.filter(|before| before.last >= taken.first && before.device != taken.device) {
            report(kind, devices, (before.device, taken.device), reported, faults);
        }
        if reach.is_none_or(|before| taken.last > before.last) {
            reach = Some(taken);
        }
    }
}

fn report(
    kind: PointKind,
    devices: &[Member<'_>],
    pair: (usize, usize),
    reported: &mut HashSet<(usize, usize)>,
    faults: &mut Faults,
) {
    let (first, second) = (pair.0.min(pair.1), pair.0.max(pair.1));
    if !reported.insert((first, second)) {
        return;
    }
    let (before, device) = (devices[first].device, devices[second].device);
    let connection = device.connection.as_ref().map_or("", |name| name.text.as_str());
    let (at, both) = (address(before), address(device));
    let at = if at == both { at } else { format!("{at} and {both}, which are one,") };
    let (name, other) = (&device.name.text, &before.name.text);
    let problem = format!(
        "devices \"{other}\" and \"{name}\" read the same {} points {at} of connection {connection}",
        kind.word()
    );
    let help = format!("give each an address or offsets of its own; the other stands at {}", before.place);
    faults.push(Diagnostic::error(offset_place(device, kind), problem).help(help));
}

fn address(device: &Device) -> String {
    match &device.address {
        Some(address) if !address.text.is_empty() => format!("at address {}", address.text),
        _ => "without a logical address".to_owned(),
    }
}
