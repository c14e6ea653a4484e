//! PURE. Whether a clock can be right at all: a gateway without a battery begins in 1970, or where it was made.

use super::Timestamp;

/// 2025-01-01: no gateway with this engine has lived before it.
pub const EARLIEST: Timestamp = Timestamp(1_735_689_600_000);

/// Somebody, or a time server, has set it.
#[must_use]
pub fn is_set(time: Timestamp) -> bool {
    time >= EARLIEST
}
