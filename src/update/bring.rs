//! Brings an update's file onto the disk, from the cloud or from this machine, and holds it against the cloud's digest.

use super::carry::{Teller, free, part};
use super::job::{Event, Job, Origin};
use super::md5::Md5;
use super::runner::Ports;
use super::source::{self, Found, Gives, Way};
use super::{Failure, Stage, Tell, broker, foreign};
use crate::config::Address;
use crate::fetch::journal::{Chance, Step, Trouble};
use crate::fetch::{Download, Downloaded};
use crate::model::progress::Progress;
use crate::model::update::{Method, Offer};
use rustix::fs::{Mode, OFlags};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How words about a download that failed begin.
pub const DOWNLOAD: &str = "download: ";
/// How words about an address that this gateway does not ask begin.
pub const ADDRESS: &str = "address: ";
/// Attempts in a row that brought not a byte that was not here before.
const FRUITLESS: u32 = 12;
/// Of those, attempts that will hardly end otherwise: a clock may still be set, a certificate just be changed.
const SLIM: u32 = 3;
/// After the first of them; doubled after each further one, up to the longest.
const BACK_OFF: Duration = Duration::from_secs(2);
const BACK_OFF_MOST: Duration = Duration::from_secs(300);
/// How long a server may ask to be left alone.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(3600);
/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Room for the file, before its first byte.
pub(super) fn room(ports: &Ports, job: &Job) -> Result<Event, Failure> {
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

pub(super) async fn fetch(ports: &Ports, job: &Job, teller: &Teller) -> Result<Event, Failure> {
    let offer = match &job.origin {
        Origin::Cloud(offer) => offer,
        Origin::File(path) => return copy(ports, job, path.into(), teller).await,
    };
    let mut patience = Patience::new(Instant::now() + ports.config.deadline);
    let mut anew = false;
    loop {
        let found = match find(ports, offer).await {
            Ok(found) => found,
            Err(trouble) => {
                rest(patience.after(&trouble, 0, Instant::now())?, &trouble, teller).await;
                continue;
            }
        };
        let at_broker = found.own;
        let source = source::config(&job.id, found, offer.size, &ports.config);
        let folder = ports.shelf.work();
        let progress = Progress::seen();
        let download = Download { source: &source, folder: &folder, progress: &progress };
        let held = download.held();
        patience.holds(held);
        // All of it may be here, and only the word of it was lost.
        let whole = held == offer.size;
        let file = Downloaded { path: part(ports, job), bytes: held, unsure: true };
        let attempt = if whole { Ok(file) } else { watched(&download, &progress, offer.size, teller).await };
        let attempt = match attempt {
            Ok(file) if at_broker && file.bytes != offer.size => refused_in_a_file(file, &download),
            attempt => attempt,
        };
        match attempt {
            Ok(file) => match digest(file.path.clone(), offer.clone()).await? {
                None => return Ok(Event::Fetched),
                Some(_) if is_page(&file.path) => {
                    let trouble = download.forget().err().unwrap_or_else(page);
                    rest(patience.after(&trouble, 0, Instant::now())?, &trouble, teller).await;
                }
                // Parts of two files, perhaps: once more, from its beginning.
                Some(_) if (file.unsure || held > 0) && !anew => {
                    anew = true;
                    download.forget().map_err(|trouble| told(&trouble))?;
                }
                Some(wrong) => return Err(Failure::new(Stage::Verification, wrong)),
            },
            Err(trouble) => {
                rest(patience.after(&trouble, download.held(), Instant::now())?, &trouble, teller).await;
            }
        }
    }
}

fn told(trouble: &Trouble) -> Failure {
    match trouble.chance {
        Chance::Forbidden => {
            let remedy = if trouble.remedy.is_empty() { String::new() } else { format!("; {}", trouble.remedy) };
            Failure::new(Stage::Refused, format!("{ADDRESS}{}{remedy}", trouble.problem))
        }
        Chance::Good | Chance::Slim => Failure::new(Stage::Download, format!("{DOWNLOAD}{trouble}")),
    }
}

/// How often a download is tried.
struct Patience {
    until: Instant,
    /// Attempts in a row that came no farther than any before.
    fruitless: u32,
    /// Those of them that will hardly end otherwise.
    slim: u32,
    /// Most bytes that were ever here: a server that can not go on and breaks at the same place brings the same ones
    /// for ever.
    farthest: u64,
}

impl Patience {
    fn new(until: Instant) -> Patience {
        Patience { until, fruitless: 0, slim: 0, farthest: 0 }
    }

    /// So much is here before an attempt.
    fn holds(&mut self, bytes: u64) {
        self.farthest = self.farthest.max(bytes);
    }

    /// How long to wait before the next attempt, after one that left so many bytes.
    ///
    /// # Errors
    /// When there is none.
    fn after(&mut self, trouble: &Trouble, held: u64, now: Instant) -> Result<Duration, Failure> {
        if held > self.farthest {
            (self.fruitless, self.slim, self.farthest) = (0, 0, held);
        } else {
            self.fruitless += 1;
            self.slim += u32::from(trouble.chance == Chance::Slim);
        }
        let over = self.fruitless >= FRUITLESS || self.slim >= SLIM || now >= self.until;
        if over || trouble.chance == Chance::Forbidden || trouble.step == Step::Setup {
            return Err(told(trouble));
        }
        let wait = BACK_OFF.saturating_mul(1 << self.fruitless.min(10)).min(BACK_OFF_MOST);
        // A busy server says when; no longer than this, whatever it says.
        let asked = trouble.retry_after.unwrap_or_default().min(RETRY_AFTER_MOST);
        Ok(wait.mul_f32(0.75 + 0.5 * fastrand::f32()).max(asked))
    }
}

async fn rest(wait: Duration, why: &Trouble, teller: &Teller) {
    tracing::info!(%why, ?wait, "the update file is not whole; the next attempt goes on after the wait");
    let words: String = format!("download goes on in {} s: {why}", wait.as_secs()).chars().take(200).collect();
    teller.told.send_modify(|told| told.1 = words);
    sleep(wait).await;
}

async fn find(ports: &Ports, offer: &Offer) -> Result<Found, Trouble> {
    let refused = |why: String| Trouble::new(Step::Setup, why).chance(Chance::Forbidden);
    match source::way(offer, &ports.config).map_err(refused)? {
        Way::Web(address) => Ok(Found { address, known_as: None, own: false }),
        Way::Broker { base, uri, gives } => {
            let nobody = || refused("no cloud is configured".to_owned());
            let identity = ports.identity.as_ref().ok_or_else(nobody)?;
            let (product_key, device_key) = ports.gateway.as_ref().ok_or_else(nobody)?;
            let keys = (product_key.as_str(), device_key.as_str());
            let client = broker::client(&ports.config)?;
            let session = broker::login(&client, &base, keys, &**identity).await?;
            let there = source::at_broker(&base, keys, (&uri, gives), &session).map_err(refused)?;
            let address = match gives {
                Gives::File => Address::parse(there.as_str()).map_err(refused)?,
                Gives::Link => source::linked(&broker::link(&client, there).await?, &ports.config).map_err(refused)?,
            };
            Ok(Found { address, known_as: Some(uri), own: gives == Gives::File })
        }
    }
}

/// Portals, proxies and stores that want a login answer with a page and status 200.
fn is_page(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(foreign::START as u64).read_to_end(&mut start));
    read.is_ok() && foreign::is_page(&start)
}

fn page() -> Trouble {
    Trouble::new(Step::Ask, "the server sends a page of the web in place of the file")
        .help("does it want a login, or does a portal or proxy stand between? open fileUrl from this machine")
        .chance(Chance::Slim)
}

/// The broker's refusal comes with status 200, as its answers to messages do: it is no part of the file.
fn refused_in_a_file(file: Downloaded, download: &Download<'_>) -> Result<Downloaded, Trouble> {
    match broker::refusal(&file.path, file.bytes) {
        Some(trouble) => {
            download.forget()?;
            Err(trouble)
        }
        None => Ok(file),
    }
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
async fn copy(ports: &Ports, job: &Job, from: PathBuf, teller: &Teller) -> Result<Event, Failure> {
    let (to, most) = (part(ports, job), ports.config.max_bytes);
    let (shelf, id) = (ports.shelf.clone(), job.id.clone());
    let told = teller.told.clone();
    let span = teller.span;
    let copied = blocking(move || {
        let teller = Teller { told, span };
        let mut source = plain(&from)?;
        let size = source.metadata()?.len();
        let mut target = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&to)?;
        let (mut buffer, mut done) = (vec![0; 256 << 10], 0);
        loop {
            let got = source.read(&mut buffer)?;
            if got == 0 {
                break target.sync_all();
            }
            done += got as u64;
            if teller.was_given_up(&shelf, &id) {
                // Its files are tidied away already.
                std::fs::remove_file(&to)?;
                return Err(io::Error::other("it was given up"));
            }
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

/// A pipe without a writer would keep whoever opens it for ever, and a device has no end.
fn plain(path: &Path) -> io::Result<std::fs::File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = std::fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other(format!("{} is no plain file", path.display())));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_are_opened_and_none_keeps_the_update_waiting() {
        let home = tempfile::tempdir().unwrap();
        let (pipe, link, file) = (home.path().join("pipe"), home.path().join("link"), home.path().join("file"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::from_raw_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        std::fs::write(&file, "x").unwrap();
        for other in [&pipe, &link, home.path(), Path::new("/dev/zero")] {
            assert!(plain(other).unwrap_err().to_string().contains("no plain file"), "{}", other.display());
        }
        assert!(plain(&file).is_ok());
    }

    #[test]
    fn a_busy_server_is_left_alone_as_long_as_it_asks_for_up_to_an_hour() {
        let now = Instant::now();
        let wait = |asked| {
            let busy = Trouble { retry_after: Some(Duration::from_secs(asked)), ..Trouble::new(Step::Ask, "503") };
            Patience::new(now + Duration::from_secs(86_400)).after(&busy, 0, now).unwrap()
        };
        assert_eq!(wait(120), Duration::from_secs(120));
        assert_eq!(wait(u64::MAX), RETRY_AFTER_MOST);
        assert!(wait(0) >= Duration::from_secs(1), "and never at once");
    }

    #[test]
    fn what_is_forbidden_names_its_remedy() {
        let end = told(&Trouble::new(Step::Ask, "another host").help("name it in hosts").chance(Chance::Forbidden));
        assert_eq!((end.stage, end.words.as_str()), (Stage::Refused, "address: another host; name it in hosts"));
    }

    #[test]
    fn a_page_of_a_portal_is_no_damaged_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("part");
        for (text, is) in [
            ("<!doctype HTML><title>Log in", true),
            ("\n <?xml version", true),
            ("PK\x03\x04<html", false),
            ("", false),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(is_page(&path), is, "{text}");
        }
        let now = Instant::now();
        let mut patience = Patience::new(now + Duration::from_secs(3600));
        let end = (0..).find_map(|_| patience.after(&page(), 0, now).err()).unwrap();
        assert!(end.stage == Stage::Download && end.words.contains("page of the web") && end.words.contains("portal"));
        assert_eq!(patience.fruitless, SLIM);
    }

    #[test]
    fn what_hopes_is_tried_often_what_hardly_hopes_three_times_and_what_is_forbidden_once() {
        let now = Instant::now();
        let attempts = |trouble: &Trouble| {
            let mut patience = Patience::new(now + Duration::from_secs(3600));
            (1..).find(|_| patience.after(trouble, 0, now).is_err())
        };
        let trouble = |chance| Trouble::new(Step::Tls, "x").chance(chance);
        assert_eq!(attempts(&trouble(Chance::Good)), Some(FRUITLESS));
        assert_eq!(attempts(&trouble(Chance::Slim)), Some(SLIM));
        assert_eq!(attempts(&trouble(Chance::Forbidden)), Some(1));
        let end = Patience::new(now).after(&trouble(Chance::Forbidden), 0, now).unwrap_err();
        assert_eq!((end.stage, end.words.as_str()), (Stage::Refused, "address: x"));
        let end = Patience::new(now).after(&trouble(Chance::Good), 5, now).unwrap_err();
        assert_eq!((end.stage, end.words.as_str()), (Stage::Download, "download: tls: x"), "the deadline");
        let mut patience = Patience::new(now + Duration::from_secs(3600));
        for held in 1..=100 {
            assert!(patience.after(&trouble(Chance::Slim), held, now).is_ok(), "it gets on");
            assert!(patience.after(&trouble(Chance::Slim), 0, now).unwrap() < Duration::from_secs(6));
        }
        // The same hundred bytes again and again.
        let mut patience = Patience::new(now + Duration::from_secs(3600));
        let ended = (0..).find(|_| patience.after(&trouble(Chance::Good), 100, now).is_err());
        assert_eq!(ended, Some(FRUITLESS), "after the one that brought them");
        let mut patience = Patience::new(now + Duration::from_secs(3600));
        patience.holds(100);
        let ended = (1..).find(|_| patience.after(&trouble(Chance::Good), 100, now).is_err());
        assert_eq!(ended, Some(FRUITLESS), "a start that found them counts them as no progress");
    }
}
