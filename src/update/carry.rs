//! Does what a job's state says has to be done next, and answers what came of it. Everything here may be done again after
//! a power cut, and may be dropped in the middle.

use super::device::DeviceFirmware;
use super::file::{self, Opened};
use super::job::{Event, Job, State};
use super::manifest::{self, Kind, Manifest};
use super::runner::Ports;
use super::shelf::Shelf;
use super::window;
use super::zone::Zone;
use super::{Failure, Stage, Staged, Standing, Target, Tell, bring, conditions, source};
use crate::config::{UTC, UpdateConfig, ZONES};
use crate::model::Timestamp;
use crate::model::clock::is_set;
use crate::model::update::Offer;
use crate::store::{Disk as _, RealDisk};
use semver::Version;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// How often the window and the conditions are asked while an update waits.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How often a target is asked how an update stands.
const STANDING: Duration = Duration::from_secs(2);
/// Beyond its trial, a target that never says how it stands is told to take the update back.
const TRIAL_MARGIN: Duration = Duration::from_secs(600);
const LOCAL_ZONE: &str = "/etc/localtime";

/// Progress within a state: per cent of the whole job, and words.
pub type Told = watch::Sender<(u8, String)>;

/// Spreads a step's per cent over the job's.
pub(super) struct Teller {
    pub(super) told: Told,
    pub(super) span: (u8, u8),
}

impl Teller {
    /// The job was given up while a thread still works for it. Of one that goes on the files are somebody's.
    pub(super) fn was_given_up(&self, shelf: &Shelf, id: &str) -> bool {
        let goes_on = || matches!(shelf.look(), Ok(Some(job)) if job.id == id && !job.state.is_end());
        self.told.is_closed() && !goes_on()
    }
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
        State::Offered => bring::room(&ports, &job),
        State::Downloading => bring::fetch(&ports, &job, &teller).await,
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

pub(super) fn free(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

pub(super) fn part(ports: &Ports, job: &Job) -> PathBuf {
    ports.shelf.work().join(format!("{}.part", job.id))
}

async fn prove(ports: &Arc<Ports>, job: &Job, teller: &Teller) -> Result<Event, Failure> {
    let keys = ports.keys.clone().map_err(|why| Failure::new(Stage::Refused, why))?;
    let work = ports.shelf.work();
    // Unpacked, and then written where the target takes it.
    let room = free(&work).map_or(u64::MAX, |free| free.saturating_sub(ports.config.reserve_bytes) / 2);
    let limits = file::limits(ports.config.max_bytes.min(room), Some(work.clone()));
    let (archive, shown, id) = (part(ports, job), source::shown(&job.origin), job.id.clone());
    let shelf = ports.shelf.clone();
    let limits_told = limits.file_bytes < ports.config.max_bytes;
    let (told, span) = (teller.told.clone(), teller.span);
    let proving = tokio::task::spawn_blocking(move || {
        let teller = Teller { told, span };
        teller.tell(5, "verifying");
        let verified = Opened::open_as(&archive, &shown, &limits)?.verify(&keys)?;
        teller.tell(50, "unpacking");
        let size = verified.manifest.payload_bytes.max(1);
        verified.extract(&work.join(format!("{id}.payload")), |done| {
            teller.tell(50 + u8::try_from(done * 50 / size).unwrap_or(50), "unpacking");
        })?;
        verified.keep_proof(&work.join(format!("{id}.proof")))?;
        if teller.was_given_up(&shelf, &id) {
            forget(&work, &id);
        }
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

/// What was unpacked for a job that was given up meanwhile, and so tidied up before. Best effort, as that is.
fn forget(work: &Path, id: &str) {
    let _ = std::fs::remove_file(work.join(format!("{id}.payload")));
    let _ = std::fs::remove_dir_all(work.join(format!("{id}.proof")));
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
    let target = match &staged.manifest.kind {
        Kind::Device { template, device } => device_target(ports, job, template, device.as_deref())?,
        kind => ports.around.target(kind)?,
    };
    Ok((staged, target))
}

/// The sub-device that the offer, the person or the file names.
fn device_target(ports: &Ports, job: &Job, template: &str, named: Option<&str>) -> Result<Arc<dyn Target>, Failure> {
    let refused = |why: String| Failure::new(Stage::Refused, why);
    let offered = match job.offer() {
        Some(offer) => {
            let name = ports.around.device(&offer.product_key, &offer.device_key);
            Some(name.ok_or_else(|| {
                let words = format!("it is firmware for devices of template {template}: offer it to such a device");
                refused(words)
            })?)
        }
        None => job.device.clone(),
    };
    let name = offered.or_else(|| named.map(str::to_owned)).ok_or_else(|| {
        refused(format!("it is firmware for any device of template {template}: name one with --device"))
    })?;
    let device = ports.around.sub_device(&name).ok_or_else(|| refused(format!("the package has no device {name}")))?;
    Ok(Arc::new(DeviceFirmware::new(device, template)?))
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
        let of_device = matches!(manifest.kind, Kind::Device { .. });
        let version = manifest.version.to_string();
        // Makers of devices write 2.1 for 2.1.0.
        if offer.version != version && !(of_device && super::device::same(&offer.version, &version)) {
            let words = format!("the cloud offers version {}, and the file holds {}", offer.version, manifest.version);
            return Err(Failure::new(Stage::Verification, words));
        }
    }
    let running = target.running().await;
    let known = running.as_deref().and_then(|running| Version::parse(running).ok());
    if let Some(known) = &known {
        if *known == manifest.version {
            // A device says itself what it runs.
            let of_device = matches!(manifest.kind, Kind::Device { .. });
            let half_done = !of_device
                && ports.shelf.is_half_done(manifest).map_err(|error| Failure::new(Stage::Other, error.to_string()))?;
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
        (Kind::Device { template, .. }, true) => {
            Err(format!("it is firmware for sub-devices of template {template}: offer it to such a device"))
        }
        (Kind::Engine { .. }, false) => {
            Err("it is an engine of the gateway, and was offered to a sub-device".to_owned())
        }
        (Kind::Firmware { device: Some(device), .. }, true) => {
            Err(format!("it is firmware of device {device}: offer it to that device"))
        }
        (Kind::Firmware { device: Some(device), .. } | Kind::Device { device: Some(device), .. }, false) => {
            let name = ports.around.device(&offer.product_key, &offer.device_key);
            if name.as_ref() == Some(device) || *device == offer.device_key {
                return Ok(());
            }
            Err(format!("it is firmware of device {device}, and was offered to {}", name.unwrap_or_default()))
        }
        _ => Ok(()),
    }
}

/// The zone of the windows. The machine's own is UTC where it has none; one that was named and can not be read leaves
/// nobody knowing when the windows are.
///
/// # Errors
/// In words.
fn zone(name: Option<&str>) -> Result<Zone, String> {
    let path = match name {
        Some(UTC) => return Ok(Zone::utc()),
        Some(name) => Path::new(ZONES).join(name),
        None => PathBuf::from(LOCAL_ZONE),
    };
    let read = std::fs::read(&path).map_err(|error| error.to_string()).and_then(|bytes| Zone::parse(&bytes));
    match (read, name) {
        (Ok(zone), _) => Ok(zone),
        (Err(_), None) => Ok(Zone::utc()),
        (Err(error), Some(name)) => {
            Err(format!("update.timezone {name} can not be read, so nobody knows whether the window is open: {error}"))
        }
    }
}

/// Why an update may not run now.
fn closed(config: &UpdateConfig, now: i64) -> Option<String> {
    if config.windows.is_empty() {
        return None;
    }
    if !is_set(Timestamp(now * 1000)) {
        return Some("the gateway's clock is not set, so nobody knows whether the window is open".to_owned());
    }
    let zone = match zone(config.timezone.as_deref()) {
        Ok(zone) => zone,
        Err(why) => return Some(why),
    };
    let opens = window::closed_until(&config.windows, &zone, now)?;
    Some(format!("the maintenance window opens {}", window::wall_clock(&zone, opens)))
}

async fn wait(ports: &Ports, job: &Job, said: &str) -> Result<Event, Failure> {
    if job.now {
        return Ok(Event::MayRun);
    }
    let staged = staged(ports, job)?;
    // Since 1970 nobody waits: it counts from when the clock is set.
    let mut begun = Some(job.begun).filter(|begun| is_set(Timestamp(*begun)));
    loop {
        let now = Timestamp::now().0;
        let since = *begun.get_or_insert(now);
        if !is_set(Timestamp(since)) {
            begun = None;
        }
        let why = match closed(&ports.config, now / 1000) {
            Some(why) => why,
            None => {
                let (config, warned) = (&ports.config, &ports.warned);
                let patience = config.condition_timeout;
                match conditions::ask(&config.conditions, patience, &job.id, &staged.manifest, warned).await {
                    conditions::Answer::Yes => return Ok(Event::MayRun),
                    conditions::Answer::No(why) => return Err(Failure::new(Stage::Refused, why)),
                    conditions::Answer::NotNow(why) => why,
                }
            }
        };
        // A clock that jumps back counts from anew.
        if now.saturating_sub(since) > i64::try_from(ports.config.wait.as_millis()).unwrap_or(i64::MAX) {
            return Err(Failure::new(Stage::Refused, format!("it waited longer than update.wait_h for: {why}")));
        }
        if why != said {
            return Ok(Event::NotNow(why));
        }
        sleep(ASK_AGAIN).await;
    }
}

/// A job may wait for days, and a key may be taken back meanwhile: what was proven then is proven again, with the keys of
/// now. Its payload too, before anything is changed.
async fn still_trusted(ports: &Ports, job: &Job) -> Result<(), Failure> {
    let keys = ports.keys.clone().map_err(|why| Failure::new(Stage::Refused, why))?;
    let staged = staged(ports, job)?;
    let whole = job.state == State::Preparing;
    let proving = tokio::task::spawn_blocking(move || {
        let read = |name: &str| {
            let bytes = crate::store::read(&RealDisk, &staged.proof.join(name));
            bytes.ok().flatten().ok_or_else(|| format!("{name} of the update is gone"))
        };
        let (text, signature) = (read(manifest::FILE)?, read(manifest::SIGNATURE)?);
        let (length, digest) = if whole {
            let failed = |error: std::io::Error| format!("read the payload: {error}");
            let length = std::fs::metadata(&staged.payload).map_err(failed)?.len();
            (length, RealDisk.digest(&staged.payload).map_err(failed)?)
        } else {
            (staged.manifest.payload_bytes, staged.manifest.payload_sha256.clone())
        };
        file::prove(&text, &signature, (length, &digest), &keys).map(drop)
    });
    let broke = |_| Failure::new(Stage::Other, "the verification broke");
    proving.await.map_err(broke)?.map_err(|why| {
        Failure::new(
            Stage::Verification,
            format!("what was verified when it was downloaded is not trusted any more: {why}"),
        )
    })
}

async fn change(ports: &Ports, job: &Job, teller: &Teller) -> Result<Event, Failure> {
    still_trusted(ports, job).await?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Window;

    #[test]
    fn a_window_is_closed_as_long_as_nobody_knows_the_time_or_the_zone() {
        let windows = vec![Window { days: 0b111_1111, from: 0, to: 1440 }];
        let config = |timezone: Option<&str>| UpdateConfig {
            windows: windows.clone(),
            timezone: timezone.map(str::to_owned),
            ..UpdateConfig::default()
        };
        let now = 1_790_000_000;
        assert_eq!(closed(&config(None), now), None);
        assert_eq!(closed(&config(Some(UTC)), now), None, "without any file of zones");
        assert!(closed(&config(None), 3600).unwrap().contains("clock is not set"));
        let told = closed(&config(Some("Asia/Shangai")), now).unwrap();
        assert!(told.contains("update.timezone Asia/Shangai"), "{told}");
        assert_eq!(closed(&UpdateConfig { windows: Vec::new(), ..config(Some("No/Where")) }, now), None);
    }
}
