use std::cell::{Cell, RefCell};

use super::*;

/// Answers by the second in which they are asked for.
struct Scene<F: Fn(u64) -> Answer> {
    now: Cell<Duration>,
    answer: F,
    told: RefCell<Vec<u64>>,
}

impl<F: Fn(u64) -> Answer> World for Scene<F> {
    fn now(&self) -> Duration {
        self.now.get()
    }

    fn sleep(&self, time: Duration) {
        self.now.set(self.now.get() + time);
    }

    fn ask(&self, _: u16, _: &str) -> Answer {
        (self.answer)(self.now.get().as_secs())
    }

    fn tell_to_end(&self) {
        self.told.borrow_mut().push(self.now.get().as_secs());
    }
}

fn work(running: u32) -> Answer {
    Answer::Status(200, format!("# TYPE running gauge\nrunning{{model=\"a\"}} {running}.0\nwaiting 0\n"))
}

/// How it ends, after how many seconds, and when the engine was told to end.
fn ended(within: u64, path: Option<&str>, answer: impl Fn(u64) -> Answer) -> (End, u64, Vec<u64>) {
    let scene = Scene { now: Cell::default(), answer, told: RefCell::default() };
    let gauges = vec!["running".to_owned(), "waiting".to_owned()];
    let wanted = Drain { port: 1, path: path.map(str::to_owned), idle_when_zero: gauges, within: Duration::from_secs(within) };
    let end = drain(&scene, &wanted);
    (end, scene.now.get().as_secs(), scene.told.into_inner())
}

#[test]
fn an_idle_engine_is_left_when_nobody_sends_requests_any_more() {
    assert_eq!(ended(120, Some("/metrics"), |_| work(0)), (End::Idle, 5, vec![]));
    assert_eq!(ended(2, Some("/metrics"), |_| work(0)), (End::Idle, 2, vec![]));
}

#[test]
fn a_request_in_flight_is_waited_for() {
    assert_eq!(ended(120, Some("/metrics"), |second| work(u32::from(second < 40))), (End::Idle, 41, vec![]));
}

#[test]
fn one_look_that_shows_no_work_is_not_believed() {
    let flicker = |second| work(u32::from(second < 40 && second % 2 == 0));
    assert_eq!(ended(120, Some("/metrics"), flicker), (End::Idle, 40, vec![]));
}

#[test]
fn time_is_over_when_it_is_over() {
    assert_eq!(ended(30, Some("/metrics"), |_| work(1)), (End::Over, 30, vec![]));
    assert_eq!(ended(30, Some("/metrics"), |_| Answer::Silent), (End::Over, 30, vec![]));
}

#[test]
fn what_says_nothing_about_its_work_gets_all_the_time() {
    assert_eq!(ended(30, Some("/metrics"), |_| Answer::Status(200, "other 0\n".into())), (End::Over, 30, vec![]));
    assert_eq!(ended(30, Some("/metrics"), |_| Answer::Status(404, String::new())), (End::Over, 30, vec![]));
    assert_eq!(ended(30, None, |_| work(0)), (End::Over, 30, vec![]));
}

#[test]
fn an_engine_that_loads_is_told_to_end_until_it_does() {
    assert_eq!(ended(9, Some("/metrics"), |_| Answer::Refused), (End::Loading, 9, vec![1, 4, 7]));
    assert_eq!(ended(600, Some("/metrics"), |_| Answer::Refused).1, 60);
    assert_eq!(ended(9, None, |_| Answer::Refused).0, End::Loading);
    // One that answers from the first moment on, and says that it loads.
    assert_eq!(ended(120, Some("/metrics"), |_| Answer::Status(503, String::new())), (End::Idle, 5, vec![]));
}

#[test]
fn an_engine_that_refuses_one_connection_is_not_told_to_end() {
    let answer = |second| if second == 3 { Answer::Refused } else { work(u32::from(second < 20)) };
    assert_eq!(ended(120, Some("/metrics"), answer), (End::Idle, 21, vec![]));
}
