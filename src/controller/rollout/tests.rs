use serde_json::json;

use super::*;
use crate::api::{Reason, Strategy};

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub fn pod(name: &str, class: Class) -> Pod {
    let rank = match class {
        Class::Pending => (false, false, false, 0),
        Class::Loading => (true, false, false, 0),
        Class::Draining => (true, true, false, -1000),
        Class::Answering => (true, true, true, 0),
    };
    Pod {
        name: name.into(),
        class,
        rank,
        answers_since: (class == Class::Answering).then(|| at(0)),
        created: Some(at(0)),
        silent_since: None,
        no_room_since: None,
        draining_since: (class == Class::Draining).then(|| at(0)),
        idle: false,
        restarts: 0,
    }
}

/// A revision by the states of its pods: `A`nswering, `D`raining, `I`dle and draining, `L`oading, `S`ilent since second 0, `P`ending, finding no `R`oom
/// since second 0.
pub fn seen(name: &str, asked: i32, states: &str) -> Seen {
    let pods = states.chars().enumerate().map(|(number, state)| {
        let name = format!("{name}-{number}");
        match state {
            'A' => pod(&name, Class::Answering),
            'D' => pod(&name, Class::Draining),
            'I' => Pod { idle: true, ..pod(&name, Class::Draining) },
            'L' => pod(&name, Class::Loading),
            'S' => Pod { silent_since: Some(at(0)), ..pod(&name, Class::Loading) },
            'P' => pod(&name, Class::Pending),
            'R' => Pod { no_room_since: Some(at(0)), ..pod(&name, Class::Pending) },
            other => panic!("{other}"),
        }
    });
    Seen {
        name: name.into(),
        number: i64::from(name.as_bytes()[0]),
        asked: Some(asked),
        asked_since: None,
        since: Some(at(0)),
        pods: pods.collect(),
        leaving: 0,
        counted_since: Some(at(0)),
        gave_room: false,
        standing: Standing::Good,
        may_serve: true,
        refused_since: None,
        asked_for: false,
        drained_by: vec![],
        stands_in: true,
        answered: true,
        whole: false,
        tried: false,
        deadline: Duration::from_secs(600),
        trouble: None,
    }
}

fn strategy(strategy: Strategy) -> Rollout {
    Rollout { strategy, ..Rollout::default() }
}

/// The step at second 10, on the way to revision `b`.
fn go(seen: &[Seen], replicas: i32, how: Strategy) -> Step {
    step(seen, &Wish { replicas, current: Some("b"), rollout: &strategy(how) }, at(10))
}

use Fate::{Keep, Rest};

/// What is wanted; what is asked of the old and the new revision, with their pods; the replicas of each, and who is unrouted.
type Case<'a> = (i32, (i32, &'a str), (i32, &'a str), [Fate; 2], &'a [&'a str]);

#[test]
fn the_new_revision_comes_up_before_the_old_one_goes_down() {
    let cases: &[Case<'_>] = &[
        (2, (2, "AA"), (0, ""), [Keep(2), Keep(1)], &[]),
        (2, (2, "AA"), (1, "L"), [Keep(2), Keep(1)], &[]),
        (2, (2, "AA"), (1, "A"), [Keep(2), Keep(1)], &["a-0"]),
        (2, (2, "DA"), (1, "A"), [Keep(2), Keep(1)], &[]),
        (2, (2, "IA"), (1, "A"), [Keep(1), Keep(1)], &[]),
        (2, (1, "A"), (1, "A"), [Keep(1), Keep(2)], &[]),
        (2, (1, "A"), (2, "AL"), [Keep(1), Keep(2)], &[]),
        (2, (1, "A"), (2, "AA"), [Keep(1), Keep(2)], &["a-0"]),
        (2, (1, "I"), (2, "AA"), [Keep(0), Keep(2)], &[]),
        (2, (0, ""), (2, "AA"), [Rest, Keep(2)], &[]),
        (8, (8, "AAAAAAAA"), (0, ""), [Keep(8), Keep(2)], &[]),
        (8, (8, "AAAAAAAA"), (2, "AA"), [Keep(8), Keep(2)], &["a-0", "a-1"]),
    ];
    for (wanted, old, new, fates, drain) in cases {
        let step = go(&[seen("a", old.0, old.1), seen("b", new.0, new.1)], *wanted, Strategy::Surge);
        assert_eq!(
            (step.fates.as_slice(), step.drain.as_slice()),
            (fates.as_slice(), strings(drain).as_slice()),
            "{old:?} {new:?}"
        );
        assert_eq!(step.floor, *wanted, "so many go on answering: {old:?} {new:?}");
    }
}

pub fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn a_new_replica_that_stops_answering_brings_the_old_one_back() {
    let step = go(&[seen("a", 2, "DA"), seen("b", 1, "L")], 2, Strategy::Surge);
    assert_eq!((step.fates, step.take_back, step.drain), (vec![Keep(2), Keep(1)], strings(&["a-0"]), vec![]));
}

#[test]
fn an_old_revision_that_does_not_answer_makes_room_at_once() {
    for states in ["L", "P", "R"] {
        assert_eq!(go(&[seen("a", 1, states), seen("b", 0, "")], 1, Strategy::Auto).fates, [Keep(0), Keep(1)]);
    }
}

#[test]
fn one_by_one_an_old_replica_stops_before_a_new_one_starts() {
    let cases: &[Case<'_>] = &[
        (2, (2, "AA"), (0, ""), [Keep(2), Keep(0)], &["a-0"]),
        (2, (2, "IA"), (0, ""), [Keep(1), Keep(0)], &[]),
        (2, (1, "A"), (0, ""), [Keep(1), Keep(1)], &[]),
        (2, (1, "A"), (1, "L"), [Keep(1), Keep(1)], &[]),
        (2, (1, "A"), (1, "A"), [Keep(1), Keep(1)], &["a-0"]),
        (2, (1, "I"), (1, "A"), [Keep(0), Keep(1)], &[]),
        (2, (0, ""), (1, "A"), [Keep(0), Keep(2)], &[]),
        (2, (0, ""), (2, "AA"), [Rest, Keep(2)], &[]),
        (1, (1, "A"), (0, ""), [Keep(1), Keep(0)], &["a-0"]),
        (1, (1, "I"), (0, ""), [Keep(0), Keep(0)], &[]),
    ];
    for (wanted, old, new, fates, drain) in cases {
        let step = go(&[seen("a", old.0, old.1), seen("b", new.0, new.1)], *wanted, Strategy::OneByOne);
        assert_eq!(
            (step.fates.as_slice(), step.drain.as_slice()),
            (fates.as_slice(), strings(drain).as_slice()),
            "{old:?} {new:?}"
        );
    }
}

#[test]
fn where_a_surge_finds_no_room_an_old_replica_makes_some_after_a_while_and_that_is_said() {
    let full = |second: i64, how: Strategy, leaving: usize| {
        let old = Seen { leaving, ..seen("a", 2, "AA") };
        step(&[old, seen("b", 1, "R")], &Wish { replicas: 2, current: Some("b"), rollout: &strategy(how) }, at(second))
    };
    let early = full(15, Strategy::Auto, 0);
    assert_eq!((early.drain, early.again), (vec![], Some(Duration::from_secs(5))));
    let late = full(20, Strategy::Auto, 0);
    assert_eq!((late.drain, late.fates), (strings(&["a-0"]), vec![Keep(2), Keep(1)]));
    let said = late.said.unwrap();
    assert!(said.makes_room);
    assert_eq!(
        said.message,
        "Revision b takes the place of a one by one, as no node has room for a replica more: 0 of its 2 replicas answer. An old one stops before a new one starts. Each has 10m to answer, or a takes its place back. 1 replica finishes its requests before it stops. That takes at most 2m."
    );
    assert_eq!(full(20, Strategy::Surge, 0).drain, Vec::<String>::new(), "it was asked for a surge and nothing else");
    assert_eq!(full(20, Strategy::Auto, 1).drain, Vec::<String>::new(), "one is on its way out");
    // With several on their way, one at a time all the same.
    let two = [seen("a", 8, "AAAAAAAA"), seen("b", 2, "RR")];
    assert_eq!(go_at(&two, 8, 20).drain, ["a-0"]);
}

#[test]
fn where_fewer_find_room_than_are_wanted_one_of_the_old_makes_some_and_never_the_last() {
    let crowd = |old: &str, new: &str, second| {
        let of = |name, states: &str| seen(name, states.len().try_into().unwrap(), states);
        go_at(&[of("a", old), of("b", new)], 3, second)
    };
    assert_eq!(crowd("AA", "R", 20).drain, ["a-0"]);
    let going = crowd("DA", "R", 20);
    assert_eq!((going.take_back, going.floor), (vec![], 1), "it stays marked until it has finished");
    assert_eq!(crowd("A", "AR", 20).drain, ["a-0"]);
    // The only one that answers; one that is on its way; one that would have to come back.
    for (old, new) in [("A", "R"), ("A", "RR"), ("AA", "LR"), ("A", "LR"), ("AL", "R")] {
        assert_eq!(crowd(old, new, 20).drain, Vec::<String>::new(), "{old} {new}");
    }
    assert_eq!(crowd("DL", "R", 20).take_back, ["a-0"]);
    // Who waits takes a moment to find the room that was made.
    let made_room = Seen { counted_since: Some(at(90)), ..seen("a", 2, "AA") };
    let early = go_at(&[made_room.clone(), seen("b", 1, "R")], 4, 100);
    assert_eq!((early.drain, early.again), (vec![], Some(Duration::from_secs(10))));
    assert_eq!(go_at(&[made_room, seen("b", 1, "R")], 4, 110).drain, ["a-0"]);
}

fn go_at(seen: &[Seen], replicas: i32, second: i64) -> Step {
    step(seen, &Wish { replicas, current: Some("b"), rollout: &Rollout::default() }, at(second))
}

#[test]
fn a_share_goes_first_and_the_others_follow_when_it_has_answered_long_enough() {
    let rollout: Rollout =
        serde_json::from_value(json!({"strategy": "Canary", "canary": {"percent": 30, "hold": "60s"}})).unwrap();
    let go = |old: Seen, new: Seen, replicas, second| {
        step(&[old, new], &Wish { replicas, current: Some("b"), rollout: &rollout }, at(second))
    };
    // 30 % of 4 are 2, one after the other.
    assert_eq!(go(seen("a", 4, "AAAA"), seen("b", 0, ""), 4, 1).fates, [Keep(4), Keep(1)]);
    let trial = go(seen("a", 2, "AA"), seen("b", 2, "AA"), 4, 59);
    assert_eq!((trial.fates, trial.drain, trial.again), (vec![Keep(2), Keep(2)], vec![], Some(Duration::from_secs(1))));
    assert!(trial.said.unwrap().message.contains("A share of 2 is on trial"));
    assert_eq!(go(seen("a", 2, "AA"), seen("b", 2, "AA"), 4, 60).fates, [Keep(2), Keep(3)]);
    // Once past it, it is not on trial again because a replica was replaced.
    let passed = Seen { tried: true, ..seen("b", 3, "AAL") };
    assert_eq!(go(seen("a", 2, "AA"), passed, 4, 1).fates, [Keep(2), Keep(3)]);
    // Of one replica the share is one more; the old one stays until it is over.
    let one = go(seen("a", 1, "A"), seen("b", 1, "A"), 1, 59);
    assert_eq!((one.fates, one.drain), (vec![Keep(1), Keep(1)], vec![]));
    assert_eq!(go(seen("a", 1, "A"), seen("b", 1, "A"), 1, 60).drain, ["a-0"]);
    // Nobody is asked to stand trial where nothing answers.
    assert_eq!(go(seen("a", 0, ""), seen("b", 0, ""), 4, 1).fates, [Keep(0), Keep(4)]);
}

#[test]
fn a_share_whose_engine_stops_is_given_up() {
    let rollout = strategy(Strategy::Canary);
    let mut new = seen("b", 1, "A");
    new.pods[0].restarts = 1;
    let step = step(&[seen("a", 2, "AA"), new], &Wish { replicas: 2, current: Some("b"), rollout: &rollout }, at(10));
    assert_eq!(step.given_up.unwrap(), ("b".to_owned(), "The engine of pod b-0 stopped once while it was on trial.".to_owned()));
    assert_eq!((step.fates, step.drain), (vec![Keep(2), Keep(1)], strings(&["b-0"])));
}

#[test]
fn a_revision_that_does_not_come_up_is_given_up_and_the_old_one_is_whole_again() {
    let slow = |second| go_at(&[seen("a", 1, "A"), Seen { trouble: Some("It loads.".into()), ..seen("b", 1, "L") }], 2, second);
    assert_eq!(slow(599).given_up, None);
    assert_eq!(slow(599).again, Some(Duration::from_secs(1)));
    let late = slow(600);
    let cause = "It did not answer with its next replica within 10m. What was said of it then: It loads.";
    assert_eq!(late.given_up, Some(("b".to_owned(), cause.to_owned())));
    assert_eq!(late.fates, [Keep(2), Keep(0)]);
    // Each replica that answers has the time anew.
    let mut new = seen("b", 2, "AL");
    new.pods[0].answers_since = Some(at(500));
    assert_eq!(go_at(&[seen("a", 1, "A"), new.clone()], 2, 1099).given_up, None);
    assert!(go_at(&[seen("a", 1, "A"), new], 2, 1100).given_up.is_some());
    // As has a pod that came in another's place.
    let mut replaced = seen("b", 1, "L");
    replaced.pods[0].created = Some(at(500));
    assert_eq!(go_at(&[seen("a", 1, "A"), replaced], 1, 1099).given_up, None);
    // An engine that stops again and again need not be waited for.
    let mut crashing = seen("b", 1, "L");
    crashing.pods[0].restarts = 5;
    assert_eq!(go_at(&[seen("a", 1, "A"), crashing.clone()], 1, 5).given_up.unwrap().1, "The engine of pod b-0 stopped 5 times.");
    crashing.pods[0].restarts = 4;
    assert_eq!(go_at(&[seen("a", 1, "A"), crashing], 1, 5).given_up, None);
}

#[test]
fn nothing_is_given_up_while_nothing_else_has_answered() {
    for old in [
        Seen { answered: false, ..seen("a", 1, "L") },
        Seen { asked: None, ..seen("a", 0, "") },
        Seen { standing: Standing::Failed, ..seen("a", 1, "A") },
        Seen { may_serve: false, ..seen("a", 1, "A") },
    ] {
        assert_eq!(go_at(&[old, seen("b", 1, "L")], 1, 100_000).given_up, None);
    }
    // Waiting for the old ones to finish is nobody's failure.
    assert_eq!(go_at(&[seen("a", 2, "DA"), seen("b", 1, "A")], 2, 100_000).given_up, None);
    // What was given up is tried on when there is nothing left to go back to.
    let failed = Seen { standing: Standing::Failed, ..seen("b", 0, "") };
    assert_eq!(go(&[Seen { asked: None, ..seen("a", 0, "") }, failed], 1, Strategy::Auto).fates, [Rest, Keep(1)]);
}

#[test]
fn after_a_failure_the_old_revision_stays_and_follows_what_is_wanted() {
    let failed = |states: &str| Seen { standing: Standing::Failed, ..seen("b", states.len().try_into().unwrap(), states) };
    assert_eq!(go(&[seen("a", 1, "A"), failed("L")], 1, Strategy::Auto).fates, [Keep(1), Keep(0)]);
    assert_eq!(go(&[seen("a", 2, "AA"), failed("")], 3, Strategy::Auto).fates, [Keep(3), Keep(0)]);
    // One of three of it answers: it goes when the old one has taken over.
    let back = go(&[seen("a", 2, "AA"), failed("A")], 3, Strategy::Auto);
    assert_eq!((back.fates, back.drain), (vec![Keep(3), Keep(1)], vec![]));
    assert_eq!(go(&[seen("a", 3, "AAA"), failed("A")], 3, Strategy::Auto).drain, ["b-0"]);
}

#[test]
fn one_that_made_room_for_a_failure_comes_back() {
    let slow = go_at(&[seen("a", 0, ""), seen("b", 1, "L")], 1, 600);
    assert!(slow.given_up.is_some());
    assert_eq!(slow.fates, [Keep(1), Keep(0)]);
}

#[test]
fn an_old_replica_whose_engine_is_started_again_is_waited_for() {
    for (wanted, old) in [(1, "S"), (2, "SS"), (2, "AS")] {
        let number = old.len().try_into().unwrap();
        for how in [Strategy::Auto, Strategy::Surge, Strategy::Canary] {
            let step = go(&[seen("a", number, old), seen("b", 1, "L")], wanted, how);
            assert_eq!(step.fates[0], Keep(number), "{old} {how:?}");
        }
        // As long as a new one has to answer, and no longer.
        let new = Seen { since: Some(at(300)), ..seen("b", 1, "L") };
        let late = go_at(&[seen("a", number, old), new], wanted, 601);
        assert_eq!(late.fates[0], Keep(old.matches('A').count().try_into().unwrap()));
    }
    // It goes where it holds the room that the new one needs, and when the new one answers.
    assert_eq!(go_at(&[seen("a", 1, "S"), seen("b", 1, "R")], 1, 20).fates, [Keep(0), Keep(1)]);
    assert_eq!(go(&[seen("a", 1, "S"), seen("b", 1, "A")], 1, Strategy::Auto).fates, [Keep(0), Keep(1)]);
}

#[test]
fn what_serves_although_it_is_refused_is_not_lost_by_a_restart_and_what_is_wanted_more_comes_of_what_may_serve() {
    let without_current = |seen: &[Seen], replicas: i32, second: i64| {
        step(seen, &Wish { replicas, current: None, rollout: &Rollout::default() }, at(second)).fates
    };
    let refused = |states: &str| Seen { may_serve: false, refused_since: Some(at(-86_400)), ..seen("a", 2, states) };
    assert_eq!(without_current(&[refused("SS")], 2, 10), [Keep(2)]);
    assert_eq!(without_current(&[refused("AS")], 2, 10), [Keep(2)]);
    assert_eq!(without_current(&[refused("AA")], 5, 10), [Keep(2)], "none is added of what is refused");
    // What is asked for now is refused, and the one before it is not.
    assert_eq!(without_current(&[seen("a", 2, "AA")], 5, 10), [Keep(5)]);
    assert_eq!(without_current(&[seen("a", 5, "AAAAA")], 2, 10), [Keep(5)]);
}

#[test]
fn it_is_gone_back_to_the_one_that_has_served_everybody() {
    let whole = |seen: Seen| Seen { whole: true, ..seen };
    let failed = Seen { standing: Standing::Failed, ..seen("c", 0, "") };
    let back = |a: Seen, b: Seen| {
        let wish = Wish { replicas: 4, current: Some("c"), rollout: &Rollout::default() };
        step(&[a, b, failed.clone()], &wish, at(10)).target.unwrap()
    };
    assert_eq!(back(whole(seen("a", 3, "AAA")), seen("b", 1, "A")), "a");
    assert_eq!(back(whole(seen("a", 2, "AA")), seen("b", 2, "AA")), "a");
    assert_eq!(back(whole(seen("a", 1, "A")), whole(seen("b", 3, "AAA"))), "b");
    // A release before noted less.
    assert_eq!(back(seen("a", 3, "AAA"), seen("b", 1, "A")), "a");
    assert_eq!(back(seen("a", 2, "AA"), seen("b", 2, "AA")), "b");
}

#[test]
fn fewer_replicas_do_not_end_a_trial() {
    let rollout = Rollout { strategy: Strategy::Canary, ..Rollout::default() };
    let go = |tried: bool, second: i64| {
        let new = Seen { tried, ..seen("b", 2, "AA") };
        step(&[seen("a", 6, "AAAAAA"), new], &Wish { replicas: 4, current: Some("b"), rollout: &rollout }, at(second))
    };
    let on_trial = go(false, 10);
    assert_eq!((on_trial.fates, on_trial.tried), (vec![Keep(6), Keep(2)], None));
    assert_eq!(on_trial.drain, ["a-0", "a-1", "a-2"], "one of eight answers more than are wanted");
    let passed = go(false, 600);
    assert_eq!((passed.tried.as_deref(), passed.fates[1]), (Some("b"), Keep(2)));
    assert_eq!(go(true, 10).tried, None);
}

#[test]
fn what_loads_while_the_policies_refuse_it_gives_its_node_back_after_a_minute() {
    let refused = |states: &str| Seen {
        may_serve: false,
        refused_since: Some(at(0)),
        ..seen("b", states.len().try_into().unwrap(), states)
    };
    let go = |seen: Seen, second: i64| {
        let rollout = Rollout::default();
        let step = step(&[seen], &Wish { replicas: 3, current: None, rollout: &rollout }, at(second));
        (step.fates, step.drain, step.again)
    };
    assert_eq!(go(refused("ALL"), 10), (vec![Keep(3)], vec![], Some(Duration::from_secs(50))));
    assert_eq!(go(refused("ALL"), 60), (vec![Keep(1)], vec![], None));
    // Who waits behind a gate costs nothing, and is there when the policies change their mind.
    assert_eq!(go(refused("APP"), 60), (vec![Keep(3)], vec![], None));
    // Where nobody knows what they say, nothing is taken away.
    assert_eq!(go(Seen { refused_since: None, ..refused("ALL") }, 600), (vec![Keep(3)], vec![], None));
}

#[test]
fn a_refused_revision_goes_to_zero_and_the_old_one_keeps_serving() {
    let refused = |states: &str| Seen { standing: Standing::Refused, ..seen("b", states.len().try_into().unwrap(), states) };
    assert_eq!(go(&[seen("a", 1, "A"), refused("L")], 1, Strategy::Auto).fates, [Keep(1), Keep(0)]);
    // Replicas that have verified their bytes stay, when there is nothing else.
    assert_eq!(go(&[refused("AAL")], 3, Strategy::Auto).fates, [Keep(2)]);
    assert_eq!(go(&[refused("L")], 3, Strategy::Auto).fates, [Keep(0)]);
}

#[test]
fn without_a_revision_that_may_be_served_nothing_is_added_and_nothing_is_lost() {
    let left = |old: Seen, replicas| {
        let old = Seen { may_serve: false, ..old };
        step(&[old], &Wish { replicas, current: None, rollout: &Rollout::default() }, at(10))
    };
    assert_eq!(left(seen("a", 2, "AA"), 2).fates, [Keep(2)]);
    assert_eq!(left(seen("a", 2, "AA"), 3).fates, [Keep(2)]);
    let less = left(seen("a", 2, "AA"), 0);
    assert_eq!((less.fates, less.drain), (vec![Keep(2)], strings(&["a-0", "a-1"])));
    assert_eq!(left(Seen { asked: None, ..seen("a", 0, "") }, 1).fates, [Rest]);
}

#[test]
fn who_serves_nobody_goes_first_and_who_serves_is_unrouted_before() {
    let fewer = |states: &str, replicas| go(&[seen("b", states.len().try_into().unwrap(), states)], replicas, Strategy::Auto);
    let cases: &[(&str, i32, i32, &[&str])] = &[
        ("APLA", 3, 3, &[]),
        ("APLA", 2, 2, &[]),
        ("APLA", 1, 2, &["b-0"]),
        ("AAA", 2, 3, &["b-0"]),
        ("AIA", 2, 2, &[]),
        ("ADA", 2, 3, &[]),
        ("ADA", 1, 3, &["b-0"]),
        ("AAA", 0, 3, &["b-0", "b-1", "b-2"]),
    ];
    for (states, wanted, asked, drain) in cases {
        let step = fewer(states, *wanted);
        assert_eq!((step.fates, step.drain), (vec![Keep(*asked)], strings(drain)), "{states} to {wanted}");
    }
    // Two minutes, and it goes with what it has.
    let drained = |second| {
        step(&[seen("b", 2, "DA")], &Wish { replicas: 1, current: Some("b"), rollout: &Rollout::default() }, at(second)).fates
    };
    assert_eq!((drained(119), drained(120)), (vec![Keep(2)], vec![Keep(1)]));
    // Wanted again before it went.
    let again = fewer("DA", 2);
    assert_eq!((again.fates, again.take_back), (vec![Keep(2)], strings(&["b-0"])));
}

#[test]
fn replicas_are_lowered_only_as_far_as_the_replica_set_takes_the_right_ones() {
    // A pod that runs but is not ready, and one that drains: the ReplicaSet would take the second first.
    let mut mixed = seen("b", 3, "LDA");
    mixed.pods[0].rank = (true, true, false, 0);
    let step = go(&[mixed.clone()], 1, Strategy::Auto);
    assert_eq!(step.fates, [Keep(3)]);
    mixed.pods[1].idle = true;
    assert_eq!(go(&[mixed], 1, Strategy::Auto).fates, [Keep(1)]);
}

#[test]
fn what_is_done_is_left_alone() {
    let target = Some("b".to_owned());
    let done = go(&[seen("b", 2, "AA")], 2, Strategy::Auto);
    assert_eq!(done, Step { fates: vec![Keep(2)], target: target.clone(), floor: 2, ..Step::default() });
    let old = Seen { asked: None, ..seen("a", 0, "") };
    let done = go(&[old, seen("b", 2, "AA")], 2, Strategy::Auto);
    assert_eq!(done, Step { fates: vec![Rest, Keep(2)], target, floor: 2, ..Step::default() });
}

#[test]
fn the_deadline_knows_how_long_bytes_and_the_engine_take() {
    let template = json!({"spec": {"containers": [{"startupProbe": {"periodSeconds": 2, "failureThreshold": 900}}]}});
    assert_eq!(deadline(140_000_000_000, &template), Duration::from_secs(600 + 14_000 + 1800));
    assert_eq!(deadline(0, &json!({})), Duration::from_secs(600));
}

#[test]
fn a_rollout_says_who_takes_whose_place() {
    let said = go(&[seen("a", 2, "DA"), seen("b", 1, "A")], 2, Strategy::Auto).said.unwrap();
    assert_eq!(said.reason, Reason::RollingOut);
    assert_eq!(
        said.message,
        "Revision b takes the place of a: 1 of its 2 replicas answer. Each has 10m to answer, or a takes its place back. 1 replica finishes its requests before it stops. That takes at most 2m."
    );
    let said = go(&[seen("b", 2, "DA")], 1, Strategy::Auto).said.unwrap();
    assert_eq!((said.reason, said.message.as_str()), (Reason::Draining, "1 replica finishes its requests before it stops."));
}

#[test]
fn revisions_that_never_became_whole_are_let_go_but_for_the_newest() {
    // Three are wanted and only two find room; forty changes, each of which answered.
    let mut all: Vec<Seen> =
        (0..40).map(|n| Seen { name: format!("a{n}"), number: n, asked: Some(0), ..seen("a", 0, "") }).collect();
    all.push(Seen { number: 100, ..seen("b", 3, "AAR") });
    let step = go(&all, 3, Strategy::Auto);
    let kept = step.fates.iter().filter(|fate| matches!(fate, Keep(_))).count();
    assert_eq!(kept, 3);
}

#[test]
fn a_rollout_that_replaced_all_that_ran_is_not_undone_for_want_of_room() {
    // Three are wanted, two have ever found room: the new one has both, and its third waits.
    let a = seen("a", 0, "");
    let b = Seen { since: Some(at(0)), ..seen("b", 3, "AAR") };
    let step = step(&[a, b], &Wish { replicas: 3, current: Some("b"), rollout: &strategy(Strategy::Auto) }, at(700));
    assert_eq!(step.given_up, None);
}
