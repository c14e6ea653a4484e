//! The engine's slots as something that can be updated: what the job of an update sees.

use super::on_trial::{Observe, Shown};
use super::slots::{Slots, State, Terms};
use super::trial::Baseline;
use super::{PROGRAM, proof, space};
use crate::config::UpdateConfig;
use crate::diagnostic::joined;
use crate::store::{Disk, RealDisk};
use crate::update::build::version_of;
use crate::update::{Activation, Failure, Kind, Stage, Staged, Standing, Target, Tell, keys, manifest};
use crate::version;
use driver::Answer;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// An engine on trial says READY within this after each start, or asks for more.
const READY: Duration = Duration::from_secs(30);
/// A path of a unix socket has 108 bytes (unix(7)); the launcher's adds this much to the folder.
const SOCKET_PATH: usize = 100;
/// Devices that a baseline holds: of a larger site it is a sample.
const DEVICES: usize = 1500;

/// Updates of the engine itself.
pub struct EngineTarget {
    slots: Arc<Slots>,
    observe: Arc<dyn Observe>,
    shown: Arc<Shown>,
    config: UpdateConfig,
    state_dir: PathBuf,
}

fn failure(stage: Stage) -> impl Fn(String) -> Failure {
    move |words| Failure { stage, words }
}

fn refused(words: impl Into<String>) -> Failure {
    failure(Stage::Refused)(words.into())
}

impl EngineTarget {
    #[must_use]
    pub fn new(
        slots: Arc<Slots>,
        observe: Arc<dyn Observe>,
        shown: Arc<Shown>,
        config: UpdateConfig,
        state_dir: PathBuf,
    ) -> EngineTarget {
        EngineTarget { slots, observe, shown, config, state_dir }
    }

    /// Runs what touches the disk beside the runtime.
    fn apart<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Slots) -> Result<T, Failure> + Send + 'static,
    ) -> Answer<'static, Result<T, Failure>> {
        let slots = Arc::clone(&self.slots);
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || act(&slots)).await;
            done.unwrap_or_else(|_| Err(failure(Stage::Other)("it broke in the middle".to_owned())))
        })
    }

    fn baseline(&self) -> Baseline {
        let look = self.observe.look();
        let devices = look.devices.into_iter().filter(|(_, (good, _))| *good > 0).take(DEVICES).collect();
        Baseline { generation: look.generation, devices, acknowledged: self.observe.acknowledged_lately() }
    }

    /// What a trial may leave free: not more than there was, or a disk that was full before would fail it.
    fn terms(&self) -> Terms {
        let free = space::free(self.slots.folder().path()).unwrap_or(0);
        Terms {
            window_ms: u64::try_from(self.config.trial.as_millis()).unwrap_or(u64::MAX),
            ready_ms: u64::try_from(READY.as_millis()).unwrap_or(u64::MAX),
            // The outbox keeps to a reserve of its own, and its log may reach below it for a moment.
            floor_bytes: self.config.reserve_bytes.min(free) / 2,
        }
    }
}

impl Target for EngineTarget {
    fn running(&self) -> Answer<'_, Option<String>> {
        Box::pin(async { Some(version::current().to_owned()) })
    }

    fn prepare<'a>(&'a self, update: &'a Staged, tell: &'a dyn Tell) -> Answer<'a, Result<(), Failure>> {
        tell.tell(0, "checking the engine");
        let (update, config, state_dir) = (update.clone(), self.config.clone(), self.state_dir.clone());
        self.apart(move |slots| {
            fits(slots, &update, &config)?;
            let keys = keys::load(&config, &state_dir).map_err(|faults| refused(joined(&faults)))?;
            proof::prove_at(&update.proof, &update.payload, update.manifest.payload_bytes, &keys)
                .map(drop)
                .map_err(failure(Stage::Verification))
        })
    }

    fn install<'a>(&'a self, update: &'a Staged, tell: &'a dyn Tell) -> Answer<'a, Result<(), Failure>> {
        tell.tell(0, "writing the engine into its slot");
        let update = update.clone();
        let written = self.apart(move |slots| install(slots, &update));
        Box::pin(async move {
            written.await?;
            tell.tell(100, "the engine is in its slot");
            Ok(())
        })
    }

    fn activate<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<Activation, Failure>> {
        let (update, baseline, terms) = (update.clone(), self.baseline(), self.terms());
        self.apart(move |slots| {
            slots
                .activate(&update, terms, Some(&baseline))
                .map_err(|error| failure(Stage::Writing)(format!("set the pointer to the engine: {error}")))?;
            Ok(Activation::RestartEngine)
        })
    }

    fn standing<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<Standing, Failure>> {
        let (update, words) = (update.clone(), self.shown.waits_for());
        self.apart(move |slots| {
            let state = slots.state(&update).map_err(|error| failure(Stage::Other)(error.to_string()))?;
            Ok(match state {
                State::OnTrial if slots.started().place == slots.record().unwrap_or_default().current => {
                    Standing::OnTrial(words)
                }
                State::OnTrial => Standing::OnTrial("the engine has to start again".to_owned()),
                State::Proven => Standing::Proven,
                State::Back(why) => Standing::RolledBack(why),
                State::Unknown => Standing::RolledBack("another change came between".to_owned()),
            })
        })
    }

    fn confirm<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<(), Failure>> {
        let update = update.clone();
        self.apart(move |slots| {
            // The engine itself has said so already when it is proven.
            let state = slots.state(&update).map_err(|error| failure(Stage::Other)(error.to_string()))?;
            match state {
                State::Proven => Ok(()),
                State::OnTrial => Err(refused("the engine has not proven itself")),
                State::Back(why) => Err(refused(why)),
                State::Unknown => Err(refused("another change came between")),
            }
        })
    }

    fn roll_back<'a>(&'a self, update: &'a Staged, why: &'a str) -> Answer<'a, Result<Activation, Failure>> {
        let (update, why) = (update.clone(), why.to_owned());
        self.apart(move |slots| {
            let again = slots
                .take_back(&update, &why)
                .map_err(|error| failure(Stage::Writing)(format!("set the pointer back: {error}")))?;
            Ok(if again { Activation::RestartEngine } else { Activation::Now })
        })
    }
}

fn fits(slots: &Slots, update: &Staged, config: &UpdateConfig) -> Result<(), Failure> {
    let Kind::Engine { architecture } = &update.manifest.kind else {
        return Err(refused("it is no engine"));
    };
    if architecture != manifest::architecture() {
        return Err(refused(format!("the engine is for {architecture}, and this is {}", manifest::architecture())));
    }
    let running = semver::Version::parse(version::current()).map_err(|error| refused(error.to_string()))?;
    update.manifest.may_replace(&running, config.allow_downgrade).map_err(refused)?;
    if slots.started().packaged.is_none() {
        let words = "this engine was not started by `enos-edge launch`, so nobody could take a bad one back";
        return Err(refused(words));
    }
    let record = slots.record().map_err(|error| failure(Stage::Other)(error.to_string()))?;
    if let Some(other) = record.trial.filter(|trial| trial.job != update.id) {
        return Err(refused(format!("engine {} is on trial; wait for how it ends", other.version)));
    }
    let folder = slots.folder().path();
    if folder.as_os_str().len() > SOCKET_PATH {
        return Err(refused(format!("the path {} is too long for a socket in it; move state_dir", folder.display())));
    }
    RealDisk
        .make_folder(folder)
        .map_err(|error| failure(Stage::Writing)(format!("make {}: {error}", folder.display())))?;
    let free = space::free(folder).map_err(|error| failure(Stage::Writing)(error.to_string()))?;
    let reserve = config.reserve_bytes;
    let needed = update.manifest.payload_bytes.saturating_add(reserve);
    if free < needed {
        let own = update.manifest.payload_bytes;
        return Err(failure(Stage::Writing)(format!(
            "no room: {free} bytes are free, and the engine needs {own} and a reserve of {reserve}"
        )));
    }
    Ok(())
}

/// It is asked for its version where it will run: elsewhere the unit forbids to run anything.
fn install(slots: &Slots, update: &Staged) -> Result<(), Failure> {
    let writing = failure(Stage::Writing);
    slots.install(update).map_err(|error: io::Error| writing(format!("write the engine into its slot: {error}")))?;
    let record = slots.record().map_err(|error| writing(error.to_string()))?;
    let holds =
        |slot: &super::Slot| record.slots.get(slot).is_some_and(|facts| facts.sha256 == update.manifest.payload_sha256);
    let Some(slot) = super::Slot::ALL.into_iter().find(holds) else { return Ok(()) };
    let program = slots.folder().slot(slot).join(PROGRAM);
    let said = version_of(&program).map_err(|fault| failure(Stage::Verification)(fault.problem))?;
    match said {
        Some(said) if said == update.manifest.version => Ok(()),
        Some(said) => Err(failure(Stage::Verification)(format!(
            "the engine says it is {said}, and its manifest says {}",
            update.manifest.version
        ))),
        None => Err(failure(Stage::Verification)("the engine can not be run here".to_owned())),
    }
}
