//! All pairs of key and certificate: in memory for the link, on disk for the next start.
//!
//! What the link tells is taken at once and written by the task that renews; if the power goes in between, the next
//! start tries the same candidate again.

use super::facts::{self, Facts};
use super::pace::{self, Pace};
use super::record::{self, PLACES, Pair, Stage};
use super::turns::{Effect, Turns};
use crate::identity::Certificates;
use crate::identity::activation::Keys;
use crate::identity::connects::Moment;
use crate::model::identity::{ClientCertificate, Failed};
use crate::model::{Secret, Timestamp};
use crate::store::Disk;
use driver::Answer;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::{info, warn};

/// The pairs and who has which role.
pub struct Slots {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    keys: Keys,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    places: [Option<Kept>; PLACES],
    turns: Turns,
    /// Effects the task has not seen yet: at most a promotion and a refusal for each pair.
    effects: Vec<Effect>,
    /// Why the last request brought nothing, for people.
    last_error: Option<String>,
    /// When the next one may go out, for people; on the clock that never jumps.
    next_request: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Kept {
    pair: Pair,
    facts: Option<Facts>,
    /// The disk does not have it like this yet.
    unsaved: bool,
}

/// What there is at a moment, for the schedule.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub current: Option<Facts>,
    pub current_serial: Option<String>,
    pub candidate: Option<Facts>,
    pub blamed: bool,
    pub hopeless: bool,
    /// As [`Turns::is_stuck`].
    pub stuck: bool,
}

impl Slots {
    /// Looks at what lies in `folder`. What can not be used there is told and counts as absent.
    #[must_use]
    pub fn open(disk: Arc<dyn Disk>, folder: &Path, product_key: &str, device_key: &str) -> Slots {
        let keys = Keys::new(product_key, device_key);
        let mut state = State::default();
        for place in 0..PLACES {
            match record::load(&*disk, folder, &keys, place) {
                Ok(pair) => state.places[place] = pair.and_then(kept),
                Err(trouble) => warn!("{trouble}"),
            }
        }
        state.find_roles();
        let changed = watch::Sender::new(0);
        Slots { disk, folder: folder.to_owned(), keys, state: Mutex::new(state), changed }
    }

    /// How long ago the last request went out or was answered, as far as the disk knows.
    pub(super) fn since_asked(&self) -> Option<Duration> {
        let now = Moment::now();
        let state = self.lock();
        // What works was answered long ago in the sense of this question, or a moment ago: both count.
        state.kept().map(|kept| kept.pair.at.age(&now)).min()
    }

    pub(super) fn view(&self) -> View {
        let state = self.lock();
        let of = |number: Option<u32>| number.and_then(|number| state.find(number));
        let current = of(state.turns.current);
        View {
            current: current.and_then(|kept| kept.facts.clone()),
            current_serial: current.and_then(|kept| kept.pair.cloud_serial.clone()),
            candidate: of(state.turns.candidate).and_then(|kept| kept.facts.clone()),
            blamed: state.turns.is_blamed(),
            hopeless: state.turns.is_hopeless() || state.turns.is_stuck(now()),
            stuck: state.turns.is_stuck(now()),
        }
    }

    /// What the schedule said before this start, and how long ago.
    pub(super) fn pace(&self) -> Option<(Pace, Duration)> {
        let (pace, at) = pace::load(&*self.disk, &self.folder, &self.keys)?;
        Some((pace, at.age(&Moment::now())))
    }

    /// On disk when it returns well. Blocks.
    pub(super) fn keep_pace(&self, pace: Pace) -> Result<(), String> {
        pace::store(&*self.disk, &self.folder, &self.keys, pace)
    }

    /// The key that waits for a certificate, of an earlier request that brought none.
    pub(super) fn waiting_key(&self) -> Option<(u32, Secret)> {
        let state = self.lock();
        let waits = state.kept().find(|kept| kept.pair.stage == Stage::Asked)?;
        Some((waits.pair.number, waits.pair.key.clone()))
    }

    /// Stores a key before anybody is asked for its certificate. On disk when it returns well. Blocks.
    pub(super) fn keep_key(&self, key: &Secret) -> Result<u32, String> {
        let (place, pair) = {
            let state = self.lock();
            let number = match state.kept().find(|kept| kept.pair.key == *key) {
                Some(kept) => kept.pair.number,
                None => state.kept().map(|kept| kept.pair.number).max().unwrap_or(0).wrapping_add(1),
            };
            let place = state.place_of(number).unwrap_or_else(|| state.free_place());
            let pair = Pair {
                number,
                stage: Stage::Asked,
                key: key.clone(),
                chain: String::new(),
                cloud_serial: None,
                at: Moment::now(),
                reason: None,
            };
            (place, pair)
        };
        record::store(&*self.disk, &self.folder, &self.keys, place, &pair)?;
        let number = pair.number;
        self.lock().put(place, Kept { pair, facts: None, unsaved: false });
        Ok(number)
    }

    /// Stores what was issued for a kept key; it is the candidate from now on. Blocks.
    pub(super) fn keep_issued(
        &self,
        number: u32,
        chain: &str,
        facts: Facts,
        serial: Option<String>,
    ) -> Result<(), String> {
        let (place, pair) = {
            let state = self.lock();
            let place = state.place_of(number).ok_or("the key of this certificate is gone")?;
            let kept = state.places[place].as_ref().ok_or("the key of this certificate is gone")?;
            let pair = Pair {
                stage: Stage::Candidate,
                chain: chain.to_owned(),
                cloud_serial: serial,
                at: Moment::now(),
                ..kept.pair.clone()
            };
            (place, pair)
        };
        record::store(&*self.disk, &self.folder, &self.keys, place, &pair)?;
        let mut state = self.lock();
        state.put(place, Kept { pair, facts: Some(facts), unsaved: false });
        state.turns.issued(number);
        state.last_error = None;
        drop(state);
        self.announce();
        Ok(())
    }

    /// What the link has found out since the last call.
    pub(super) fn take_effects(&self) -> Vec<Effect> {
        std::mem::take(&mut self.lock().effects)
    }

    /// The link has found out what the disk does not say yet.
    pub(super) fn is_unsaved(&self) -> bool {
        self.lock().kept().any(|kept| kept.unsaved)
    }

    /// Writes what the link has found out. Blocks.
    pub(super) fn save(&self) -> Result<(), String> {
        for place in 0..PLACES {
            let unsaved = self.lock().places[place].as_ref().filter(|kept| kept.unsaved).map(|kept| kept.pair.clone());
            let Some(pair) = unsaved else { continue };
            record::store(&*self.disk, &self.folder, &self.keys, place, &pair)?;
            if let Some(kept) = &mut self.lock().places[place]
                && kept.pair == pair
            {
                kept.unsaved = false;
            }
        }
        Ok(())
    }

    pub(super) fn tell(&self, last_error: Option<String>, next_request: Option<Instant>) {
        let mut state = self.lock();
        (state.last_error, state.next_request) = (last_error, next_request);
    }

    /// Changes whenever a pair or a role does.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn announce(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    fn offered(&self) -> Result<ClientCertificate, String> {
        let state = self.lock();
        let number = state.turns.offer(now());
        match number.and_then(|number| state.find(number)) {
            Some(kept) => Ok(ClientCertificate {
                slot: kept.pair.number,
                chain: kept.pair.chain.clone(),
                key: kept.pair.key.clone(),
            }),
            None => {
                let why = state.last_error.as_deref().unwrap_or("it has been asked for");
                Err(format!("there is no client certificate yet: {why}"))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change leaves the state whole, whatever happened to the thread that held it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of the runtime, so that tests can pause it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Certificates for Slots {
    fn current(&self) -> Answer<'_, Result<ClientCertificate, String>> {
        Box::pin(async { self.offered() })
    }

    fn tried(&self, slot: u32, outcome: Result<(), Failed>) {
        let mut state = self.lock();
        let effect = state.turns.tried(slot, outcome, now());
        let stage = match &effect {
            Effect::Nothing => None,
            Effect::Promote(number) => {
                info!(certificate = number, "a connection stands with the new certificate: it is in use from now on");
                Some((*number, Stage::Works, None))
            }
            Effect::SetAside(number, reason) => {
                warn!(certificate = number, reason, "the new certificate is not taken; it is set aside");
                Some((*number, Stage::Refused, Some(reason.clone())))
            }
        };
        if let Some((number, stage, reason)) = stage {
            if let Some(kept) = state.find_mut(number) {
                (kept.pair.stage, kept.pair.reason, kept.unsaved) = (stage, reason, true);
            }
            state.effects.push(effect);
        }
        drop(state);
        self.announce();
    }

    fn better(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let mut changes = self.changes();
            loop {
                changes.borrow_and_update();
                let at = self.lock().turns.better_at(now());
                // It ends by itself when a candidate has rested; without one, a change tells.
                let rested = async {
                    match at {
                        Some(at) => tokio::time::sleep_until(at.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = rested => return,
                    // The sender lives as long as self.
                    _ = changes.changed() => {}
                }
            }
        })
    }

    fn status(&self) -> Json {
        let state = self.lock();
        let roles: [(&str, Option<u32>); 4] = [
            ("current", state.turns.current),
            ("candidate", state.turns.candidate),
            ("before", state.turns.before),
            ("set_aside", state.turns.refused),
        ];
        let shown = |(role, number): (&str, Option<u32>)| {
            let kept = state.find(number?)?;
            let mut slot = json!(kept.facts);
            slot["role"] = json!(role);
            slot["slot"] = json!(kept.pair.number);
            slot["in_use"] = json!(state.turns.in_use == number);
            slot["cloud_serial"] = json!(kept.pair.cloud_serial);
            slot["reason"] = json!(kept.pair.reason);
            Some(slot)
        };
        let waiting = state.kept().any(|kept| kept.pair.stage == Stage::Asked);
        json!({
            "slots": roles.into_iter().filter_map(shown).collect::<Vec<Json>>(),
            "asked_for": waiting,
            "last_error": state.last_error,
            "next_request": state.next_request.map(|at| {
                let left = at.saturating_duration_since(now()).as_millis();
                Timestamp::now().0.saturating_add(i64::try_from(left).unwrap_or(i64::MAX))
            }),
        })
    }
}

impl State {
    fn kept(&self) -> impl Iterator<Item = &Kept> {
        self.places.iter().flatten()
    }

    fn place_of(&self, number: u32) -> Option<usize> {
        self.places.iter().position(|kept| kept.as_ref().is_some_and(|kept| kept.pair.number == number))
    }

    fn find(&self, number: u32) -> Option<&Kept> {
        self.kept().find(|kept| kept.pair.number == number)
    }

    fn find_mut(&mut self, number: u32) -> Option<&mut Kept> {
        self.places.iter_mut().flatten().find(|kept| kept.pair.number == number)
    }

    /// Who was promoted last is in use; who was before that stays for the case that it is refused.
    fn find_roles(&mut self) {
        let mut numbers: Vec<(u32, Stage)> = self.kept().map(|kept| (kept.pair.number, kept.pair.stage)).collect();
        numbers.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        let mut of = |stage: Stage| {
            let found = numbers.iter().position(|(_, other)| *other == stage)?;
            Some(numbers.remove(found).0)
        };
        self.turns = Turns::default();
        self.turns.current = of(Stage::Works);
        self.turns.before = of(Stage::Works);
        self.turns.candidate = of(Stage::Candidate);
        self.turns.refused = of(Stage::Refused);
        // An older candidate than what is in use was overtaken.
        if self.turns.candidate < self.turns.current {
            self.turns.candidate = None;
        }
    }

    /// An empty place, else the one nobody needs, else the pair before the one in use.
    fn free_place(&self) -> usize {
        let empty = self.places.iter().position(Option::is_none);
        let role = |number: u32| {
            let turns = &self.turns;
            [turns.current, turns.candidate, turns.before, turns.refused].iter().position(|n| *n == Some(number))
        };
        let least_needed = || {
            // Without a role first, then set aside, before, candidate; never the one in use.
            let rank = |place: &usize| {
                let number = self.places[*place].as_ref().map_or(0, |kept| kept.pair.number);
                let in_need = self.turns.current.is_none() && role(number) == Some(3);
                role(number).map_or(0, |role| if in_need { 2 } else { 4 - role })
            };
            (0..PLACES).min_by_key(rank)
        };
        empty.or_else(least_needed).unwrap_or(0)
    }

    fn put(&mut self, place: usize, kept: Kept) {
        if let Some(old) = self.places[place].as_ref().map(|old| old.pair.number)
            && old != kept.pair.number
        {
            let turns = &mut self.turns;
            for role in [&mut turns.current, &mut turns.candidate, &mut turns.before, &mut turns.refused] {
                if *role == Some(old) {
                    *role = None;
                }
            }
        }
        self.places[place] = Some(kept);
    }
}

/// A pair whose certificate can not be read is no pair.
fn kept(pair: Pair) -> Option<Kept> {
    if pair.stage == Stage::Asked {
        return Some(Kept { pair, facts: None, unsaved: false });
    }
    match facts::parse(&pair.chain) {
        Ok(mut all) => Some(Kept { pair, facts: Some(all.swap_remove(0).facts), unsaved: false }),
        Err(problem) => {
            warn!(certificate = pair.number, "a stored certificate {problem}; it is not used");
            None
        }
    }
}
