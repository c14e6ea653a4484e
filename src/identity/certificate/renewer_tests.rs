//! The life of a certificate against a small authority, in paused time; and the power cut at every write of it.

use super::*;
use crate::identity::Certificates;
use crate::identity::certificate::test_ca::TestCa;
use crate::model::identity::{ClientCertificate, Failed};
use crate::store::power_cut::{AFTERMATHS, CutDisk};
use driver::Answer;
use rcgen::KeyPair;
use std::path::Path;
use std::sync::Mutex;

const START: i64 = 1_800_000_000_000;
const DAY_MS: i64 = 86_400_000;
const LIFE_MS: i64 = 90 * DAY_MS;
const FOLDER: &str = "/state/identity";

/// Wall time that follows the paused clock, and can be set.
struct Wall {
    begun: tokio::time::Instant,
    offset: Mutex<i64>,
}

impl Wall {
    fn new() -> Arc<Wall> {
        Arc::new(Wall { begun: tokio::time::Instant::now(), offset: Mutex::new(START) })
    }

    fn jump(&self, by: i64) {
        *self.offset.lock().unwrap() += by;
    }
}

impl Clock for Wall {
    fn wall(&self) -> Timestamp {
        let passed = self.begun.elapsed().as_millis() as i64;
        Timestamp(*self.offset.lock().unwrap() + passed)
    }
}

/// What the cloud does with the next requests; the last entry stays.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    Down,
    NotAuthorised,
    OtherKey,
    OtherAuthority,
    Garbage,
    NotYet,
    Expired,
    Refused,
}

struct FakeCloud {
    ca: TestCa,
    wall: Arc<Wall>,
    mood: Mutex<Mood>,
    /// `apply` or `renew SERIAL`, and when.
    asked: Mutex<Vec<(String, i64)>>,
}

impl FakeCloud {
    fn answer(&self, action: String, request: &str) -> Result<Issued, RestError> {
        let now = self.wall.wall().0;
        let renewal = action.starts_with("renew");
        let mut asked = self.asked.lock().unwrap();
        asked.push((action, now));
        let serial = Some(asked.len().to_string());
        let good = || self.ca.sign(request, now, now + LIFE_MS);
        let certificate = match *self.mood.lock().unwrap() {
            Mood::Good => good(),
            Mood::Down => return Err(RestError::Unreachable { host: "h".into(), reason: "refused".into() }),
            Mood::NotAuthorised => return Err(RestError::NotAuthorised { code: 403, message: "no".into() }),
            Mood::Refused if renewal => return Err(RestError::Refused { code: 99400, message: "not bound".into() }),
            Mood::Refused => good(),
            Mood::OtherKey => self.ca.issue(
                &KeyPair::generate().unwrap(),
                now,
                now + LIFE_MS,
                rcgen::ExtendedKeyUsagePurpose::ClientAuth,
            ),
            Mood::OtherAuthority => TestCa::new("other").sign(request, now, now + LIFE_MS),
            Mood::Garbage => "-----BEGIN CERTIFICATE-----\n%%%".to_owned(),
            Mood::NotYet => self.ca.sign(request, now + DAY_MS, now + LIFE_MS),
            Mood::Expired => self.ca.sign(request, now - 2 * DAY_MS, now - DAY_MS),
        };
        Ok(Issued { certificate, authority: Some(self.ca.pem.clone()), serial })
    }

    fn actions(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(action, _)| action.clone()).collect()
    }
}

impl Authority for FakeCloud {
    fn apply<'a>(&'a self, request: &'a str) -> Answer<'a, Result<Issued, RestError>> {
        Box::pin(async move { self.answer("apply".to_owned(), request) })
    }

    fn renew<'a>(&'a self, serial: &'a str, request: &'a str) -> Answer<'a, Result<Issued, RestError>> {
        Box::pin(async move { self.answer(format!("renew {serial}"), request) })
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<Notice>>);

impl Notices for Told {
    fn tell(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }
}

struct Story {
    wall: Arc<Wall>,
    cloud: Arc<FakeCloud>,
    slots: Arc<Slots>,
    told: Arc<Told>,
    handle: Handle,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
    ca_file: tempfile::NamedTempFile,
}

fn slots(disk: Arc<CutDisk>) -> Arc<Slots> {
    Arc::new(Slots::open(disk, Path::new(FOLDER), "pk", "dk"))
}

impl Story {
    fn begin(disk: Arc<CutDisk>) -> Story {
        let wall = Wall::new();
        let ca = TestCa::new("root");
        let cloud =
            Arc::new(FakeCloud { ca, wall: Arc::clone(&wall), mood: Mutex::new(Mood::Good), asked: Mutex::default() });
        Story::with(disk, wall, cloud)
    }

    /// The same cloud and clock after a restart of the gateway.
    fn again(&self, disk: CutDisk) -> Story {
        Story::with(Arc::new(disk), Arc::clone(&self.wall), Arc::clone(&self.cloud))
    }

    fn with(disk: Arc<CutDisk>, wall: Arc<Wall>, cloud: Arc<FakeCloud>) -> Story {
        let ca_file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca_file.path(), &cloud.ca.pem).unwrap();
        let (slots, told, counters) = (slots(disk), Arc::<Told>::default(), Arc::<Counters>::default());
        let renewer = Renewer {
            config: CertificateConfig { ca_file: Some(ca_file.path().to_owned()), ..CertificateConfig::default() },
            names: IdentityNames { product_key: "pk".into(), device_key: "dk".into() },
            slots: Arc::clone(&slots),
            authority: Arc::clone(&cloud) as _,
            clock: Arc::clone(&wall) as _,
            notices: Arc::clone(&told) as _,
            counters: Arc::clone(&counters),
        };
        let (stop, stopped) = watch::channel(false);
        let (handle, task) = renewer.start(stopped);
        tokio::spawn(task);
        Story { wall, cloud, slots, told, handle, counters, stop, ca_file }
    }

    fn mood(&self, mood: Mood) {
        *self.cloud.mood.lock().unwrap() = mood;
    }

    async fn pass(&self, days: u64, minutes: u64) {
        // In steps, so that timers of the task come due in their order.
        for _ in 0..days * 24 {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        tokio::time::sleep(Duration::from_secs(minutes * 60)).await;
    }

    async fn offered(&self) -> Result<ClientCertificate, String> {
        self.slots.current().await
    }

    /// Connects with what is offered.
    async fn connect(&self) -> u32 {
        let offered = self.offered().await.unwrap();
        rustls_takes(&offered);
        self.slots.tried(offered.slot, Ok(()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        offered.slot
    }

    fn role(&self, role: &str) -> Option<Json> {
        self.slots.status()["slots"].as_array().unwrap().iter().find(|slot| slot["role"] == role).cloned()
    }
}

/// Chain and key are one pair, in a form that TLS takes.
fn rustls_takes(pair: &ClientCertificate) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pair.chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.reveal().as_bytes()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let key = provider.key_provider.load_private_key(key).unwrap();
    rustls::sign::CertifiedKey::new(chain, key).keys_match().unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_is_applied_for_tried_renewed_and_applied_for_anew_after_its_end() {
    let story = Story::begin(Arc::default());
    assert!(story.offered().await.unwrap_err().contains("no client certificate yet"));
    story.pass(0, 1).await;
    assert_eq!(story.cloud.actions(), ["apply"]);
    let first = story.connect().await;
    assert_eq!(story.role("current").unwrap()["slot"], first);

    story.pass(59, 0).await;
    assert_eq!(story.cloud.actions().len(), 1);
    story.pass(2, 0).await;
    assert_eq!(story.cloud.actions(), ["apply", "renew 1"]);
    assert_eq!(story.role("current").unwrap()["slot"], first, "the old one stays until the new one has worked");
    let second = story.connect().await;
    assert_ne!(first, second);
    assert_eq!(
        (story.role("current").unwrap()["slot"].clone(), story.role("before").unwrap()["slot"].clone()),
        (json!(second), json!(first))
    );

    story.mood(Mood::Down);
    story.pass(91, 0).await;
    let events: Vec<String> = story.told.0.lock().unwrap().iter().map(|notice| notice.event.clone()).collect();
    assert!(
        events.contains(&"certificateExpiring".to_owned()) && events.contains(&"certificateExpired".to_owned()),
        "{events:?}"
    );
    assert_eq!(story.counters.certificate_seconds_left.get(), 0);
    assert_eq!(story.offered().await.unwrap().slot, second, "nothing better is there");
    story.mood(Mood::Good);
    story.pass(1, 0).await;
    assert_eq!(story.cloud.actions().last().unwrap(), "apply");
    let third = story.connect().await;
    assert!(third != second && story.counters.certificate_seconds_left.get() > 0);
    story.stop.send(true).unwrap();
}

#[tokio::test(start_paused = true)]
async fn wrong_answers_never_replace_a_working_pair_and_are_told_in_words() {
    for (mood, words) in [
        (Mood::OtherKey, "another key"),
        (Mood::OtherAuthority, "does not lead to the authority"),
        (Mood::Garbage, "whole PEM"),
        (Mood::NotYet, "does not count yet"),
        (Mood::Expired, "expired already"),
        (Mood::Down, "can not be reached"),
        (Mood::NotAuthorised, "not authorised"),
    ] {
        let story = Story::begin(Arc::default());
        story.pass(0, 1).await;
        let first = story.connect().await;
        story.mood(mood);
        story.pass(62, 0).await;
        let error = story.slots.status()["last_error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains(words), "{words}: {error}");
        assert_eq!(story.connect().await, first);
        let asked = story.cloud.asked.lock().unwrap().clone();
        let late: Vec<i64> = asked.iter().skip(1).map(|(_, at)| *at).collect();
        assert!(late.windows(2).all(|pair| pair[1] - pair[0] >= 3_600_000), "an hour lies between: {late:?}");
        // It recovers by itself.
        story.mood(Mood::Good);
        story.pass(2, 0).await;
        assert_ne!(story.connect().await, first);
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_the_cloud_refuses_becomes_an_application() {
    let story = Story::begin(Arc::default());
    story.pass(0, 1).await;
    story.connect().await;
    story.mood(Mood::Refused);
    story.pass(61, 0).await;
    assert_eq!(story.cloud.actions()[..3], ["apply", "renew 1", "apply"]);
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_is_refused_is_set_aside_and_another_is_asked_for_after_a_while() {
    let story = Story::begin(Arc::default());
    story.pass(0, 1).await;
    let first = story.connect().await;
    story.pass(61, 0).await;
    let candidate = story.offered().await.unwrap().slot;
    assert_ne!(candidate, first);
    let refused = Failed { certificate_to_blame: true, suspect: false, reason: "unknown ca".into() };
    story.slots.tried(candidate, Err(refused));
    assert_eq!(story.connect().await, first);
    assert_eq!(story.role("set_aside").unwrap()["reason"], "unknown ca");
    let before = story.cloud.actions().len();
    story.pass(0, 50).await;
    assert_eq!(story.cloud.actions().len(), before, "not within the hour");
    story.pass(1, 0).await;
    assert_eq!(story.cloud.actions().len(), before + 1);
    assert!(![first, candidate].contains(&story.connect().await));
}

#[tokio::test(start_paused = true)]
async fn a_daemon_killed_while_it_asks_does_not_ask_at_once_again() {
    let disk = Arc::new(CutDisk::default());
    let story = Story::begin(Arc::clone(&disk));
    story.mood(Mood::Down);
    story.pass(0, 10).await;
    let asked = story.cloud.actions().len();
    assert!((3..=5).contains(&asked), "60 s, doubling: {:?}", story.cloud.actions());
    story.stop.send(true).unwrap();
    // Time since boot is real here and stands still: each start finds the whole wait before it.
    let mut disk = disk;
    for _ in 0..20 {
        let next = story.again(disk.after(AFTERMATHS[0]));
        next.pass(0, 2).await;
        assert_eq!(next.cloud.actions().len(), asked, "the failures before the restart count");
        next.stop.send(true).unwrap();
        disk = Arc::new(disk.after(AFTERMATHS[0]));
    }
    let last = story.again(disk.after(AFTERMATHS[0]));
    last.mood(Mood::Good);
    last.pass(1, 0).await;
    last.connect().await;
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_peers_hang_up_on_is_replaced_after_a_day() {
    let story = Story::begin(Arc::default());
    story.pass(0, 1).await;
    let first = story.connect().await;
    let hung_up = || Failed { certificate_to_blame: false, suspect: true, reason: "connection reset".into() };
    story.slots.tried(first, Err(hung_up()));
    story.pass(0, 23 * 60).await;
    assert_eq!(story.cloud.actions().len(), 1);
    story.pass(0, 80).await;
    assert_eq!(story.cloud.actions(), ["apply", "apply"], "no word of blame, and none to renew with");
    let second = story.offered().await.unwrap().slot;
    assert_ne!(first, second);
    // Nobody takes that one either: twice as long, and the first is still offered between.
    story.slots.tried(second, Err(hung_up()));
    story.pass(1, 12 * 60).await;
    assert_eq!(story.cloud.actions().len(), 2);
    story.pass(1, 0).await;
    assert_eq!(story.cloud.actions().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn clocks_that_jump_make_no_storm() {
    let story = Story::begin(Arc::default());
    story.pass(0, 1).await;
    let first = story.connect().await;
    story.wall.jump(3652 * DAY_MS);
    story.mood(Mood::Expired);
    story.pass(2, 0).await;
    let asked = story.cloud.actions().len();
    assert!(asked <= 1 + 10, "{asked}");
    story.wall.jump(-3652 * DAY_MS - START);
    story.pass(2, 0).await;
    assert_eq!(story.cloud.actions().len(), asked, "a clock that is not set asks for nothing");
    assert_eq!(story.connect().await, first);
}

#[tokio::test(start_paused = true)]
async fn asked_by_hand_it_comes_at_once_and_the_reason_when_it_does_not() {
    let story = Story::begin(Arc::default());
    story.pass(0, 1).await;
    story.connect().await;
    let asked = story.handle.renew().await.unwrap();
    assert_eq!(asked.how, How::Renew);
    story.connect().await;
    story.mood(Mood::NotAuthorised);
    assert!(story.handle.renew().await.unwrap_err().contains("not authorised"));
    assert!(story.ca_file.path().exists());
}

#[tokio::test(start_paused = true)]
async fn the_link_is_told_when_there_is_something_better() {
    let story = Story::begin(Arc::default());
    story.pass(0, 1).await;
    story.connect().await;
    let slots = Arc::clone(&story.slots);
    let better = tokio::spawn(async move { slots.better().await });
    story.pass(59, 0).await;
    assert!(!better.is_finished());
    story.pass(2, 0).await;
    assert!(better.is_finished());
}

/// The first certificate, and its renewal, with the power cut instead of step `n`; then a start on what is left.
async fn cut_life(n: usize, aftermath: usize, renewal: bool) -> bool {
    let disk = Arc::new(CutDisk::default());
    let story = Story::begin(Arc::clone(&disk));
    let mut first = None;
    if renewal {
        story.pass(0, 1).await;
        first = Some(story.connect().await);
    }
    disk.cut_at(n);
    if renewal {
        // What comes of it is what the disk says afterwards.
        let _ = story.handle.renew().await;
    }
    story.pass(0, 2).await;
    if story.offered().await.is_ok() {
        story.connect().await;
    }
    let finished = disk.steps() < n;
    story.stop.send(true).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;

    let next = story.again(disk.after(AFTERMATHS[aftermath]));
    if first.is_some() {
        rustls_takes(&next.offered().await.expect("a working identity at once"));
    }
    // It goes on from there: soon a pair works.
    next.pass(0, 10).await;
    next.connect().await;
    let current = next.role("current").unwrap();
    assert!(current["not_after"].as_i64().unwrap() > next.wall.wall().0 + LIFE_MS / 2, "{n} {aftermath}: {current}");
    if let Some(first) = first {
        assert!(current["slot"].as_u64().unwrap() >= u64::from(first), "{n} {aftermath}");
    }
    finished
}

#[tokio::test(start_paused = true)]
async fn power_cut_at_every_write_always_ends_with_a_working_identity() {
    let mut rounds = 0;
    for renewal in [false, true] {
        let before = rounds;
        for n in 0.. {
            let mut finished = true;
            for aftermath in 0..AFTERMATHS.len() {
                finished &= cut_life(n, aftermath, renewal).await;
                rounds += 1;
            }
            if finished {
                break;
            }
            assert!(n < 60, "the life of a certificate has an end of writes");
        }
        println!("{} cuts, renewal: {renewal}", rounds - before);
    }
    assert!(rounds >= 2 * 10 * AFTERMATHS.len(), "{rounds} rounds are too few to have cut every write");
}
