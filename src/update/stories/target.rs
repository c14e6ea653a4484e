//! A target that plays along, or does not.

use super::*;

/// What the target has, across restarts of the gateway.
#[derive(Default)]
pub(super) struct Board {
    pub(super) running: String,
    /// Written beside what runs.
    pub(super) installed: Option<(String, Vec<u8>)>,
    /// Started, not confirmed.
    pub(super) trying: Option<String>,
    pub(super) before: String,
    pub(super) calls: Vec<String>,
    /// The next steps that fail, by name.
    pub(super) faults: VecDeque<(&'static str, Stage)>,
    pub(super) restart: bool,
    /// The payload is not looked at.
    pub(super) light: bool,
    /// The engine is not another one yet.
    pub(super) holds: bool,
}

pub(super) struct FakeTarget(pub(super) Arc<Mutex<Board>>);

impl FakeTarget {
    pub(super) fn step<T>(&self, name: &'static str, act: impl FnOnce(&mut Board) -> T) -> Result<T, Failure> {
        let mut board = self.0.lock().unwrap();
        board.calls.push(name.to_owned());
        if board.faults.front().is_some_and(|(step, _)| *step == name) {
            let (_, stage) = board.faults.pop_front().unwrap();
            return Err(Failure::new(stage, format!("{name} fails")));
        }
        Ok(act(&mut board))
    }
}

impl Target for FakeTarget {
    fn running(&self) -> Answer<'_, Option<String>> {
        Box::pin(async { Some(self.0.lock().unwrap().running.clone()) })
    }

    fn prepare<'a>(&'a self, _: &'a Staged, tell: &'a dyn Tell) -> Answer<'a, Result<(), Failure>> {
        tell.tell(50, "looking for room");
        Box::pin(async { self.step("prepare", |_| ()) })
    }

    fn install<'a>(&'a self, update: &'a Staged, tell: &'a dyn Tell) -> Answer<'a, Result<(), Failure>> {
        Box::pin(async move {
            let light = self.0.lock().unwrap().light;
            let read = if light { Ok(Vec::new()) } else { std::fs::read(&update.payload) };
            let bytes = read.map_err(|e| Failure::new(Stage::Writing, e.to_string()))?;
            assert!(update.proof.join("update.sig").exists());
            for percent in (0..=100).step_by(10) {
                tell.tell(percent, "writing");
                tokio::task::yield_now().await;
            }
            self.step("install", |board| board.installed = Some((update.manifest.version.to_string(), bytes)))
        })
    }

    fn activate<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<Activation, Failure>> {
        Box::pin(async move {
            self.step("activate", |board| {
                let version = update.manifest.version.to_string();
                assert_eq!(board.installed.as_ref().map(|(version, _)| version), Some(&version), "installed before");
                if board.trying.is_none() {
                    board.before = std::mem::replace(&mut board.running, version.clone());
                    board.trying = Some(version);
                }
                if board.restart { Activation::RestartEngine } else { Activation::Now }
            })
        })
    }

    fn standing<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<Standing, Failure>> {
        Box::pin(async move {
            self.step("standing", |board| {
                let version = update.manifest.version.to_string();
                if board.holds {
                    Standing::OnTrial("a restart".into())
                } else if board.running == version {
                    Standing::Proven
                } else {
                    Standing::RolledBack("it crashed".into())
                }
            })
        })
    }

    fn confirm<'a>(&'a self, _: &'a Staged) -> Answer<'a, Result<(), Failure>> {
        Box::pin(async { self.step("confirm", |board| board.trying = None) })
    }

    fn roll_back<'a>(&'a self, _: &'a Staged, _: &'a str) -> Answer<'a, Result<Activation, Failure>> {
        Box::pin(async {
            self.step("roll_back", |board| {
                if !board.before.is_empty() {
                    board.running = std::mem::take(&mut board.before);
                }
                board.trying = None;
                Activation::Now
            })
        })
    }
}

pub(super) struct Here {
    pub(super) board: Arc<Mutex<Board>>,
    pub(super) restart: Arc<Notify>,
}

impl Around for Here {
    fn target(&self, kind: &Kind) -> Result<Arc<dyn Target>, Failure> {
        match kind.target() {
            "rauc" | "engine" => Ok(Arc::new(FakeTarget(Arc::clone(&self.board)))),
            other => Err(Failure::new(Stage::Refused, format!("no target {other}"))),
        }
    }

    fn device(&self, _: &str, device_key: &str) -> Option<String> {
        Some(format!("Device {device_key}"))
    }

    fn restart(&self) {
        self.restart.notify_one();
    }
}
