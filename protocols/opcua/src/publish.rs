//! The task beside a session: keeps Publish requests in flight, tries failed items again, and watches
//! that the server is alive.

use crate::convert;
use crate::items::{self, Subscription, Wish};
use crate::line::{Failure, Talk};
use crate::session::Shared;
use crate::settings::Mode;
use driver::SessionError;
use opcua::client::UARequest as _;
use opcua::client::services::{Publish, Read, Republish};
use opcua::types::{
    AttributeId, DataChangeNotification, Error, NotificationMessage, PublishResponse, ReadValueId,
    StatusChangeNotification, StatusCode, SubscriptionAcknowledgement, TimestampsToReturn, VariableId,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

/// More notifications than this missing at once are not asked for again one by one.
const MOST_REPUBLISHED: u32 = 64;

/// Publish requests that wait on the server, at most.
const MOST_IN_FLIGHT: usize = 10;

/// Runs until the session has to end, and says why in the mailbox.
pub(crate) async fn accompany(shared: Arc<Shared>, session_timeout: Duration) {
    let _guard = Guard(Arc::clone(&shared));
    let beat = (shared.inner.settings.timeout / 2).min(session_timeout / 3).max(Duration::from_millis(50));
    let error = match shared.inner.settings.mode {
        Mode::Subscribe => Companion::new(Arc::clone(&shared), beat).run().await,
        Mode::Read => beat_only(&shared, beat).await,
    };
    shared.mailbox.fail(error);
}

/// A panic must not leave a session that looks alive.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.mailbox.fail(SessionError::Disconnected("the subscription's task ended".to_owned()));
    }
}

async fn beat_only(shared: &Shared, beat: Duration) -> SessionError {
    loop {
        tokio::time::sleep(beat).await;
        if let Err(error) = heartbeat(shared, beat).await {
            return error;
        }
    }
}

/// Asks for the server's state when nothing was heard for a while: finds half-open connections, and
/// keeps the server from ending an idle session.
async fn heartbeat(shared: &Shared, beat: Duration) -> Result<(), SessionError> {
    let idle = shared.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
    if idle < beat {
        return Ok(());
    }
    let (number, timeout, token, handle) = shared.talk.head();
    let request = Read::new_manual(number, timeout, token, handle)
        .timestamps_to_return(TimestampsToReturn::Neither)
        .node(ReadValueId::new(VariableId::Server_ServerStatus_State.into(), AttributeId::Value));
    shared.talk.call("ask for the server's state", request).await?;
    shared.hear();
    Ok(())
}

type InFlight = Pin<Box<dyn Future<Output = Result<PublishResponse, Error>> + Send>>;

struct Companion {
    shared: Arc<Shared>,
    beat: Duration,
    subscriptions: Vec<Subscription>,
    in_flight: VecDeque<InFlight>,
    wanted_in_flight: usize,
    acknowledge: Vec<SubscriptionAcknowledgement>,
    /// Where each watched point hangs: index of its subscription and the server's item id.
    items: Vec<Option<(u32, u32)>>,
    wishes: Vec<Option<Wish>>,
    failed: BTreeSet<u32>,
    next_retry: Instant,
    overflows: u64,
}

impl Companion {
    fn new(shared: Arc<Shared>, beat: Duration) -> Companion {
        let points = shared.inner.points.len();
        let next_retry = Instant::now() + shared.inner.settings.retry_failed;
        Companion {
            shared,
            beat,
            subscriptions: Vec::new(),
            in_flight: VecDeque::new(),
            wanted_in_flight: 0,
            acknowledge: Vec::new(),
            items: vec![None; points],
            wishes: vec![None; points],
            failed: BTreeSet::new(),
            next_retry,
            overflows: 0,
        }
    }

    async fn run(mut self) -> SessionError {
        if let Err(error) = self.subscribe_all().await {
            return error;
        }
        let mut tick = tokio::time::interval(self.beat);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.fill();
            let answer = tokio::select! {
                answer = next_answer(&mut self.in_flight) => Some(answer),
                _ = tick.tick() => None,
            };
            let done = match answer {
                Some(answer) => self.answered(answer).await,
                None => self.tick().await,
            };
            if let Err(error) = done {
                return error;
            }
        }
    }

    async fn subscribe_all(&mut self) -> Result<(), SessionError> {
        let shared = Arc::clone(&self.shared);
        for (interval, wishes) in wishes(&shared) {
            for wish in &wishes {
                self.wishes[wish.point as usize] = Some(*wish);
            }
            self.watch(interval, wishes).await?;
        }
        Ok(())
    }

    /// Watches points on a new subscription, and on more when the server caps the items of one.
    async fn watch(&mut self, interval: Duration, mut wishes: Vec<Wish>) -> Result<(), SessionError> {
        while !wishes.is_empty() {
            let subscription = match items::subscribe(&self.shared, interval).await {
                Ok(subscription) => subscription,
                Err(failure)
                    if failure.status == StatusCode::BadTooManySubscriptions && !self.subscriptions.is_empty() =>
                {
                    self.give_up(&wishes, failure.status);
                    return Ok(());
                }
                Err(failure) => return Err(failure.into()),
            };
            self.subscriptions.push(subscription);
            let at = self.subscriptions.len() - 1;
            let left = self.attach(at, &wishes).await?;
            if self.subscriptions[at].items == 0 || left.len() == wishes.len() {
                self.give_up(&left, StatusCode::BadTooManyMonitoredItems);
                return Ok(());
            }
            wishes = left;
        }
        Ok(())
    }

    /// Hangs points on subscription `at`; answers those for which it has no more room.
    async fn attach(&mut self, at: usize, wishes: &[Wish]) -> Result<Vec<Wish>, SessionError> {
        let id = self.subscriptions[at].id;
        let results = items::create(&self.shared, id, wishes).await?;
        let mut left = Vec::new();
        let mut refused = Vec::new();
        for (wish, result) in wishes.iter().zip(results) {
            match result {
                Ok(item) => {
                    let at = u32::try_from(at).expect("a session has a handful of subscriptions");
                    self.items[wish.point as usize] = Some((at, item));
                    self.failed.remove(&wish.point);
                }
                Err(StatusCode::BadTooManyMonitoredItems) => left.push(*wish),
                Err(status) => refused.push((wish.point, status)),
            }
        }
        self.subscriptions[at].items += wishes.len() - left.len() - refused.len();
        self.subscriptions[at].heard = Instant::now();
        self.report_refused(&refused);
        Ok(left)
    }

    fn give_up(&mut self, wishes: &[Wish], status: StatusCode) {
        let refused: Vec<_> = wishes.iter().map(|w| (w.point, status)).collect();
        self.report_refused(&refused);
    }

    fn report_refused(&mut self, refused: &[(u32, StatusCode)]) {
        if refused.is_empty() {
            return;
        }
        let now = driver::Timestamp::now();
        let new = refused.iter().filter(|(point, _)| self.failed.insert(*point)).count();
        if new > 0 {
            let endpoint = &self.shared.inner.settings.endpoint.url;
            tracing::warn!(%endpoint, points = new, first = %refused[0].1, "the server refuses to watch some points; tried again later");
        }
        self.shared.mailbox.put(refused.iter().map(|(point, status)| convert::bad(*point, status.bits(), now)));
    }

    /// Keeps enough Publish requests waiting on the server.
    fn fill(&mut self) {
        let live = self.subscriptions.iter().filter(|s| s.items > 0).count();
        let target = if self.wanted_in_flight > 0 { self.wanted_in_flight } else { (live + 1).min(MOST_IN_FLIGHT) };
        if live == 0 {
            return;
        }
        // A server may hold every one of them for a keep-alive in turn.
        let longest = self.subscriptions.iter().map(|s| s.allowed).max().unwrap_or_default();
        let patience = longest.saturating_mul(u32::try_from(target + 1).unwrap_or(u32::MAX));
        while self.in_flight.len() < target {
            let acks = std::mem::take(&mut self.acknowledge);
            self.in_flight.push_back(publish(Arc::clone(&self.shared.talk), patience, acks));
        }
    }

    async fn answered(&mut self, answer: Result<PublishResponse, Error>) -> Result<(), SessionError> {
        let response = match answer {
            Ok(response) => response,
            Err(error) if error.status() == StatusCode::BadTooManyPublishRequests && !self.in_flight.is_empty() => {
                self.wanted_in_flight = self.in_flight.len();
                return Ok(());
            }
            Err(error) => return Err(Failure::new("publish", &error, self.shared.inner.settings.timeout).into()),
        };
        self.shared.hear();
        let Some(at) = self.subscriptions.iter().position(|s| s.id == response.subscription_id) else {
            return Ok(());
        };
        self.subscriptions[at].heard = Instant::now();
        let message = response.notification_message;
        if message.notification_data.as_ref().is_none_or(Vec::is_empty) {
            return Ok(()); // a keep-alive
        }
        self.in_order(at, message).await
    }

    /// Takes a notification at its turn, asking for those that are missing before it.
    async fn in_order(&mut self, at: usize, message: NotificationMessage) -> Result<(), SessionError> {
        let id = self.subscriptions[at].id;
        let sequence = message.sequence_number;
        let mut expected = self.subscriptions[at].expected.unwrap_or(sequence);
        let missing = sequence.wrapping_sub(expected);
        if missing > u32::MAX / 2 {
            // Older than what we have: it came twice.
            self.acknowledge.push(SubscriptionAcknowledgement { subscription_id: id, sequence_number: sequence });
            return Ok(());
        }
        if missing > MOST_REPUBLISHED {
            return Err(SessionError::Disconnected(format!("{missing} notifications lost")));
        }
        while expected != sequence {
            let (number, timeout, token, handle) = self.shared.talk.head();
            let request = Republish::new_manual(id, expected, number, timeout, token, handle);
            let again = self.shared.talk.call("ask for a lost notification again", request).await?;
            self.take(at, again.notification_message)?;
            expected = following(expected);
        }
        self.take(at, message)?;
        self.subscriptions[at].expected = Some(following(sequence));
        Ok(())
    }

    fn take(&mut self, at: usize, message: NotificationMessage) -> Result<(), SessionError> {
        let subscription_id = self.subscriptions[at].id;
        self.acknowledge
            .push(SubscriptionAcknowledgement { subscription_id, sequence_number: message.sequence_number });
        for data in message.notification_data.unwrap_or_default() {
            if let Some(change) = data.inner_as::<StatusChangeNotification>() {
                return Err(SessionError::Disconnected(format!(
                    "the server ended the subscription: {}",
                    change.status
                )));
            }
            if let Some(changes) = data.into_inner_as::<DataChangeNotification>() {
                self.changed(*changes);
            }
        }
        Ok(())
    }

    fn changed(&mut self, changes: DataChangeNotification) {
        let clock = self.shared.clock();
        let points = self.items.len();
        let shared = Arc::clone(&self.shared);
        let mut gone = Vec::new();
        let items = changes.monitored_items.unwrap_or_default().into_iter();
        let samples = items.filter_map(|mut item| {
            // A handle we never gave out is the server's mistake.
            let point = item.client_handle.checked_sub(1).filter(|p| (*p as usize) < points)?;
            let status = item.value.status();
            if matches!(status, StatusCode::BadNodeIdUnknown | StatusCode::BadNodeIdInvalid) {
                gone.push(point);
            }
            self.overflows += u64::from(status.overflow());
            Some(shared.sample(point, &mut item.value, clock))
        });
        shared.mailbox.put(samples);
        self.failed.extend(gone);
    }

    async fn tick(&mut self) -> Result<(), SessionError> {
        for subscription in self.subscriptions.iter().filter(|s| s.items > 0) {
            if subscription.heard.elapsed() > subscription.allowed {
                let silence = subscription.allowed;
                return Err(SessionError::Disconnected(format!(
                    "subscription {} silent for {silence:?}",
                    subscription.id
                )));
            }
        }
        if self.overflows > 0 {
            tracing::warn!(
                endpoint = %self.shared.inner.settings.endpoint.url,
                values = std::mem::take(&mut self.overflows),
                "the server's queues overflowed: raise queue_size"
            );
        }
        heartbeat(&self.shared, self.beat).await?;
        if !self.failed.is_empty() && Instant::now() >= self.next_retry {
            self.retry().await?;
            self.next_retry = Instant::now() + self.shared.inner.settings.retry_failed;
        }
        Ok(())
    }

    /// Tries the failed items again, and only those.
    async fn retry(&mut self) -> Result<(), SessionError> {
        let failed: Vec<u32> = self.failed.iter().copied().collect();
        let mut lost: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for point in &failed {
            if let Some((at, item)) = self.items[*point as usize].take() {
                lost.entry(at).or_default().push(item);
            }
        }
        for (at, items) in lost {
            let subscription = &mut self.subscriptions[at as usize];
            subscription.items -= items.len().min(subscription.items);
            let id = subscription.id;
            items::forget(&self.shared, id, items).await?;
        }
        let mut by_interval: BTreeMap<Duration, Vec<Wish>> = BTreeMap::new();
        for wish in failed.iter().filter_map(|p| self.wishes[*p as usize]) {
            by_interval.entry(publishing_interval(&self.shared, wish.sampling)).or_default().push(wish);
        }
        for (interval, wishes) in by_interval {
            self.attach_anywhere(interval, wishes).await?;
        }
        Ok(())
    }

    async fn attach_anywhere(&mut self, interval: Duration, mut wishes: Vec<Wish>) -> Result<(), SessionError> {
        for at in 0..self.subscriptions.len() {
            if self.subscriptions[at].interval == interval && !wishes.is_empty() {
                wishes = self.attach(at, &wishes).await?;
            }
        }
        self.give_up(&wishes, StatusCode::BadTooManyMonitoredItems);
        Ok(())
    }
}

/// The number after `sequence`: it never is 0 (OPC 10000-4, clause 7.9).
fn following(sequence: u32) -> u32 {
    sequence.checked_add(1).unwrap_or(1)
}

fn publishing_interval(shared: &Shared, period: Duration) -> Duration {
    shared.inner.settings.publishing_interval.unwrap_or(period)
}

/// Every collected point with how it wants to be watched, by publishing interval.
fn wishes(shared: &Shared) -> BTreeMap<Duration, Vec<Wish>> {
    let settings = &shared.inner.settings;
    let mut all: BTreeMap<Duration, Vec<Wish>> = BTreeMap::new();
    for group in &shared.inner.groups {
        let interval = publishing_interval(shared, group.period);
        let sampling = settings.sampling_interval.unwrap_or(group.period);
        let queue = settings.queue_size.unwrap_or_else(|| usual_queue(interval, sampling));
        all.entry(interval).or_default().extend(group.points.iter().map(|p| Wish { point: *p, sampling, queue }));
    }
    all
}

/// Room for every sample between two publishes, and one more for jitter.
fn usual_queue(interval: Duration, sampling: Duration) -> u32 {
    let samples = interval.as_millis().div_ceil(sampling.as_millis().max(10)) + 1;
    u32::try_from(samples).unwrap_or(u32::MAX).clamp(2, 100)
}

fn publish(talk: Arc<Talk>, patience: Duration, acks: Vec<SubscriptionAcknowledgement>) -> InFlight {
    Box::pin(async move {
        let (number, timeout, token, handle) = talk.head_within(patience);
        Publish::new_manual(number, timeout, token, handle).acks(acks).send(&talk.channel).await
    })
}

/// The first answer to come; of two at once the one asked for first, since the server answers in
/// order (OPC 10000-4, clause 5.14.5). Without requests it waits for ever. Cancel-safe.
async fn next_answer(in_flight: &mut VecDeque<InFlight>) -> Result<PublishResponse, Error> {
    std::future::poll_fn(|cx| {
        for at in 0..in_flight.len() {
            if let Poll::Ready(answer) = in_flight[at].as_mut().poll(cx) {
                drop(in_flight.remove(at));
                return Poll::Ready(answer);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_skip_zero() {
        assert_eq!(following(1), 2);
        assert_eq!(following(u32::MAX), 1);
    }

    #[test]
    fn a_queue_holds_every_sample_between_two_publishes() {
        let ms = Duration::from_millis;
        assert_eq!(usual_queue(ms(1000), ms(1000)), 2);
        assert_eq!(usual_queue(ms(1000), ms(100)), 11);
        assert_eq!(usual_queue(ms(1000), ms(0)), 100);
    }
}
