//! Against a server nobody here wrote: tokio-modbus, over TCP and over RTU on a pseudo-terminal.

mod site;

use driver::{Datum, Reason, SessionError, Silent, Value};
use site::{Row, by_point, good, plan, registers, table, tcp_plan};
use std::collections::HashMap;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_modbus::prelude::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_modbus::server::Service;
use tokio_serial::SerialPort as _;

/// A device with registers and coils, some of them refused.
#[derive(Clone, Default)]
struct Device(Arc<Mutex<Memory>>);

#[derive(Default)]
struct Memory {
    holding: HashMap<u16, u16>,
    coils: HashMap<u16, bool>,
    refused: Vec<u16>,
    most: Option<u16>,
    no_mask_write: bool,
    silent_unit: Option<u8>,
    reads: Vec<(u16, u16)>,
}

impl Memory {
    fn register(&self, address: u16) -> u16 {
        self.holding.get(&address).copied().unwrap_or(address)
    }

    fn answer(&mut self, request: &Request<'_>) -> Result<Response, ExceptionCode> {
        match request {
            Request::ReadHoldingRegisters(first, count) => {
                self.reads.push((*first, *count));
                if self.most.is_some_and(|most| *count > most) {
                    return Err(ExceptionCode::IllegalDataValue);
                }
                let span = *first..first + count;
                if self.refused.iter().any(|hole| span.contains(hole)) {
                    return Err(ExceptionCode::IllegalDataAddress);
                }
                Ok(Response::ReadHoldingRegisters(span.map(|a| self.register(a)).collect()))
            }
            Request::ReadCoils(first, count) => {
                let on = |a| self.coils.get(&a).copied().unwrap_or_default();
                Ok(Response::ReadCoils((*first..first + count).map(on).collect()))
            }
            Request::WriteSingleCoil(address, on) => {
                self.coils.insert(*address, *on);
                Ok(Response::WriteSingleCoil(*address, *on))
            }
            Request::WriteSingleRegister(address, value) => {
                self.holding.insert(*address, *value);
                Ok(Response::WriteSingleRegister(*address, *value))
            }
            Request::WriteMultipleRegisters(first, values) => {
                for (address, value) in (*first..).zip(values.iter()) {
                    self.holding.insert(address, *value);
                }
                let count = u16::try_from(values.len()).expect("at most 123");
                Ok(Response::WriteMultipleRegisters(*first, count))
            }
            Request::MaskWriteRegister(address, and, or) if !self.no_mask_write => {
                let value = self.register(*address) & and | or & !and;
                self.holding.insert(*address, value);
                Ok(Response::MaskWriteRegister(*address, *and, *or))
            }
            _ => Err(ExceptionCode::IllegalFunction),
        }
    }
}

impl Service for Device {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Option<Response>, ExceptionCode>>;

    fn call(&self, request: SlaveRequest<'static>) -> Self::Future {
        let mut memory = self.0.lock().expect("no test panics with it");
        if memory.silent_unit == Some(request.slave) {
            return ready(Ok(None));
        }
        ready(memory.answer(&request.request).map(Some))
    }
}

async fn serve_tcp(device: &Device) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let device = device.clone();
    tokio::spawn(async move {
        let accept = |stream, _| ready(Ok(Some((device.clone(), stream))));
        tokio_modbus::server::tcp::Server::new(listener).serve(&accept, |_| {}).await
    });
    port
}

/// The path of the driver's end; the file keeps it open, for the server ends when nobody holds it.
fn serve_rtu(device: &Device) -> (String, std::fs::File) {
    let (ours, theirs) = tokio_serial::SerialStream::pair().expect("a pty pair");
    let path = theirs.name().expect("a pty has a name");
    let device = device.clone();
    let held = std::fs::File::open(&path).expect("opens");
    drop(theirs);
    tokio::spawn(async move { tokio_modbus::server::rtu::Server::new(ours).serve_forever(device).await });
    (path, held)
}

const KINDS: &[Row<'_>] = &[
    ("0", "float", "ai", &[("byte_order", "CDAB")]),
    ("2", "double", "ai", &[("byte_order", "BADCFEHG")]),
    ("6", "long", "pi", &[]),
    ("10", "int", "ai", &[("byte_order", "DCBA")]),
    ("12", "short", "ai", &[]),
    ("13", "string", "ai", &[("length", "6")]),
    ("16.4", "bool", "di", &[]),
    ("5", "bool", "di", &[("area", "coil")]),
    ("0", "float", "ao", &[("byte_order", "CDAB")]),
    ("2", "double", "ao", &[("byte_order", "BADCFEHG")]),
    ("6", "long", "po", &[]),
    ("10", "int", "ao", &[("byte_order", "DCBA")]),
    ("12", "short", "ao", &[]),
    ("13", "string", "ao", &[("length", "6")]),
    ("16.4", "bool", "do", &[]),
    ("5", "bool", "do", &[("area", "coil")]),
];

fn values() -> Vec<Value> {
    vec![
        Value::Float(-12.5),
        Value::Double(1e100),
        Value::Int(-(1 << 50)),
        Value::Int(-123_456),
        Value::Int(-7),
        Value::Text("PM5340".into()),
        Value::Bool(true),
        Value::Bool(true),
    ]
}

async fn write_all_and_read_back(plan: &dyn driver::Plan) {
    let mut session = plan.connect(Arc::new(Silent)).await.expect("connects");
    for (point, value) in (8..).zip(&values()) {
        session.write(point, value).await.unwrap_or_else(|error| panic!("write {value} to {point}: {error}"));
    }
    let mut samples = Vec::new();
    session.read(0, &mut samples).await.expect("reads");
    let data = by_point(&samples, KINDS.len());
    assert_eq!(data[..8], values().into_iter().map(good).collect::<Vec<_>>());
    assert!(data[8..].iter().all(Option::is_none), "control points are not scanned");
}

#[tokio::test]
async fn every_type_is_written_and_read_back_over_tcp() {
    let device = Device::default();
    let port = serve_tcp(&device).await;
    write_all_and_read_back(&*tcp_plan("modbus-tcp", port, &[], &[("1", table(KINDS))])).await;
    // 0x10 -> bit 4 set by a mask write, the other bits as they were.
    assert_eq!(device.0.lock().unwrap().register(16), 16);
    device.0.lock().unwrap().holding.clear();
    device.0.lock().unwrap().no_mask_write = true;
    write_all_and_read_back(&*tcp_plan("modbus-tcp", port, &[], &[("255", table(KINDS))])).await;
}

#[tokio::test]
async fn every_type_is_written_and_read_back_over_rtu() {
    let device = Device::default();
    let (path, _held) = serve_rtu(&device);
    let parameters = [("serial_port", path.as_str()), ("baud_rate", "115200")];
    let plan = plan("modbus-rtu", &parameters, &[("17", table(KINDS))]).expect("plans");
    assert_eq!(plan.resources()[0].name, format!("serial:{path}"));
    write_all_and_read_back(&*plan).await;
}

#[tokio::test]
async fn one_refused_register_costs_one_point_and_is_remembered() {
    let device = Device::default();
    device.0.lock().unwrap().refused = vec![37];
    let port = serve_tcp(&device).await;
    let plan = tcp_plan("modbus-tcp", port, &[], &[("1", registers(0, 100))]);
    for scan in 0..3 {
        device.0.lock().unwrap().reads.clear();
        let (samples, result) = site::scan(&*plan).await;
        assert_eq!(result, Ok(()));
        for (address, datum) in (0..).zip(by_point(&samples, 100)) {
            let expected =
                if address == 37 { Some(Datum::Bad(Reason::ModbusException(2))) } else { good(Value::Int(address)) };
            assert_eq!(datum, expected, "register {address} in scan {scan}");
        }
        let reads = device.0.lock().unwrap().reads.clone();
        if scan > 0 {
            assert_eq!(reads, [(0, 37), (38, 62)], "the hole is left out");
        }
    }
}

#[tokio::test]
async fn a_hole_between_points_is_not_read_along_again() {
    let device = Device::default();
    device.0.lock().unwrap().refused = vec![12];
    let port = serve_tcp(&device).await;
    let rows: Vec<Row<'_>> = vec![("10", "ushort", "ai", &[]), ("14", "ushort", "ai", &[])];
    let plan = tcp_plan("modbus-tcp", port, &[], &[("1", table(&rows))]);
    for _ in 0..2 {
        let (samples, _) = site::scan(&*plan).await;
        assert_eq!(by_point(&samples, 2), [good(Value::Int(10)), good(Value::Int(14))]);
    }
    assert_eq!(device.0.lock().unwrap().reads, [(10, 5), (10, 1), (14, 1), (10, 1), (14, 1)]);
}

#[tokio::test]
async fn a_device_that_takes_fewer_registers_is_asked_for_fewer() {
    let device = Device::default();
    device.0.lock().unwrap().most = Some(40);
    let port = serve_tcp(&device).await;
    let plan = tcp_plan("modbus-tcp", port, &[], &[("1", registers(0, 300))]);
    for _ in 0..2 {
        device.0.lock().unwrap().reads.clear();
        let (samples, result) = site::scan(&*plan).await;
        assert_eq!(result, Ok(()));
        assert!(by_point(&samples, 300).iter().zip(0..).all(|(datum, a)| *datum == good(Value::Int(a))));
    }
    let reads = device.0.lock().unwrap().reads.clone();
    assert!(reads.iter().all(|(_, count)| *count <= 40), "{reads:?}");
    assert!(reads.len() <= 10, "{reads:?}");
}

#[tokio::test]
async fn a_silent_unit_ends_the_session_in_time_and_the_next_one_works() {
    let device = Device::default();
    device.0.lock().unwrap().silent_unit = Some(9);
    let port = serve_tcp(&device).await;
    let devices = [("9", registers(0, 4)), ("1", registers(0, 4))];
    let plan = tcp_plan("modbus-tcp", port, &[("timeout_ms", "60")], &devices);
    let mut session = plan.connect(Arc::new(Silent)).await.expect("connects");
    let mut samples = Vec::new();
    let error = session.read(0, &mut samples).await.expect_err("nobody answers");
    assert_eq!(error, SessionError::Timeout(Duration::from_millis(60)));
    let again = session.read(1, &mut samples).await.expect_err("the session is over");
    assert!(again.ends_session());
    assert!(samples.is_empty());
    session.close().await;
    let mut session = plan.connect(Arc::new(Silent)).await.expect("connects");
    session.read(1, &mut samples).await.expect("the other unit answers");
    assert_eq!(samples.len(), 4);
}

#[tokio::test]
async fn a_refused_write_names_the_exception_and_the_session_goes_on() {
    let device = Device::default();
    let port = serve_tcp(&device).await;
    let rows: Vec<Row<'_>> = vec![("1", "bool", "do", &[("area", "coil")]), ("3", "ushort", "ao", &[])];
    let plan = tcp_plan("modbus-tcp", port, &[], &[("1", table(&rows))]);
    let mut session = plan.connect(Arc::new(Silent)).await.expect("connects");
    let error = session.write(1, &Value::Int(70_000)).await.expect_err("too large");
    assert_eq!(error, SessionError::Rejected { point: 1, reason: Reason::OutOfRange });
    session.write(1, &Value::Int(7)).await.expect("writes");
    assert_eq!(device.0.lock().unwrap().register(3), 7);
}
