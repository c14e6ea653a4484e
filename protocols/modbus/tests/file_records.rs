//! Files by functions 20 and 21, against a unit that keeps records: whole, cut, busy, forgetful, refusing.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod site;

use driver::{Phase, Plan, Session, SessionError, Silent, Transfer, TransferError};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the unit does with the next write or read of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Answers with this exception.
    Exception(u8),
    /// Confirms and keeps nothing.
    Swallow,
    /// Closes the connection; the request was carried out, or not.
    Cut {
        kept: bool,
    },
    Silent,
    /// Answers with one bit of the echo changed.
    Garbles,
}

#[derive(Default)]
struct Unit {
    /// Registers by file and record.
    records: BTreeMap<(u16, u16), [u8; 2]>,
    /// From the n-th write on.
    faults: VecDeque<(usize, Fault)>,
    writes: usize,
    reads: usize,
    polls: usize,
    knows_20: bool,
    swallows: Option<(u16, u16)>,
}

impl Unit {
    fn answer(&mut self, pdu: &[u8]) -> Result<Vec<u8>, Fault> {
        let word = |at: usize| u16::from_be_bytes([pdu[at], pdu[at + 1]]);
        match pdu[0] {
            3 => {
                self.polls += 1;
                let count = word(3);
                let mut answer = vec![3, u8::try_from(count * 2).unwrap()];
                answer.extend(std::iter::repeat_n([0, 7], usize::from(count)).flatten());
                Ok(answer)
            }
            21 => self.write(pdu, (word(3), word(5), word(7))),
            20 if self.knows_20 => {
                self.reads += 1;
                let (file, record, count) = (word(3), word(5), word(7));
                let held: Option<Vec<[u8; 2]>> =
                    (record..record + count).map(|at| self.records.get(&(file, at)).copied()).collect();
                let Some(held) = held else { return Ok(vec![0x94, 2]) };
                let data = held.concat();
                let len = u8::try_from(data.len()).unwrap();
                Ok([&[20, len + 2, len + 1, 6], &data[..]].concat())
            }
            function => Ok(vec![function | 0x80, 1]),
        }
    }

    fn write(&mut self, pdu: &[u8], (file, record, count): (u16, u16, u16)) -> Result<Vec<u8>, Fault> {
        self.writes += 1;
        assert_eq!((pdu.len(), pdu[1]), (9 + 2 * usize::from(count), u8::try_from(pdu.len() - 2).unwrap()));
        assert!(pdu[2] == 6 && file > 0 && record + count <= 10_000 && pdu.len() <= 253);
        let fault = self.faults.front().filter(|(from, _)| self.writes >= *from).map(|(_, fault)| *fault);
        if fault.is_some() {
            self.faults.pop_front();
        }
        let keep =
            !matches!(fault, Some(Fault::Exception(_) | Fault::Swallow | Fault::Cut { kept: false } | Fault::Silent));
        if keep && self.swallows != Some((file, record)) {
            for (at, register) in (record..).zip(pdu[9..].chunks_exact(2)) {
                self.records.insert((file, at), [register[0], register[1]]);
            }
        }
        match fault {
            Some(Fault::Exception(code)) => Ok(vec![0x95, code]),
            Some(Fault::Garbles) => Ok([&pdu[..pdu.len() - 1], &[pdu[pdu.len() - 1] ^ 1]].concat()),
            Some(fault @ (Fault::Cut { .. } | Fault::Silent)) => Err(fault),
            Some(Fault::Swallow) | None => Ok(pdu.to_vec()),
        }
    }

    /// The bytes from file 1 on, as long as there are records.
    fn held(&self, first_file: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = (first_file, 0);
        while let Some(register) = self.records.get(&at) {
            bytes.extend_from_slice(register);
            at = if at.1 == 9999 { (at.0 + 1, 0) } else { (at.0, at.1 + 1) };
        }
        bytes
    }
}

async fn talk(mut stream: TcpStream, unit: &Mutex<Unit>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut head = [0; 7];
        stream.read_exact(&mut head).await?;
        let mut pdu = vec![0; usize::from(u16::from_be_bytes([head[4], head[5]])) - 1];
        stream.read_exact(&mut pdu).await?;
        let answer = unit.lock().unwrap().answer(&pdu);
        match answer {
            Ok(answer) => {
                let len = u16::try_from(answer.len() + 1).unwrap().to_be_bytes();
                let frame = [&head[..4], &len, &head[6..], &answer].concat();
                stream.write_all(&frame).await?;
            }
            Err(Fault::Silent) => {}
            Err(_) => return Ok(()),
        }
    }
}

async fn start(unit: Unit) -> (u16, Arc<Mutex<Unit>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let unit = Arc::new(Mutex::new(unit));
    let shared = Arc::clone(&unit);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let unit = Arc::clone(&shared);
            tokio::spawn(async move {
                // A conversation that was cut is over.
                let _ = talk(stream, &unit).await;
            });
        }
    });
    (port, unit)
}

fn plan(port: u16, transfer: &[(&str, &str)]) -> Arc<dyn Plan> {
    let port = port.to_string();
    let parameters = [("host", "127.0.0.1"), ("port", port.as_str()), ("timeout_ms", "150")];
    let plan = site::plan_with("modbus-tcp", &parameters, &[("1", site::registers(0, 2))], Some(transfer));
    plan.unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn payload(size: usize) -> Vec<u8> {
    (0..u32::try_from(size).unwrap()).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// Sends a file as the runtime does: step by step, on a new session after each that broke, with a scan in between.
/// How many sessions it took.
async fn send(plan: &dyn Plan, payload: &[u8]) -> Result<usize, TransferError> {
    let shape = plan.transfer(0).expect("it takes files");
    let mut file = Transfer::new(7, payload.len() as u64);
    for sessions in 1..=10 {
        let mut session = plan.connect(Arc::new(Silent)).await.unwrap();
        let ended = converse(session.as_mut(), &mut file, payload, shape).await;
        session.close().await;
        match ended {
            Err(TransferError::Session(error)) if error.ends_session() => {}
            other => return other.map(|()| sessions),
        }
    }
    Err(TransferError::Busy("it breaks at each session".to_owned()))
}

async fn converse(
    session: &mut dyn Session,
    file: &mut Transfer,
    payload: &[u8],
    shape: driver::TransferShape,
) -> Result<(), TransferError> {
    while file.phase != Phase::Done {
        if file.bytes(shape.piece).is_none() && !file.is_through() {
            let from = usize::try_from(file.done).unwrap();
            file.load(file.done, payload[from..payload.len().min(from + 8 * shape.piece)].to_vec());
        }
        let step = tokio::time::timeout(shape.patience, session.transfer(0, file)).await.expect("within its patience");
        match step {
            Err(TransferError::Busy(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            other => other?,
        }
        let mut samples = Vec::new();
        session.read(0, &mut samples).await?;
    }
    Ok(())
}

fn unit() -> Unit {
    Unit { knows_20: true, ..Unit::default() }
}

#[tokio::test]
async fn a_file_of_three_files_arrives_whole_and_polling_goes_on() {
    let (port, unit) = start(unit()).await;
    let sent = payload(45_001);
    assert_eq!(send(&*plan(port, &[("file", "9"), ("pad", "0")]), &sent).await, Ok(1));
    let unit = unit.lock().unwrap();
    let mut padded = sent;
    padded.push(0);
    assert_eq!(unit.held(9), padded);
    // 10,000 records are 83 blocks of 120 and one of 40; 2,501 are 21.
    assert_eq!((unit.writes, unit.reads), (84 + 84 + 21, 84 + 84 + 21));
    assert!(unit.polls >= unit.writes + unit.reads, "{} scans between {} blocks", unit.polls, unit.writes);
}

#[tokio::test]
async fn without_reading_back_nothing_is_read() {
    let (port, unit) = start(Unit::default()).await;
    let sent = payload(4_000);
    let transfer = [("read_back", "false"), ("block_registers", "122")];
    assert_eq!(send(&*plan(port, &transfer), &sent).await, Ok(1));
    let unit = unit.lock().unwrap();
    assert_eq!((unit.held(1), unit.writes, unit.reads), (sent, 17, 0));
}

#[tokio::test]
async fn a_cut_conversation_goes_on_where_it_was_if_it_is_read_back_and_from_the_beginning_if_not() {
    for (read_back, writes) in [("true", 26), ("false", 25 + 12)] {
        for kept in [true, false] {
            let faults = [(12, Fault::Cut { kept })].into();
            let (port, unit) = start(Unit { faults, ..unit() }).await;
            let sent = payload(6_000);
            assert_eq!(send(&*plan(port, &[("read_back", read_back)]), &sent).await, Ok(2));
            let unit = unit.lock().unwrap();
            assert_eq!((unit.held(1) == sent, unit.writes), (true, writes), "read_back {read_back}, kept {kept}");
        }
    }
}

#[tokio::test]
async fn a_unit_that_lost_what_it_had_is_found_out_and_gets_it_again() {
    let faults = [(20, Fault::Cut { kept: true })].into();
    let (port, unit) = start(Unit { faults, ..unit() }).await;
    let sent = payload(6_000);
    let plan = plan(port, &[]);
    let shape = plan.transfer(0).unwrap();
    let mut file = Transfer::new(1, 6_000);
    let mut session = plan.connect(Arc::new(Silent)).await.unwrap();
    let cut = converse(session.as_mut(), &mut file, &sent, shape).await;
    assert!(matches!(cut, Err(TransferError::Session(SessionError::Disconnected(_)))), "{cut:?}");
    // The power of the unit was gone, too: what it had is the old content.
    for register in unit.lock().unwrap().records.values_mut() {
        *register = [0xFF, 0xFF];
    }
    let mut session = plan.connect(Arc::new(Silent)).await.unwrap();
    assert_eq!(converse(session.as_mut(), &mut file, &sent, shape).await, Ok(()));
    assert_eq!(unit.lock().unwrap().held(1), sent);
}

#[tokio::test]
async fn a_swallowed_block_is_sent_again_and_one_that_never_stays_is_told() {
    let (port, unit_) = start(Unit { faults: [(5, Fault::Swallow)].into(), ..unit() }).await;
    let sent = payload(6_000);
    // The record was never written before, so reading it back is an exception there; give it old content.
    for record in 0..3_000 {
        unit_.lock().unwrap().records.insert((1, record), [0, 0]);
    }
    assert_eq!(send(&*plan(port, &[]), &sent).await, Ok(1));
    {
        let mut unit = unit_.lock().unwrap();
        assert_eq!((unit.held(1) == sent, unit.writes), (true, 26));
        unit.records.values_mut().for_each(|register| *register = [0, 0]);
        unit.swallows = Some((1, 480));
    }
    let told = send(&*plan(port, &[]), &sent).await.unwrap_err();
    assert_eq!(
        told,
        TransferError::Refused(
            "file 1 record 480 (120 registers) does not hold what was written to it, 3 times in a row".to_owned()
        )
    );
}

#[tokio::test]
async fn exceptions_say_what_was_refused_and_busy_units_are_asked_again() {
    let sent = payload(2_000);
    let (port, unit_) =
        start(Unit { faults: [(3, Fault::Exception(6)), (4, Fault::Exception(5))].into(), ..unit() }).await;
    assert_eq!(send(&*plan(port, &[]), &sent).await, Ok(1));
    assert_eq!(unit_.lock().unwrap().held(1), sent);
    let (port, _) = start(Unit { faults: [(3, Fault::Exception(2))].into(), ..unit() }).await;
    let told = send(&*plan(port, &[("file", "3")]), &sent).await.unwrap_err().to_string();
    assert_eq!(told, "write file 3 record 240 (120 registers): modbus exception 2 (illegal data address)");
    let (port, _) = start(Unit { faults: [(1, Fault::Exception(1))].into(), ..unit() }).await;
    assert!(send(&*plan(port, &[]), &sent).await.unwrap_err().to_string().contains("knows no function 21"));
    let (port, _) = start(Unit::default()).await;
    assert!(send(&*plan(port, &[]), &sent).await.unwrap_err().to_string().contains("`read_back: false`"));
}

#[tokio::test]
async fn silence_and_a_wrong_echo_end_the_conversation_and_nothing_else() {
    let sent = payload(2_000);
    for fault in [Fault::Silent, Fault::Garbles] {
        let (port, unit) = start(Unit { faults: [(3, fault)].into(), ..unit() }).await;
        assert_eq!(send(&*plan(port, &[]), &sent).await, Ok(2), "{fault:?}");
        assert_eq!(unit.lock().unwrap().held(1), sent);
    }
}

#[test]
fn a_device_of_which_the_package_says_nothing_takes_no_file_and_faults_have_their_place() {
    let parameters = [("host", "127.0.0.1")];
    let plan = site::plan("modbus-tcp", &parameters, &[("1", site::registers(0, 2))]).unwrap();
    assert_eq!(plan.transfer(0), None);
    let faults = site::plan_with(
        "modbus-rtu",
        &[("serial_port", "/dev/ttyS9")],
        &[("1", site::registers(0, 2))],
        Some(&[("block_registers", "200"), ("fiel", "1")]),
    );
    let told: Vec<String> = faults.err().unwrap().iter().map(ToString::to_string).collect();
    assert!(told.len() == 2 && told[0].contains("did you mean file?"), "{told:?}");
}
