//! Claims about the watchdog with real connections: what is no hang, and what is.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use driver::testkit::{self, Behaviour, ScriptedPlan};
use driver::{Answer, FrameTap, Plan, PointKind, Resource, Sample, ScanGroup, Session, SessionError, Value, ValueType};
use enos_edge::model::{
    Batch, CommandRules, ConnectedDevice, Connection, Credential, DeviceNames, Inlet, Names, PackageName, PointNames,
    Pulse, Site, Template, ThingModel,
};
use enos_edge::south::South;
use enos_edge::telemetry::Counters;
use enos_edge::watchdog::{Act, RUNTIME, Rounds, Watched};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);
const PERIOD: Duration = Duration::from_secs(5);
const ROWS: u32 = 2;

struct Nowhere;

impl Inlet for Nowhere {
    fn append(&self, _: Batch) {}
}

/// What `app` shows the watchdog, without the rest of the daemon.
struct Field {
    south: South,
    runtime: Arc<Pulse>,
}

impl Watched for Field {
    fn parts(&self, say: &mut dyn FnMut(&str, &Pulse)) {
        say(RUNTIME, &self.runtime);
        self.south.now().pulses(say);
    }

    fn summary(&self) -> String {
        "fine".into()
    }
}

fn site(plans: Vec<(&str, Arc<dyn Plan>)>) -> Site {
    let rows: Vec<_> =
        ["0", "1"].map(|number| ("a point", number, ValueType::Short, PointKind::Ai, &[][..])).into_iter().collect();
    let template = Arc::new(Template {
        name: "t".into(),
        model: Arc::new(ThingModel { id: "M".into(), name: "M".into(), parent: None, measurepoints: Vec::new() }),
        table: Arc::new(testkit::table(&[], &rows)),
        rules: Vec::new(),
        controls: Vec::new(),
        commands: CommandRules::default(),
    });
    let points = Arc::new(PointNames { model: "M".into(), points: Vec::new() });
    let (mut names, mut connections) = (Vec::new(), Vec::new());
    for (name, plan) in plans {
        let first = names.len() as u32;
        let devices = plan.scan_groups().iter().map(|group| group.device + 1).max().unwrap();
        names.extend((0..devices).map(|device| DeviceNames {
            name: format!("{name}-{device}"),
            product_key: "pk".into(),
            device_key: format!("{name}-{device}"),
            asset_id: None,
            points: Arc::clone(&points),
        }));
        let device = |device| ConnectedDevice {
            device: first + device,
            first_point: device * ROWS,
            template: Arc::clone(&template),
        };
        connections.push(Connection {
            name: name.into(),
            protocol: "scripted".into(),
            inputs: name.into(),
            devices: (0..devices).map(device).collect(),
            plan,
        });
    }
    Site {
        package: PackageName { name: "test".into(), version: "1.0.0".into() },
        credentials: vec![Credential::Logic; names.len()],
        names: Arc::new(Names::new(names)),
        details: Vec::new(),
        connections,
        events: std::sync::Arc::default(),
    }
}

fn start(site: &Site) -> Field {
    let south = South::start(site, Arc::new(Nowhere), Arc::new(Counters::default()));
    Field { south, runtime: Arc::default() }
}

#[tokio::test(start_paused = true)]
async fn whatever_devices_do_the_gateway_gets_on() {
    let behaviours = [
        ("answers", Behaviour::Answers),
        ("dead", Behaviour::Dead),
        ("hangs", Behaviour::Hangs),
        ("panics", Behaviour::Panics),
        ("drops", Behaviour::Drops),
        ("slow", Behaviour::Slow(Duration::from_millis(900))),
    ];
    let plan = |(name, behaviour)| {
        let plan = ScriptedPlan::polled(2, ROWS, Duration::from_secs(1));
        (0..2).for_each(|device| plan.script().behave(device, behaviour));
        (name, Arc::new(plan) as Arc<dyn Plan>)
    };
    let site = site(behaviours.into_iter().map(plan).collect());
    let field = start(&site);
    let mut rounds = Rounds::new(LIMIT, PERIOD);
    for round in 0..720 {
        tokio::time::sleep(PERIOD).await;
        let acts = rounds.look(tokio::time::Instant::now().into_std(), &field);
        assert_eq!(acts[0], Act::Feed, "after {} s: {acts:?}", round * 5);
    }
}

/// Its driver keeps the thread until it is let go.
struct Blocking {
    groups: Vec<ScanGroup>,
    begun: Mutex<Option<mpsc::SyncSender<()>>>,
    free: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Plan for Blocking {
    fn scan_groups(&self) -> &[ScanGroup] {
        &self.groups
    }

    fn resources(&self) -> &[Resource] {
        &[]
    }

    fn endpoint(&self) -> String {
        "nowhere".into()
    }

    fn connect(&self, _: Arc<dyn FrameTap>) -> Answer<'_, Result<Box<dyn Session>, SessionError>> {
        let session = BlockingSession { begun: self.begun.lock().unwrap().take(), free: Arc::clone(&self.free) };
        Box::pin(async move { Ok(Box::new(session) as Box<dyn Session>) })
    }
}

struct BlockingSession {
    begun: Option<mpsc::SyncSender<()>>,
    free: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Session for BlockingSession {
    fn read<'a>(&'a mut self, _: usize, _: &'a mut Vec<Sample>) -> Answer<'a, Result<(), SessionError>> {
        Box::pin(async move {
            if let Some(begun) = self.begun.take() {
                begun.send(()).unwrap();
            }
            // What no driver may do: the thread that all share waits with it.
            let _ = self.free.lock().unwrap().recv();
            Ok(())
        })
    }

    fn write<'a>(&'a mut self, _: u32, _: &'a Value) -> Answer<'a, Result<(), SessionError>> {
        Box::pin(async { Ok(()) })
    }

    fn close(self: Box<Self>) -> Answer<'static, ()> {
        Box::pin(async {})
    }
}

#[test]
fn a_driver_that_keeps_the_thread_is_found_and_named() {
    let (begun, has_begun) = mpsc::sync_channel(1);
    let (free, until_free) = mpsc::sync_channel(1);
    let group = ScriptedPlan::polled(1, ROWS, Duration::from_millis(1)).scan_groups()[0].clone();
    let blocking =
        Blocking { groups: vec![group], begun: Mutex::new(Some(begun)), free: Arc::new(Mutex::new(until_free)) };
    let (hand, take) = mpsc::sync_channel(1);
    let daemon = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let good = ScriptedPlan::polled(1, ROWS, Duration::from_secs(1));
            let site = site(vec![("good", Arc::new(good)), ("bad line", Arc::new(blocking))]);
            let field = Arc::new(start(&site));
            field.runtime.back_by(Instant::now() + PERIOD);
            hand.send(Arc::clone(&field)).unwrap();
            // Not before the driver has the thread: then nothing here goes on until it is let go.
            tokio::task::yield_now().await;
            while !field.south.now().has_begun() {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            field.south.stop(Duration::from_secs(5)).await;
        });
    });
    let field = take.recv().unwrap();
    let blocked = has_begun.recv_timeout(Duration::from_secs(10)).is_ok();
    let mut rounds = Rounds::new(LIMIT, PERIOD);
    let looks = (0..12).map(|look| rounds.look(Instant::now() + PERIOD * look, &*field));
    let acts: Vec<Act> = looks.flatten().collect();
    free.send(()).unwrap();
    drop(free);
    daemon.join().unwrap();
    assert!(blocked, "the driver was never asked");
    let words = "stuck: the runtime (for 30 s), kept by the driver of bad line";
    assert!(acts.contains(&Act::Say(words.into())), "{acts:?}");
    assert!(acts.contains(&Act::Trigger));
    assert_eq!(acts.last(), Some(&Act::Trigger), "it is not fed any more");
}
