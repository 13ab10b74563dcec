//! Who calls, and what befalls the calls.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{refuse::Refusal, request::Asked, store::Change};
use crate::support::bell;

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It is answered.
    Pass,
    /// It is answered after this time.
    Late(Duration),
    /// It is refused.
    Refuse(Refusal),
    /// The connection breaks before it arrives.
    Broken,
    /// It arrives, and the connection breaks before its answer does.
    Lost,
    /// It arrives after this time, and its answer after this time again.
    Slow(Duration),
    /// Nothing is ever heard of it.
    Hang,
    /// The caller is killed before it arrives.
    DieBefore,
    /// The caller is killed after it arrived.
    DieAfter,
}

/// What becomes of an event of a watch.
#[derive(Debug, Clone, Copy)]
pub enum Tidings {
    Now,
    /// It is told this long after it happened, and what follows it no sooner.
    Late(Duration),
    Twice,
    /// The watch ends before it is told.
    Break,
    /// It is never told; the watch ends soon after, and can only be taken up with a new list.
    Forget,
}

/// Decides what befalls.
pub trait Plan: Send {
    fn request(&mut self, asked: &Asked) -> Fate;

    fn event(&mut self, _change: &Change) -> Tidings {
        Tidings::Now
    }
}

/// Nothing befalls.
pub struct Smooth;

impl Plan for Smooth {
    fn request(&mut self, _: &Asked) -> Fate {
        Fate::Pass
    }
}

/// More requests than any run needs: who asks more goes round in circles, perhaps without a moment's rest, and is killed, so that
/// the run fails instead of never ending.
const MOST: usize = 60_000;

/// One process that calls. Its clones are the same one.
#[derive(Clone)]
pub struct Caller {
    pub who: Arc<str>,
    plan: Arc<Mutex<dyn Plan>>,
    dead: bell::Sender<bool>,
    asked: Arc<AtomicUsize>,
}

impl Caller {
    pub fn new(who: &str, plan: impl Plan + 'static) -> Self {
        Self { who: who.into(), plan: Arc::new(Mutex::new(plan)), dead: bell::channel(false).0, asked: Arc::default() }
    }

    pub fn request(&self, asked: &Asked) -> Fate {
        if self.asked.fetch_add(1, Ordering::Relaxed) >= MOST {
            eprintln!("{} has asked {MOST} times, and is killed; at last for {asked:?}", self.who);
            return Fate::DieBefore;
        }
        self.plan.lock().unwrap().request(asked)
    }

    pub fn event(&self, change: &Change) -> Tidings {
        self.plan.lock().unwrap().event(change)
    }

    /// Nothing of it arrives any more, and it hears of nothing.
    pub fn die(&self) {
        self.dead.send_replace(true);
    }

    pub fn is_dead(&self) -> bool {
        self.dead.get()
    }

    /// Waits until it is dead.
    pub async fn death(&self) {
        let mut dead = self.dead.subscribe();
        dead.wait_for(|dead| dead).await;
    }
}

impl Plan for Box<dyn Plan> {
    fn request(&mut self, asked: &Asked) -> Fate {
        (**self).request(asked)
    }

    fn event(&mut self, change: &Change) -> Tidings {
        (**self).event(change)
    }
}
