//! Waiting until an engine has no work, before it is stopped. No engine finishes its work by itself when it is told to end.

use std::time::{Duration, Instant};

use crate::{gauges, http::Answer};

/// How long it takes until every node knows that nothing is sent to a pod any more: so long requests still come.
pub const FAREWELL: Duration = Duration::from_secs(5);
/// Between two looks.
pub const LOOK: Duration = Duration::from_secs(1);
/// Between two signals to an engine that loads. A signal that comes before it has said what it does on one is lost, and some
/// engines lose the first one after that too.
pub const KNOCK: Duration = Duration::from_secs(3);
/// How long an engine that loads is told to end before that is left to who stops the container.
pub const KNOCKING: Duration = Duration::from_secs(60);

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// The engine's port.
    pub port: u16,
    /// The path of its metrics; `None` when it has none: then all the time there is passes.
    pub path: Option<String>,
    /// Gauges that are all zero when it has no work.
    pub idle_when_zero: Vec<String>,
    /// How long that may take.
    pub within: Duration,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The engine has no work.
    Idle,
    /// The engine never began to answer, and was told to end.
    Loading,
    /// The time is over.
    Over,
}

/// The world of a drain.
pub trait World {
    /// Time since some moment in the past.
    fn now(&self) -> Duration;
    /// Lets time pass.
    fn sleep(&self, time: Duration);
    /// Asks the engine.
    fn ask(&self, port: u16, path: &str) -> Answer;
    /// Tells the engine to end.
    fn tell_to_end(&self);
}

/// What a look at the engine shows.
enum Look {
    Closed,
    Idle,
    Busy,
}

/// Waits; returns within `drain.within` and one request.
pub fn drain(world: &impl World, drain: &Drain) -> End {
    let began = world.now();
    let since = || world.now().saturating_sub(began);
    let (mut idle, mut closed) = (0_u32, 0_u32);
    let mut knocked: Option<Duration> = None;
    loop {
        match look(world, drain) {
            Look::Closed => {
                (idle, closed) = (0, closed.saturating_add(1));
                // Two looks, since an engine that has just got a great many connections may refuse one.
                if closed >= 2 && knocked.is_none_or(|last| since().saturating_sub(last) >= KNOCK) {
                    world.tell_to_end();
                    knocked = Some(since());
                }
                if since() >= KNOCKING.min(drain.within) {
                    return End::Loading;
                }
            }
            Look::Idle => {
                (idle, closed) = (idle.saturating_add(1), 0);
                // A request may be between two engines' steps, and no gauge shows it.
                if idle >= 2 && since() >= FAREWELL.min(drain.within) {
                    return End::Idle;
                }
            }
            Look::Busy => (idle, closed) = (0, 0),
        }
        let left = drain.within.saturating_sub(since());
        if left.is_zero() {
            return End::Over;
        }
        world.sleep(LOOK.min(left));
    }
}

fn look(world: &impl World, drain: &Drain) -> Look {
    let path = drain.path.as_deref().unwrap_or("/");
    match world.ask(drain.port, path) {
        Answer::Refused => Look::Closed,
        // So answers one that still loads: it has no requests.
        Answer::Status(503, _) if drain.path.is_some() => Look::Idle,
        Answer::Status(200, text) if drain.path.is_some() => match gauges::sum(&text, &drain.idle_when_zero) {
            Ok(0) if !drain.idle_when_zero.is_empty() => Look::Idle,
            _ => Look::Busy,
        },
        _ => Look::Busy,
    }
}

/// The real one: this machine, and the first process of this container.
#[derive(Debug)]
pub struct Here {
    began: Instant,
}

impl Default for Here {
    fn default() -> Self {
        Self { began: Instant::now() }
    }
}

impl World for Here {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn ask(&self, port: u16, path: &str) -> Answer {
        crate::http::get(port, path, Duration::from_secs(3))
    }

    fn tell_to_end(&self) {
        // That it has gone already is no failure.
        let _ = rustix::process::kill_process(rustix::process::Pid::INIT, rustix::process::Signal::TERM);
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
