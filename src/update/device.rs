//! Firmware of a sub-device, by the file transfer of its protocol: sent piece by piece, begun by a write, and believed
//! when the device shows the version.

mod notes;
mod send;
mod version;

pub use version::{same, shown, whole};

use super::{Activation, Failure, Stage, Staged, Standing, Target, Tell};
use crate::model::Value;
use crate::model::control::{Step, StepValue};
use crate::model::firmware::{FirmwareRules, INPUT_SIZE, INPUT_VERSION};
use driver::{Answer, Transfer, TransferShape};
use notes::Notes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A device that did not answer is asked again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// One sub-device, as updates see it: with the package that runs now, at each call.
pub trait SubDevice: Send + Sync {
    fn name(&self) -> &str;
    /// What the package says of its firmware, and the template that says it.
    ///
    /// # Errors
    /// When the package has no such device any more, or says nothing.
    fn rules(&self) -> Result<(String, FirmwareRules), String>;
    fn shape(&self) -> Option<TransferShape>;
    /// One step of sending a file, begun within so long.
    fn send<'a>(&'a self, file: &'a mut Transfer, start_within: Duration) -> Answer<'a, Result<(), Trouble>>;
    fn write(&self, measurepoint: u32, value: Value) -> Answer<'_, Result<(), Trouble>>;
    /// Asks the device for these measurement points now; empty: whether it answers.
    fn read<'a>(&'a self, measurepoints: &'a [u32]) -> Answer<'a, Result<Vec<Value>, Trouble>>;
}

/// Why a device did not do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It will not, however often it is asked.
    Refused(String),
    /// It says: later.
    Later(String),
    /// It does not answer, and nobody knows what it did.
    Away(String),
}

impl Trouble {
    fn words(self) -> String {
        let (Trouble::Refused(words) | Trouble::Later(words) | Trouble::Away(words)) = self;
        words
    }
}

/// What takes firmware of one sub-device.
pub struct DeviceFirmware {
    device: Arc<dyn SubDevice>,
    rules: FirmwareRules,
}

impl DeviceFirmware {
    /// # Errors
    /// `Refused`: the device is none of those that the file is for.
    pub fn new(device: Arc<dyn SubDevice>, template: &str) -> Result<DeviceFirmware, Failure> {
        let refused = |words: String| Failure::new(Stage::Refused, words);
        let (own, rules) = device.rules().map_err(refused)?;
        if own != template {
            let words = format!("it is firmware for devices of template {template}, and {} is a {own}", device.name());
            return Err(Failure::new(Stage::Refused, words));
        }
        Ok(DeviceFirmware { device, rules })
    }

    fn failed(&self, stage: Stage, why: &str) -> Failure {
        Failure::new(stage, format!("sub-device {}: {why}", self.device.name()))
    }

    /// What the device shows; `None`: it was not asked, for the package names no point.
    async fn version(&self) -> Result<Option<String>, Trouble> {
        if self.rules.version.is_empty() {
            return Ok(None);
        }
        let values = self.device.read(&self.rules.version).await?;
        shown(&values).map(Some).ok_or_else(|| Trouble::Refused("its version is no text and no number".to_owned()))
    }

    /// Asks until it answers, or as long as it may be silent.
    async fn patiently<T, F: Future<Output = Result<T, Trouble>>>(&self, ask: impl Fn() -> F) -> Result<T, String> {
        let until = Instant::now() + self.rules.patience;
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Refused(why)) => return Err(why),
                Err(other) if Instant::now() + AGAIN >= until => {
                    return Err(format!("no answer for {} s: {}", self.rules.patience.as_secs(), other.words()));
                }
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// Writes the steps in order. With `unsure`, a last one without an answer may have been carried out.
    async fn write(&self, steps: &[Step], update: &Staged, unsure: bool) -> Result<(), String> {
        for (at, step) in steps.iter().enumerate() {
            let value = value(step, update);
            let last = at + 1 == steps.len();
            let asked = self.patiently(|| async {
                match self.device.write(step.measurepoint, value.clone()).await {
                    Err(Trouble::Away(_)) if unsure && last => Ok(()),
                    other => other,
                }
            });
            asked.await?;
        }
        Ok(())
    }

    fn runs(&self, shown: Option<&str>, update: &Staged) -> bool {
        shown.is_some_and(|shown| same(shown, &update.manifest.version.to_string()))
    }
}

/// What a step writes.
fn value(step: &Step, update: &Staged) -> Value {
    use crate::model::control::Constant;
    match &step.value {
        StepValue::Constant(Constant::Bool(on)) => Value::Bool(*on),
        StepValue::Constant(Constant::Number(number)) => Value::Double(*number),
        StepValue::Constant(Constant::Text(text)) => Value::Text(text.as_str().into()),
        StepValue::Input(name) if name == INPUT_SIZE => {
            Value::Int(i64::try_from(update.manifest.payload_bytes).unwrap_or(i64::MAX))
        }
        StepValue::Input(name) => {
            debug_assert_eq!(name, INPUT_VERSION, "the check knows no other input");
            Value::Text(update.manifest.version.to_string().into())
        }
    }
}

impl Target for DeviceFirmware {
    fn running(&self) -> Answer<'_, Option<String>> {
        Box::pin(async {
            // Silence is no version; whether it answers is asked again before anything is changed.
            let shown = self.version().await.ok().flatten()?;
            Some(whole(&shown))
        })
    }

    fn prepare<'a>(&'a self, update: &'a Staged, tell: &'a dyn Tell) -> Answer<'a, Result<(), Failure>> {
        Box::pin(async move {
            let refused = |why: &str| self.failed(Stage::Refused, why);
            let shape = self.device.shape().ok_or_else(|| refused("its connection carries no files"))?;
            let size = update.manifest.payload_bytes;
            if size > shape.most {
                return Err(refused(&format!("the file has {size} bytes, it takes {}", shape.most)));
            }
            tell.tell(10, &format!("asking {}", self.device.name()));
            let asked = self.patiently(|| self.device.read(&self.rules.version)).await;
            asked.map(drop).map_err(|why| self.failed(Stage::Other, &why))
        })
    }

    fn install<'a>(&'a self, update: &'a Staged, tell: &'a dyn Tell) -> Answer<'a, Result<(), Failure>> {
        Box::pin(send::send(self, update, tell))
    }

    fn activate<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<Activation, Failure>> {
        Box::pin(async move {
            let other = |why: String| self.failed(Stage::Other, &why);
            let notes = Notes::read(update).map_err(|error| other(error.to_string()))?;
            // It may have begun before the gateway was killed; writing it twice would start the device twice.
            if notes.begun.is_some() && self.runs(self.version().await.ok().flatten().as_deref(), update) {
                return Ok(Activation::Now);
            }
            if notes.begun.is_none() {
                let notes = Notes { begun: Some(crate::model::Timestamp::now().0), ..notes };
                notes.write(update).map_err(|error| other(error.to_string()))?;
            }
            // A device that restarts at once may not have answered; its version will tell.
            let unsure = !self.rules.version.is_empty();
            self.write(&self.rules.after, update, unsure).await.map_err(other)?;
            Ok(Activation::Now)
        })
    }

    fn standing<'a>(&'a self, update: &'a Staged) -> Answer<'a, Result<Standing, Failure>> {
        Box::pin(async move {
            if self.rules.version.is_empty() {
                return Ok(Standing::Proven);
            }
            let notes = Notes::read(update).map_err(|error| self.failed(Stage::Other, &error.to_string()))?;
            let shown = self.version().await;
            let wanted = &update.manifest.version;
            if self.runs(shown.as_ref().ok().and_then(|shown| shown.as_deref()), update) {
                return Ok(Standing::Proven);
            }
            let (name, within) = (self.device.name(), self.rules.version_within);
            let late = notes.begun.is_none_or(|begun| past(begun, within));
            match shown {
                Ok(shown) => {
                    let shown = shown.unwrap_or_default();
                    let words = format!("sub-device {name} shows version {shown}, and not {wanted}");
                    if !late {
                        return Ok(Standing::OnTrial(words));
                    }
                    Ok(Standing::RolledBack(format!("{words}, {} s after it was to begin with it", within.as_secs())))
                }
                Err(_) if !late => Ok(Standing::OnTrial(format!("sub-device {name} does not answer yet"))),
                Err(trouble) => {
                    let words = format!("it shows no version within {} s: {}", within.as_secs(), trouble.words());
                    Err(self.failed(Stage::Other, &words))
                }
            }
        })
    }

    fn confirm<'a>(&'a self, _: &'a Staged) -> Answer<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    /// The gateway has no older firmware; it can only tell whether the device went on with it by itself.
    fn roll_back<'a>(&'a self, update: &'a Staged, _: &'a str) -> Answer<'a, Result<Activation, Failure>> {
        Box::pin(async move {
            let notes = Notes::read(update).map_err(|error| self.failed(Stage::Other, &error.to_string()))?;
            if notes.begun.is_none() {
                return Ok(Activation::Now);
            }
            match self.patiently(|| self.version()).await {
                Ok(Some(shown)) if !same(&shown, &update.manifest.version.to_string()) => Ok(Activation::Now),
                Ok(Some(_)) => {
                    Err(self.failed(Stage::Other, "it runs the new version, and the gateway has no other one"))
                }
                Ok(None) => Err(self.failed(Stage::Other, "nobody can ask it what it runs")),
                Err(why) => Err(self.failed(Stage::Other, &why)),
            }
        })
    }
}

/// True when `within` has passed since `begun`, a moment of the wall clock. A clock that was set back is no reason to
/// wait for longer.
fn past(begun: i64, within: Duration) -> bool {
    let since = crate::model::Timestamp::now().0.saturating_sub(begun);
    since < -60_000 || u128::try_from(since).is_ok_and(|since| since >= within.as_millis())
}

#[cfg(test)]
mod tests;
