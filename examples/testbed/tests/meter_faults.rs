//! Every fault of the stand-in meters against the driver: no wrong value is ever good, and once the fault is
//! over all points come back.

mod meter_line;

use driver::{Datum, Plan, PointTable, Silent, Value};
use meter_line::{UNIT, plan, table};
use std::sync::Arc;
use std::time::Duration;
use testbed::meter::{Area, Faults, Meters, Pattern, address_value};

const FAULTS: &[&str] = &[
    "silent",
    "wrong_unit",
    "wrong_transaction",
    "truncate=5",
    "truncate=0",
    "bad_crc",
    "garbage=7",
    "garbage=300",
    "twice",
    "hole=500-501",
    "exception=6",
    "exception=11",
    "max_registers=2",
    "max_registers=2,too_many=silence",
    "drop_connection",
    "bad_crc,garbage=3,twice,one_in=2",
];

/// Reads all groups, in new sessions where one ends. Good values of as many as answered.
async fn scan(plan: &dyn Plan, table: &PointTable, exact: bool) -> usize {
    let mut good = 0;
    let mut session = None;
    for group in 0..plan.scan_groups().len() {
        if session.is_none() {
            session = plan.connect(Arc::new(Silent)).await.ok();
        }
        let Some(mut open) = session.take() else { continue };
        let mut samples = Vec::new();
        let result = open.read(group, &mut samples).await;
        for sample in &samples {
            let address: u16 = table.row(sample.point as usize).number().parse().expect("a number");
            if let Datum::Good(value) = &sample.datum {
                let own = Value::Int(i64::from(address_value(UNIT, Area::Holding, address)));
                // Without a CRC Modbus TCP can not tell a flipped bit in the data.
                assert!(!exact || *value == own, "register {address} reads {value}");
                good += 1;
            }
        }
        match result {
            Ok(()) => session = Some(open),
            Err(error) if error.ends_session() => open.close().await,
            Err(error) => panic!("a read refused: {error}"),
        }
    }
    if let Some(open) = session {
        open.close().await;
    }
    good
}

async fn every_fault(meters: &Meters, protocol: &str, parameters: &[(&str, &str)]) {
    let table = table(4);
    for fault in FAULTS {
        let plan = plan(protocol, parameters, &table);
        meters.set_faults(UNIT, fault.parse().expect("a fault"));
        let exact = protocol != "modbus-tcp" || !fault.contains("bad_crc");
        for _ in 0..2 {
            scan(&*plan, &table, exact).await;
        }
        meters.set_faults(UNIT, Faults::default());
        let expected = if fault.contains("hole") { table.len() - 2 } else { table.len() };
        let mut good = 0;
        for _ in 0..20 {
            good = scan(&*plan, &table, true).await;
            if good >= expected {
                break;
            }
        }
        assert!(good >= expected, "{protocol} after {fault}: {good} of {expected}");
    }
}

#[tokio::test]
async fn tcp_comes_back_after_every_fault() {
    let meters = Meters::tcp().await.unwrap();
    let port = meters.address().port().to_string();
    every_fault(&meters, "modbus-tcp", &[("host", "127.0.0.1"), ("port", &port), ("timeout_ms", "40")]).await;
}

#[tokio::test]
async fn rtu_over_tcp_comes_back_after_every_fault() {
    let meters = Meters::rtu_over_tcp().await.unwrap();
    let port = meters.address().port().to_string();
    every_fault(&meters, "modbus-rtu-over-tcp", &[("host", "127.0.0.1"), ("port", &port), ("timeout_ms", "40")]).await;
}

#[tokio::test]
async fn a_serial_line_comes_back_after_every_fault() {
    let meters = Meters::serial(1..=247, Pattern::Address).unwrap();
    let path = meters.path().to_str().unwrap().to_owned();
    let parameters = [("serial_port", path.as_str()), ("baud_rate", "115200"), ("timeout_ms", "40")];
    every_fault(&meters, "modbus-rtu", &parameters).await;
}

#[tokio::test]
async fn a_restarted_meter_is_read_again_in_a_new_session() {
    let meters = Meters::tcp().await.unwrap();
    let port = meters.address().port().to_string();
    let table = table(4);
    let plan = plan("modbus-tcp", &[("host", "127.0.0.1"), ("port", &port)], &table);
    let mut session = plan.connect(Arc::new(Silent)).await.unwrap();
    session.read(0, &mut Vec::new()).await.unwrap();
    meters.restart(Duration::ZERO).await.unwrap();
    assert!(session.read(0, &mut Vec::new()).await.unwrap_err().ends_session());
    assert_eq!(scan(&*plan, &table, true).await, table.len());
    assert_eq!(meters.connections(), 2);
    assert!(meters.served() >= 9 && meters.answered() == meters.served());
}
