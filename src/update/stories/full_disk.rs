//! A disk that takes the state of a job no more, as when a target's program has filled it.

use super::*;
use std::sync::atomic::AtomicBool;

/// Takes no job in this state until it is mended, or until the job's own files are gone.
struct Full {
    state: &'static str,
    work: Option<PathBuf>,
    mended: AtomicBool,
    refused: AtomicUsize,
}

impl Full {
    fn takes(&self, bytes: &[u8]) -> io::Result<()> {
        let state = format!("\"state\":\"{}\"", self.state);
        let is_it = bytes.windows(state.len()).any(|part| part == state.as_bytes());
        let room = self.work.as_ref().is_some_and(|work| RealDisk.names(work).unwrap().is_empty());
        if is_it && !room && !self.mended.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

macro_rules! full {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $back:ty;)*) => {
        impl Disk for Full {
            $(fn $name(&self, $($argument: $kind),*) -> io::Result<$back> { RealDisk.$name($($argument),*) })*
            fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> { self.takes(bytes)?; RealDisk.write(path, bytes) }
        }
    };
}

full! {
    read(path: &Path) -> Vec<u8>;
    make_folder(path: &Path) -> ();
    sync(path: &Path) -> ();
    rename(from: &Path, to: &Path) -> ();
    remove(path: &Path) -> ();
    append(path: &Path, bytes: &[u8]) -> ();
    copy(from: &Path, to: &Path) -> ();
    make_executable(path: &Path) -> ();
    digest(path: &Path) -> String;
    names(path: &Path) -> Vec<String>;
    sync_folder(path: &Path) -> ();
}

fn full(state: &'static str, work: Option<PathBuf>) -> Arc<Full> {
    Arc::new(Full { state, work, mended: AtomicBool::new(false), refused: AtomicUsize::new(0) })
}

#[tokio::test(start_paused = true)]
async fn a_step_that_can_not_be_written_down_is_not_done_again_for_it() {
    let bench = Bench::new();
    let disk = full("activating", None);
    let gateway = bench.start_on(Arc::clone(&disk) as _);
    gateway.updates.install(bench.file("2.0.0"), true, None).await.unwrap();
    while disk.refused.load(Ordering::SeqCst) < 3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let job = gateway.updates.status()["job"].clone();
    assert_eq!(job["state"], "installing", "{job}");
    assert!(job["doing"].as_str().unwrap().contains("can not be written down that it is activating"), "{job}");
    let refused = gateway.updates.cancel().await.unwrap_err();
    assert_eq!(refused.code, "not_possible", "and whoever asks is answered meanwhile");
    disk.mended.store(true, Ordering::SeqCst);
    assert_eq!(end(&gateway).await["state"], "done");
    let calls = bench.board.lock().unwrap().calls.clone();
    assert_eq!(calls, ["prepare", "install", "activate", "standing", "confirm"], "each once");
}

#[tokio::test(start_paused = true)]
async fn an_end_gives_up_the_files_of_its_job_for_the_room_it_needs() {
    let bench = Bench::new();
    bench.board.lock().unwrap().faults = [("install", Stage::Writing)].into();
    let disk = full("failed", Some(bench.home.path().join("state/update/work")));
    let gateway = bench.start_on(Arc::clone(&disk) as _);
    gateway.updates.install(bench.file("2.0.0"), true, None).await.unwrap();
    let job = end(&gateway).await;
    assert_eq!((&job["state"], &job["step"]), (&"failed".into(), &(-4).into()), "{job}");
    assert_eq!(disk.refused.load(Ordering::SeqCst), 1);
    assert_eq!(bench.board.lock().unwrap().calls, ["prepare", "install"]);
}
