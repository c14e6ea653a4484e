//! Claims about running connections, with a scripted protocol and in paused time.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use driver::testkit::{self, Behaviour, Script, ScriptedPlan};
use driver::{Phase, PointKind, Reason, ScanGroup, SessionError, Transfer, TransferError, TransferShape, ValueType};
use enos_edge::model::{
    Argument, Batch, ConnectedDevice, Connection, Control, Credential, DataType, Datum, DeviceNames, Formula, Function,
    Inlet, Measurepoint, Names, PackageName, PointName, PointNames, Rule, Sample, Signal, Site, Template, ThingModel,
    Timestamp, Upload, Value,
};
use enos_edge::south::{AskError, ConnectionState, DeviceState, Filter, Shown, South};
use enos_edge::telemetry::Counters;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

#[derive(Default)]
struct Kept(Mutex<Vec<(Instant, Batch)>>);

impl Inlet for Kept {
    fn append(&self, batch: Batch) {
        self.0.lock().unwrap().push((Instant::now(), batch));
    }
}

impl Kept {
    /// (when it arrived, device, point, value)
    fn readings(&self) -> Vec<(Instant, u32, u32, Value)> {
        let mut readings = Vec::new();
        for (at, batch) in &*self.0.lock().unwrap() {
            for block in batch.blocks() {
                let block = block.unwrap();
                readings.extend(block.entries().map(|entry| {
                    let entry = entry.unwrap();
                    (*at, block.device, entry.point, entry.value.to_value())
                }));
            }
        }
        readings
    }

    /// The times of the readings of point 0 of a device, in the order of their arrival.
    fn times(&self, device: u32) -> Vec<i64> {
        let mut times = Vec::new();
        for (_, batch) in &*self.0.lock().unwrap() {
            for block in batch.blocks().map(Result::unwrap).filter(|block| block.device == device) {
                let found = block.entries().filter(|entry| entry.as_ref().unwrap().point == 0);
                times.extend(found.map(|_| block.time.0));
            }
        }
        times
    }

    fn of(&self, device: u32) -> Vec<Instant> {
        self.readings().into_iter().filter(|r| r.1 == device && r.2 == 0).map(|r| r.0).collect()
    }
}

/// A running connection with everything a test wants to see.
struct Bench {
    south: South,
    kept: Arc<Kept>,
    counters: Arc<Counters>,
    script: Arc<Script>,
    began: Instant,
}

/// All devices share one template: rows ai.0.. and a last row ao; a measurement point for each ai row, the last
/// measurement point written by the ao row.
fn template(rows: u32, upload: Upload) -> Template {
    let numbers: Vec<String> = (0..rows).map(|row| row.to_string()).collect();
    let mut table: Vec<(&str, &str, ValueType, PointKind, &[&str])> = Vec::new();
    for number in &numbers {
        let last = table.len() as u32 == rows - 1;
        let kind = if last { PointKind::Ao } else { PointKind::Ai };
        table.push(("a point", number, ValueType::Short, kind, &[]));
    }
    let measurepoint = |row: u32| Measurepoint {
        id: format!("m{row}"),
        name: format!("M{row}"),
        data_type: DataType::Int,
        signal: Signal::Ai,
        unit: Some("V".into()),
        has_quality: false,
        mandatory: false,
        upload,
        late: None,
    };
    let rule = |row: u32| Rule {
        measurepoint: row,
        formula: Formula { function: Function::Equal, arguments: vec![Argument::Point(row)] },
        upload,
    };
    Template {
        name: "t".into(),
        model: Arc::new(ThingModel {
            id: "M".into(),
            name: "M".into(),
            parent: None,
            measurepoints: (0..rows).map(measurepoint).collect(),
        }),
        table: Arc::new(testkit::table(&[], &table)),
        rules: (0..rows - 1).map(rule).collect(),
        controls: vec![Control { measurepoint: rows - 1, row: rows - 1 }],
        commands: enos_edge::model::CommandRules::default(),
    }
}

fn site(plan: ScriptedPlan, rows: u32, upload: Upload) -> Site {
    let devices = plan.groups.iter().map(|group| group.device + 1).max().unwrap();
    let template = Arc::new(template(rows, upload));
    let points = template.model.measurepoints.iter().map(|p| PointName { id: p.id.clone(), has_quality: false });
    let points = Arc::new(PointNames { model: "M".into(), points: points.collect() });
    let names = (0..devices).map(|device| DeviceNames {
        name: format!("d{device}"),
        product_key: "pk".into(),
        device_key: format!("d{device}"),
        asset_id: None,
        points: Arc::clone(&points),
    });
    Site {
        package: PackageName { name: "test".into(), version: "1.0.0".into() },
        names: Arc::new(Names::new(names.collect())),
        credentials: vec![Credential::Logic; devices as usize],
        details: Vec::new(),
        connections: vec![Connection {
            name: "line".into(),
            protocol: "scripted".into(),
            inputs: "same".into(),
            devices: (0..devices)
                .map(|device| ConnectedDevice { device, first_point: device * rows, template: Arc::clone(&template) })
                .collect(),
            plan: Arc::new(plan),
        }],
    }
}

/// Rows a device, the control row included.
const ROWS: u32 = 3;

fn bench_with(plan: ScriptedPlan, upload: Upload, prepare: impl FnOnce(&Script)) -> Bench {
    let (script, kept, counters) = (plan.script(), Arc::new(Kept::default()), Arc::new(Counters::default()));
    prepare(&script);
    let inlet: Arc<dyn Inlet> = Arc::clone(&kept) as Arc<dyn Inlet>;
    let began = Instant::now();
    let south = South::start(&site(plan, ROWS, upload), inlet, Arc::clone(&counters));
    Bench { south, kept, counters, script, began }
}

fn bench(devices: u32, prepare: impl FnOnce(&Script)) -> Bench {
    bench_with(ScriptedPlan::polled(devices, ROWS, S), Upload::Realtime, prepare)
}

impl Bench {
    fn quality(&self, device: &str, id: &str) -> (Option<Shown>, String) {
        let filter = Filter { device: Some(device.into()), ..Filter::default() };
        let point = self.south.values(&filter).into_iter().find(|point| point.id == id).unwrap();
        (point.value, point.quality)
    }

    fn device(&self, at: usize) -> enos_edge::south::DeviceStatus {
        self.south.status().connections[0].devices[at].clone()
    }
}

fn worst_gap(times: &[Instant]) -> Duration {
    times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX)
}

#[tokio::test(start_paused = true)]
async fn values_arrive_on_their_period_without_drift() {
    let bench = bench(3, |_| {});
    sleep(S * 100).await;
    for device in 0..3 {
        let times = bench.kept.of(device);
        assert_eq!(times.len(), 100, "device {device}");
        assert!(times[0] - bench.began <= S, "the first scan comes within a period");
        assert!(worst_gap(&times) <= S + 2 * MS);
        assert!((times[99] - times[0]).abs_diff(S * 99) <= 2 * MS, "{:?}", times[99] - times[0]);
    }
    assert_eq!(bench.kept.readings()[0].3, Value::Int(i64::from(bench.kept.readings()[0].1 * ROWS)));
    assert_eq!(bench.counters.readings.get(), 600);
    assert_eq!(bench.counters.samples_good.get(), 900);
    assert_eq!((bench.counters.sessions.get(), bench.script.most_open()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_dead_device_never_delays_another_by_more_than_a_dead_line() {
    let bench = bench(10, |script| script.behave(4, Behaviour::Dead));
    sleep(S * 300).await;
    for device in (0..10).filter(|d| *d != 4) {
        let times = bench.kept.of(device);
        assert!(worst_gap(&times) <= S + S + 50 * MS, "device {device}: {:?}", worst_gap(&times));
        assert!(times.len() >= 285, "device {device}: {} scans", times.len());
    }
    assert_eq!(bench.kept.of(4), []);
    assert_eq!(bench.quality("d4", "m0"), (None, "bad: no answer".into()));
    let status = bench.device(4);
    assert_eq!(status.state, DeviceState::Silent);
    assert!((6..20).contains(&status.timeouts), "{} probes", status.timeouts);
    assert_eq!(bench.counters.timeouts.get(), status.timeouts);
    assert_eq!(bench.script.most_open(), 1, "a session is over before the next one begins");
}

#[tokio::test(start_paused = true)]
async fn a_device_behind_a_gateway_that_reports_it_dead_backs_off_too() {
    let bench = bench(2, |script| script.behave(1, Behaviour::Refuses(0x0B)));
    sleep(S * 60).await;
    assert!(bench.script.reads(1).len() < 10, "{} probes", bench.script.reads(1).len());
    assert_eq!(bench.counters.sessions.get(), 1, "the gateway itself answers: the conversation goes on");
    assert!(bench.quality("d1", "m0").1.contains("modbus exception 11"));
    bench.script.behave(1, Behaviour::Answers);
    sleep(S * 61).await;
    assert_eq!(bench.device(1).state, DeviceState::Online);
}

#[tokio::test(start_paused = true)]
async fn an_ordinary_exception_is_no_silence() {
    let bench = bench(1, |script| script.behave(0, Behaviour::Refuses(2)));
    sleep(S * 30).await;
    assert_eq!(bench.script.reads(0).len(), 30);
    assert_eq!(bench.device(0).exceptions, 90);
    assert_eq!(bench.kept.of(0), []);
}

/// What versions are told from, each minute: thousands of devices may be looked at, and none of them more than once.
#[tokio::test(start_paused = true)]
async fn latest_values_of_thousands_of_devices_cost_one_look_at_each() {
    const DEVICES: u32 = 3000;
    let bench = bench(DEVICES, |_| {});
    sleep(S * 5).await;
    let (mut looked, mut found) = (0, Vec::new());
    let lines = bench.south.now();
    lines.each_latest(
        |device| {
            looked += 1;
            (device % 2 == 0).then_some(&[1][..])
        },
        |device, points| {
            let ids: Vec<&str> = points.iter().map(|point| point.id.as_str()).collect();
            assert_eq!(ids, ["m1"], "of device {device} what is wanted alone is made");
            assert_eq!(points[0].value, Some(Shown(Value::Int(i64::from(device * ROWS + 1)))), "device {device}");
            found.push(device);
        },
    );
    assert_eq!((looked, found.len()), (DEVICES, DEVICES as usize / 2));
    assert!(found.is_sorted());
    assert_eq!(lines.latest(7).len(), ROWS as usize, "all of one");
}

#[tokio::test(start_paused = true)]
async fn a_value_is_never_shown_or_sent_beyond_the_loss_of_its_device() {
    let bench = bench(1, |_| {});
    sleep(S * 10).await;
    assert_eq!(bench.quality("d0", "m1"), (Some(Shown(Value::Int(1))), "good".into()));
    bench.script.behave(0, Behaviour::Drops);
    bench.script.refuse(true);
    sleep(S * 3).await;
    let sent = bench.kept.of(0).len();
    assert_eq!(bench.quality("d0", "m1"), (None, "bad: not connected".into()));
    assert_eq!(bench.device(0).state, DeviceState::NotConnected);
    sleep(S * 60).await;
    assert_eq!(bench.kept.of(0).len(), sent);
}

#[tokio::test(start_paused = true)]
async fn a_late_connection_is_made_in_the_end_and_not_hammered_before() {
    let bench = bench(2, |script| script.refuse(true));
    sleep(S * 120).await;
    let connects = bench.script.connects();
    assert!(connects[1] - connects[0] <= MS, "the first retry is immediate");
    assert!((7..14).contains(&connects.len()), "{} attempts in two minutes", connects.len());
    let status = bench.south.status().connections.remove(0);
    assert_eq!(status.state, ConnectionState::Waiting);
    assert_eq!(status.last_error.as_deref(), Some("refused"));
    bench.script.refuse(false);
    sleep(S * 32).await;
    assert!(!bench.kept.of(0).is_empty() && !bench.kept.of(1).is_empty());
    let skipped = bench.device(0).skipped;
    assert!(skipped >= 115, "{skipped} periods were missed and none made up");
    let readings = bench.kept.of(0).len() as u64;
    assert!((150..=153).contains(&(skipped + readings)), "{skipped} + {readings}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_after_each_answer_keeps_its_period() {
    let bench = bench(1, |script| script.behave(0, Behaviour::AnswersOnce));
    sleep(S * 50).await;
    let times = bench.kept.of(0);
    assert!(times.len() >= 49, "{} scans", times.len());
    assert!(worst_gap(&times) <= S + 10 * MS);
    assert_eq!(bench.counters.samples_bad.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_makes_the_peer_hang_up_is_left_alone() {
    let bench = bench(3, |script| script.behave(1, Behaviour::Drops));
    sleep(S * 100).await;
    assert!(bench.kept.of(0).len() >= 99 && bench.kept.of(2).len() >= 99);
    assert!(bench.script.connects().len() < 40, "{} connects", bench.script.connects().len());
    assert_eq!(bench.device(1).state, DeviceState::Silent);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_driver_ends_its_session_and_nothing_else() {
    let bench = bench(2, |script| script.behave(0, Behaviour::Panics));
    sleep(S * 60).await;
    assert!(bench.kept.of(1).len() >= 59, "{} scans", bench.kept.of(1).len());
    assert!(bench.device(0).last_error.unwrap().contains("scripted panic"));
    bench.script.behave(0, Behaviour::Answers);
    sleep(S * 61).await;
    assert!(!bench.kept.of(0).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_never_comes_back_is_given_up_and_a_forgotten_point_is_bad() {
    let bench = bench(3, |script| {
        script.behave(0, Behaviour::Hangs);
        script.behave(1, Behaviour::Forgets);
    });
    sleep(S * 60).await;
    assert!(bench.kept.of(2).len() >= 45, "{} scans", bench.kept.of(2).len());
    assert!(bench.device(0).last_error.unwrap().contains("did not come back within 2s"));
    let filter = Filter { device: Some("d1".into()), text: Some("ao.2".into()), ..Filter::default() };
    assert_eq!(bench.south.values(&filter)[0].quality, "bad: no answer");
    assert_eq!(bench.quality("d1", "m0").1, "good");
}

#[tokio::test(start_paused = true)]
async fn a_device_is_read_on_demand_between_its_scans() {
    let bench = bench_with(ScriptedPlan::polled(2, ROWS, S * 900), Upload::Realtime, |_| {});
    sleep(S * 10).await;
    let points = bench.south.read_now("line", "d1", S).await.unwrap();
    assert_eq!(points.len(), ROWS as usize);
    assert_eq!(points[1].value, Some(Shown(Value::Int(4))));
    assert_eq!(bench.kept.of(1).len(), 2, "the first scan, and this one");
    let unknown = bench.south.read_now("line", "d9", S).await;
    assert_eq!(unknown, Err(AskError::UnknownDevice("d9".into())));
}

#[tokio::test(start_paused = true)]
async fn two_readings_of_one_point_never_share_a_millisecond() {
    let bench = bench_with(ScriptedPlan::polled(1, ROWS, S * 900), Upload::Realtime, |_| {});
    sleep(S * 10).await;
    // Paused time: these reads fall into one millisecond of the wall clock, or very few.
    for _ in 0..10 {
        bench.south.read_now("line", "d0", S).await.unwrap();
    }
    let times = bench.kept.times(0);
    assert_eq!(times.len(), 11);
    assert!(times.is_sorted_by(|a, b| a < b), "{times:?}");
}

#[tokio::test(start_paused = true)]
async fn pushed_values_of_one_time_are_all_kept_and_the_same_one_again_is_no_other() {
    let bench = bench_with(ScriptedPlan::pushed(1, ROWS), Upload::Realtime, |_| {});
    sleep(S).await;
    let push = |time: i64, value: i64| {
        let datum = Datum::Good(Value::Int(value));
        bench.script.push(Sample { point: 0, time: Timestamp(time), datum });
    };
    for value in [1, 2, 1] {
        push(7_000, value);
    }
    sleep(S).await;
    push(7_000, 1);
    sleep(S).await;
    push(5_000, 4);
    sleep(S).await;
    assert_eq!(bench.kept.times(0), [7_000, 7_001, 7_002, 7_002, 5_000], "an older time is the source's word");
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_before_polling_and_is_confirmed() {
    let bench = bench(5, |script| (0..5).for_each(|d| script.behave(d, Behaviour::Slow(900 * MS))));
    sleep(S * 20).await;
    let asked = Instant::now();
    bench.south.write("line", 8, &Value::Double(41.7), S * 5).await.unwrap();
    assert!(asked.elapsed() <= 900 * MS, "one request at most goes first, and {:?} passed", asked.elapsed());
    bench.south.write_measurepoint(1, 2, &Value::Int(7), S * 5).await.unwrap();
    let writes: Vec<_> = bench.script.writes().into_iter().map(|(_, point, value)| (point, value)).collect();
    assert_eq!(writes, [(8, Value::Int(42)), (5, Value::Int(7))], "in the type of the wire");
}

#[tokio::test(start_paused = true)]
async fn what_can_not_be_written_is_refused_before_the_wire() {
    let bench = bench(1, |_| {});
    let write = |point, value| bench.south.write("line", point, value, S);
    assert_eq!(write(0, &Value::Int(1)).await, Err(AskError::NotWritable(0)));
    assert_eq!(write(9, &Value::Int(1)).await, Err(AskError::UnknownPoint(9)));
    assert_eq!(write(2, &Value::Int(40_000)).await, Err(AskError::Unfit(Reason::OutOfRange)));
    let control = bench.south.write_measurepoint(0, 1, &Value::Int(1), S).await;
    assert_eq!(control, Err(AskError::NoControl("m1".into())));
    assert_eq!(bench.script.writes().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_keeps_the_session_and_an_unanswered_one_ends_it() {
    let bench = bench(1, |script| {
        script.writes_fail(SessionError::Rejected { point: 2, reason: Reason::ModbusException(3) });
    });
    sleep(S * 5).await;
    let refused = bench.south.write("line", 2, &Value::Int(1), S * 5).await;
    assert_eq!(refused, Err(AskError::Refused { point: 2, reason: Reason::ModbusException(3) }));
    assert_eq!(bench.counters.sessions.get(), 1);
    bench.script.writes_fail(SessionError::Timeout(S));
    let unknown = bench.south.write("line", 2, &Value::Int(1), S * 5).await;
    assert_eq!(unknown, Err(AskError::Unconfirmed(SessionError::Timeout(S))));
    sleep(S * 2).await;
    assert_eq!(bench.counters.sessions.get(), 2);
    assert!(bench.kept.of(0).len() >= 6, "polling goes on");
}

#[tokio::test(start_paused = true)]
async fn a_stale_command_never_fires() {
    let bench = bench(1, |script| script.behave(0, Behaviour::Slow(900 * MS)));
    sleep(S * 5 + 10 * MS).await;
    let mut given_up = 0;
    for _ in 0..20 {
        match bench.south.write("line", 2, &Value::Int(1), 30 * MS).await {
            Err(AskError::Expired) => given_up += 1,
            result => assert_eq!(result, Ok(())),
        }
        sleep(70 * MS).await;
    }
    assert!(given_up > 5, "{given_up}");
    sleep(S * 10).await;
    assert_eq!(bench.script.writes().len(), 20 - given_up);
}

#[tokio::test(start_paused = true)]
async fn somebody_who_asks_has_a_waiting_connection_tried_at_once() {
    let bench = bench(1, |script| script.refuse(true));
    sleep(S * 100).await;
    bench.script.refuse(false);
    let asked = Instant::now();
    bench.south.read_now("line", "d0", S).await.unwrap();
    assert!(asked.elapsed() < 10 * MS);
    bench.script.behave(0, Behaviour::Drops);
    bench.script.refuse(true);
    sleep(S * 100).await;
    let refused = bench.south.read_now("line", "d0", S).await;
    assert_eq!(refused, Err(AskError::NotConnected("refused".into())));
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_are_refused_as_busy() {
    let bench = bench(1, |script| script.connect_takes(S * 20));
    sleep(S).await;
    let ask = || bench.south.read_now("line", "d0", S * 60);
    let mut all: Vec<_> = (0..40).map(|_| Box::pin(ask())).collect();
    let mut busy = 0;
    for one in &mut all {
        if let Ok(Err(AskError::Busy)) = tokio::time::timeout(Duration::ZERO, one).await {
            busy += 1;
        }
    }
    assert_eq!(busy, 8, "32 wait");
}

#[tokio::test(start_paused = true)]
async fn what_a_device_pushes_is_mapped_and_none_is_lost_beside_writes() {
    let bench = bench_with(ScriptedPlan::pushed(2, ROWS), Upload::Realtime, |_| {});
    sleep(S).await;
    for i in 0..100i64 {
        let point = (i % 2) as u32 * ROWS;
        bench.script.push(Sample { point, time: Timestamp(i), datum: Datum::Good(Value::Int(i)) });
        if i % 10 == 0 {
            bench.south.write("line", 2, &Value::Int(i), S).await.unwrap();
        }
        tokio::task::yield_now().await;
    }
    sleep(S).await;
    let mut values: Vec<_> = bench.kept.readings().into_iter().map(|r| r.3).collect();
    values.sort_by_key(|value| value.as_f64().unwrap() as i64);
    assert_eq!(values, (0..100).map(Value::Int).collect::<Vec<_>>());
    assert_eq!(bench.device(1).state, DeviceState::Online);
}

#[tokio::test(start_paused = true)]
async fn polled_and_pushed_points_share_a_session_fairly() {
    let mut plan = ScriptedPlan::polled(1, ROWS, 100 * MS);
    plan.groups[0].points = vec![0];
    plan.groups.push(ScanGroup { pushed: true, points: vec![1, 2], ..plan.groups[0].clone() });
    let bench = bench_with(plan, Upload::Realtime, |_| {});
    let end = Instant::now() + S * 10;
    let mut sent = 0;
    while Instant::now() < end {
        sent += 1;
        bench.script.push(Sample { point: 1, time: Timestamp(sent), datum: Datum::Good(Value::Int(sent)) });
        sleep(MS).await;
    }
    let polled = bench.kept.of(0).len();
    let pushed = bench.kept.readings().iter().filter(|r| r.2 == 1).count();
    assert!(polled >= 98, "{polled}");
    assert!(pushed as i64 >= sent - 1, "{pushed} of {sent}");
}

/// Three devices, read each second, that take files in pieces of 100 bytes.
fn with_files(prepare: impl FnOnce(&Script)) -> Bench {
    let mut plan = ScriptedPlan::polled(3, 3, S);
    plan.transfer = Some(TransferShape { most: 1 << 20, piece: 100, patience: S, resumes: true });
    bench_with(plan, Upload::Realtime, prepare)
}

/// Sends a file as an update does: at once again after each step.
async fn send(bench: &Bench, file: &mut Transfer, payload: &[u8]) -> Result<(), AskError> {
    while file.phase != Phase::Done {
        if file.bytes(100).is_none() {
            file.load(file.done, payload[file.done as usize..].to_vec());
        }
        bench.south.now().transfer(0, file, 10 * S).await?;
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_file_on_its_way_leaves_every_other_device_its_period() {
    // A busy line: three scans of 250 ms a second, and blocks of 200 ms.
    let bench = with_files(|script| {
        (0..3).for_each(|device| script.behave(device, Behaviour::Slow(250 * MS)));
        script.file_steps_take(200 * MS);
    });
    sleep(3 * S).await;
    let payload: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
    let (mut file, began) = (Transfer::new(1, 10_000), Instant::now());
    send(&bench, &mut file, &payload).await.unwrap();
    assert_eq!(bench.script.file(), payload);
    let took = began.elapsed();
    // A hundred blocks of 200 ms, and a scan after each of them at most.
    assert!(took <= 100 * (200 + 250) * MS, "the scans let the file go on: {took:?}");
    for device in 0..3 {
        let reads: Vec<Instant> = bench.script.reads(device).into_iter().filter(|at| *at >= began).collect();
        assert!(worst_gap(&reads) <= 1_500 * MS, "device {device} waited {:?}", worst_gap(&reads));
        assert_eq!(bench.device(device).state, DeviceState::Online);
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_goes_before_the_next_piece_of_a_file() {
    let bench = with_files(|script| script.file_steps_take(200 * MS));
    sleep(S / 2).await;
    let payload = vec![7; 5_000];
    let mut file = Transfer::new(1, 5_000);
    let sending = send(&bench, &mut file, &payload);
    let writing = async {
        sleep(1_050 * MS).await;
        let asked = Instant::now();
        bench.south.write("line", 2, &Value::Int(5), S).await.unwrap();
        asked.elapsed()
    };
    let (sent, waited) = tokio::join!(sending, writing);
    sent.unwrap();
    assert!(waited <= 200 * MS, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_a_step_is_told_and_the_file_comes_back() {
    let bench = with_files(|_| ());
    sleep(S).await;
    let payload = vec![7; 300];
    let mut file = Transfer::new(1, 300);
    file.load(0, payload.clone());
    let busy = TransferError::Busy("burning".to_owned());
    bench.script.file_step_fails(busy);
    let lines = bench.south.now();
    assert_eq!(lines.transfer(0, &mut file, S).await, Err(AskError::Later("burning".to_owned())));
    bench.script.file_step_fails(TransferError::Refused("exception 3".to_owned()));
    assert_eq!(lines.transfer(0, &mut file, S).await, Err(AskError::FileRefused("exception 3".to_owned())));
    assert_eq!(bench.script.connects().len(), 1, "neither ends the session");
    lines.transfer(0, &mut file, S).await.unwrap();
    assert_eq!(file.done, 100);
    bench.script.file_step_fails(TransferError::Session(SessionError::Timeout(S)));
    assert!(matches!(lines.transfer(0, &mut file, S).await, Err(AskError::Unconfirmed(_))));
    send(&bench, &mut file, &payload).await.unwrap();
    assert_eq!((bench.script.file(), bench.script.connects().len()), (payload, 2));
    bench.script.file_steps_take(3 * S);
    let mut file = Transfer::new(2, 300);
    file.load(0, vec![1; 300]);
    let told = lines.transfer(0, &mut file, S).await;
    assert!(matches!(told, Err(AskError::Unconfirmed(_))), "a driver that is late is cut off: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_file_for_a_connection_that_is_away_is_told_so_and_one_that_takes_none_refuses() {
    let bench = with_files(|script| script.refuse(true));
    sleep(2 * S).await;
    let mut file = Transfer::new(1, 100);
    file.load(0, vec![7; 100]);
    let told = bench.south.now().transfer(0, &mut file, S).await;
    assert!(matches!(told, Err(AskError::NotConnected(_))), "{told:?}");
    let none = bench_with(ScriptedPlan::polled(1, 3, S), Upload::Realtime, |_| ());
    sleep(S).await;
    let told = none.south.now().transfer(0, &mut file, S).await;
    assert!(matches!(told, Err(AskError::FileRefused(_))), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn timer_values_go_out_on_time_though_the_device_is_gone() {
    let plan = ScriptedPlan::polled(1, ROWS, S);
    let bench = bench_with(plan, Upload::Timer(S * 60), |_| {});
    sleep(S * 30).await;
    assert_eq!(bench.kept.of(0).len(), 1);
    bench.script.behave(0, Behaviour::Dead);
    sleep(S * 60).await;
    let times = bench.kept.of(0);
    assert_eq!(times.len(), 2, "what was collected in the interval, and nothing twice");
    let waited = times[1] - times[0];
    assert!(waited >= S * 60 && waited <= S * 61 + 2 * MS, "at most a probe under way is in between: {waited:?}");
    assert!(bench.counters.readings_held.get() >= 50);
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_the_request_and_closes_the_session() {
    let bench = bench(1, |script| script.behave(0, Behaviour::Slow(800 * MS)));
    sleep(S * 5).await;
    let (asked, reads) = (Instant::now(), bench.script.reads(0).len());
    assert_eq!(bench.south.stop(S * 5).await, Vec::<String>::new());
    assert!(asked.elapsed() <= S);
    assert_eq!(bench.script.closed(), 1);
    assert_eq!(bench.kept.of(0).len(), reads, "the scan under way was not wasted");
}

#[tokio::test(start_paused = true)]
async fn stopping_cuts_off_a_driver_that_hangs_and_still_closes() {
    let bench = bench(1, |script| script.behave(0, Behaviour::Hangs));
    sleep(S + 500 * MS).await;
    let asked = Instant::now();
    assert_eq!(bench.south.stop(S + 200 * MS).await, ["line"]);
    assert!(asked.elapsed() <= S, "{:?}", asked.elapsed());
    assert_eq!(bench.script.closed(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_late_to_stop_is_named() {
    let bench = bench(1, |script| script.close_takes(S * 60));
    sleep(S).await;
    let asked = Instant::now();
    assert_eq!(bench.south.stop(S * 5).await, ["line"]);
    assert!(asked.elapsed() <= S * 2 + MS, "a session that does not close is dropped");
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_a_connect() {
    let bench = bench(1, |script| script.connect_takes(S * 50));
    sleep(S).await;
    let asked = Instant::now();
    assert_eq!(bench.south.stop(S * 5).await, Vec::<String>::new());
    assert!(asked.elapsed() <= MS);
}

#[tokio::test(start_paused = true)]
async fn frames_are_seen_while_somebody_listens() {
    let bench = bench(1, |_| {});
    sleep(S * 3).await;
    let mut capture = bench.south.capture("line").unwrap();
    assert_eq!(&*capture.next().await.unwrap().bytes, [0x03, 0]);
    assert!(bench.south.capture("other").is_err());
}

#[tokio::test(start_paused = true)]
async fn batches_are_bounded() {
    let plan = ScriptedPlan::polled(1, 5_001, S);
    let kept = Arc::new(Kept::default());
    let south = South::start(&site(plan, 5_001, Upload::Realtime), Arc::clone(&kept) as _, Arc::default());
    sleep(S).await;
    let counts: Vec<u32> = kept.0.lock().unwrap().iter().map(|(_, batch)| batch.count).collect();
    assert_eq!(counts, [2000, 2000, 1000]);
    drop(south);
}
