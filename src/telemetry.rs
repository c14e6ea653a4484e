//! Names of all counters in one table.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows, or a level that is set.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// All counters of the daemon. One instance, shared by reference.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter,)* }

        impl Counters {
            /// Every counter with its name, in the order of the table.
            pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Samples with a value, from all sub-devices.
    samples_good,
    /// Samples without a value.
    samples_bad,
    /// Readings mapped and handed to the outbox.
    readings,
    /// Readings held back by their upload type.
    readings_held,
    /// Readings a destination acknowledged.
    acknowledged,
    /// Readings waiting in memory or on disk.
    outbox_readings,
    /// Bytes the outbox uses on disk, free pages and write-ahead log included.
    outbox_bytes,
    /// Transactions committed by the outbox.
    outbox_commits,
    /// Readings stored on disk by those commits.
    outbox_stored,
    /// Readings lost to a quota; each loss is recorded as a gap.
    dropped,
    /// Readings refused by the destination and set aside.
    set_aside,
    /// Messages of readings published.
    messages,
    /// Bytes of those messages.
    message_bytes,
    /// Of those, messages of live readings.
    messages_post,
    /// Of those, messages of late readings.
    messages_resume,
    /// Beside those, logins and other requests.
    messages_request,
    /// Beside those, answers to commands.
    messages_answer,
    /// Late readings not sent because their points want them removed; they count as acknowledged.
    late_removed,
    /// Times the sender slowed down because the cloud had too much.
    slowed,
    /// Connections opened to the cloud.
    cloud_connects,
    /// 1 while the cloud accepts data.
    cloud_connected,
    /// Sub-devices logged in.
    sub_devices_online,
    /// Sub-devices the cloud refused.
    sub_devices_refused,
    /// Certificates the cloud issued to the gateway.
    certificates_issued,
    /// Requests for a certificate that brought none that could be used.
    certificate_failures,
    /// Seconds until the certificate in use expires.
    certificate_seconds_left,
    /// Readings that wait in memory until the clock is set.
    untimed,
    /// Readings lost because it was not set in time.
    untimed_lost,
    /// Conversations opened with sub-devices.
    sessions,
    /// Requests that got no answer.
    timeouts,
    /// Events that began or ended by the rules of the package.
    events,
    /// Events and words of the gateway that were dropped because too many waited for the cloud.
    notices_dropped,
    /// Commands that were begun, whatever became of them.
    commands,
    /// Commands that were refused before anything was done.
    commands_refused,
    /// Commands that came again and were answered from memory.
    commands_repeated,
}
