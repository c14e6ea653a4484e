//! The cloud of the story: it reads messages, answers, disables devices, and is lost.

use super::*;

impl World {
    /// A cloud takes nothing of a message it refuses, and refuses what does not fit its model.
    pub(super) fn answer(&mut self, id: u16, code: Option<i64>) {
        let readings = self.with_cloud.remove(&id).expect("a message the cloud has");
        let Some(mut code) = code else { return };
        let guilty = |r: &Reading| r.1 == 1 && Some(r.2) == self.setup.guilty;
        let puback = self.setup.acknowledge == Acknowledge::Puback;
        if puback {
            code = 200;
        } else if code == 200 && readings.iter().any(guilty) {
            code = 1204;
        }
        if code == 200 {
            self.arrived.extend(readings);
        }
        self.answered.push(id);
        if puback {
            self.publisher.acknowledged(id, self.clock());
        } else {
            self.publisher.answered(id, code, "because", self.clock());
        }
    }

    pub(super) fn shut(&mut self, device: u32, shut: bool) {
        self.publisher.shut("pk", &format!("d{device}"), shut);
        if shut {
            self.shut.insert(device)
        } else {
            self.shut.remove(&device)
        };
    }

    pub(super) fn absent(&mut self, device: u32, absent: bool) {
        let keys = ("pk".to_owned(), format!("d{device}"));
        if absent {
            self.publisher.absent(vec![keys]);
        } else if self.publisher.present(&keys) {
            self.release(&keys);
        }
    }

    pub(super) fn lose(&mut self) {
        self.publisher.lost(self.clock());
        self.forget_link();
    }

    pub(super) fn forget_link(&mut self) {
        self.to_hold.clear();
        self.handed_out.clear();
        self.with_cloud.clear();
        // What waited out the loss lies on disk.
        self.live_from = self.next_seq;
    }
}

/// The readings of a message, as the cloud reads them.
pub(super) fn readings(text: &[u8]) -> Vec<Reading> {
    let message: serde_json::Value = serde_json::from_slice(text).expect("a message is JSON");
    let mut readings = Vec::new();
    for item in message["params"].as_array().unwrap() {
        let device = item["deviceKey"].as_str().unwrap()[1..].parse().unwrap();
        for (point, value) in item["measurepoints"].as_object().unwrap() {
            let seq = value.as_u64().or_else(|| value["value"].as_u64()).unwrap();
            readings.push((seq, device, point[1..].parse().unwrap()));
        }
    }
    readings
}
