//! Keeps on disk what the gateway tells the cloud of itself until the cloud has it: the result of a publish is not lost
//! because the link was down and then the power.

use crate::cloud::NoticeQueue;
use crate::model::{Notice, Timestamp};
use crate::store::{self, Disk};
use serde_json::{Value as Json, json};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// Below the state folder.
const FOLDER: &str = "notices";
const WAITING: &str = "waiting";
/// A disk that took nothing is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// Between two writes, doubling while events come without a pause: each is a whole file and two fsyncs, and a value that
/// chatters for a year must not wear the flash out. Words of the gateway itself do not wait.
const REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Puts back what waited, then writes each change, for ever.
pub(super) fn start(disk: Arc<dyn Disk>, state_dir: &Path, queue: &Arc<NoticeQueue>) -> JoinHandle<()> {
    let folder = state_dir.join(FOLDER);
    queue.restore(read(&*disk, &folder));
    let queue = Arc::clone(queue);
    tokio::spawn(async move {
        let (mut last, mut rest) = (None, REST);
        loop {
            queue.changes().await;
            if let Some(last) = last {
                rest = pause(&queue, last, rest).await;
            }
            while let Err(error) = keep(Arc::clone(&disk), folder.clone(), &queue).await {
                tracing::warn!(%error, "what the cloud has to be told can not be kept on disk");
                sleep(AGAIN).await;
            }
            last = Some(Instant::now());
        }
    })
}

/// Waits until the next write is due, and says how long the rest after it is.
async fn pause(queue: &NoticeQueue, last: Instant, rest: Duration) -> Duration {
    if last.elapsed() >= rest {
        return REST;
    }
    tokio::select! {
        () = queue.hurried() => rest,
        () = sleep_until(last + rest) => (rest * 2).min(LONGEST_REST),
    }
}

async fn keep(disk: Arc<dyn Disk>, folder: PathBuf, queue: &NoticeQueue) -> io::Result<()> {
    let (revision, notices) = queue.lasting();
    let text = json!(notices.iter().map(shown).collect::<Vec<_>>()).to_string();
    let written = tokio::task::spawn_blocking(move || store::replace(&*disk, &folder, WAITING, text.as_bytes()));
    written.await.map_err(io::Error::other)??;
    queue.stored(revision);
    Ok(())
}

fn shown(notice: &Notice) -> Json {
    json!({ "event": notice.event, "fields": notice.fields, "at": notice.at.0, "device": notice.device })
}

fn read(disk: &dyn Disk, folder: &Path) -> Vec<Notice> {
    let bytes = store::read(disk, &folder.join(WAITING)).unwrap_or_else(|error| {
        tracing::warn!(%error, "what the cloud was not told yet can not be read");
        None
    });
    let all: Vec<Json> = serde_json::from_slice(&bytes.unwrap_or_default()).unwrap_or_default();
    all.iter().filter_map(notice).collect()
}

fn notice(shown: &Json) -> Option<Notice> {
    let fields = shown["fields"].as_object()?.clone();
    // Files of an older engine name no device.
    let device = serde_json::from_value(shown["device"].clone()).unwrap_or(None);
    Some(Notice { event: shown["event"].as_str()?.to_owned(), fields, at: Timestamp(shown["at"].as_i64()?), device })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Notices;
    use crate::store::power_cut::{AFTERMATHS, CutDisk};

    fn told(at: i64) -> Notice {
        let fields = serde_json::Map::from_iter([("state".to_owned(), json!("kept"))]);
        Notice { event: "packageProgress".to_owned(), fields, at: Timestamp(at), device: None }
    }

    #[tokio::test]
    async fn a_notice_is_told_after_a_restart_until_the_cloud_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let start = |queue: &Arc<NoticeQueue>| start(Arc::new(crate::store::RealDisk), folder.path(), queue);
        let queue = Arc::<NoticeQueue>::default();
        let task = start(&queue);
        queue.tell(told(1));
        queue.tell(told(2));
        queue.flush().await;
        task.abort();
        let queue = Arc::<NoticeQueue>::default();
        let task = start(&queue);
        let (number, first) = queue.first(|_| true).unwrap();
        assert_eq!(first, told(1));
        queue.done(number);
        queue.flush().await;
        task.abort();
        let queue = Arc::<NoticeQueue>::default();
        start(&queue).abort();
        assert_eq!(queue.lasting().1, [told(2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_events_is_written_ever_more_rarely_and_the_gateways_own_words_at_once() {
        let queue = Arc::<NoticeQueue>::default();
        let written = async |own: Option<&NoticeQueue>, rest: Duration, last: Instant| {
            if let Some(queue) = own {
                queue.tell(told(1));
            }
            let next = pause(&queue, last, rest).await;
            (last.elapsed(), next)
        };
        let (mut rest, mut writes, begun) = (REST, 0, Instant::now());
        while begun.elapsed() < Duration::from_secs(3600) {
            rest = written(None, rest, Instant::now()).await.1;
            writes += 1;
        }
        assert!((120..130).contains(&writes), "{writes} in an hour");
        let (waited, after) = written(Some(&queue), rest, Instant::now()).await;
        assert_eq!((waited, after), (Duration::ZERO, LONGEST_REST));
        let quiet = Instant::now();
        tokio::time::advance(LONGEST_REST).await;
        assert_eq!(pause(&queue, quiet, rest).await, REST);
    }

    #[test]
    fn whose_event_it_is_outlives_a_restart() {
        let of_device = Notice { device: Some(("产品".to_owned(), "d 1".to_owned())), ..told(1) };
        assert_eq!(notice(&shown(&of_device)).unwrap(), of_device);
        let mut older = shown(&told(1));
        older.as_object_mut().unwrap().remove("device");
        assert_eq!(notice(&older).unwrap(), told(1));
    }

    #[test]
    fn a_power_cut_leaves_the_old_notices_or_the_new_ones() {
        let folder = Path::new("/state/notices");
        let text = |at: i64| json!([shown(&told(at))]).to_string();
        for aftermath in AFTERMATHS {
            for step in 0..20 {
                let disk = CutDisk::default();
                store::replace(&disk, folder, WAITING, text(1).as_bytes()).unwrap();
                disk.cut_at(step);
                let done = store::replace(&disk, folder, WAITING, text(2).as_bytes()).is_ok();
                let found = read(&disk.after(aftermath), folder);
                assert!(found == [told(2)] || !done && found == [told(1)], "{step} {aftermath:?}: {found:?}");
            }
        }
    }
}
