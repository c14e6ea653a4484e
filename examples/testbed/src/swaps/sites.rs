//! PURE. The packages of the swap story: lines that never change, beside one that comes, changes and goes.

use crate::cloud::Triple;
use crate::site::{Address, Connection, Device, Point, Site};

/// Packages in turn. Each differs from the one before in devices, period, or both; every fourth has no changing line.
const TURNS: usize = 4;
/// Most devices of the changing line.
pub const MOST: u8 = 4;
/// The register that commands write; it is read by nobody.
pub const SETPOINT: u16 = 900;
const LINE: &str = "changing-line";

/// Adds the control point to what never changes.
pub fn with_setpoint(site: &mut Site) {
    let setpoint = Point {
        id: "setpoint".into(),
        kind: "ao",
        number: SETPOINT.to_string(),
        value_type: "ushort",
        coefficient: 1.0,
        data_type: "int",
        unit: "",
        counts: None,
    };
    if let Some(meter) = site.templates.iter_mut().find(|template| template.name == "meter") {
        meter.points.push(setpoint);
    }
}

/// All devices the changing line ever has.
#[must_use]
pub fn changing(site: &Site) -> Vec<Device> {
    let secret = &site.gateway.secret;
    let device = |unit: u8| Device {
        name: format!("Changing {unit}"),
        triple: Triple::new("changing-pk", &format!("changing-{unit}"), secret),
        template: "meter".into(),
        connection: LINE.into(),
        address: Some(unit.to_string()),
    };
    (1..=MOST).map(device).collect()
}

/// The package of a swap. Devices of the changing line stand before all others, so that each swap numbers those anew.
#[must_use]
pub fn package(kept: &Site, changing: &[Device], address: Address, swap: usize) -> Site {
    let mut site = kept.clone();
    site.version = format!("1.0.{swap}");
    let (devices, period_ms) = match swap % TURNS {
        0 => return site,
        1 => (2, 200),
        2 => (2, 300),
        _ => (usize::from(MOST), 300),
    };
    site.devices.splice(0..0, changing[..devices].iter().cloned());
    site.connections.push(Connection {
        name: LINE.into(),
        protocol: "modbus-tcp",
        parameters: vec![
            ("host", address.ip().to_string()),
            ("port", address.port().to_string()),
            ("scan_period_ms", period_ms.to_string()),
            ("timeout_ms", "1000".into()),
            ("notation", "plain".into()),
        ],
    });
    site
}
