//! Subscriptions and monitored items: made in chunks the server takes, each item with its own result.

use crate::line::Failure;
use crate::plan::Inner;
use crate::session::Shared;
use driver::SessionError;
use opcua::client::services::{CreateMonitoredItems, CreateSubscription, DeleteMonitoredItems};
use opcua::core::handle::AtomicHandle;
use opcua::types::{
    AttributeId, MonitoredItemCreateRequest, MonitoringMode, MonitoringParameters, ReadValueId, StatusCode,
};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A subscription with nothing to say says so this often.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// A live subscription.
pub(crate) struct Subscription {
    pub(crate) id: u32,
    pub(crate) interval: Duration,
    /// Silence that means it is dead.
    pub(crate) allowed: Duration,
    pub(crate) heard: Instant,
    /// Sequence number of the next notification; unknown before the first.
    pub(crate) expected: Option<u32>,
    pub(crate) items: usize,
}

/// How one point wants to be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) point: u32,
    pub(crate) sampling: Duration,
    pub(crate) queue: u32,
}

pub(crate) async fn subscribe(shared: &Shared, interval: Duration) -> Result<Subscription, Failure> {
    let keep_alive_count = u32::try_from(KEEP_ALIVE.as_millis().div_ceil(interval.as_millis().max(1))).unwrap_or(1);
    let (number, timeout, token, handle) = shared.talk.head();
    let request = CreateSubscription::new_manual(number, timeout, token, handle)
        .publishing_interval(interval)
        .max_keep_alive_count(keep_alive_count)
        // The server forgets it after ten silent keep-alives, should we vanish (at least 3: 5.14.2).
        .max_lifetime_count(keep_alive_count * 10)
        // A bound for the size of one message.
        .max_notifications_per_publish(10_000);
    let made = shared.talk.call("create subscription", request).await?;
    shared.hear();
    let revised = crate::open::millis(made.revised_publishing_interval, interval);
    let keep_alive = revised.saturating_mul(made.revised_max_keep_alive_count.clamp(1, 100_000));
    Ok(Subscription {
        id: made.subscription_id,
        interval,
        allowed: keep_alive * 3 + shared.inner.settings.timeout,
        heard: Instant::now(),
        expected: None,
        items: 0,
    })
}

/// Creates items, chunk by chunk. The answer holds one result a wish, in order.
pub(crate) async fn create(
    shared: &Shared,
    subscription: u32,
    wishes: &[Wish],
) -> Result<Vec<Result<u32, StatusCode>>, SessionError> {
    let mut results = Vec::with_capacity(wishes.len());
    while results.len() < wishes.len() {
        let limit = shared.inner.items_per_call.load(Ordering::Relaxed);
        let rest = &wishes[results.len()..];
        let chunk = &rest[..rest.len().min(limit)];
        match create_chunk(shared, subscription, chunk).await {
            Ok(made) => results.extend(made),
            Err(failure) if failure.too_much() && Inner::halve(&shared.inner.items_per_call, chunk.len()) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(results)
}

async fn create_chunk(
    shared: &Shared,
    subscription: u32,
    wishes: &[Wish],
) -> Result<Vec<Result<u32, StatusCode>>, Failure> {
    let requests: Vec<_> = wishes.iter().filter_map(|wish| item(shared, *wish)).collect();
    let mut made = Vec::new();
    if !requests.is_empty() {
        let unused = AtomicHandle::new(1);
        let (number, timeout, token, handle) = shared.talk.head();
        let request = CreateMonitoredItems::new_manual(subscription, &unused, number, timeout, token, handle)
            .timestamps_to_return(shared.stamps())
            .items_to_create(requests);
        made = shared.talk.call("create monitored items", request).await?.results;
        shared.hear();
    }
    let mut made = made.into_iter().map(|m| m.result);
    let outcome = |wish: &Wish| {
        // A point without a namespace on this server was not asked for.
        shared.nodes[wish.point as usize].as_ref().ok_or(StatusCode::BadNodeIdUnknown)?;
        let result = made.next().ok_or(StatusCode::BadUnexpectedError)?;
        if result.status_code.is_bad() { Err(result.status_code) } else { Ok(result.monitored_item_id) }
    };
    Ok(wishes.iter().map(outcome).collect())
}

fn item(shared: &Shared, wish: Wish) -> Option<MonitoredItemCreateRequest> {
    let node = shared.nodes[wish.point as usize].as_ref()?;
    Some(MonitoredItemCreateRequest {
        item_to_monitor: ReadValueId::new(node.clone(), AttributeId::Value),
        monitoring_mode: MonitoringMode::Reporting,
        requested_parameters: MonitoringParameters {
            // 0 would let the library choose.
            client_handle: wish.point + 1,
            sampling_interval: wish.sampling.as_secs_f64() * 1000.0,
            queue_size: wish.queue,
            discard_oldest: true,
            ..Default::default()
        },
    })
}

/// Removes items whose node has gone, so that they can be made anew. What the server thinks of it
/// does not matter: the item is of no use either way.
pub(crate) async fn forget(shared: &Shared, subscription: u32, items: Vec<u32>) -> Result<(), SessionError> {
    let limit = shared.inner.items_per_call.load(Ordering::Relaxed);
    for chunk in items.chunks(limit) {
        let (number, timeout, token, handle) = shared.talk.head();
        let request = DeleteMonitoredItems::new_manual(subscription, number, timeout, token, handle)
            .items_to_delete(chunk.to_vec());
        match shared.talk.call("delete monitored items", request).await {
            Ok(_) => shared.hear(),
            Err(failure) if failure.status == StatusCode::BadTimeout => return Err(failure.into()),
            Err(failure) => tracing::debug!(status = %failure.status, "monitored items of lost nodes not deleted"),
        }
    }
    Ok(())
}
