//! PURE. How long readings took, in a histogram of milliseconds.

/// Longer ones all count here.
const LONGEST_MS: usize = 20_000;

/// One counter a millisecond.
#[derive(Debug, Clone, Default)]
pub struct Latency {
    counts: Vec<u64>,
    total: u64,
}

impl Latency {
    pub fn record(&mut self, took_ms: i64) {
        if self.counts.is_empty() {
            self.counts = vec![0; LONGEST_MS + 1];
        }
        let at = usize::try_from(took_ms).unwrap_or(0).min(LONGEST_MS);
        self.counts[at] += 1;
        self.total += 1;
    }

    /// Milliseconds that this share (0 to 1) of the readings did not exceed.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted.max(1)
        });
        found.unwrap_or(0) as u64
    }

    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_readings() {
        let mut latency = Latency::default();
        for ms in 1..=100 {
            latency.record(ms);
        }
        assert_eq!([0.5, 0.99, 1.0].map(|share| latency.quantile(share)), [50, 99, 100]);
        assert_eq!(Latency::default().quantile(0.5), 0);
    }
}
