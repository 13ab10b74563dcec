//! How far a fetch is, for people and for its own patience.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Counters that the fetch writes and anybody may read while it runs.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    total: AtomicU64,
    hashed: AtomicU64,
    received: AtomicU64,
    moved: AtomicU64,
    verifying: Mutex<Verifying>,
}

/// How long something that lay on the disk was hashed; what is hashed at the same time counts once.
#[derive(Debug, Default)]
struct Verifying {
    now: usize,
    since: Option<Instant>,
    before: Duration,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot {
    /// The bytes of all distinct files.
    pub total: u64,
    /// The bytes that are on the disk and hashed, from the network or from an earlier attempt.
    pub hashed: u64,
    /// The bytes that came over the network.
    pub received: u64,
    /// The time since the fetch began.
    pub elapsed: Duration,
    /// How much of it went into hashing what lay on the disk already.
    pub verifying: Duration,
    /// Bytes hashed a second, since the last snapshot when there is one.
    pub rate: f64,
}

/// How far a fetch is, as it says itself to those who ask for `/progress`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Download {
    /// Bytes of all files.
    pub total: u64,
    /// Bytes on the disk and hashed.
    pub hashed: u64,
    /// Bytes a second, lately.
    pub rate: f64,
    /// Seconds since it began.
    pub elapsed_seconds: f64,
    /// Seconds since a byte came or was hashed.
    pub idle_seconds: f64,
}

impl Default for Progress {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        let verifying = Mutex::default();
        Self { started: Instant::now(), total: zero(), hashed: zero(), received: zero(), moved: zero(), verifying }
    }
}

impl Progress {
    /// The counters now; `earlier` makes the rate the current one instead of the mean.
    pub fn snapshot(&self, earlier: Option<&Snapshot>) -> Snapshot {
        let elapsed = self.started.elapsed();
        let hashed = self.hashed.load(Relaxed);
        let (bytes, time) = earlier.map_or((hashed, elapsed), |earlier| {
            (hashed.saturating_sub(earlier.hashed), elapsed.saturating_sub(earlier.elapsed))
        });
        let rate = if time.is_zero() { 0.0 } else { bytes as f64 / time.as_secs_f64() };
        let (total, received) = (self.total.load(Relaxed), self.received.load(Relaxed));
        Snapshot { total, hashed, received, elapsed, verifying: self.verifying().so_far(), rate }
    }

    /// Does work that hashes what lies on the disk, and counts how long that takes.
    pub(super) fn verifies<T>(&self, work: impl FnOnce() -> T) -> T {
        self.verifying().begin();
        let done = work();
        self.verifying().end();
        done
    }

    fn verifying(&self) -> MutexGuard<'_, Verifying> {
        self.verifying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same for others, with the rate since `earlier`.
    pub fn download(&self, earlier: Option<&Snapshot>) -> Download {
        let Snapshot { total, hashed, elapsed, rate, .. } = self.snapshot(earlier);
        let (elapsed_seconds, idle_seconds) = (elapsed.as_secs_f64(), self.idle().as_secs_f64());
        Download { total, hashed, rate, elapsed_seconds, idle_seconds }
    }

    pub(in crate::weights) fn expect(&self, bytes: u64) {
        self.total.store(bytes, Relaxed);
        self.touch();
    }

    pub(super) fn add_hashed(&self, bytes: u64) {
        self.hashed.fetch_add(bytes, Relaxed);
        self.touch();
    }

    pub(super) fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Relaxed);
        self.touch();
    }

    pub(super) fn forget(&self, bytes: u64) {
        self.hashed.fetch_sub(bytes, Relaxed);
    }

    /// The time since a byte came or was hashed.
    pub(super) fn idle(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.moved.load(Relaxed)))
    }

    fn touch(&self) {
        self.moved.store(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX), Relaxed);
    }
}

impl Verifying {
    fn begin(&mut self) {
        self.now += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    fn end(&mut self) {
        self.now = self.now.saturating_sub(1);
        if self.now == 0 {
            self.before = self.so_far();
            self.since = None;
        }
    }

    fn so_far(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { total, hashed, rate, .. } = self;
        let percent = hashed.saturating_mul(100).checked_div(*total).unwrap_or(100);
        write!(f, "{percent} %, {} of {}", size(*hashed as f64), size(*total as f64))?;
        if *rate >= 1.0 {
            let left = total.saturating_sub(*hashed) as f64 / rate;
            write!(f, ", {}/s, {left:.0} s left", size(*rate))?;
        }
        Ok(())
    }
}

/// A number of bytes as people read it, in powers of ten.
pub fn size(bytes: f64) -> String {
    let scales = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match scales.into_iter().find(|(scale, _)| bytes >= *scale) {
        Some((scale, unit)) => format!("{:.1} {unit}", bytes / scale),
        None => format!("{bytes:.0} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_says_how_much_how_fast_and_how_long() {
        let progress = Progress::default();
        progress.expect(4_000_000_000);
        tokio::time::advance(Duration::from_secs(1)).await;
        let first = progress.snapshot(None);
        assert_eq!(first.to_string(), "0 %, 0 B of 4.0 GB");
        progress.add_hashed(1_000_000_000);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(progress.snapshot(Some(&first)).to_string(), "25 %, 1.0 GB of 4.0 GB, 500.0 MB/s, 6 s left");
        assert_eq!(progress.idle(), Duration::from_secs(2));
        let told = Download {
            total: 4_000_000_000,
            hashed: 1_000_000_000,
            rate: 500_000_000.0,
            elapsed_seconds: 3.0,
            idle_seconds: 2.0,
        };
        assert_eq!(progress.download(Some(&first)), told);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_hashed_at_the_same_time_counts_once_and_what_comes_meanwhile_does_not() {
        let mut verifying = Verifying::default();
        let pass = async |seconds| tokio::time::advance(Duration::from_secs(seconds)).await;
        pass(1).await;
        verifying.begin();
        pass(2).await;
        verifying.begin();
        pass(4).await;
        verifying.end();
        assert_eq!(verifying.so_far(), Duration::from_secs(6));
        verifying.end();
        pass(8).await;
        assert_eq!(verifying.so_far(), Duration::from_secs(6));
        verifying.begin();
        pass(16).await;
        assert_eq!(verifying.so_far(), Duration::from_secs(22));
    }
}
