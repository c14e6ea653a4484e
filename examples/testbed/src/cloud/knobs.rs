//! PURE. What can be set wrong with the cloud while it runs.

use std::time::Duration;

/// Faults on demand. The default cloud is healthy.
#[derive(Debug, Clone)]
pub struct Knobs {
    /// 4 connects of a device in 2 minutes, then none for 5. On unless switched off.
    pub connect_limit: bool,
    /// Requests that are answered by a code instead of being taken. The first that fits counts.
    pub refusals: Vec<Refusal>,
    pub reply_delay: Delay,
    /// So many next requests are taken but never answered.
    pub forget_replies: u64,
    /// So many next requests are neither taken nor answered.
    pub lose_requests: u64,
    /// PUBACKs are held back until this is off again; then all are sent.
    pub withhold_pubacks: bool,
    /// So many next CONNECTs are never answered.
    pub ignore_connects: u64,
    /// Every CONNECT is refused with this code.
    pub refuse_connects: Option<u8>,
    /// Sub-devices a gateway may have online at once.
    pub online_limit: usize,
    /// Sub-devices a gateway may have in its topology (1255).
    pub topology_limit: usize,
    /// More bytes than this from one connection are not taken.
    pub rate_limit: Option<RateLimit>,
    pub activation: Activation,
    /// How long a device that was registered over MQTT stays unknown to everything else. EnOS needs about 3 s.
    pub visibility_delay: Duration,
    /// `device/register` without a device key is answered 714.
    pub refuse_generated_keys: bool,
    /// Methods that the vendor's Python SDK misspells are answered 1260 like any other wrong one.
    pub strict_methods: bool,
    /// Serial numbers, in hex, of certificates that fail the TLS handshake as revoked.
    pub revoked_certificates: Vec<String>,
    /// Every client certificate fails the handshake as of an unknown authority.
    pub distrust_certificates: bool,
}

/// How the message that brings a device its secret is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// It comes this long after CONNACK.
    pub delay: Duration,
    /// 0 never comes, 2 comes twice.
    pub copies: u32,
    /// So many next replies to it are lost.
    pub lose_replies: u64,
    /// A device that answered it can not log in with the product's secret again. Otherwise it gets its secret each time.
    pub once: bool,
}

impl Default for Activation {
    fn default() -> Activation {
        Activation { delay: Duration::ZERO, copies: 1, lose_replies: 0, once: false }
    }
}

/// EnOS limits: 1 MB/s upstream of a device.
pub const MEGABYTE_PER_SECOND: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub bytes_per_second: u64,
    pub answer: OverLimit,
}

/// What happens to a message over the limit. Not documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverLimit {
    /// Answered with this code, not taken.
    Code(i64),
    /// The connection is closed.
    Close,
}

/// What is refused, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: i64,
    /// `productKey`, `deviceKey`; `None` is every device.
    pub device: Option<(String, String)>,
    /// A measurement point; `None` is every request of the device.
    pub point: Option<String>,
}

/// How long a reply waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delay {
    #[default]
    None,
    Fixed(Duration),
    Random {
        from: Duration,
        to: Duration,
    },
}

impl Default for Knobs {
    fn default() -> Knobs {
        Knobs {
            connect_limit: true,
            refusals: Vec::new(),
            reply_delay: Delay::None,
            forget_replies: 0,
            lose_requests: 0,
            withhold_pubacks: false,
            ignore_connects: 0,
            refuse_connects: None,
            online_limit: 200,
            topology_limit: usize::MAX,
            rate_limit: None,
            activation: Activation::default(),
            visibility_delay: Duration::ZERO,
            refuse_generated_keys: false,
            strict_methods: false,
            revoked_certificates: Vec::new(),
            distrust_certificates: false,
        }
    }
}

impl Refusal {
    #[must_use]
    pub fn everything(code: i64) -> Refusal {
        Refusal { code, device: None, point: None }
    }

    #[must_use]
    pub fn device(code: i64, product_key: &str, device_key: &str) -> Refusal {
        Refusal { code, device: Some((product_key.into(), device_key.into())), point: None }
    }

    #[must_use]
    pub fn point(code: i64, point: &str) -> Refusal {
        Refusal { code, device: None, point: Some(point.into()) }
    }

    fn fits_device(&self, product_key: &str, device_key: &str) -> bool {
        self.device.as_ref().is_none_or(|(pk, dk)| pk == product_key && dk == device_key)
    }
}

impl Knobs {
    /// The code for a whole request of a device.
    pub(super) fn refused_device(&self, product_key: &str, device_key: &str) -> Option<i64> {
        let fits = |refusal: &&Refusal| refusal.point.is_none() && refusal.fits_device(product_key, device_key);
        self.refusals.iter().find(fits).map(|refusal| refusal.code)
    }

    /// The code for one point of a device.
    pub(super) fn refused_point(&self, product_key: &str, device_key: &str, point: &str) -> Option<i64> {
        let fits = |refusal: &&Refusal| {
            refusal.point.as_deref() == Some(point) && refusal.fits_device(product_key, device_key)
        };
        self.refusals.iter().find(fits).map(|refusal| refusal.code)
    }

    /// Counts one of a knob's "next so many" down.
    pub(super) fn spend(counter: &mut u64) -> bool {
        let any = *counter > 0;
        *counter = counter.saturating_sub(1);
        any
    }
}

impl Delay {
    pub(super) fn draw(self) -> Option<Duration> {
        match self {
            Delay::None => None,
            Delay::Fixed(delay) => Some(delay),
            Delay::Random { from, to } => Some(from + to.saturating_sub(from).mul_f64(fastrand::f64())),
        }
    }
}
