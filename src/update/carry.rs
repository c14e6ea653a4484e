//! Does what a job's state says has to be done next, and answers what came of it. Everything here may be done again after
//! a power cut, and may be dropped in the middle.

use super::file::{self, Opened};
use super::job::{Event, Job, Origin, State};
use super::manifest::{Kind, Manifest};
use super::md5::Md5;
use super::runner::Ports;
use super::source::{self, Way};
use super::window;
use super::zone::Zone;
use super::{Failure, Stage, Staged, Standing, Target, Tell, broker, conditions};
use crate::config::SourceConfig;
use crate::fetch::journal::{Step, Trouble};
use crate::fetch::{Download, Downloaded};
use crate::model::Timestamp;
use crate::model::progress::Progress;
use crate::model::update::{Method, Offer};
use semver::Version;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// How words about a download that failed begin.
pub const DOWNLOAD: &str = "download: ";
/// Attempts in a row that brought not a byte.
const FRUITLESS: u32 = 12;
/// After the first of them; doubled after each further one, up to the longest.
const BACK_OFF: Duration = Duration::from_secs(2);
const BACK_OFF_MOST: Duration = Duration::from_secs(300);
/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often the window and the conditions are asked while an update waits.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How often a target is asked how an update stands.
const STANDING: Duration = Duration::from_secs(2);
/// Beyond its trial, a target that never says how it stands is told to take the update back.
const TRIAL_MARGIN: Duration = Duration::from_secs(600);
/// 1 January 2024: a clock that shows less has not been set since the gateway was switched on.
const CLOCK_SET: i64 = 1_704_067_200;
/// Where zones of the machine lie.
const ZONES: &str = "/usr/share/zoneinfo";
const LOCAL_ZONE: &str = "/etc/localtime";

/// Progress within a state: per cent of the whole job, and words.
pub type Told = watch::Sender<(u8, String)>;

/// Spreads a step's per cent over the job's.
struct Teller {
    told: Told,
    span: (u8, u8),
}

impl Tell for Teller {
    fn tell(&self, percent: u8, words: &str) {
        let (from, to) = self.span;
        let share = u16::from(to.saturating_sub(from)) * u16::from(percent.min(100)) / 100;
        let percent = from + u8::try_from(share).unwrap_or(0);
        self.told.send_replace((percent, words.chars().take(200).collect()));
    }
}

/// One step. Ends by itself, or when it is dropped.
pub async fn perform(ports: Arc<Ports>, job: Job, told: Told) -> Event {
    let teller = Teller { told, span: job.state.span() };
    let done = match &job.state {
        State::Offered => room(&ports, &job),
        State::Downloading => fetch(&ports, &job, &teller).await,
        State::Downloaded => prove(&ports, &job, &teller).await,
        State::Verified => fits(&ports, &job).await,
        State::Waiting { why } => wait(&ports, &job, why).await,
        State::Preparing | State::Installing | State::Activating => change(&ports, &job, &teller).await,
        State::OnTrial { why } => stand(&ports, &job, why).await,
        State::Confirming => confirm(&ports, &job).await,
        State::RollingBack { why, .. } => back(&ports, &job, why).await,
        State::Done | State::Failed { .. } | State::RolledBack { .. } | State::Refused { .. } => {
            std::future::pending().await
        }
    };
    done.unwrap_or_else(Event::Failed)
}

fn free(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Room for the file, before its first byte.
fn room(ports: &Ports, job: &Job) -> Result<Event, Failure> {
    let work = ports.shelf.work();
    crate::store::Disk::make_folder(&crate::store::RealDisk, &work)
        .map_err(|error| Failure::new(Stage::Writing, format!("make {}: {error}", work.display())))?;
    let size = match &job.origin {
        Origin::Cloud(offer) => offer.size,
        Origin::File(path) => {
            std::fs::metadata(path).map_err(|error| Failure::new(Stage::Other, format!("open {path}: {error}")))?.len()
        }
    };
    let most = ports.config.max_bytes;
    if size > most {
        return Err(Failure::new(Stage::Refused, format!("the file has {size} bytes, update.max_mb allows {most}")));
    }
    let held = std::fs::metadata(part(ports, job)).map_or(0, |found| found.len());
    // The archive, and its payload twice for a moment: unpacked, and on its way to where the target takes it.
    let need = 3 * size.saturating_sub(held) + ports.config.reserve_bytes;
    match free(&work) {
        Some(free) if free < need => Err(Failure::new(
            Stage::Refused,
            format!(
                "{need} bytes of disk are needed with the reserve, {free} are free; delete something, or lower disk_reserve_mb"
            ),
        )),
        _ => Ok(Event::Room),
    }
}

fn part(ports: &Ports, job: &Job) -> PathBuf {
    ports.shelf.work().join(format!("{}.part", job.id))
}

async fn fetch(ports: &Ports, job: &Job, teller: &Teller) -> Result<Event, Failure> {
    let offer = match &job.origin {
        Origin::Cloud(offer) => offer,
        Origin::File(path) => return copy(path.into(), part(ports, job), ports.config.max_bytes, teller).await,
    };
    let began = Instant::now();
    let (mut fruitless, mut anew) = (0, false);
    loop {
        let source = match address(ports, job, offer).await {
            Ok(source) => source,
            Err(failure) => {
                fruitless = pause(fruitless, 0, &failure.words, began, ports, teller).await?;
                continue;
            }
        };
        let folder = ports.shelf.work();
        let progress = Progress::seen();
        let download = Download { source: &source, folder: &folder, progress: &progress };
        let held = download.held();
        // All of it may be here, and only the word of it was lost.
        let whole = held == offer.size;
        let file = Downloaded { path: part(ports, job), bytes: held, unsure: true };
        let attempt = if whole { Ok(file) } else { watched(&download, &progress, offer.size, teller).await };
        match attempt {
            Ok(file) => match digest(file.path, offer.clone()).await? {
                None => return Ok(Event::Fetched),
                // Parts of two files, perhaps: once more, from its beginning.
                Some(_) if (file.unsure || held > 0) && !anew => {
                    anew = true;
                    download.forget().map_err(|trouble| told(&trouble))?;
                }
                Some(wrong) => return Err(Failure::new(Stage::Verification, wrong)),
            },
            Err(trouble) if trouble.step == Step::Setup => return Err(told(&trouble)),
            Err(trouble) => {
                let came = download.held().saturating_sub(held);
                fruitless = pause(fruitless, came, &trouble.to_string(), began, ports, teller).await?;
            }
        }
    }
}

fn told(trouble: &Trouble) -> Failure {
    Failure::new(Stage::Download, format!("{DOWNLOAD}{trouble}"))
}

/// Waits before the next attempt, or gives up.
async fn pause(
    fruitless: u32,
    came: u64,
    why: &str,
    began: Instant,
    ports: &Ports,
    teller: &Teller,
) -> Result<u32, Failure> {
    let fruitless = if came > 0 { 0 } else { fruitless + 1 };
    if fruitless >= FRUITLESS || began.elapsed() >= ports.config.deadline {
        return Err(Failure::new(Stage::Download, format!("{DOWNLOAD}{why}")));
    }
    let wait = BACK_OFF.saturating_mul(1 << fruitless.min(10)).min(BACK_OFF_MOST).mul_f32(0.75 + 0.5 * fastrand::f32());
    tracing::info!(why, ?wait, "the update file is not whole; the next attempt goes on after the wait");
    let words: String = format!("download goes on in {} s: {why}", wait.as_secs()).chars().take(200).collect();
    teller.told.send_modify(|told| told.1 = words);
    sleep(wait).await;
    Ok(fruitless)
}

async fn address(ports: &Ports, job: &Job, offer: &Offer) -> Result<SourceConfig, Failure> {
    let refused = |why: String| Failure::new(Stage::Refused, why);
    let (address, own) = match source::way(offer, &ports.config).map_err(refused)? {
        Way::Web(address) => (address, false),
        Way::Broker { base, uri } => {
            let identity = ports.identity.as_ref().ok_or_else(|| refused("no cloud is configured".to_owned()))?;
            let (product_key, device_key) =
                ports.gateway.as_ref().ok_or_else(|| refused("no cloud is configured".to_owned()))?;
            let session = broker::login(&base, (product_key, device_key), &**identity, &ports.config).await?;
            (source::at_broker(&base, offer, &uri, &session).map_err(refused)?, true)
        }
    };
    Ok(source::config(&job.id, address, own, offer.size, &ports.config))
}

async fn watched(
    download: &Download<'_>,
    progress: &Progress,
    size: u64,
    teller: &Teller,
) -> Result<Downloaded, Trouble> {
    let mut attempt = std::pin::pin!(download.attempt());
    loop {
        tokio::select! {
            done = &mut attempt => return done,
            () = sleep(LOOK) => {
                let done = progress.look().done;
                let percent = u8::try_from(done.saturating_mul(100) / size.max(1)).unwrap_or(100);
                teller.tell(percent, &format!("downloading, {done} of {size} bytes"));
            }
        }
    }
}

/// What is wrong with the file as the cloud describes it.
async fn digest(path: PathBuf, offer: Offer) -> Result<Option<String>, Failure> {
    let read = blocking(move || {
        let (found, length) = digest_of(&path, offer.method)?;
        Ok(if length != offer.size {
            Some(format!("the file has {length} bytes, the cloud says {}", offer.size))
        } else if found != offer.sign {
            Some(format!("the file's digest is {found}, the cloud says {}", offer.sign))
        } else {
            None
        })
    });
    read.await.map_err(|error| Failure::new(Stage::Other, format!("read the file: {error}")))
}

fn digest_of(path: &Path, method: Method) -> io::Result<(String, u64)> {
    if method == Method::Sha256 {
        let length = std::fs::metadata(path)?.len();
        return Ok((crate::store::Disk::digest(&crate::store::RealDisk, path)?, length));
    }
    let (mut file, mut md5, mut length) = (std::fs::File::open(path)?, Md5::default(), 0);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((md5.finish(), length)),
            got => {
                md5.update(&buffer[..got]);
                length += got as u64;
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A file that a person named: it may lie on a stick that is gone tomorrow.
async fn copy(from: PathBuf, to: PathBuf, most: u64, teller: &Teller) -> Result<Event, Failure> {
    let told = teller.told.clone();
    let span = teller.span;
    let copied = blocking(move || {
        let teller = Teller { told, span };
        let mut source = std::fs::File::open(&from)?;
        let size = source.metadata()?.len();
        let mut target = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
        let (mut buffer, mut done) = (vec![0; 256 << 10], 0);
        loop {
            let got = source.read(&mut buffer)?;
            if got == 0 {
                break target.sync_all();
            }
            done += got as u64;
            if done > most {
                return Err(io::Error::other("it is larger than update.max_mb allows"));
            }
            target.write_all(&buffer[..got])?;
            teller.tell(u8::try_from(done.saturating_mul(100) / size.max(1)).unwrap_or(100), "copying");
        }
    });
    copied
        .await
        .map(|()| Event::Fetched)
        .map_err(|error| Failure::new(Stage::Download, format!("copy the file: {error}")))
}

async fn prove(ports: &Arc<Ports>, job: &Job, teller: &Teller) -> Result<Event, Failure> {
    let keys = ports.keys.clone().map_err(|why| Failure::new(Stage::Refused, why))?;
    let work = ports.shelf.work();
    // Unpacked, and then written where the target takes it.
    let room = free(&work).map_or(u64::MAX, |free| free.saturating_sub(ports.config.reserve_bytes) / 2);
    let limits = file::limits(ports.config.max_bytes.min(room), Some(work.clone()));
    let (archive, id) = (part(ports, job), job.id.clone());
    let limits_told = limits.file_bytes < ports.config.max_bytes;
    let (told, span) = (teller.told.clone(), teller.span);
    let proving = tokio::task::spawn_blocking(move || {
        let teller = Teller { told, span };
        teller.tell(5, "verifying");
        let verified = Opened::open(&archive, &limits)?.verify(&keys)?;
        teller.tell(50, "unpacking");
        let size = verified.manifest.payload_bytes.max(1);
        verified.extract(&work.join(format!("{id}.payload")), |done| {
            teller.tell(50 + u8::try_from(done * 50 / size).unwrap_or(50), "unpacking");
        })?;
        verified.keep_proof(&work.join(format!("{id}.proof")))?;
        let text = verified.manifest.text(&verified.name);
        Ok(Event::Proven { name: verified.name.clone(), manifest: text })
    });
    let broke = |_| Failure::new(Stage::Other, "the verification broke");
    proving.await.map_err(broke)?.map_err(|mut failure: Failure| {
        if limits_told && failure.words.contains("larger than") {
            failure = Failure::new(Stage::Refused, format!("{}; there is no more room on the disk", failure.words));
        }
        failure
    })
}

/// What the target is given.
fn staged(ports: &Ports, job: &Job) -> Result<Staged, Failure> {
    let text = job.manifest.as_deref().unwrap_or_default();
    let (_, manifest) =
        Manifest::parse(text).map_err(|_| Failure::new(Stage::Other, "the job has lost its manifest"))?;
    let work = ports.shelf.work();
    Ok(Staged {
        id: job.id.clone(),
        manifest,
        payload: work.join(format!("{}.payload", job.id)),
        proof: work.join(format!("{}.proof", job.id)),
    })
}

fn target(ports: &Ports, job: &Job) -> Result<(Staged, Arc<dyn Target>), Failure> {
    let staged = staged(ports, job)?;
    let target = ports.around.target(&staged.manifest.kind)?;
    Ok((staged, target))
}

/// Whether this update is for this gateway, this device, and what runs.
async fn fits(ports: &Ports, job: &Job) -> Result<Event, Failure> {
    // Best effort: it is tidied up at the latest when the job ends.
    let _ = std::fs::remove_file(part(ports, job));
    let refused = |why: String| Failure::new(Stage::Refused, why);
    let (staged, target) = target(ports, job)?;
    let manifest = &staged.manifest;
    if let Kind::Engine { architecture } = &manifest.kind
        && architecture != super::manifest::architecture()
    {
        return Err(refused(format!(
            "it is an engine for {architecture}, and this gateway is {}",
            super::manifest::architecture()
        )));
    }
    if let Some(offer) = job.offer() {
        for_whom(ports, offer, manifest).map_err(refused)?;
        if offer.version != manifest.version.to_string() {
            let words = format!("the cloud offers version {}, and the file holds {}", offer.version, manifest.version);
            return Err(Failure::new(Stage::Verification, words));
        }
    }
    let running = target.running().await;
    let known = running.as_deref().and_then(|running| Version::parse(running).ok());
    if let Some(known) = &known {
        if *known == manifest.version {
            let half_done =
                ports.shelf.is_half_done(manifest).map_err(|error| Failure::new(Stage::Other, error.to_string()))?;
            if half_done {
                let words = format!(
                    "version {known} runs, but its update ended half done and nobody confirmed it; look at `enos-edge update history`, and install another version"
                );
                return Err(Failure::new(Stage::Other, words));
            }
            return Ok(Event::Runs);
        }
        manifest.may_replace(known, ports.config.allow_downgrade).map_err(refused)?;
    }
    Ok(Event::Fits { running })
}

fn for_whom(ports: &Ports, offer: &Offer, manifest: &Manifest) -> Result<(), String> {
    let gateway = ports.gateway.as_ref().is_some_and(|(p, d)| (p, d) == (&offer.product_key, &offer.device_key));
    match (&manifest.kind, gateway) {
        (Kind::Engine { .. }, false) => {
            Err("it is an engine of the gateway, and was offered to a sub-device".to_owned())
        }
        (Kind::Firmware { device: Some(device), .. }, true) => {
            Err(format!("it is firmware of device {device}: offer it to that device"))
        }
        (Kind::Firmware { device: Some(device), .. }, false) => {
            let name = ports.around.device(&offer.product_key, &offer.device_key);
            if name.as_ref() == Some(device) || *device == offer.device_key {
                return Ok(());
            }
            Err(format!("it is firmware of device {device}, and was offered to {}", name.unwrap_or_default()))
        }
        _ => Ok(()),
    }
}

/// The zone of the windows; UTC when none can be read, which is told.
pub(super) fn zone(name: Option<&str>) -> Zone {
    let path = name.map_or_else(|| PathBuf::from(LOCAL_ZONE), |name| Path::new(ZONES).join(name));
    let read = std::fs::read(&path).map_err(|error| error.to_string()).and_then(|bytes| Zone::parse(&bytes));
    read.unwrap_or_else(|error| {
        if name.is_some() {
            tracing::warn!(zone = %path.display(), error, "the time zone can not be read; maintenance windows are in UTC");
        }
        Zone::utc()
    })
}

/// Why an update may not run now.
fn closed(ports: &Ports, now: i64) -> Option<String> {
    if ports.config.windows.is_empty() {
        return None;
    }
    if now < CLOCK_SET {
        return Some("the gateway's clock is not set, so nobody knows whether the window is open".to_owned());
    }
    let zone = zone(ports.config.timezone.as_deref());
    let opens = window::closed_until(&ports.config.windows, &zone, now)?;
    Some(format!("the maintenance window opens {}", window::wall_clock(&zone, opens)))
}

async fn wait(ports: &Ports, job: &Job, said: &str) -> Result<Event, Failure> {
    if job.now {
        return Ok(Event::MayRun);
    }
    let staged = staged(ports, job)?;
    loop {
        let now = Timestamp::now().0;
        let why = match closed(ports, now / 1000) {
            Some(why) => why,
            None => {
                let patience = ports.config.condition_timeout;
                match conditions::ask(&ports.config.conditions, patience, &job.id, &staged.manifest).await {
                    conditions::Answer::Yes => return Ok(Event::MayRun),
                    conditions::Answer::No(why) => return Err(Failure::new(Stage::Refused, why)),
                    conditions::Answer::NotNow(why) => why,
                }
            }
        };
        // A clock that jumps back counts from anew.
        if now.saturating_sub(job.begun) > i64::try_from(ports.config.wait.as_millis()).unwrap_or(i64::MAX) {
            return Err(Failure::new(Stage::Refused, format!("it waited longer than update.wait_h for: {why}")));
        }
        if why != said {
            return Ok(Event::NotNow(why));
        }
        sleep(ASK_AGAIN).await;
    }
}

async fn change(ports: &Ports, job: &Job, teller: &Teller) -> Result<Event, Failure> {
    let (staged, target) = target(ports, job)?;
    match &job.state {
        State::Preparing => target.prepare(&staged, teller).await.map(|()| Event::Prepared),
        State::Installing => target.install(&staged, teller).await.map(|()| Event::Installed),
        _ => target.activate(&staged).await.map(Event::Activated),
    }
}

async fn stand(ports: &Ports, job: &Job, said: &str) -> Result<Event, Failure> {
    let (staged, target) = target(ports, job)?;
    let until = Instant::now() + ports.config.trial * 2 + TRIAL_MARGIN;
    loop {
        match target.standing(&staged).await? {
            Standing::Proven => return Ok(Event::Works),
            Standing::RolledBack(why) => return Ok(Event::TakenBack(why)),
            Standing::OnTrial(why) if why != said => return Ok(Event::StillOnTrial(why)),
            Standing::OnTrial(why) if Instant::now() >= until => {
                return Ok(Event::TakeBack(format!("it did not show in time that it works: {why}")));
            }
            Standing::OnTrial(_) => sleep_until((Instant::now() + STANDING).min(until)).await,
        }
    }
}

async fn confirm(ports: &Ports, job: &Job) -> Result<Event, Failure> {
    let (staged, target) = target(ports, job)?;
    target.confirm(&staged).await.map(|()| Event::Confirmed)
}

async fn back(ports: &Ports, job: &Job, why: &str) -> Result<Event, Failure> {
    let (staged, target) = target(ports, job)?;
    target.roll_back(&staged, why).await.map(Event::Back)
}
