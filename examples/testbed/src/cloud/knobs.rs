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
