//! What is told to whoever waits: plain lines on standard error.

use std::time::{Duration, Instant};

/// Whoever waits is told something at least this often.
pub const TELL_EVERY: Duration = Duration::from_secs(15);

/// Tells one line.
pub fn say(line: impl std::fmt::Display) {
    eprintln!("localcluster: {line}");
}

/// A duration as people say it: `8 s`, `1 min 20 s`, `12 min`.
pub fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, seconds) if minutes < 5 && seconds != 0 => format!("{minutes} min {seconds} s"),
        (minutes, seconds) => format!("{} min", minutes + u64::from(seconds >= 30)),
    }
}

/// Waits for `work`, and tells from time to time that `what` still goes on.
pub async fn while_telling<T>(what: &str, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(TELL_EVERY, work.as_mut()).await {
            Ok(done) => return done,
            Err(_) => say(format_args!("{what}: {} so far", spoken(started.elapsed()))),
        }
    }
}

/// What is known of a row of steps with typical durations, of which some are done: how much time is left.
#[derive(Debug, Clone, Copy)]
pub struct Estimate {
    typical_done: Duration,
    taken: Duration,
}

impl Estimate {
    /// Before the first step: the machine is taken to be as fast as the one the typical durations are from.
    pub fn new() -> Self {
        Self { typical_done: Duration::ZERO, taken: Duration::ZERO }
    }

    /// A step that typically takes `typical` took `taken`.
    pub fn done(&mut self, typical: Duration, taken: Duration) {
        self.typical_done += typical;
        self.taken += taken;
    }

    /// How long the rest takes, when the step in progress has run for `running` of its typical `current`, and the
    /// steps after it typically take `later`. A step that overruns shows that the machine is slower than it seemed.
    pub fn left(&self, current: Duration, running: Duration, later: Duration) -> Duration {
        let speed = match self.typical_done.as_secs_f64() {
            typical if typical < 10.0 => 1.0,
            typical => (self.taken.as_secs_f64() / typical).clamp(0.02, 20.0),
        };
        let expected = current.mul_f64(speed);
        if running < expected {
            return expected - running + later.mul_f64(speed);
        }
        // It has to end some time: a quarter more is as good a guess as any.
        let speed = speed.max(running.as_secs_f64() / current.as_secs_f64().max(1.0));
        running / 4 + later.mul_f64(speed)
    }
}

impl Default for Estimate {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        let spoken = |seconds| spoken(Duration::from_secs(seconds));
        assert_eq!(
            ["8 s", "1 min 20 s", "2 min", "13 min"],
            [spoken(8), spoken(80), spoken(120), spoken(751)].each_ref().map(String::as_str)
        );
    }

    #[test]
    fn a_machine_half_as_fast_doubles_what_is_left() {
        let minute = Duration::from_secs(60);
        let mut estimate = Estimate::new();
        assert_eq!(estimate.left(minute, Duration::ZERO, minute), 2 * minute);
        estimate.done(minute, 2 * minute);
        assert_eq!(estimate.left(minute, minute, minute), 3 * minute);
        assert_eq!(estimate.left(minute, 4 * minute, minute), 5 * minute, "four times as slow, and nearly done");
    }
}
