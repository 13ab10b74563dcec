//! How long an object that failed waits: longer each time, never in step with the others.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::runtime::clock::Clock;

/// Failures in a row, by object.
pub struct Backoff {
    failures: Mutex<HashMap<String, (u32, Instant)>>,
    /// When this process began: no two have the same.
    began: i128,
}

/// `first`, doubled with each of `times` after the first, up to `longest`.
pub fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << times.saturating_sub(1).min(20)).min(longest)
}

impl Backoff {
    /// The first wait.
    pub const FIRST: Duration = Duration::from_secs(1);
    /// The longest wait, before jitter.
    pub const LONGEST: Duration = Duration::from_secs(300);

    /// No failures. `clock` says what tells this process from others.
    pub fn new(clock: &Clock) -> Self {
        Self { failures: Mutex::default(), began: clock.now().as_nanosecond() }
    }

    /// Notes a failure and says how long to wait: doubled each time, ± a quarter.
    pub fn failed(&self, object: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        // An object that was removed does not fail any more, and does not succeed either.
        failures.retain(|_, (_, last)| last.elapsed() < Self::LONGEST * 4);
        let (count, last) = failures.entry(object.to_owned()).or_insert((0, Instant::now()));
        *last = Instant::now();
        let base = Self::FIRST.saturating_mul(1 << (*count).min(20)).min(Self::LONGEST);
        *count += 1;
        base.mul_f64(0.75 + self.fraction(object, *count) / 2.0)
    }

    /// Notes a success.
    pub fn succeeded(&self, object: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(object);
    }

    /// A number in 0..1 that differs between objects, attempts and processes.
    fn fraction(&self, object: &str, count: u32) -> f64 {
        let mut hasher = DefaultHasher::new();
        (self.began, object, count).hash(&mut hasher);
        f64::from((hasher.finish() >> 32) as u32) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_up_to_a_bound_and_a_success_forgets() {
        let backoff = Backoff::new(&Clock::of_machine());
        let near = |wait: Duration, seconds: f64| (0.74..1.26).contains(&(wait.as_secs_f64() / seconds));
        assert!(near(backoff.failed("a"), 1.0));
        assert!(near(backoff.failed("a"), 2.0));
        assert!(near(backoff.failed("a"), 4.0));
        assert!(near(backoff.failed("b"), 1.0));
        for _ in 0..40 {
            backoff.failed("a");
        }
        assert!(near(backoff.failed("a"), 300.0));
        backoff.succeeded("a");
        assert!(near(backoff.failed("a"), 1.0));
    }
}
