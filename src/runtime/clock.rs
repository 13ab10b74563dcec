//! What time it is. Injected, so that a simulation can let hours pass in an instant.
//!
//! Times that are written into objects are compared with times that others wrote there, above all the API server. So the time is
//! the API server's: each of its answers says it, and in between the monotonic clock goes on. What this machine's own clock shows
//! counts only until the first answer: it may be wrong by a day, or be set while this process runs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response, header::DATE};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};
use tokio::time::Instant;
use tower::{Layer, Service};

/// What was heard longer ago counts no more when something else is heard. Until then the latest time counts: an answer may be
/// late, and never early.
const COUNTS: Duration = Duration::from_secs(600);

/// A source of the time of day. Its clones are the same one.
///
/// As a layer around the connection to an API server it hears its answers.
#[derive(Clone)]
pub struct Clock {
    machine: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    heard: Arc<Mutex<Option<Heard>>>,
}

/// What an answer said, and when it came.
#[derive(Debug, Clone, Copy)]
struct Heard {
    time: Timestamp,
    at: Instant,
}

impl Heard {
    fn now(self) -> Timestamp {
        let passed = SignedDuration::try_from(self.at.elapsed()).unwrap_or(SignedDuration::MAX);
        self.time.checked_add(passed).unwrap_or(self.time)
    }
}

impl Clock {
    /// A clock that shows what `machine` does until an API server is heard.
    pub fn new(machine: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { machine: Arc::new(machine), heard: Arc::default() }
    }

    /// One that shows what this machine's does until an API server is heard.
    pub fn of_machine() -> Self {
        Self::new(Timestamp::now)
    }

    /// One that shows `start` now and goes as the runtime's clock does; a paused runtime pauses it.
    pub fn of_runtime(start: Timestamp) -> Self {
        let began = Heard { time: start, at: Instant::now() };
        Self::new(move || began.now())
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.map_or_else(|| (self.machine)(), Heard::now)
    }

    /// Hears what an answer says the time was when it was given (`Sun, 06 Nov 1994 08:49:37 GMT`).
    fn hear(&self, date: &str) {
        let Ok(time) = DateTimeParser::new().parse_timestamp(date) else { return };
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.is_none_or(|known| known.at.elapsed() > COUNTS || known.now() < time) {
            *heard = Some(Heard { time, at: Instant::now() });
        }
    }
}

impl<S> Layer<S> for Clock {
    type Service = Listening<S>;

    fn layer(&self, inner: S) -> Listening<S> {
        Listening { clock: self.clone(), inner }
    }
}

/// A connection to an API server whose answers a [`Clock`] hears.
#[derive(Clone)]
pub struct Listening<S> {
    clock: Clock,
    inner: S,
}

impl<S, A, B> Service<Request<A>> for Listening<S>
where
    S: Service<Request<A>, Response = Response<B>, Future: Send + 'static>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (clock, answer) = (self.clock.clone(), self.inner.call(request));
        Box::pin(async move {
            let answer = answer.await?;
            if let Some(date) = answer.headers().get(DATE).and_then(|date| date.to_str().ok()) {
                clock.hear(date);
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_api_server_says_counts_and_not_what_the_machine_shows() {
        let clock = Clock::of_runtime(at("2026-01-01T00:00:00Z"));
        assert_eq!(clock.now(), at("2026-01-01T00:00:00Z"));
        clock.hear("yesterday");
        assert_eq!(clock.now(), at("2026-01-01T00:00:00Z"));
        clock.hear("Fri, 02 Jan 2026 12:00:00 GMT");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(clock.clone().now(), at("2026-01-02T12:00:05Z"), "it goes on by itself");
        clock.hear("Fri, 02 Jan 2026 12:00:03 GMT");
        assert_eq!(clock.now(), at("2026-01-02T12:00:05Z"), "that answer was late");
        clock.hear("Fri, 02 Jan 2026 12:00:07 GMT");
        assert_eq!(clock.now(), at("2026-01-02T12:00:07Z"), "those before were");
        tokio::time::sleep(COUNTS).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        clock.hear("Fri, 02 Jan 2026 11:00:00 GMT");
        assert_eq!(clock.now(), at("2026-01-02T11:00:00Z"), "it was put back, and not just late");
    }
}
