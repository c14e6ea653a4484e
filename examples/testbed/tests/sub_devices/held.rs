//! Readings of a device that the cloud does not take for a while: they wait in the real outbox, hold up nobody, survive a
//! kill, and arrive when the device is in order again.

use super::*;
use enos_edge::config::OutboxConfig;
use enos_edge::model::Selection;
use enos_edge::outbox::{self, DestinationSettings, Outbox};
use std::path::Path;
use testbed::cloud::{Change, Form, Refusal};

struct Running {
    outbox: Outbox,
    status: Arc<Status>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

fn start(folder: &Path, cloud: &Cloud, names: &Arc<Names>) -> Running {
    let settings = DestinationSettings {
        name: "enos".to_owned(),
        selection: Selection::default(),
        quota_bytes: None,
        max_age: None,
    };
    let config = OutboxConfig { bound: Duration::from_millis(50), disk_reserve_bytes: 0, ..OutboxConfig::default() };
    let counters = Arc::new(Counters::default());
    let outbox = outbox::open(folder, &config, &[settings], Arc::clone(names), Arc::clone(&counters)).unwrap();
    let address = cloud.address();
    let secret = Secret::new("secret".to_owned());
    let config = CloudConfig {
        device_secret: Some(secret.clone()),
        linger: Duration::ZERO,
        ..CloudConfig::new(&address.ip().to_string(), address.port(), "gwPK", "gw")
    };
    let (stop, stopped) = watch::channel(false);
    let status = Arc::new(Status::default());
    let ports = CloudPorts::simple(outbox.outlet("enos"), Some(secret), counters, Arc::clone(&status));
    let site = CloudSite { names: Arc::clone(names), credentials: known(names.devices.len()) };
    let task = tokio::spawn(cloud::run(config, site, ports, stopped));
    Running { outbox, status, stop, task }
}

impl Running {
    fn held(&self) -> u64 {
        balanced(&self.outbox).held
    }

    fn waiting(&self) -> u64 {
        balanced(&self.outbox).waiting
    }

    /// Everybody is gone at once; what the outbox has not written is lost.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        tokio::task::spawn_blocking(move || self.outbox.abandon()).await.unwrap();
    }

    async fn end(self) {
        self.stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap().unwrap();
    }
}

/// Nothing is miscounted, at any time.
fn balanced(outbox: &Outbox) -> outbox::Tally {
    let all = outbox.status().destinations[0].readings;
    let gone = all.acknowledged + all.set_aside + all.dropped + all.waiting + all.held;
    assert_eq!(all.waiting_at_open + all.held_at_open + all.produced, gone, "{all:?}");
    all
}

/// Different readings that the cloud took.
fn arrived(cloud: &Cloud) -> u64 {
    cloud.ledger(|ledger| ledger.report().delivered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_of_a_disabled_device_wait_on_disk_and_arrive_when_it_is_enabled() {
    for form in [Form::Array, Form::Object, Form::OwnTopic] {
        let folder = tempfile::tempdir().unwrap();
        let (cloud, names) = (start_cloud_with(3, true).await, names(3));
        let mut running = start(folder.path(), &cloud, &names);
        until(|| cloud.sub_devices_online() == 3).await;
        cloud.change(("subPK", "d1"), Change::Disable, form).unwrap();
        until(|| running.status.snapshot().sub_devices[1].login == Login::Disabled).await;
        let begin = now() - 1000;
        let append = |running: &Running, n: i64| running.outbox.inlet().append(batch(&names, &[0, 1, 2], 1, begin + n));
        (0..40).for_each(|n| append(&running, n));
        until(|| running.held() == 40 && running.waiting() == 0).await;
        until(|| running.outbox.status().readings_on_disk == 0).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        running.kill().await;
        cloud.knobs(|knobs| knobs.refusals.push(Refusal::device(723, "subPK", "d1")));
        // The new process knows nothing of the notice; the cloud refuses login and data, and all waits on.
        running = start(folder.path(), &cloud, &names);
        assert_eq!(running.held(), 40, "what is held survives a kill");
        (40..50).for_each(|n| append(&running, n));
        until(|| running.held() == 50 && running.waiting() == 0).await;
        assert_eq!(arrived(&cloud), 100, "the other two have lost no time, and the third sends nothing");
        cloud.knobs(|knobs| knobs.refusals.clear());
        // On its own topic nobody hears it: the next login finds out.
        let told = cloud.change(("subPK", "d1"), Change::Enable, form);
        assert!(told.is_ok() || form == Form::OwnTopic);
        let begun = Instant::now();
        until(|| {
            let done = running.held() == 0 && running.waiting() == 0;
            let late = !done && begun.elapsed() > PATIENCE * 9 / 10;
            assert!(!late, "{form:?}: {:?} {:?}", running.outbox.status(), running.status.snapshot());
            done
        })
        .await;
        let tally = balanced(&running.outbox);
        assert_eq!((tally.set_aside, tally.dropped), (0, 0));
        running.end().await;
        assert_eq!(arrived(&cloud), 150, "{form:?}");
    }
}
