//! PURE. Watches readings and says which events begin and end. Time is an argument.

use crate::model::batch::{Batch, ValueRef};
use crate::model::event_rule::{Compare, EventPlan, EventRule, Limit, Match};
use crate::model::{Names, Timestamp, Value};
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// An event that begins, or ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Raised {
    /// Index into the rules of the plan.
    pub rule: u32,
    /// Index into the names of devices.
    pub device: u32,
    /// False: it is over.
    pub begins: bool,
    /// The value that began it, or ended it.
    pub value: Value,
    pub time: Timestamp,
}

/// A rule and a device.
type Key = (u32, u32);

/// Where a rule stands with a device; nothing is kept of those whose conditions do not hold.
#[derive(Clone, Debug)]
struct Standing {
    since: Duration,
    value: Value,
    time: Timestamp,
    /// Of the newest reading: an older one that comes late says nothing of now.
    newest: Timestamp,
    raised: bool,
}

/// One package's rules at work.
pub struct Engine {
    plan: Arc<EventPlan>,
    names: Arc<Names>,
    standing: HashMap<Key, Standing>,
    /// Those of them that were not told yet, by when they are due. All the others cost nothing while time passes.
    waiting: BTreeSet<(Duration, Key)>,
    /// Those that are due and hidden by a mask.
    hidden: HashSet<Key>,
    /// Sites that have a raised event of a masking rule, and how many.
    masks: HashMap<String, usize>,
}

impl Engine {
    #[must_use]
    pub fn new(plan: Arc<EventPlan>, names: Arc<Names>) -> Engine {
        Engine {
            plan,
            names,
            standing: HashMap::new(),
            waiting: BTreeSet::new(),
            hidden: HashSet::new(),
            masks: HashMap::new(),
        }
    }

    /// Goes on with another package. What holds of a rule and a device that are still there goes on holding.
    #[must_use]
    pub fn replaced(&self, plan: Arc<EventPlan>, names: Arc<Names>) -> Engine {
        let mut next = Engine::new(plan, names);
        if self.standing.is_empty() {
            return next;
        }
        let rules: HashMap<&str, u32> = next.plan.rules.iter().map(|rule| rule.id.as_str()).zip(0..).collect();
        let keys = |names: &Names, at: u32| {
            names
                .devices
                .get(at as usize)
                .map(|one| (one.product_key.clone(), one.device_key.clone(), one.name.clone()))
        };
        let devices: HashMap<_, u32> =
            next.plan.watched.keys().filter_map(|at| Some((keys(&next.names, *at)?, *at))).collect();
        let mut standing = HashMap::new();
        for ((rule, device), one) in &self.standing {
            let old = &self.plan.rules[*rule as usize];
            let found = rules.get(old.id.as_str()).copied().filter(|at| next.plan.rules[*at as usize] == *old);
            let at = keys(&self.names, *device).and_then(|keys| devices.get(&keys).copied());
            if let (Some(rule), Some(at)) = (found, at)
                && next.plan.watched[&at].iter().any(|watched| watched.rule == rule)
            {
                standing.insert((rule, at), one.clone());
            }
        }
        for ((rule, device), _) in standing.iter().filter(|(_, one)| one.raised) {
            next.mask(*rule, *device, true);
        }
        // What another mask hid is looked at anew.
        let open = standing.iter().filter(|(_, one): &(&Key, &Standing)| !one.raised);
        next.waiting = open.map(|(key, one)| (next.due_at(*key, one.since), *key)).collect();
        next.standing = standing;
        next
    }

    #[must_use]
    pub fn rule(&self, at: u32) -> &EventRule {
        &self.plan.rules[at as usize]
    }

    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Nothing would ever come of any reading.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.plan.watched.is_empty()
    }

    /// Something holds and was not told yet, and may be told without another reading.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Events that go on, with the device and the time they began.
    pub fn going_on(&self) -> impl Iterator<Item = (&EventRule, u32, Timestamp)> {
        let raised = self.standing.iter().filter(|(_, one)| one.raised);
        raised.map(|((rule, device), one)| (self.rule(*rule), *device, one.time))
    }

    /// What comes of new readings. Those of another package mean other devices and are let pass.
    pub fn readings(&mut self, batch: &Batch, now: Duration) -> Vec<Raised> {
        let mut events = Vec::new();
        if self.is_idle() || batch.epoch != self.names.epoch {
            return events;
        }
        let plan = Arc::clone(&self.plan);
        // A damaged batch is the store's to tell.
        for block in batch.blocks().map_while(Result::ok) {
            let Some(watched) = plan.watched.get(&block.device) else { continue };
            for entry in block.entries().map_while(Result::ok) {
                for one in watched.iter().filter(|one| plan.rules[one.rule as usize].measurepoint == entry.point) {
                    let rule = &plan.rules[one.rule as usize];
                    let holds = holds(rule, &one.limits, entry.value);
                    self.look((one.rule, block.device), holds, entry.value, block.time, now, &mut events);
                }
            }
        }
        events
    }

    fn look(
        &mut self,
        key: Key,
        holds: bool,
        value: ValueRef<'_>,
        time: Timestamp,
        now: Duration,
        events: &mut Vec<Raised>,
    ) {
        if self.standing.get(&key).is_some_and(|one| time < one.newest) {
            return;
        }
        if !holds {
            match self.standing.remove(&key) {
                None => {}
                Some(Standing { raised: false, since, .. }) => {
                    self.waiting.remove(&(self.due_at(key, since), key));
                    self.hidden.remove(&key);
                }
                Some(_) => {
                    self.mask(key.0, key.1, false);
                    events.push(Raised { rule: key.0, device: key.1, begins: false, value: value.to_value(), time });
                }
            }
            return;
        }
        match self.standing.entry(key) {
            Entry::Vacant(place) => {
                place.insert(Standing { since: now, value: value.to_value(), time, newest: time, raised: false });
                self.waiting.insert((self.due_at(key, now), key));
            }
            Entry::Occupied(mut place) => place.get_mut().newest = time,
        }
        events.extend(self.due(key, now));
    }

    fn due_at(&self, (rule, _): Key, since: Duration) -> Duration {
        since.saturating_add(self.rule(rule).delay)
    }

    /// What has held long enough by now, without a new reading. Also what was hidden and is not any more.
    pub fn tick(&mut self, now: Duration) -> Vec<Raised> {
        let due: Vec<Key> = self.waiting.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect();
        due.into_iter().filter_map(|key| self.due(key, now)).collect()
    }

    fn due(&mut self, key: Key, now: Duration) -> Option<Raised> {
        let delay = self.rule(key.0).delay;
        let one = self.standing.get(&key)?;
        let at = self.due_at(key, one.since);
        if one.raised || now < at {
            return None;
        }
        self.waiting.remove(&(at, key));
        if self.is_hidden(key.1) {
            self.hidden.insert(key);
            return None;
        }
        self.hidden.remove(&key);
        let one = self.standing.get_mut(&key)?;
        one.raised = true;
        // By the clock of the value: it began then and has held for the whole delay.
        let held = i64::try_from(delay.as_millis()).unwrap_or(0);
        let time = Timestamp(one.time.0.saturating_add(held));
        let raised = Raised { rule: key.0, device: key.1, begins: true, value: one.value.clone(), time };
        self.mask(key.0, key.1, true);
        Some(raised)
    }

    /// A site above its own has an event that hides what lies below.
    fn is_hidden(&self, device: u32) -> bool {
        if self.masks.is_empty() {
            return false;
        }
        self.plan.sites.get(&device).is_some_and(|path| path.iter().skip(1).any(|site| self.masks.contains_key(site)))
    }

    fn mask(&mut self, rule: u32, device: u32, begins: bool) {
        if !self.rule(rule).masking {
            return;
        }
        let Some(site) = self.plan.sites.get(&device).and_then(|path| path.first()).cloned() else { return };
        if begins {
            *self.masks.entry(site).or_default() += 1;
        } else if let Some(count) = self.masks.get_mut(&site) {
            *count -= 1;
            if *count == 0 {
                self.masks.remove(&site);
                let seen = std::mem::take(&mut self.hidden);
                let due = |key: Key| Some((self.due_at(key, self.standing.get(&key)?.since), key));
                self.waiting.extend(seen.into_iter().filter_map(due).collect::<Vec<_>>());
            }
        }
    }
}

fn holds(rule: &EventRule, limits: &[Limit], value: ValueRef<'_>) -> bool {
    let mut each = rule.conditions.iter().zip(limits).map(|(condition, limit)| fits(condition.compare, value, limit));
    match rule.matching {
        Match::All => each.all(|holds| holds) && !limits.is_empty(),
        Match::Any => each.any(|holds| holds),
    }
}

/// A value and a limit of other kinds are neither equal nor in any order.
fn fits(compare: Compare, value: ValueRef<'_>, limit: &Limit) -> bool {
    match (number(value), value, limit) {
        (Some(value), _, Limit::Number(limit)) => match compare {
            Compare::Above => value > *limit,
            Compare::AtLeast => value >= *limit,
            Compare::Below => value < *limit,
            Compare::AtMost => value <= *limit,
            #[expect(clippy::float_cmp, reason = "what the package says is meant exactly")]
            Compare::Equal => value == *limit,
            #[expect(clippy::float_cmp, reason = "as above")]
            Compare::NotEqual => value != *limit,
        },
        (_, ValueRef::Text(text), Limit::Text(limit)) => match compare {
            Compare::Equal => text == limit,
            Compare::NotEqual => text != limit,
            _ => false,
        },
        _ => compare == Compare::NotEqual,
    }
}

/// A 32-bit float as it is written: 0.1 measured is 0.1 of the package.
fn number(value: ValueRef<'_>) -> Option<f64> {
    match value {
        ValueRef::Bool(flag) => Some(f64::from(u8::from(flag))),
        ValueRef::Int(int) => Some(int as f64),
        ValueRef::Float(float) => float.to_string().parse().ok(),
        ValueRef::Double(double) => Some(double),
        ValueRef::Text(_) => None,
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
