//! Two files that somebody else renews: people are told in good time that they are about to expire.

use super::expiry::{Expiry, seconds_left};
use super::renewer::{Clock, blocking};
use super::{Facts, facts_of};
use crate::config::ClientFiles;
use crate::model::{Notice, Notices};
use crate::telemetry::Counters;
use serde_json::{Map, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Files that were renewed are seen so soon, and a mark is told at the second look.
const LOOK: Duration = Duration::from_secs(600);
/// There is no renewal of ours to wait for: every mark within its life is told.
const WHOLE_LIFE: u32 = 100;

/// Who looks after them.
pub struct Owner {
    pub files: ClientFiles,
    pub clock: Arc<dyn Clock>,
    pub notices: Arc<dyn Notices>,
    pub counters: Arc<Counters>,
}

impl Owner {
    /// Looks now and then, until told to stop.
    pub async fn watch(self, mut stopped: watch::Receiver<bool>) {
        let mut expiry = Expiry::default();
        let looking = async {
            loop {
                self.look(&mut expiry).await;
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = looking => {}
            // A sender that is gone says stop as well.
            _ = stopped.wait_for(|stop| *stop) => {}
        }
    }

    async fn look(&self, expiry: &mut Expiry) {
        let path = self.files.certificate.clone();
        let read = move || {
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string())?;
            facts_of(&text)?.into_iter().next().ok_or_else(|| "it holds no certificate".to_owned())
        };
        match blocking(read).await {
            Ok(facts) => self.tell(expiry, &facts),
            // The link tells it when it next needs the file.
            Err(why) => tracing::debug!(file = %self.files.certificate.display(), why, "client certificate not read"),
        }
    }

    fn tell(&self, expiry: &mut Expiry, facts: &Facts) {
        let wall = self.clock.wall();
        self.counters.certificate_seconds_left.set(seconds_left(facts, wall.0));
        let Some(mark) = expiry.look(facts, WHOLE_LIFE, wall.0) else { return };
        let (serial, file) = (&facts.serial, self.files.certificate.display());
        let mut fields = Map::new();
        fields.insert("serialNumber".into(), json!(facts.serial));
        fields.insert("notAfter".into(), json!(facts.not_after));
        let event = if mark == 0 {
            tracing::error!(%serial, %file, "the client certificate has expired; its owner has to put another there");
            "certificateExpired"
        } else {
            tracing::warn!(%serial, %file, days_left = mark, "the client certificate expires; its owner has to renew it");
            fields.insert("daysLeft".into(), json!(mark));
            "certificateExpiring"
        };
        self.notices.tell(Notice { event: event.to_owned(), fields, at: wall, device: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicI64, Ordering};

    #[derive(Default)]
    struct Told(Mutex<Vec<(String, i64)>>);

    impl Notices for Told {
        fn tell(&self, notice: Notice) {
            let days = notice.fields.get("daysLeft").and_then(serde_json::Value::as_i64).unwrap_or(0);
            self.0.lock().unwrap().push((notice.event, days));
        }
    }

    struct Wall(AtomicI64);

    impl Clock for Wall {
        fn wall(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::Relaxed))
        }
    }

    fn certificate(not_after: i32) -> String {
        let mut params = rcgen::CertificateParams::new(vec!["gw".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(not_after, 1, 1);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[tokio::test]
    async fn the_owner_of_two_files_is_told_in_good_time_until_he_has_renewed_them() {
        let home = tempfile::tempdir().unwrap();
        let files = ClientFiles { certificate: home.path().join("c.pem"), key: home.path().join("k.pem") };
        std::fs::write(&files.certificate, certificate(2027)).unwrap();
        let end = 1_798_761_600_000; // 2027-01-01
        let (told, clock) = (Arc::<Told>::default(), Arc::new(Wall(AtomicI64::new(0))));
        let counters = Arc::<Counters>::default();
        let owner = Owner {
            files: files.clone(),
            clock: Arc::clone(&clock) as _,
            notices: Arc::clone(&told) as _,
            counters: Arc::clone(&counters),
        };
        let mut expiry = Expiry::default();
        for days in [40, 29, 13, -1] {
            clock.0.store(end - days * 86_400_000, Ordering::Relaxed);
            owner.look(&mut expiry).await;
            owner.look(&mut expiry).await;
        }
        let expected = [("certificateExpiring", 30), ("certificateExpiring", 14), ("certificateExpired", 0)];
        let got = told.0.lock().unwrap().clone();
        assert_eq!(got.iter().map(|(event, days)| (event.as_str(), *days)).collect::<Vec<_>>(), expected);
        assert_eq!(counters.certificate_seconds_left.get(), 0);
        std::fs::write(&files.certificate, certificate(2030)).unwrap();
        owner.look(&mut expiry).await;
        owner.look(&mut expiry).await;
        assert_eq!(told.0.lock().unwrap().len(), 3, "renewed");
        assert!(counters.certificate_seconds_left.get() > 86_400 * 1000);
    }
}
