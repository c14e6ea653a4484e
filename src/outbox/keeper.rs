//! The store thread: the only one that touches the disk. It asks the tail what to do and does it.

use super::destination::Read;
use super::gap::{Gap, Reason, SetAsideRow};
use super::group::{Group, Job};
use super::held::{Held, HeldFacts, Keys};
use super::lock::Lock;
use super::needs::{self, Need};
use super::outlet::Shared;
use super::quota::Quota;
use super::salvage;
use super::segment::{self, Numbered, Segment};
use super::settings::DestinationSettings;
use super::space::Space;
use super::start;
use super::store::{Store, StoreError};
use super::wishes::{Judge, bit};
use super::work::Drop;
use crate::model::{OnDuty, Timestamp};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// Segments dropped for one transaction.
const DROPS: usize = 64;
/// After a failed read.
const PAUSE: Duration = Duration::from_millis(100);
/// What can be read of a damaged file is carried over for at most so long; the watchdog has to know.
const SALVAGE: Duration = Duration::from_secs(600);
/// A drop, a full disk: said once in this time.
const EPISODE: Duration = Duration::from_secs(60);

pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Store,
    pub(super) space: Space,
    pub(super) max_age: Duration,
    pub(super) destinations: Vec<DestinationSettings>,
    pub(super) judge: Judge,
    pub(super) quotas: Vec<Quota>,
    /// Held as long as the connection; `None` until there is room for it.
    pub(super) lock: Option<Lock>,
    /// The file was not there at the start, and joins: its numbers are below this.
    pub(super) begun_without: Option<u64>,
    pub(super) told: Option<Instant>,
    /// For the watchdog.
    pub(super) duty: OnDuty,
    /// Dropped when the thread ends: whoever closes waits for that.
    pub(super) _alive: SyncSender<()>,
}

impl Keeper {
    pub(super) fn run(mut self) {
        while let Some(job) = self.shared.next_job() {
            match job {
                Job::Commit { need } => self.commit(need),
                Job::Fetch { destination, generation, from, until } => self.fetch(destination, generation, from, until),
                Job::Release { destination, keys } => self.release(destination, &keys),
                Job::Housekeep => self.housekeep(),
                Job::Exit => break,
                Job::Wait(_) => {}
            }
            self.answer_questions();
        }
        if !self.shared.abandoned.load(Ordering::Relaxed) {
            self.tidy_up();
        }
        self.answer_questions();
    }

    /// On the way out: one slice of free space and the log. What is left over, the next run does.
    fn tidy_up(&mut self) {
        if let Err(e) = self.store.give_back().and_then(|_| self.store.checkpoint()) {
            tracing::warn!(error = %chain(&e), "outbox log is not written back; the next start does it");
        }
    }

    fn commit(&mut self, need: usize) {
        let drops = self.make_room(need as u64);
        let mut group = self.shared.lock().take_group();
        group.drops = drops;
        if !self.write(group) {
            return;
        }
        if self.store.path().exists() {
            self.recovered()
        } else {
            self.gone()
        }
        self.look();
    }

    fn write(&mut self, group: Group) -> bool {
        let began = Instant::now();
        match self.store.commit(&group) {
            Ok(()) => {
                self.shared.lock().committed(&group, began.elapsed(), Instant::now());
                self.say_drops(&group.gaps);
                self.shared.wake_destinations();
                true
            }
            Err(e) => {
                self.quotas.iter_mut().for_each(Quota::forget);
                self.shared.lock().failed(group, Instant::now());
                // Backlog may wait for this commit; now it goes without.
                self.shared.wake_destinations();
                self.trouble(&e);
                false
            }
        }
    }

    /// Drops what is too much for one destination, then the oldest segments until the next transaction fits. The newest
    /// are never refused.
    fn make_room(&mut self, need: u64) -> Vec<(Option<usize>, u64)> {
        let mut drops = Vec::new();
        let mut freed = self.trim(&mut drops).unwrap_or(0);
        freed += self.drop_old_held(Timestamp::now()).unwrap_or(0);
        let mut after = (0, 0);
        let (most, mut from) = (drops.len() + DROPS, 0);
        while drops.len() < most {
            let Some(reason) = self.reason_to_drop(need, freed, from) else { break };
            let segment = self.store.segment_at(from, u64::MAX).ok().flatten();
            let before = segment.as_ref().map_or(u64::MAX, |segment| segment.first);
            if reason != Reason::Age
                && let Some(bytes) = self.drop_held_before(before, &mut after, reason)
            {
                freed += bytes;
                continue;
            }
            let Some(segment) = segment else { break };
            // Space of what nobody wants comes back by itself.
            freed += segment.body.len() as u64;
            from = segment.last + 1;
            self.drop_segment(&segment, None, reason);
            drops.push((None, segment.first));
        }
        drops
    }

    /// Drops what exceeds the quota or the age of one destination, for that one only. Returns the bytes that come free.
    fn trim(&mut self, drops: &mut Vec<(Option<usize>, u64)>) -> Result<u64, StoreError> {
        let payers: Vec<usize> =
            (0..self.destinations.len()).filter(|i| self.destinations[*i].quota_bytes.is_none()).collect();
        let mut quotas = std::mem::take(&mut self.quotas);
        let mut freed = 0;
        let mut result = Ok(());
        for quota in &mut quotas {
            result = result.and_then(|()| self.trim_one(quota, &payers, drops).map(|bytes| freed += bytes));
        }
        self.quotas = quotas;
        result.map(|()| freed)
    }

    fn trim_one(
        &mut self,
        quota: &mut Quota,
        payers: &[usize],
        drops: &mut Vec<(Option<usize>, u64)>,
    ) -> Result<u64, StoreError> {
        let one = quota.destination();
        let (mut freed, mut from) = (0, 0);
        for need in quota.excess(&self.store, payers)? {
            freed += self.drop_for(one, &need, Reason::Quota, drops)?;
        }
        for _ in 0..DROPS {
            let Some(need) = quota.aged(&self.store, Timestamp::now(), from)? else { break };
            from = need.last + 1;
            if !drops.contains(&(Some(one), need.first)) {
                freed += self.drop_for(one, &need, Reason::Age, drops)?;
            }
        }
        Ok(freed)
    }

    /// Returns the bytes that come free: none when somebody else needs the segment.
    fn drop_for(
        &mut self,
        destination: usize,
        need: &Need,
        reason: Reason,
        drops: &mut Vec<(Option<usize>, u64)>,
    ) -> Result<u64, StoreError> {
        let Some(segment) = self.store.segment_at(need.first, need.first + 1)? else { return Ok(0) };
        let others = self.store.needs_of(need.first)?.iter().enumerate().any(|(i, n)| i != destination && n.is_some());
        self.drop_segment(&segment, Some(destination), reason);
        drops.push((Some(destination), need.first));
        Ok(if others { 0 } else { need.bytes })
    }

    fn drop_segment(&mut self, segment: &Segment, only: Option<usize>, reason: Reason) {
        let now = Instant::now();
        let target = only.map(|destination| (destination, self.store.targets()[destination]));
        let mut behind = vec![0; self.destinations.len()];
        if let Some((destination, target)) = target {
            // Without an answer nothing before it is taken for settled.
            let last = needs::last_before(&self.store.connection, target, segment.first);
            behind[destination] = last.unwrap_or(segment.first);
        }
        match (segment::decode(segment), self.store.names(segment.epoch)) {
            (Ok(parcels), Ok(names)) => {
                let wishes = self.judge.wishes(&names);
                // Who is not told of is taken for one that needs it: nothing is let go in silence.
                let needed_by = self.needed_by(segment.first).unwrap_or(u64::MAX);
                let drop = Drop { only, reason, needed_by, behind };
                self.shared.lock().drop_segment(&parcels, &wishes, &drop, now);
            }
            _ => self.drop_damaged(segment, only),
        }
    }

    fn needed_by(&self, first: u64) -> Result<u64, StoreError> {
        let needs = self.store.needs_of(first)?;
        Ok(needs.iter().enumerate().filter(|(_, need)| need.is_some()).fold(0, |mask, (i, _)| mask | bit(i)))
    }

    fn drop_damaged(&self, segment: &Segment, only: Option<usize>) {
        let needed = self.store.needs_of(segment.first).unwrap_or_default();
        let needed: Vec<(usize, u64)> = needed
            .iter()
            .enumerate()
            .filter(|(i, _)| only.is_none_or(|only| only == *i))
            .filter_map(|(i, need)| need.map(|need| (i, need.readings)))
            .collect();
        self.shared.lock().drop_damaged(segment, &needed, Instant::now());
    }

    /// Why the first segment from there on must go, if so. A clock that stands before the readings was not set yet:
    /// it tells no age.
    fn reason_to_drop(&self, need: u64, freed: u64, from: u64) -> Option<Reason> {
        let too_old = |newest: Timestamp| {
            let age = Timestamp::now().0.saturating_sub(newest.0);
            u128::try_from(age).is_ok_and(|age| age > self.max_age.as_millis())
        };
        match self.store.shortage(need, freed) {
            Ok(Some(reason)) => Some(reason),
            Ok(None) => self.store.newest_of_segment(from).ok().flatten().filter(|t| too_old(*t)).map(|_| Reason::Age),
            Err(_) => None,
        }
    }

    fn fetch(&mut self, destination: usize, generation: u64, from: u64, until: u64) {
        match self.read(destination, from, until) {
            Ok((parcels, next)) => {
                self.shared.lock().fetched(destination, generation, parcels, next);
                self.shared.wake_backlog(destination);
            }
            Err(e) => {
                self.shared.lock().fetch_failed(destination, generation);
                self.trouble(&e);
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// What a destination wants of the next segment it needs, and where the next read begins.
    fn read(&mut self, destination: usize, from: u64, until: u64) -> Result<(Vec<Read>, u64), StoreError> {
        let Some(row) = self.store.segment_for(destination, from, until)? else { return Ok((Vec::new(), until)) };
        let (parcels, names) = (segment::decode(&row), self.store.names(row.epoch));
        let next = until.min(row.last + 1);
        match (parcels, names) {
            (Ok(parcels), Ok(names)) => {
                let (wishes, needed_by) = (self.judge.wishes(&names), self.needed_by(row.first)?);
                let read = |parcel: &segment::Numbered| {
                    let census = wishes.census(&parcel.batch).among(needed_by);
                    let batch = wishes.cut(&census, destination, &parcel.batch)?;
                    Some(Read { facts: census.facts(parcel.seq, destination), batch, names: names.clone() })
                };
                Ok((parcels.iter().filter_map(read).collect(), next))
            }
            (_, Err(e)) if !matches!(e, StoreError::Damaged(_)) => Err(e),
            _ => {
                tracing::error!(
                    first = row.first,
                    readings = row.readings,
                    "a stored segment is damaged; its readings are lost"
                );
                self.drop_damaged(&row, None);
                Ok((Vec::new(), next))
            }
        }
    }

    /// Rows of a device that is well become parcels again.
    fn release(&mut self, destination: usize, keys: &Keys) {
        let name = self.destinations[destination].name.clone();
        let rows = match self.store.held_of(&name, keys) {
            Ok(rows) => rows,
            Err(e) => return self.trouble(&e),
        };
        let mut found = false;
        for (id, segment) in rows {
            match (segment::decode(&segment), self.store.names(segment.epoch)) {
                (Ok(parcels), Ok(names)) => {
                    for Numbered { seq, batch } in parcels {
                        let row = Held { destination, keys: keys.clone(), seq, names: names.clone(), batch };
                        found |= self.shared.lock().put_back(id, row, Instant::now());
                    }
                }
                (Ok(_), Err(e)) if !matches!(e, StoreError::Damaged(_)) => return self.trouble(&e),
                _ => {
                    let (seq, readings, bytes) = (segment.first, segment.readings, 0);
                    let (oldest, newest) = (segment.oldest, segment.newest);
                    let facts = HeldFacts { id, destination, keys: keys.clone(), seq, readings, oldest, newest, bytes };
                    self.shared.lock().drop_held(&facts, Reason::Damaged, Instant::now());
                }
            }
        }
        if !found {
            self.shared.lock().nothing_found(destination, keys.clone());
        }
        self.shared.wake_destinations();
    }

    /// Lets go of held readings that are older than the segments there are. Returns the bytes, `None` when there are none.
    fn drop_held_before(&mut self, before: u64, after: &mut (u64, i64), reason: Reason) -> Option<u64> {
        let names = self.store.names_of();
        let rows = self.store.oldest_held(&names, *after).ok()?;
        let mut freed = None;
        for row in rows.iter().take_while(|row| row.seq < before) {
            *after = (row.seq, row.id);
            *freed.get_or_insert(0) += row.bytes;
            self.shared.lock().drop_held(row, reason, Instant::now());
        }
        freed
    }

    /// Held readings that are too old, or too much for a destination with a quota of its own.
    fn drop_old_held(&mut self, now: Timestamp) -> Result<u64, StoreError> {
        if !self.shared.lock().holds_anything() {
            return Ok(0);
        }
        let mut excess = Vec::new();
        for one in &self.destinations {
            let held = if one.quota_bytes.is_some() { self.store.held_bytes(&one.name)? } else { 0 };
            excess.push(held.saturating_sub(one.quota_bytes.unwrap_or(u64::MAX)));
        }
        let names = self.store.names_of();
        let mut freed = 0;
        for row in self.store.oldest_held(&names, (0, 0))? {
            let max_age = self.destinations[row.destination].max_age.unwrap_or(self.max_age);
            let age = u128::try_from(now.0.saturating_sub(row.newest.0)).unwrap_or(0);
            let too_much = excess[row.destination] > 0;
            let reason = if age > max_age.as_millis() { Reason::Age } else { Reason::Quota };
            if reason == Reason::Age || too_much {
                excess[row.destination] = excess[row.destination].saturating_sub(row.bytes);
                freed += row.bytes;
                self.shared.lock().drop_held(&row, reason, Instant::now());
            }
        }
        Ok(freed)
    }

    fn housekeep(&mut self) {
        let current = self.shared.lock().current_epochs();
        let drops = self.make_room(0);
        let more = drops.len() >= DROPS;
        if !drops.is_empty() {
            let mut group = self.shared.lock().take_group();
            group.drops = drops;
            if !self.write(group) {
                return;
            }
        }
        match self.store.forget_names(&current).and_then(|()| self.store.give_back()) {
            Ok(to_give) => self.shared.lock().housekeep_again(more || to_give, Instant::now()),
            Err(e) => self.trouble(&e),
        }
        self.look();
    }

    /// What the status shows of the disk.
    fn look(&self) {
        let bytes = self.store.bytes();
        let oldest = self.store.oldest().ok().flatten();
        self.shared.saw_disk(bytes, oldest);
    }

    fn trouble(&mut self, e: &StoreError) {
        // What a connection that was let go answers tells nothing of the disk.
        let mut text = self.store.is_open().then(|| chain(e));
        if let Some(text) = &text
            && self.told.is_none_or(|told| told.elapsed() > EPISODE)
        {
            tracing::error!(error = %text, "outbox can not write; readings stay in memory until it can");
            self.told = Some(Instant::now());
        }
        match e {
            StoreError::Damaged(problem) => self.replace(problem.clone()),
            StoreError::Full(_) => {}
            // Also what a connection answers that could not be opened again last time.
            _ => match self.open_again() {
                Ok(()) => {}
                Err(StoreError::Damaged(problem)) => self.replace(problem),
                Err(e) => {
                    tracing::debug!(error = %chain(&e), "outbox can not be opened again yet");
                    text = Some(chain(&e));
                }
            },
        }
        if text.is_some() {
            self.shared.set_trouble(text);
        }
    }

    fn replace(&mut self, problem: String) {
        let targets = self.store.targets().to_vec();
        self.duty.pulse().back_by(Instant::now() + SALVAGE);
        if let Err(e) = self.store.let_go() {
            return tracing::debug!(error = %chain(&e), "damaged outbox can not be let go yet");
        }
        match salvage::replace(self.store.path(), self.space, problem, Timestamp::now(), false) {
            Ok((store, quarantine)) => {
                tracing::error!(file = %quarantine.file.display(), problem = %quarantine.problem, segments = quarantine.segments_saved,
                    "outbox file was damaged and set aside; what could be read was carried over");
                self.store = store;
                self.shared.set_quarantine(quarantine);
                let known = self.shared.lock().known_names();
                if let Err(e) = self.store.restore_names(&known) {
                    tracing::debug!(error = %chain(&e), "names can not be written to the carried-over outbox");
                }
                match self.begun_without {
                    Some(_) => drop(self.join()),
                    None => self.reconcile(&targets),
                }
            }
            Err(e) => tracing::debug!(error = %chain(&e), "damaged outbox can not be replaced yet"),
        }
    }

    /// After rows were lost while running: what waits is what is on disk and in memory.
    fn reconcile(&mut self, targets: &[i64]) {
        let done = self.shared.lock().done();
        self.quotas.iter_mut().for_each(Quota::forget);
        match start::adopt(&mut self.store, &self.destinations, &mut self.judge, targets, &done) {
            Ok((each, all)) => {
                let held = self.store.all_held(&self.store.names_of());
                let (found, now) = (Timestamp::now(), Instant::now());
                let mut tail = self.shared.lock();
                tail.reconcile(&each, all, found, now);
                if let Ok(rows) = held {
                    tail.reconcile_held(&rows, found, now);
                }
            }
            Err(e) => tracing::debug!(error = %chain(&e), "carried-over outbox can not be read yet"),
        }
    }

    /// Somebody deleted the file under us. Writes go on into nothing: only a person can tell what that was for.
    fn gone(&mut self) {
        let file = self.store.path().display().to_string();
        if self.told.is_none_or(|told| told.elapsed() > EPISODE) {
            tracing::error!(file, "the outbox file was deleted; what waits is lost when the gateway stops");
            self.told = Some(Instant::now());
        }
        self.shared.set_trouble(Some(format!("{file} was deleted; what waits is lost when the gateway stops")));
    }

    fn recovered(&mut self) {
        if self.shared.set_trouble(None) {
            tracing::info!("outbox writes again");
            self.told = None;
        }
    }

    fn say_drops(&mut self, gaps: &[Gap]) {
        let Some(gap) = gaps.first() else { return };
        if self.shared.is_new_episode(gap.reason, EPISODE) {
            let readings: u64 = gaps.iter().map(|g| g.readings).sum();
            tracing::error!(reason = gap.reason.as_str(), destination = %gap.destination, readings, from = gap.from, to = gap.to,
                "outbox dropped its oldest readings; the gap is recorded");
        }
    }

    fn answer_questions(&self) {
        for question in self.shared.take_questions() {
            match question {
                // Whoever asked may have given up: then there is nobody to tell.
                Question::Gaps(limit, to) => drop(to.send(self.store.gaps(limit))),
                Question::SetAside(limit, to) => drop(to.send(self.store.set_aside(limit))),
            }
        }
    }
}

/// A listing from the store.
pub(super) enum Question {
    Gaps(usize, SyncSender<Result<Vec<Gap>, StoreError>>),
    SetAside(usize, SyncSender<Result<Vec<SetAsideRow>, StoreError>>),
}

/// An error with its causes, in one line.
pub(super) fn chain(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}
