//! An outbox in memory: it hands out what is not acknowledged, and again after the link was down.

use enos_edge::model::{
    Batch, BatchBuilder, DeviceNames, Lane, Names, Outlet, Parcel, PointName, PointNames, SetAside, Timestamp, Value,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

#[derive(Default)]
struct Inner {
    next: u64,
    waiting: BTreeMap<u64, (bool, Batch)>,
    handed_out: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    aside: Vec<SetAside>,
    /// Held once their parcel is acknowledged, and held.
    to_hold: Vec<SetAside>,
    held: Vec<SetAside>,
    ups: u32,
}

pub struct Store {
    pub names: Arc<Names>,
    inner: Mutex<Inner>,
    changed: Notify,
}

impl Store {
    pub fn new(names: Arc<Names>) -> Arc<Store> {
        Arc::new(Store { names, inner: Mutex::default(), changed: Notify::new() })
    }

    pub fn add(&self, live: bool, batch: Batch) -> u64 {
        let mut inner = self.inner.lock().unwrap();
        inner.next += 1;
        let seq = inner.next;
        inner.waiting.insert(seq, (live, batch));
        self.changed.notify_waiters();
        seq
    }

    pub fn acknowledged(&self) -> usize {
        self.inner.lock().unwrap().acknowledged.len()
    }

    pub fn handed_out(&self) -> usize {
        self.inner.lock().unwrap().handed_out.len()
    }

    /// Device, point and code of every value set aside.
    pub fn aside(&self) -> Vec<(String, String, i64)> {
        Store::values(&self.inner.lock().unwrap().aside)
    }

    /// The same of every value that waits for its device.
    pub fn held_values(&self) -> Vec<(String, String, i64)> {
        Store::values(&self.inner.lock().unwrap().held)
    }

    fn values(of: &[SetAside]) -> Vec<(String, String, i64)> {
        let mut all = Vec::new();
        for refused in of {
            for block in refused.batch.blocks().flatten() {
                for entry in block.entries().flatten() {
                    let point = refused.names.point(block.device, entry.point).map_or("?", |p| p.id.as_str());
                    let device = &refused.names.devices[block.device as usize].device_key;
                    all.push((device.clone(), point.to_owned(), refused.code));
                }
            }
        }
        all
    }

    pub fn ups(&self) -> u32 {
        self.inner.lock().unwrap().ups
    }

    pub async fn until_acknowledged(&self, count: usize) {
        let waited = tokio::time::timeout(std::time::Duration::from_secs(180), async {
            loop {
                let changed = self.changed.notified();
                if self.acknowledged() >= count {
                    return;
                }
                changed.await;
            }
        });
        assert!(waited.await.is_ok(), "only {} of {count} parcels were acknowledged", self.acknowledged());
    }

    async fn hand_out(&self, live: bool, max_bytes: usize) -> Vec<Parcel> {
        loop {
            let changed = self.changed.notified();
            {
                let mut inner = self.inner.lock().unwrap();
                let mut parcels = Vec::new();
                let mut bytes = 0;
                let free: Vec<u64> = inner.waiting.keys().filter(|s| !inner.handed_out.contains(s)).copied().collect();
                for seq in free {
                    let (is_live, batch) = inner.waiting[&seq].clone();
                    if is_live != live || bytes > 0 && bytes + batch.bytes.len() > max_bytes {
                        continue;
                    }
                    bytes += batch.bytes.len();
                    inner.handed_out.insert(seq);
                    let lane = if live { Lane::Live } else { Lane::Backlog };
                    parcels.push(Parcel { seq, lane, names: Arc::clone(&self.names), batch });
                }
                if !parcels.is_empty() {
                    return parcels;
                }
            }
            changed.await;
        }
    }
}

impl Outlet for Store {
    fn live(&self, max_bytes: usize) -> driver::Answer<'_, Vec<Parcel>> {
        Box::pin(self.hand_out(true, max_bytes))
    }

    fn backlog(&self, max_bytes: usize) -> driver::Answer<'_, Vec<Parcel>> {
        Box::pin(self.hand_out(false, max_bytes))
    }

    fn acknowledge(&self, seqs: &[u64]) {
        let mut inner = self.inner.lock().unwrap();
        for seq in seqs {
            assert!(inner.waiting.remove(seq).is_some(), "parcel {seq} acknowledged twice");
            assert!(inner.handed_out.remove(seq), "parcel {seq} was not handed out");
            inner.acknowledged.insert(*seq);
            let Inner { to_hold, held, .. } = &mut *inner;
            held.extend(to_hold.extract_if(.., |part| part.seq == *seq));
        }
        self.changed.notify_waiters();
    }

    fn set_aside(&self, refused: SetAside) {
        let mut inner = self.inner.lock().unwrap();
        assert!(inner.waiting.contains_key(&refused.seq), "set aside comes before acknowledge");
        inner.aside.push(refused);
        self.changed.notify_waiters();
    }

    fn hold(&self, refused: SetAside) {
        let mut inner = self.inner.lock().unwrap();
        assert!(inner.waiting.contains_key(&refused.seq), "hold comes before acknowledge");
        inner.to_hold.push(refused);
    }

    fn release(&self, product_key: &str, device_key: &str) -> bool {
        let mut inner = self.inner.lock().unwrap();
        let all = std::mem::take(&mut inner.held);
        for part in all {
            let of_it = |device: u32| {
                let names = &part.names.devices[device as usize];
                names.product_key == product_key && names.device_key == device_key
            };
            if let Some(batch) = part.batch.filter(|device, _, _| of_it(device)).unwrap() {
                inner.next += 1;
                let seq = inner.next;
                inner.waiting.insert(seq, (true, batch));
            }
            if let Some(batch) = part.batch.filter(|device, _, _| !of_it(device)).unwrap() {
                inner.held.push(SetAside { batch, ..part });
            }
        }
        self.changed.notify_waiters();
        // What is about to be held makes it worth asking again.
        !inner.to_hold.is_empty()
    }

    fn link(&self, up: bool) {
        let mut inner = self.inner.lock().unwrap();
        inner.to_hold.clear();
        inner.handed_out.clear();
        inner.ups += u32::from(up);
        self.changed.notify_waiters();
    }
}

/// `devices` devices d0, d1, … with `points` points p0, p1, …
pub fn names(devices: usize, points: usize) -> Arc<Names> {
    let points = (0..points).map(|n| PointName { id: format!("p{n}"), has_quality: false }).collect();
    let points = Arc::new(PointNames { model: "m".to_owned(), points });
    let devices = (0..devices).map(|n| DeviceNames {
        name: format!("Device {n}"),
        product_key: "pk".to_owned(),
        device_key: format!("d{n}"),
        asset_id: None,
        points: Arc::clone(&points),
    });
    Arc::new(Names::new(devices.collect()))
}

/// One value of each point of some devices at one time.
pub fn batch(names: &Names, devices: &[u32], points: u32, time: i64) -> Batch {
    let mut builder = BatchBuilder::default();
    for device in devices {
        builder.begin(*device, Timestamp(time));
        for point in 0..points {
            builder.push(point, 0, &Value::Float(1.5));
        }
    }
    builder.finish(names.epoch).unwrap()
}
