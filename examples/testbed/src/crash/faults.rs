//! Turns the cloud's faults on and off.

use super::rounds::Fault;
use crate::cloud::Cloud;

/// Requests that go unanswered or astray in one outage.
const REQUESTS: u64 = 3;

pub async fn begin(cloud: &Cloud, fault: Fault) {
    match fault {
        Fault::Down => cloud.down().await,
        Fault::Dropped => cloud.drop_connections(),
        Fault::ForgottenLogins => cloud.forget_logins(),
        Fault::WithheldAcks => cloud.knobs(|knobs| knobs.withhold_pubacks = true),
        Fault::ForgottenReplies => cloud.knobs(|knobs| knobs.forget_replies = REQUESTS),
        Fault::LostRequests => cloud.knobs(|knobs| knobs.lose_requests = REQUESTS),
    }
}

pub async fn end(cloud: &Cloud, fault: Fault) {
    match fault {
        Fault::Down => cloud.up().await,
        Fault::Dropped | Fault::ForgottenLogins => {}
        Fault::WithheldAcks => cloud.knobs(|knobs| knobs.withhold_pubacks = false),
        Fault::ForgottenReplies => cloud.knobs(|knobs| knobs.forget_replies = 0),
        Fault::LostRequests => cloud.knobs(|knobs| knobs.lose_requests = 0),
    }
}
