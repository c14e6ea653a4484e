//! PURE. Ready-made sites: meters with counting registers, and a machine with counting nodes.

use super::{Connection, Device, Point, Site, Template};
use crate::cloud::Triple;
use crate::meter::FIRST_COUNTING;
use std::net::SocketAddr;
use std::time::Duration;

/// How large a site of meters is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Units behind each address.
    pub units: u8,
    /// Counting registers of each unit, one measurement point each.
    pub registers: u16,
    /// Values for people beside them, at most three: floats that swing.
    pub displayed: usize,
    pub period: Duration,
}

/// Where a stand-in listens.
pub type Address = SocketAddr;

const METER: &str = "Meter";
const MACHINE: &str = "Machine";

fn secret() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(24).collect()
}

fn triple(product_key: &str, device_key: &str) -> Triple {
    Triple::new(product_key, device_key, &secret())
}

/// Modbus TCP meters, one connection an address. Every register counts its own readings.
#[must_use]
pub fn meter_site(name: &str, meters: &[Address], shape: Shape) -> Site {
    let mut site = Site {
        name: name.to_owned(),
        version: "1.0.0".into(),
        gateway: triple("gateway-pk", "gateway"),
        connections: Vec::new(),
        devices: Vec::new(),
        templates: vec![Template { name: "meter".into(), model: METER.into(), points: meter_points(shape) }],
    };
    for (line, address) in meters.iter().enumerate() {
        let connection = format!("line-{line}");
        site.connections.push(modbus_tcp(&connection, *address, shape.period));
        for unit in 1..=shape.units {
            let key = format!("meter-{line}-{unit}");
            site.devices.push(Device {
                name: format!("Meter {line}-{unit}"),
                triple: triple("meter-pk", &key),
                template: "meter".into(),
                connection: connection.clone(),
                address: Some(unit.to_string()),
            });
        }
    }
    site
}

fn modbus_tcp(name: &str, address: Address, period: Duration) -> Connection {
    Connection {
        name: name.to_owned(),
        protocol: "modbus-tcp",
        parameters: vec![
            ("host", address.ip().to_string()),
            ("port", address.port().to_string()),
            ("scan_period_ms", period.as_millis().to_string()),
            ("timeout_ms", "1000".into()),
            ("notation", "plain".into()),
        ],
    }
}

fn meter_points(shape: Shape) -> Vec<Point> {
    let displayed = ["voltage_1", "voltage_2", "voltage_3"].iter().zip(0..).take(shape.displayed);
    let displayed = displayed.map(|(id, n)| Point {
        id: (*id).to_owned(),
        kind: "ai",
        number: (2 * n).to_string(),
        value_type: "float",
        coefficient: 1.0,
        data_type: "float",
        unit: "V",
        counts: None,
    });
    displayed.chain((0..shape.registers).map(counting_register)).collect()
}

fn counting_register(number: u16) -> Point {
    Point {
        id: format!("r{number}"),
        kind: "ai",
        number: (FIRST_COUNTING + number).to_string(),
        value_type: "ushort",
        coefficient: 1.0,
        data_type: "int",
        unit: "",
        counts: Some(1 << 16),
    }
}

/// Adds an OPC UA machine whose nodes are given as (point, NodeId, data type).
#[must_use]
pub fn machine_site(mut site: Site, endpoint: &str, nodes: Vec<(String, String, Option<u32>)>) -> Site {
    site.connections.push(Connection {
        name: "machine-line".into(),
        protocol: "opcua",
        parameters: vec![
            ("endpoint", endpoint.to_owned()),
            ("mode", "subscribe".into()),
            ("sampling_interval_ms", "50".into()),
            ("publishing_interval_ms", "200".into()),
            ("queue_size", "20".into()),
            ("timestamp", "source".into()),
        ],
    });
    site.devices.push(Device {
        name: "Machine".into(),
        triple: triple("machine-pk", "machine"),
        template: "machine".into(),
        connection: "machine-line".into(),
        address: None,
    });
    let points = nodes.into_iter().map(|(id, node, counts)| Point {
        id,
        kind: "ai",
        number: node,
        value_type: "double",
        coefficient: 1.0,
        data_type: "double",
        unit: "",
        counts,
    });
    site.templates.push(Template { name: "machine".into(), model: MACHINE.into(), points: points.collect() });
    site
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_has_the_devices_and_points_it_was_asked_for() {
        let addresses = [([127, 0, 0, 1], 1502).into(), ([127, 0, 0, 1], 1503).into()];
        let shape = Shape { units: 3, registers: 10, displayed: 1, period: Duration::from_secs(1) };
        let site = machine_site(
            meter_site("bench", &addresses, shape),
            "opc.tcp://127.0.0.1:4840",
            vec![("speed".into(), "ns=2;s=Speed".into(), None)],
        );
        assert_eq!((site.devices.len(), site.counting_points().count()), (7, 60));
        let files = site.files();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.contains(&"templates/meter/point.csv") && names.contains(&"connections/line-1.yaml"));
        let (_, points) = files.iter().find(|(name, _)| name == "templates/meter/point.csv").unwrap();
        assert_eq!(points.lines().count(), 12);
        assert!(points.contains("r9,1009,ushort,ai,1,0,"));
    }
}
