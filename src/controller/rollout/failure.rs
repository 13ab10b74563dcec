//! When a new revision is given up: as long as there is another one that has answered, and never otherwise.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{Class, Seen, Standing, Wish, left, others, share};

/// What a download and a start may take beside their own times.
const GRACE: Duration = Duration::from_secs(600);
/// Bytes a second that a download has at least.
const SLOWEST: u64 = 10_000_000;
/// How often an engine may stop before its revision is given up.
const RESTARTS: i32 = 5;

/// How long a revision may take to answer with its next replica, when nobody says otherwise: the time for its bytes, and the
/// time that its template gives the engine to start.
pub fn deadline(bytes: u64, template: &Value) -> Duration {
    let probe = template.pointer("/spec/containers/0/startupProbe");
    let field = |name: &str| probe.and_then(|probe| probe.get(name)).and_then(Value::as_u64).unwrap_or(0);
    let start = field("periodSeconds").saturating_mul(field("failureThreshold"));
    GRACE + Duration::from_secs(bytes.div_euclid(SLOWEST)) + Duration::from_secs(start)
}

/// Why the revision at `current` is given up now; or when that may have to be asked again.
pub fn of(seen: &[Seen], current: usize, wish: &Wish<'_>, now: Timestamp) -> (Option<String>, Option<Duration>) {
    let Some(new) = seen.get(current) else { return (None, None) };
    let way_back = others(seen, current).into_iter().filter_map(|at| seen.get(at)).any(Seen::is_way_back);
    if new.standing != Standing::Good || !way_back || wish.replicas == 0 {
        return (None, None);
    }
    let on_trial = share::canary(new, wish, now).is_some();
    let stopped = new.pods.iter().filter(|pod| pod.class <= Class::Loading || on_trial).max_by_key(|pod| pod.restarts);
    let bound = if on_trial { 1 } else { RESTARTS };
    if let Some(pod) = stopped.filter(|pod| pod.restarts >= bound) {
        let times = if pod.restarts == 1 { "once".to_owned() } else { format!("{} times", pod.restarts) };
        let trial = if on_trial { " while it was on trial" } else { "" };
        return (Some(with_trouble(format!("The engine of pod {} stopped {times}{trial}.", pod.name), new)), None);
    }
    let to_be_made = new.asked.unwrap_or(0) > super::number(new.pods.len());
    let waiting = to_be_made || new.pods.iter().any(|pod| pod.class <= Class::Loading);
    // Once nothing else runs, and some of it answers, it has taken the place of the others; what it lacks they would lack too.
    let alone =
        new.answering() > 0 && others(seen, current).into_iter().filter_map(|at| seen.get(at)).all(|old| old.occupied() == 0);
    let Some(began) = new.since.filter(|_| waiting && !alone) else { return (None, None) };
    let made = new.pods.iter().filter(|pod| pod.class <= Class::Loading).filter_map(|pod| pod.created).min();
    let answered = new.pods.iter().filter_map(|pod| pod.answers_since).max();
    // After a trial of hours the next ones have their time from when they were asked for.
    let asked = new.asked_since.filter(|_| to_be_made);
    let since = [Some(began), made, answered, asked].into_iter().flatten().max();
    match left(since, new.deadline, now) {
        left if left.is_zero() => {
            let message = format!("It did not answer with its next replica within {}.", spoken(new.deadline));
            (Some(with_trouble(message, new)), None)
        }
        left => (None, Some(left)),
    }
}

fn with_trouble(message: String, new: &Seen) -> String {
    match &new.trouble {
        Some(trouble) => format!("{message} What was said of it then: {trouble}"),
        None => message,
    }
}

/// `40m` or `90s`; what is long to the minute.
pub fn spoken(length: Duration) -> String {
    let seconds = length.as_secs();
    let minutes = seconds.saturating_add(30).div_euclid(60);
    if seconds >= 600 || (seconds >= 120 && seconds.is_multiple_of(60)) { format!("{minutes}m") } else { format!("{seconds}s") }
}
