//! A folder of this machine: a USB stick, or where a person copies archives to. Only a file that has stopped growing is
//! taken, and it is copied first: the stick may be pulled out.

use super::http::within;
use super::incoming::{Incoming, Mark};
use super::journal::{Journal, Step, Trouble};
use super::names;
use super::pull::{Found, Whole, missing_sidecar, sidecar_text};
use crate::config::{Checksum, SourceConfig};
use crate::model::Refused;
use rustix::fs::{Mode, OFlags};
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Between two looks at the same file: whoever copies writes in between.
const SETTLES: Duration = Duration::from_secs(2);
const SIDECAR_MOST: u64 = 64 << 10;
/// Names of a folder that are looked at.
const NAMES_MOST: usize = 10_000;

/// # Errors
/// The step that failed. A file that still grows is trouble of the listing, and tried again.
pub(super) async fn fetch(
    source: &SourceConfig,
    incoming: &mut Incoming,
    look: bool,
    journal: &mut Journal<'_>,
) -> Result<Found, Trouble> {
    let path = away({
        let source = source.clone();
        move || newest(&source)
    })
    .await?;
    let shown = path.display().to_string();
    journal.done(Step::List, format!("the newest is {shown}"));
    let mark = mark(&path)?;
    if !look && incoming.memory.taken.as_ref() == Some(&mark) {
        return Ok(Found::Unchanged);
    }
    tokio::time::sleep(SETTLES).await;
    if self::mark(&path)? != mark {
        return Err(Trouble::new(Step::List, format!("{shown} is being written"))
            .help("it is taken when it has stopped growing"));
    }
    let size = mark.size.unwrap_or(0);
    within(size, source.max_bytes)?;
    journal.done(Step::Ask, format!("{size} bytes, complete"));
    if look {
        return Ok(Found::Looked);
    }
    copy(&path, mark, incoming).await?;
    journal.done(Step::Transfer, format!("copied {size} bytes"));
    let sha256 = sidecar(source, &path, journal).await?;
    Ok(Found::Whole(Whole { size, sha256, resumed: false }))
}

/// Looks at folders that may hang at once: a stick or a share that does not answer keeps its thread, and others need
/// some too.
static LOOKS: Semaphore = Semaphore::const_new(4);
/// For one of those places.
const PATIENCE: Duration = Duration::from_secs(30);

async fn away<T: Send + 'static>(work: impl FnOnce() -> Result<T, Trouble> + Send + 'static) -> Result<T, Trouble> {
    let stuck = || {
        Trouble::new(Step::List, "earlier looks at folders have not come back")
            .help("a stick or a share hangs: unmount it, or mount it again")
    };
    let Ok(Ok(place)) = timeout(PATIENCE, LOOKS.acquire()).await else { return Err(stuck()) };
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(place);
        done
    })
    .await;
    done.unwrap_or_else(|error| Err(Trouble::new(Step::List, error.to_string())))
}

fn newest(source: &SourceConfig) -> Result<PathBuf, Trouble> {
    let folder = Path::new(&source.address.path);
    let complain = |error: std::io::Error| {
        Trouble::new(Step::List, format!("{}: {error}", folder.display())).help("is the stick in, and mounted there?")
    };
    if fs::metadata(folder).map_err(complain)?.is_file() {
        return Ok(folder.to_owned());
    }
    let entries = fs::read_dir(folder).map_err(complain)?.take(NAMES_MOST).filter_map(Result::ok);
    let plain = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let names: Vec<String> = plain.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let found = names::newest(names.iter().map(String::as_str), "");
    let none = || {
        Trouble::new(Step::List, format!("{} holds no archive", folder.display()))
            .help("copy a .tar.gz, .tar.zst or .zip there")
    };
    found.map(|name| folder.join(name)).ok_or_else(none)
}

fn mark(path: &Path) -> Result<Mark, Trouble> {
    let found = fs::symlink_metadata(path).map_err(|error| gone(path, &error))?;
    Ok(mark_of(path, &found))
}

fn mark_of(path: &Path, found: &Metadata) -> Mark {
    let modified = Some(format!("{}.{:09}", found.mtime(), found.mtime_nsec()));
    Mark { address: path.display().to_string(), etag: None, modified, size: Some(found.len()) }
}

fn gone(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(Step::Transfer, format!("{}: {error}", path.display())).help("was the stick pulled out?")
}

/// The file itself, never what a link leads to, and nothing that would block.
fn open(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

async fn copy(path: &Path, mark: Mark, incoming: &mut Incoming) -> Result<(), Trouble> {
    let mut writer = incoming.begin(mark.clone())?;
    let mut file = open(path).map_err(|error| gone(path, &error))?;
    let same = file.metadata().is_ok_and(|found| found.is_file() && mark_of(path, &found) == mark);
    if !same {
        return Err(Trouble::new(Step::Transfer, format!("{} was changed", path.display())));
    }
    let mut left = mark.size.unwrap_or(0);
    while left > 0 {
        // The stick is slow: its blocks are read away from the runtime's thread.
        let from = path.to_owned();
        let read = away(move || {
            let mut block = vec![0; usize::try_from(left.min(256 << 10)).unwrap_or(0)];
            file.read_exact(&mut block).map_err(|error| gone(&from, &error))?;
            Ok((file, block))
        });
        let (back, block) = read.await?;
        file = back;
        left -= block.len() as u64;
        writer.append(&block).await?;
    }
    writer.finish().await
}

async fn sidecar(source: &SourceConfig, path: &Path, journal: &mut Journal<'_>) -> Result<Option<String>, Trouble> {
    if source.checksum == Checksum::Ignore {
        return Ok(None);
    }
    let beside = beside(path, "sha256");
    let shown = beside.display().to_string();
    let read = away(move || {
        let mut text = String::new();
        let read = open(&beside).and_then(|file| file.take(SIDECAR_MOST).read_to_string(&mut text));
        Ok(read.map(|_| text))
    });
    match read.await? {
        Ok(text) => sidecar_text(source, &shown, &text, journal),
        Err(error) => missing_sidecar(source, &shown, &error.to_string()),
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// Tells whoever copied it, beside the file. Best effort: the stick may be protected or out.
pub(super) fn tell(archive: &str, outcome: Result<(), &Refused>) {
    let note = beside(Path::new(archive), "error.txt");
    match outcome {
        Ok(()) => drop(fs::remove_file(note)),
        Err(refused) => {
            let faults: Vec<String> = refused.faults.iter().map(ToString::to_string).collect();
            let text = format!("{archive} was not taken: {}\n\n{}\n", refused.reason, faults.join("\n"));
            // Not through a link that somebody prepared: the old note goes, and a new file is made.
            let _ = fs::remove_file(&note);
            let made = fs::OpenOptions::new().write(true).create_new(true).open(&note);
            if let Ok(mut file) = made {
                let _ = std::io::Write::write_all(&mut file, text.as_bytes());
            }
        }
    }
}
