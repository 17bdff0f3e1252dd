//! How much a flow may copy per second in this process. It does not know what it throttles.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::topology::Throttle;

/// The limits of one flow, shared by its tasks.
#[derive(Clone, Debug, Default)]
pub struct FlowThrottle {
    /// Cells of 1 KiB: governor keeps whole nanoseconds per cell, too coarse for single bytes.
    kibibytes: Option<Arc<DefaultDirectRateLimiter>>,
    records: Option<Arc<DefaultDirectRateLimiter>>,
}

/// One task's account: it is charged for what it has taken and takes no more until the debt is paid.
#[derive(Debug)]
pub struct Account {
    throttle: FlowThrottle,
    bytes: u64,
    records: u64,
    clock: DefaultClock,
}

impl FlowThrottle {
    /// Limiters that allow a tenth of a second's worth at once.
    pub fn new(throttle: Throttle) -> Self {
        let limiter = |per_second: u64| {
            let rate =
                NonZeroU32::new(per_second.clamp(1, u32::MAX.into()) as u32).unwrap_or(NonZeroU32::MIN);
            let burst = NonZeroU32::new(rate.get() / 10).unwrap_or(NonZeroU32::MIN);
            Arc::new(RateLimiter::direct(Quota::per_second(rate).allow_burst(burst)))
        };
        Self {
            kibibytes: throttle.bytes_per_second.map(|bytes| limiter(bytes / 1024)),
            records: throttle.records_per_second.map(|records| limiter(records.into())),
        }
    }

    /// A task's account with these limits.
    pub fn account(&self) -> Account {
        Account {
            throttle: self.clone(),
            bytes: 0,
            records: 0,
            clock: DefaultClock::default(),
        }
    }
}

impl Account {
    /// Notes what was taken.
    pub fn charge(&mut self, records: u64, bytes: u64) {
        if self.throttle.kibibytes.is_some() {
            self.bytes += bytes;
        }
        if self.throttle.records.is_some() {
            self.records += records;
        }
    }

    /// Pays what the limits allow now. `Some`: still in debt, try again after this long.
    pub fn wait(&mut self) -> Option<Duration> {
        let bytes = pay(
            self.throttle.kibibytes.as_deref(),
            &mut self.bytes,
            1024,
            &self.clock,
        );
        let records = pay(
            self.throttle.records.as_deref(),
            &mut self.records,
            1,
            &self.clock,
        );
        bytes.max(records)
    }
}

/// Pays in steps no larger than the burst, which is all that governor ever grants at once.
fn pay(
    limiter: Option<&DefaultDirectRateLimiter>,
    debt: &mut u64,
    cell: u64,
    clock: &DefaultClock,
) -> Option<Duration> {
    let limiter = limiter?;
    let mut step = u32::MAX;
    while cell <= *debt {
        let wanted = (*debt / cell).min(u64::from(step)) as u32;
        let cells = NonZeroU32::new(wanted)?;
        match limiter.check_n(cells) {
            Ok(Ok(())) => *debt -= u64::from(cells.get()) * cell,
            Ok(Err(not_until)) => return Some(not_until.wait_time_from(clock.now())),
            Err(too_much) => step = too_much.0,
        }
    }
    None
}

/// Adds up how long a task was held back.
#[derive(Debug, Default)]
pub struct Waiting(Option<Instant>);

impl Waiting {
    /// Notes the present state; returns the time that passed in debt since the last call.
    pub fn note(&mut self, waiting: bool, now: Instant) -> Duration {
        let passed = self
            .0
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.0 = waiting.then_some(now);
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_limits_nobody_waits() {
        let mut account = FlowThrottle::new(Throttle::default()).account();
        account.charge(1_000_000, 1 << 40);
        assert_eq!(account.wait(), None);
    }

    #[test]
    fn a_record_larger_than_a_second_of_the_limit_is_paid_in_the_end() {
        let throttle = Throttle {
            bytes_per_second: Some(64 << 20),
            records_per_second: None,
        };
        let mut account = FlowThrottle::new(throttle).account();
        account.charge(1, 16 << 20);
        assert!(account.wait().is_some(), "a quarter of a second of debt");
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Some(wait) = account.wait() {
            assert!(Instant::now() < deadline, "still in debt");
            std::thread::sleep(wait);
        }
    }
}
