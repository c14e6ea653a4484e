//! What the cloud is told of updates, until it has it: one thing at a time, in order. A bounded queue: progress that waits
//! makes place for newer progress of its job, and the last word of a job is kept.

use crate::model::update::{Ear, Said, Saying};
use driver::Answer;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Far more than one job has to say.
const MOST: usize = 64;

/// Survives reconnects; written by whoever carries updates out, emptied by the link.
#[derive(Debug, Default)]
pub struct UpdateDesk {
    inner: Mutex<Inner>,
    news: Notify,
    acknowledged: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<(u64, Saying)>,
    last: u64,
    /// Sent and not answered.
    under_way: Option<u64>,
    heard: Vec<Saying>,
    /// Told once more after a reconnect, while its job is under way.
    newest: Option<Saying>,
    version: Option<String>,
    /// What sub-devices run, told after each connect.
    versions: BTreeMap<(String, String), Saying>,
    /// Whose version is still to be told: a set, for there may be more sub-devices than the queue has places.
    untold: BTreeSet<(String, String)>,
    /// The one of them that was sent and not answered.
    telling: Option<(u64, Saying)>,
}

impl UpdateDesk {
    /// The version to tell for the gateway.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.lock().version.clone()
    }

    /// A new connection: what was under way is sent again, and what was last said of a job that goes on is repeated.
    pub fn connected(&self, product_key: &str, device_key: &str) {
        let mut inner = self.lock();
        inner.under_way = None;
        // The gateway's own is told by the link itself.
        inner.versions.remove(&(product_key.to_owned(), device_key.to_owned()));
        let waits = |whose: &Saying| inner.waiting.iter().any(|(_, one)| one == whose);
        let untold = inner.versions.iter().filter(|(_, saying)| !waits(saying)).map(|(whose, _)| whose.clone());
        inner.untold = untold.collect();
        let newest = inner.newest.clone().filter(|newest| !newest.is_last_word());
        if let Some(newest) = newest.filter(|newest| !inner.waiting.iter().any(|(_, one)| one.job == newest.job)) {
            inner.push(newest);
        }
    }

    /// The first thing to tell of a device that `may` be told of now; none while an answer is awaited.
    #[must_use]
    pub fn next(&self, may: impl Fn(&Saying) -> bool) -> Option<(u64, Saying)> {
        let mut inner = self.lock();
        if inner.under_way.is_some() {
            return None;
        }
        let found = inner.waiting.iter().find(|(_, saying)| may(saying)).cloned();
        let found = found.or_else(|| {
            let mut untold = inner.untold.iter().filter_map(|whose| inner.versions.get(whose));
            let saying = untold.find(|saying| may(saying))?.clone();
            inner.last += 1;
            inner.telling = Some((inner.last, saying));
            inner.telling.clone()
        })?;
        inner.under_way = Some(found.0);
        Some(found)
    }

    /// The cloud has it, or will never take it.
    pub fn done(&self, number: u64) {
        let mut inner = self.lock();
        inner.under_way = None;
        if let Some((_, saying)) = inner.telling.take_if(|(each, _)| *each == number) {
            // Another one may have been said meanwhile.
            let whose = (saying.product_key.clone(), saying.device_key.clone());
            if inner.versions.get(&whose) == Some(&saying) {
                inner.untold.remove(&whose);
            }
            return;
        }
        let Some(at) = inner.waiting.iter().position(|(each, _)| *each == number) else { return };
        if let Some((_, saying)) = inner.waiting.remove(at) {
            if inner.heard.len() < MOST {
                inner.heard.push(saying);
            }
            drop(inner);
            self.acknowledged.notify_one();
        }
    }

    /// No answer, or one that may be another one later.
    pub fn again(&self) {
        self.lock().under_way = None;
    }

    /// Resolves when there may be a new one. Cancel-safe.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is whole before the lock is given back.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, saying: Saying) {
        self.last += 1;
        let (number, under_way) = (self.last, self.under_way);
        let replaceable = |(each, one): &(u64, Saying)| {
            one.job == saying.job
                && Some(*each) != under_way
                && !one.is_last_word()
                && matches!(one.what, Said::Progress { .. })
        };
        self.waiting.retain(|entry| !replaceable(entry));
        self.waiting.push_back((number, saying));
        while self.waiting.len() > MOST {
            let at = self.waiting.iter().position(|(_, one)| !one.is_last_word()).unwrap_or(0);
            self.waiting.remove(at);
        }
    }
}

impl Ear for UpdateDesk {
    fn say(&self, saying: Saying) {
        let mut inner = self.lock();
        match saying.what {
            Said::Progress { .. } => inner.newest = Some(saying.clone()),
            Said::Version(_) => {
                let whose = (saying.product_key.clone(), saying.device_key.clone());
                inner.versions.insert(whose.clone(), saying.clone());
                if saying.job.is_empty() {
                    inner.untold.insert(whose);
                    drop(inner);
                    return self.news.notify_one();
                }
                // It follows what was said of its job.
                inner.untold.remove(&whose);
            }
        }
        inner.push(saying);
        drop(inner);
        self.news.notify_one();
    }

    fn call_oneself(&self, version: Option<String>) {
        self.lock().version = version;
    }

    fn heard(&self) -> Answer<'_, Vec<Saying>> {
        Box::pin(async move {
            loop {
                let heard = std::mem::take(&mut self.lock().heard);
                if !heard.is_empty() {
                    return heard;
                }
                self.acknowledged.notified().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(job: &str, step: i32) -> Saying {
        let (product_key, device_key) = ("p".to_owned(), "d".to_owned());
        Saying { product_key, device_key, job: job.to_owned(), what: Said::Progress { step, words: String::new() } }
    }

    fn step(taken: Option<(u64, Saying)>) -> Option<(u64, i32)> {
        taken.and_then(|(number, saying)| match saying.what {
            Said::Progress { step, .. } => Some((number, step)),
            Said::Version(_) => None,
        })
    }

    #[tokio::test]
    async fn newer_progress_takes_the_place_of_what_waits_and_never_of_what_is_under_way_or_last() {
        let desk = UpdateDesk::default();
        desk.say(progress("a", 10));
        let (number, _) = step(desk.next(|_| true)).unwrap();
        assert!(desk.next(|_| true).is_none(), "one at a time");
        desk.say(progress("a", 20));
        desk.say(progress("a", 30));
        desk.say(progress("a", -2));
        desk.say(progress("b", 1));
        desk.say(progress("b", 2));
        desk.done(number);
        assert_eq!(desk.heard().await, [progress("a", 10)]);
        let mut steps = Vec::new();
        while let Some((number, step)) = step(desk.next(|_| true)) {
            steps.push(step);
            desk.done(number);
        }
        assert_eq!(steps, [-2, 2]);
        assert_eq!(desk.heard().await, [progress("a", -2), progress("b", 2)]);
    }

    #[test]
    fn a_lost_connection_loses_nothing_and_the_job_under_way_is_told_again() {
        let desk = UpdateDesk::default();
        desk.say(progress("a", 10));
        let (number, _) = desk.next(|_| true).unwrap();
        desk.connected("g", "g");
        let (again, saying) = desk.next(|_| true).unwrap();
        assert_eq!((again, &saying), (number, &progress("a", 10)));
        desk.done(again);
        desk.connected("g", "g");
        let (again, saying) = desk.next(|_| true).unwrap();
        assert_eq!(saying, progress("a", 10), "told again");
        desk.done(again);
        desk.say(progress("a", 100));
        desk.connected("g", "g");
        let (number, saying) = desk.next(|_| true).unwrap();
        assert_eq!(saying, progress("a", 100));
        desk.done(number);
        desk.connected("g", "g");
        assert!(desk.next(|_| true).is_none(), "a job that ended is not told again");
    }

    #[test]
    fn versions_of_sub_devices_are_told_after_each_connect() {
        let desk = UpdateDesk::default();
        let version = |device: &str| Saying {
            product_key: "g".to_owned(),
            device_key: device.to_owned(),
            job: String::new(),
            what: Said::Version("2.0.0".to_owned()),
        };
        desk.say(version("g"));
        desk.say(version("meter"));
        for _ in 0..2 {
            while let Some((number, _)) = desk.next(|_| true) {
                desk.done(number);
            }
            desk.connected("g", "g");
            let (number, saying) = desk.next(|_| true).unwrap();
            assert_eq!(saying, version("meter"), "the link tells the gateway's own");
            desk.done(number);
        }
    }

    #[test]
    fn more_sub_devices_than_the_queue_has_places_are_all_told_once_a_connect() {
        let desk = UpdateDesk::default();
        let version = |device: u32, version: &str| Saying {
            product_key: "p".to_owned(),
            device_key: format!("{device:03}"),
            job: String::new(),
            what: Said::Version(version.to_owned()),
        };
        (0..300).for_each(|device| desk.say(version(device, "1.0.0")));
        desk.say(progress("a", 10));
        for round in 0..2 {
            let mut told = Vec::new();
            while let Some((number, saying)) = desk.next(|_| true) {
                if told.len() == 7 && round == 0 {
                    // It changed while it was told: the new one is told, too.
                    desk.say(Saying { what: Said::Version("2.0.0".to_owned()), ..saying.clone() });
                }
                told.push(saying);
                desk.done(number);
            }
            let versions = told.iter().filter(|saying| matches!(saying.what, Said::Version(_))).count();
            assert_eq!(versions, if round == 0 { 301 } else { 300 });
            assert_eq!(told[0], progress("a", 10), "a job goes first");
            desk.connected("g", "g");
        }
    }

    #[test]
    fn what_waits_is_bounded_and_keeps_the_ends_of_jobs() {
        let desk = UpdateDesk::default();
        desk.say(progress("end", -1));
        for number in 0..100 {
            desk.say(progress(&number.to_string(), 5));
        }
        let inner = desk.lock();
        assert_eq!(inner.waiting.len(), MOST);
        assert_eq!(inner.waiting[0].1, progress("end", -1));
    }
}
