//! What is asked of the task of updates: offers, files, to give a job up or take it back.

use super::handle::{Refused, Request, Wanted};
use super::telling::saying;
use super::{Job, Runner, State, manifest, now};
use crate::model::update::{Offer, Said};
use crate::update::bring::ADDRESS;
use crate::update::job::{self, Event, Origin, Verdict};
use crate::update::{Kind, source};
use serde_json::{Value as Json, json};

impl Runner {
    pub(super) fn hear(&mut self, request: Request) {
        self.read_again();
        let answer = match request.wanted {
            Wanted::Offer(offer, gateway) => self.offered(*offer, gateway),
            Wanted::Install { file, now, device } => self.install(&file, now, device),
            Wanted::Cancel => self.cancel(),
            Wanted::RollBack => self.roll_back(),
        };
        // Whoever asked has gone, at worst.
        let _ = request.answer.send(answer);
    }

    pub(super) fn offered(&mut self, offer: Offer, gateway: bool) -> Result<Json, Refused> {
        let known = format!("{}/{}", offer.product_key, offer.device_key);
        let running =
            if gateway { Some(crate::version::current()) } else { self.versions.get(&known).map(String::as_str) };
        match job::consider(self.job.as_ref(), &offer, running) {
            Verdict::UnderWay => {
                if let Some(job) = self.job.clone() {
                    self.tell(&job, "");
                }
                Ok(self.shown())
            }
            Verdict::Runs => {
                let say = |what| self.ports.ear.say(saying(&offer.product_key, &offer.device_key, "runs", what));
                say(Said::Progress { step: 100, words: "this version runs already".to_owned() });
                say(Said::Version(offer.version.clone()));
                Ok(json!({ "runs": offer.version }))
            }
            Verdict::Busy(words) => Err(Refused { code: "busy", words }),
            Verdict::New => {
                if let Err(words) = source::way(&offer, &self.ports.config) {
                    self.turn_away(offer, &words);
                    return Err(Refused { code: "refused", words });
                }
                self.take_on(Origin::Cloud(offer), false, None)
            }
        }
    }

    /// Its address is none this gateway asks: that is the end of it, on disk, and no job. Whether it is news; the job
    /// before it stays the one that can be taken back.
    pub(super) fn turn_away(&mut self, offer: Offer, words: &str) -> bool {
        let why = format!("{ADDRESS}{words}");
        let known = self.ports.shelf.history().unwrap_or_default().iter().any(|past| {
            (past.why.as_str(), past.sign.as_ref(), past.version.as_ref())
                == (why.as_str(), Some(&offer.sign), Some(&offer.version))
                && past.may_be_of(&offer)
        });
        if !known {
            tracing::warn!(version = offer.version, why = words, "an update is refused");
            let id = format!("{}-{:04x}", now(), fastrand::u16(..));
            let job = Job::new(id, Origin::Cloud(offer), false, now());
            self.record(&Job { state: State::Refused { why }, told: true, ..job });
        }
        !known
    }

    pub(super) fn install(
        &mut self,
        file: &std::path::Path,
        at_once: bool,
        device: Option<String>,
    ) -> Result<Json, Refused> {
        if let Some(job) = self.job.as_ref().filter(|job| !job.state.is_end()) {
            let words =
                format!("another update is under way and {}; `enos-edge update status` shows it", job.state.word());
            return Err(Refused { code: "busy", words });
        }
        if let Some(name) = device.as_ref().filter(|name| self.ports.around.keys_of(name).is_none()) {
            let words = format!("the package has no sub-device \"{name}\"; `enos-edge status` names them");
            return Err(Refused { code: "refused", words });
        }
        self.take_on(Origin::File(file.display().to_string()), at_once, device)
    }

    pub(super) fn take_on(&mut self, origin: Origin, at_once: bool, device: Option<String>) -> Result<Json, Refused> {
        let refused = |words: String| Refused { code: "refused", words };
        self.ports.keys.as_ref().map_err(|why| refused(why.clone()))?;
        self.unread.clone().map_or(Ok(()), |why| Err(refused(why)))?;
        let id = format!("{}-{:04x}", now(), fastrand::u16(..));
        let job = Job { device, ..Job::new(id, origin, at_once, now()) };
        self.ports
            .shelf
            .save(&job)
            .map_err(|error| refused(format!("the update can not be written down: {error}; nothing was done")))?;
        tracing::info!(job = %job.id, offer = ?job.offer().map(|offer| &offer.version), "an update begins");
        self.ports.shelf.tidy_up(Some(&job));
        self.tell(&job, "");
        self.job = Some(job);
        self.doing = None;
        self.show();
        Ok(self.shown())
    }

    pub(super) fn cancel(&mut self) -> Result<Json, Refused> {
        let refused = |words: &str| Refused { code: "not_possible", words: words.to_owned() };
        self.unread.as_deref().map_or(Ok(()), |why| Err(refused(why)))?;
        let job =
            self.job.as_ref().filter(|job| !job.state.is_end()).ok_or_else(|| refused("no update is under way"))?;
        let Some(after) = job.after(Event::Cancelled("cancelled by a person".to_owned()), now()) else {
            return Err(refused(&too_far(job)));
        };
        self.committed(&after)
    }

    pub(super) fn roll_back(&mut self) -> Result<Json, Refused> {
        let refused = |words: &str| Refused { code: "not_possible", words: words.to_owned() };
        self.unread.as_deref().map_or(Ok(()), |why| Err(refused(why)))?;
        let job = self.job.as_ref().ok_or_else(|| refused("there was no update that could be taken back"))?;
        if manifest(job).is_some_and(|manifest| matches!(manifest.kind, Kind::Device { .. })) {
            return Err(refused(
                "a sub-device's firmware is not taken back; install an update with the version before",
            ));
        }
        let Some(after) = job.after(Event::TakeBack("a person asked for it".to_owned()), now()) else {
            return Err(refused(&nothing_back(job)));
        };
        self.committed(&after)
    }

    pub(super) fn committed(&mut self, after: &Job) -> Result<Json, Refused> {
        match self.commit(after) {
            Ok(()) => Ok(self.shown()),
            Err(error) => {
                let words = format!(
                    "it could not be written down; nothing was done: {error}; make room on the disk, or look at `enos-edge doctor`"
                );
                Err(Refused { code: "disk", words })
            }
        }
    }
}

/// Why it can not be cancelled, and what can be done.
fn too_far(job: &Job) -> String {
    let what = match job.state {
        State::RollingBack { .. } => "it is being taken back already",
        State::OnTrial { .. } | State::Confirming => "`enos-edge update roll-back` takes it back",
        _ => {
            "it ends by itself, at the latest when its step's time is over; `enos-edge update roll-back` takes it back when it is on trial"
        }
    };
    format!("the update is {}, too far to be cancelled; {what}", job.state.word())
}

/// Why it can not be taken back, and what can be done.
fn nothing_back(job: &Job) -> String {
    let state = job.state.word();
    match &job.state {
        state if state.can_be_cancelled() => {
            format!("the update is {} and has changed nothing yet; `enos-edge update cancel` gives it up", state.word())
        }
        State::RollingBack { .. } => "the update is being taken back already".to_owned(),
        State::Preparing | State::Installing | State::Activating => format!(
            "the update is {state}; it ends by itself, at the latest when its step's time is over, and can be taken back when it is on trial or done"
        ),
        _ => format!("the last update is {state}; there is nothing to take back"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::job::tests::{good_events, job};

    /// A person who is told by one command to use the other is not sent back by that.
    #[test]
    fn whoever_can_neither_cancel_nor_take_back_is_told_what_happens() {
        let mut job = job();
        for event in good_events() {
            let cancelled = job.after(Event::Cancelled("x".into()), 9).is_some();
            let taken_back = job.after(Event::TakeBack("x".into()), 9).is_some();
            assert!(!(cancelled && taken_back), "{}", job.state.word());
            if !cancelled {
                assert_eq!(too_far(&job).contains("roll-back` takes it back when"), !taken_back, "{}", too_far(&job));
            }
            if !taken_back {
                let words = nothing_back(&job);
                assert!(words.contains("update cancel") == cancelled && !words.contains("nothing to take"), "{words}");
            }
            job = job.after(event, 2).unwrap();
        }
        let ended = job.after(Event::TakeBack("x".into()), 9).unwrap();
        assert!(too_far(&ended).contains("taken back already") && nothing_back(&ended).contains("already"));
    }
}
