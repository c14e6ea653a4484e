//! Firmware by programs of the machine's builder: `firmware_dir/NAME STEP` does what a target has to do, tells its
//! progress on standard output and its result by its exit status. Contract and examples: docs/reference/firmware.md.

mod program;
mod trusted;

use super::{Activation, Failure, Kind, Stage, Staged, Standing, Target, Tell};
use driver::Answer;
pub(super) use program::Group;
use program::{Call, Said};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Folder of `state_dir` where each program may keep notes of its own.
pub const FOLDER: &str = "firmware";

/// Exit statuses; 75 is `EX_TEMPFAIL` of sysexits.h.
const RESTART_MACHINE: i32 = 10;
const ROLLED_BACK: i32 = 11;
const NOT_NOW: i32 = 75;

/// The steps, and how long each may take: a flash is slow, a question is not.
const INFO: (&str, Duration) = ("info", Duration::from_secs(15));
const PREPARE: (&str, Duration) = ("prepare", Duration::from_secs(300));
const INSTALL: (&str, Duration) = ("install", Duration::from_secs(3600));
const ACTIVATE: (&str, Duration) = ("activate", Duration::from_secs(120));
const STANDING: (&str, Duration) = ("standing", Duration::from_secs(30));
const CONFIRM: (&str, Duration) = ("confirm", Duration::from_secs(120));
const ROLL_BACK: (&str, Duration) = ("roll-back", Duration::from_secs(300));

/// A target behind a program.
#[derive(Clone, Debug)]
pub struct Firmware {
    name: String,
    program: PathBuf,
    /// Where the program may keep notes; also holds the lock that makes it run once at a time.
    notes: PathBuf,
    /// Shorter in tests.
    patience: Option<Duration>,
}

impl Firmware {
    /// Finds the program of a target, and whether it can be trusted.
    ///
    /// # Errors
    /// `Refused`: there is none, or somebody other than root could have put it there.
    pub fn open(folder: &Path, name: &str, state_dir: &Path) -> Result<Firmware, Failure> {
        let refuse = |words: String| Failure { stage: Stage::Refused, words };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
            return Err(refuse(format!("{name:?} is no name of a firmware target: letters, digits, - and _")));
        }
        let program = trusted::program(folder, name).map_err(refuse)?;
        let notes = state_dir.join(FOLDER).join(name);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&notes);
        made.map_err(|error| Failure { stage: Stage::Other, words: format!("make {}: {error}", notes.display()) })?;
        Ok(Firmware { name: name.to_owned(), program, notes, patience: None })
    }

    /// Names of all programs in the folder, trusted or not; none when there is no folder.
    #[must_use]
    pub fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().map_while(Result::ok);
        let mut names: Vec<String> = entries
            .filter(|entry| entry.path().is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.') && !name.contains(['~', '.']))
            .collect();
        names.sort();
        names
    }

    /// Whether the program would be run, without making anything.
    ///
    /// # Errors
    /// Why not, with the remedy.
    pub fn check(folder: &Path, name: &str) -> Result<(), String> {
        trusted::program(folder, name).map(drop)
    }

    async fn run(
        &self,
        (step, within): (&str, Duration),
        update: Option<&Staged>,
        why: &str,
        tell: &dyn Tell,
    ) -> Result<Said, String> {
        let mut environment = vec![
            ("ENOS_FIRMWARE_TARGET", self.name.clone()),
            ("ENOS_FIRMWARE_NOTES", self.notes.display().to_string()),
            ("ENOS_FIRMWARE_WHY", why.to_owned()),
        ];
        if let Some(update) = update {
            let device = match &update.manifest.kind {
                Kind::Firmware { device, .. } => device.clone().unwrap_or_default(),
                Kind::Engine { .. } | Kind::Device { .. } => String::new(),
            };
            environment.extend([
                ("ENOS_FIRMWARE_PAYLOAD", update.payload.display().to_string()),
                ("ENOS_FIRMWARE_VERSION", update.manifest.version.to_string()),
                ("ENOS_FIRMWARE_ID", update.id.clone()),
                ("ENOS_FIRMWARE_DEVICE", device),
            ]);
        }
        let within = self.patience.unwrap_or(within);
        let call = Call { program: &self.program, step, environment, lock: self.notes.join(".lock"), within };
        let told = |problem: String| format!("firmware {}: {step}: {problem}", self.name);
        program::run(&call, tell).await.map_err(told)
    }

    /// What an exit status means for a step that is done or not.
    fn judged(&self, step: &str, said: &Said, stage: Stage) -> Result<Activation, Failure> {
        let words = |what: &str| {
            let more = if said.words.is_empty() { String::new() } else { format!(": {}", said.words) };
            format!("firmware {}: {step} {what}{more}", self.name)
        };
        match said.status {
            Some(0) => Ok(Activation::Now),
            Some(RESTART_MACHINE) => Ok(Activation::RestartMachine),
            Some(NOT_NOW) => Err(Failure { stage: Stage::Refused, words: words("can not be done now") }),
            Some(status) => Err(Failure { stage, words: words(&format!("failed with exit status {status}")) }),
            None => {
                let signal = said.signal.map_or_else(String::new, |signal| format!(" {signal}"));
                Err(Failure { stage, words: words(&format!("was ended by signal{signal}")) })
            }
        }
    }

    async fn step(
        &self,
        step: (&str, Duration),
        update: &Staged,
        why: &str,
        tell: &dyn Tell,
        stage: Stage,
    ) -> Result<Activation, Failure> {
        let said = self.run(step, Some(update), why, tell).await.map_err(|words| Failure { stage, words })?;
        self.judged(step.0, &said, stage)
    }
}

impl Target for Firmware {
    fn running(&self) -> Answer<'_, Option<String>> {
        Box::pin(async {
            let said = self.run(INFO, None, "", &Nobody).await.ok().filter(|said| said.status == Some(0))?;
            let version = said.lines.iter().find_map(|line| line.strip_prefix("version "))?.trim();
            (!version.is_empty()).then(|| version.to_owned())
        })
    }

    fn prepare<'a>(&'a self, update: &'a Staged, tell: &'a dyn Tell) -> Answer<'a, Result<(), Failure>> {
        Box::pin(async move { self.step(PREPARE, update, "", tell, Stage::Refused).await.map(drop) })
    }

    fn install<'a>(&'a self, update: &'a Staged, tell: &'a dyn Tell) -> Answer<'a, Result<(), Failure>> {
        Box::pin(async move { self.step(INSTALL, update, "", tell, Stage::Writing).await.map(drop) })
    }

    fn activate<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<Activation, Failure>> {
        Box::pin(async move { self.step(ACTIVATE, update, "", &Nobody, Stage::Other).await })
    }

    fn standing<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<Standing, Failure>> {
        Box::pin(async move {
            let failed = |words| Failure { stage: Stage::Other, words };
            let said = self.run(STANDING, Some(update), "", &Nobody).await.map_err(failed)?;
            match said.status {
                Some(NOT_NOW) => Ok(Standing::OnTrial(said.words)),
                Some(ROLLED_BACK) => Ok(Standing::RolledBack(said.words)),
                _ => self.judged(STANDING.0, &said, Stage::Other).map(|_| Standing::Proven),
            }
        })
    }

    fn confirm<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<(), Failure>> {
        Box::pin(async move { self.step(CONFIRM, update, "", &Nobody, Stage::Other).await.map(drop) })
    }

    fn roll_back<'a>(&'a self, update: &'a Staged, why: &'a str) -> Answer<'a, Result<Activation, Failure>> {
        Box::pin(async move { self.step(ROLL_BACK, update, why, &Nobody, Stage::Other).await })
    }
}

/// Nobody listens to the progress of a short step.
struct Nobody;

impl Tell for Nobody {
    fn tell(&self, _percent: u8, _words: &str) {}
}

#[cfg(test)]
mod tests;
