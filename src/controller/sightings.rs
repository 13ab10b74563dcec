//! Since when something is so, as this manager saw it: what is limited in time is measured on the monotonic clock.
//!
//! A clock may be wrong by more than a limit, and be set while a limit runs. So the time that somebody wrote into an object counts
//! only when it was there before this manager looked the first time, as a length: what had passed by then, by the API server's
//! clock. From then on, and for all that begins later, this process counts itself.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::runtime::clock::Clock;

/// What was not asked for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// What was seen, by the UID of the ModelDeployment.
#[derive(Default)]
pub struct Sightings(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// What the time was when this began, and when that was.
    origin: Option<(Timestamp, Instant)>,
    owners: HashMap<String, Seen>,
}

#[derive(Default)]
struct Seen {
    /// When it was looked at, this time and the time before.
    looked: Option<(Instant, Option<Instant>)>,
    facts: Facts<Fact>,
    counts: Facts<Count>,
}

/// What is so, by what it is so of.
type Facts<F> = HashMap<(String, &'static str), F>;

struct Fact {
    stamp: Timestamp,
    since: Timestamp,
    asked: Instant,
}

struct Count {
    number: usize,
    fell: bool,
    since: Timestamp,
    asked: Instant,
}

impl Sightings {
    /// This manager looks at what belongs to a ModelDeployment.
    pub fn look(&self, owner: &str) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = inner.owners.entry(owner.to_owned()).or_default();
        let before = seen.looked.map(|(last, _)| last);
        seen.looked = Some((Instant::now(), before));
        seen.facts.retain(|_, fact| fact.asked.elapsed() < FORGOTTEN);
        seen.counts.retain(|_, count| count.asked.elapsed() < FORGOTTEN);
    }

    /// The time to which those of [`Self::since`] are compared: the time of day when this manager began, and what has passed since
    /// on the monotonic clock.
    pub fn now(&self, clock: &Clock) -> Timestamp {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).now(clock)
    }

    /// Since when `what` is so of the object with that UID, which belongs to `owner`; an object says it is since `stamp`. With
    /// another stamp it began anew. Never earlier than it really began, as far as this manager was there.
    pub fn since(&self, clock: &Clock, owner: &str, uid: &str, what: &'static str, stamp: Timestamp) -> Timestamp {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = inner.now(clock);
        let seen = inner.owners.entry(owner.to_owned()).or_default();
        let key = (uid.to_owned(), what);
        if let Some(fact) = seen.facts.get_mut(&key).filter(|fact| fact.stamp == stamp) {
            fact.asked = Instant::now();
            return fact.since;
        }
        let said = clock.now().duration_since(stamp).max(SignedDuration::ZERO);
        // At the look before it was not there yet.
        let bound = seen.looked.and_then(|(_, before)| before).map(|before| before.elapsed());
        let bound = bound.and_then(|bound| SignedDuration::try_from(bound).ok()).unwrap_or(SignedDuration::MAX);
        let since = now.checked_sub(said.min(bound)).unwrap_or(now);
        seen.facts.insert(key, Fact { stamp, since, asked: Instant::now() });
        since
    }

    /// Since when this manager sees that there are so many of `what` of the object with that UID, or name; and whether there were
    /// more before.
    pub fn counted(&self, clock: &Clock, owner: &str, uid: &str, what: &'static str, number: usize) -> (Timestamp, bool) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, asked) = (inner.now(clock), Instant::now());
        let counts = &mut inner.owners.entry(owner.to_owned()).or_default().counts;
        let count = counts.entry((uid.to_owned(), what)).or_insert(Count { number, since: now, asked, fell: false });
        if count.number != number {
            *count = Count { number, since: now, asked, fell: number < count.number };
        }
        count.asked = asked;
        (count.since, count.fell)
    }

    /// Forgets the ModelDeployments that are not in `alive`.
    pub fn keep_only(&self, alive: &HashSet<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).owners.retain(|uid, _| alive.contains(uid));
    }
}

impl Inner {
    fn now(&mut self, clock: &Clock) -> Timestamp {
        let (start, began) = *self.origin.get_or_insert_with(|| (clock.now(), Instant::now()));
        let passed = SignedDuration::try_from(began.elapsed()).unwrap_or(SignedDuration::MAX);
        start.checked_add(passed).unwrap_or(start)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };

    use super::*;

    const DAY: i64 = 86_400;

    /// A clock that shows so many seconds since the epoch and is set by hand.
    fn by_hand() -> (Arc<AtomicI64>, Clock) {
        let shows = Arc::new(AtomicI64::new(100 * DAY));
        let shown = shows.clone();
        (shows, Clock::new(move || Timestamp::from_second(shown.load(Ordering::Relaxed)).unwrap()))
    }

    fn second(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_began_before_has_its_age_and_what_begins_later_is_timed_by_this_process_alone() {
        let (shows, clock) = by_hand();
        let sightings = Sightings::default();
        let age = |uid: &str, stamp| {
            let since = sightings.since(&clock, "o", uid, "made", second(stamp));
            sightings.now(&clock).duration_since(since).as_secs()
        };
        sightings.look("o");
        assert_eq!(age("old", 100 * DAY - 300), 300);
        assert_eq!(age("of a clock that is ahead", 101 * DAY), 0);
        tokio::time::sleep(Duration::from_secs(60)).await;
        // Whoever sets the clock sets no limit off.
        for shown in [200 * DAY, DAY] {
            shows.store(shown, Ordering::Relaxed);
            sightings.look("o");
            assert_eq!((age("old", 100 * DAY - 300), age("of a clock that is ahead", 101 * DAY)), (360, 60));
        }
        shows.store(200 * DAY, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(7)).await;
        sightings.look("o");
        assert_eq!(age("new", 100 * DAY), 7, "at the look before it was not there");
        assert_eq!(age("new", 100 * DAY + 1), 7, "it began anew");
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_has_the_time_since_it_was_another() {
        let (shows, clock) = by_hand();
        let sightings = Sightings::default();
        let age = |number| {
            let (since, fell) = sightings.counted(&clock, "o", "r", "pods", number);
            (sightings.now(&clock).duration_since(since).as_secs(), fell)
        };
        assert_eq!(age(2), (0, false), "nobody knows how long it was so before");
        tokio::time::sleep(Duration::from_secs(30)).await;
        shows.store(200 * DAY, Ordering::Relaxed);
        assert_eq!((age(2), age(1), age(2)), ((30, false), (0, true), (0, false)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_is_forgotten() {
        let (_, clock) = by_hand();
        let sightings = Sightings::default();
        sightings.look("o");
        sightings.since(&clock, "o", "p", "made", second(0));
        sightings.keep_only(&HashSet::from(["o".to_owned()]));
        tokio::time::sleep(FORGOTTEN).await;
        assert_eq!(sightings.0.lock().unwrap().owners["o"].facts.len(), 1);
        sightings.look("o");
        assert!(sightings.0.lock().unwrap().owners["o"].facts.is_empty());
        sightings.keep_only(&HashSet::new());
        assert!(sightings.0.lock().unwrap().owners.is_empty());
    }
}
