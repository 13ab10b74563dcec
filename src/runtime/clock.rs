//! What time it is. Injected, so that a simulation can let hours pass in an instant.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// A source of the time of day.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The machine's.
    Machine,
    /// `start`, and the time that the runtime's own clock has counted since `began`; a paused runtime pauses it.
    Runtime {
        /// The time of day at `began`.
        start: Timestamp,
        /// When it began.
        began: Instant,
    },
}

impl Clock {
    /// A clock that shows `start` now and goes as the runtime's clock does.
    pub fn of_runtime(start: Timestamp) -> Self {
        Self::Runtime { start, began: Instant::now() }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::Machine => Timestamp::now(),
            Self::Runtime { start, began } => {
                let passed = SignedDuration::try_from(began.elapsed()).unwrap_or(SignedDuration::MAX);
                start.checked_add(passed).unwrap_or(*start)
            }
        }
    }
}
