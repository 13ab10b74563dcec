//! Recalled revisions (`onRecall: Drain`), case by case.

use super::{
    Fate::{Keep, Rest},
    tests::{at, seen, strings},
    *,
};
use crate::api::Reason;

/// A revision that a policy takes out of service.
fn recalled(name: &str, asked: i32, states: &str) -> Seen {
    Seen {
        may_serve: false,
        refused_since: Some(at(0)),
        asked_for: true,
        drained_by: vec!["strict".into()],
        ..seen(name, asked, states)
    }
}

fn go(seen: &[Seen], replicas: i32, current: Option<&str>, second: i64) -> Step {
    step(seen, &Wish { replicas, current, rollout: &Rollout::default() }, at(second))
}

#[test]
fn a_recalled_revision_is_unrouted_at_once_and_goes_as_its_pods_finish() {
    // State of its pods, replicas that it keeps, who is unrouted.
    let cases: &[(&str, i32, &[&str])] = &[
        ("AAA", 3, &["a-0", "a-1", "a-2"]),
        ("DDA", 3, &["a-2"]),
        ("DDD", 3, &[]),
        // A ReplicaSet may take any of the three.
        ("IDD", 3, &[]),
        ("III", 0, &[]),
        // What answers nobody has nothing to finish.
        ("LPA", 1, &["a-2"]),
        ("SL", 0, &[]),
        ("", 0, &[]),
    ];
    for (states, left, unrouted) in cases {
        let step = go(&[recalled("a", states.len().try_into().unwrap(), states)], 3, None, 10);
        assert_eq!(
            (step.fates, &step.drain, &step.recalled),
            (vec![Keep(*left)], &strings(unrouted), &strings(unrouted)),
            "{states}"
        );
        assert!(step.take_back.is_empty() && step.target.is_none(), "{states}");
    }
    // Two minutes, and it goes with what it has.
    let drained = |second| go(&[recalled("a", 2, "DD")], 2, None, second).fates;
    assert_eq!((drained(119), drained(120)), (vec![Keep(2)], vec![Keep(0)]));
}

#[test]
fn when_it_is_lifted_who_has_not_gone_is_taken_back_and_the_others_come_again() {
    let lifted = go(&[seen("a", 2, "DD")], 3, Some("a"), 10);
    assert_eq!((lifted.fates, lifted.take_back, lifted.drain), (vec![Keep(3)], strings(&["a-0", "a-1"]), vec![]));
    assert_eq!(go(&[seen("a", 0, "")], 3, Some("a"), 10).fates, [Keep(3)]);
    // It is there to come back, also when nothing is left of it.
    assert_eq!(go(&[recalled("a", 0, "")], 3, None, 10).fates, [Keep(0)]);
}

#[test]
fn its_successor_comes_up_as_those_that_are_recalled_make_room_and_nobody_is_waited_for() {
    let both = |old: Seen, new: &str, replicas| {
        let step = go(&[old, seen("b", new.len().try_into().unwrap(), new)], replicas, Some("b"), 10);
        (step.fates, step.recalled)
    };
    assert_eq!(both(recalled("a", 2, "AA"), "", 2), (vec![Keep(2), Keep(1)], strings(&["a-0", "a-1"])));
    assert_eq!(both(recalled("a", 2, "DI"), "L", 2), (vec![Keep(2), Keep(1)], vec![]));
    assert_eq!(both(recalled("a", 1, "D"), "L", 2), (vec![Keep(1), Keep(2)], vec![]));
    assert_eq!(both(recalled("a", 0, ""), "AA", 2), (vec![Rest, Keep(2)], vec![]));
    // What is not recalled keeps answering until then, and no room is made by it that those who leave make.
    let three = [seen("a", 2, "AA"), recalled("c", 1, "D"), seen("b", 1, "R")];
    let step = go(&three, 3, Some("b"), 100);
    assert_eq!((step.drain, step.fates[0]), (vec![], Keep(2)));
    let said = go(&[recalled("a", 2, "AA"), seen("b", 1, "L")], 2, Some("b"), 10).said.unwrap();
    assert_eq!(
        (said.reason, said.message.as_str()),
        (
            Reason::RollingOut,
            "Revision b takes the place of a: 0 of its 2 replicas answer. What revision a serves is recalled by ClusterModelPolicy strict (onRecall: Drain). 2 replicas finish their requests before they stop. That takes at most 2m."
        )
    );
}

#[test]
fn an_older_revision_that_served_and_may_serves_instead() {
    let old = |states: &str| Seen { asked: None, whole: true, ..seen("a", 0, states) };
    let instead = |seen: &[Seen]| go(seen, 2, None, 10).fates;
    assert_eq!(instead(&[old(""), recalled("b", 2, "AA")]), [Keep(2), Keep(2)]);
    assert_eq!(instead(&[Seen { asked: Some(2), ..old("LA") }, recalled("b", 0, "")]), [Keep(2), Rest]);
    // Also while its engine is started again; and not because of what was recalled long ago, and nobody asks for.
    assert_eq!(instead(&[Seen { asked: Some(1), ..old("L") }, Seen { asked: None, ..recalled("b", 0, "") }]), [Keep(2), Rest]);
    let long_ago = Seen { asked: None, asked_for: false, ..recalled("b", 0, "") };
    assert_eq!(instead(&[old(""), long_ago]), [Rest, Rest]);
    // Not one that never answered, that is refused too, that is of another source, or whose bytes were others.
    for other in [
        Seen { answered: false, ..old("") },
        Seen { may_serve: false, ..old("") },
        Seen { stands_in: false, ..old("") },
        Seen { standing: Standing::Refused, ..old("") },
        Seen { standing: Standing::Failed, ..old("") },
    ] {
        assert_eq!(instead(&[other, recalled("b", 2, "DD")]), [Rest, Keep(2)]);
    }
    // Of several the one that has served everybody; and the one that was begun with.
    let newer = Seen { whole: false, name: "b".into(), number: 99, ..old("") };
    assert_eq!(instead(&[old(""), newer.clone(), recalled("c", 1, "D")])[..2], [Keep(2), Rest]);
    assert_eq!(instead(&[old(""), Seen { asked: Some(2), ..newer }, recalled("c", 1, "D")])[..2], [Rest, Keep(2)]);
    // Nothing comes back where what is refused goes on by itself.
    let refused = Seen { may_serve: false, ..seen("b", 2, "AA") };
    assert_eq!(instead(&[old(""), refused.clone()]), [Rest, Keep(2)]);
    assert_eq!(instead(&[old(""), refused, recalled("c", 1, "D")]), [Rest, Keep(2), Keep(1)]);
    assert_eq!(go(&[old(""), recalled("b", 2, "DD")], 0, None, 10).fates, [Rest, Keep(2)]);
}

#[test]
fn while_changes_wait_only_what_is_recalled_goes() {
    let seen = [seen("a", 2, "AD"), recalled("b", 2, "AL"), Seen { asked: None, ..seen("c", 0, "") }];
    let step = hold(&seen, &Wish { replicas: 5, current: Some("c"), rollout: &Rollout::default() }, at(10));
    assert_eq!(step.fates, [Keep(2), Keep(1), Rest]);
    assert_eq!((step.drain, step.recalled, step.take_back), (strings(&["b-0"]), strings(&["b-0"]), strings(&["a-1"])));
}

#[test]
fn a_step_that_is_held_back_recalls_nobody() {
    let step = go(&[recalled("a", 2, "AA")], 2, None, 10).held_back(LOOK);
    assert!(step.drain.is_empty() && step.recalled.is_empty());
}

#[test]
fn who_was_taken_out_of_service_finishes_and_goes_when_the_recall_is_made_milder() {
    let milder = |states: &str| Seen { drained_by: vec![], ..recalled("a", 3, states) };
    let early = go(&[milder("DDA")], 3, None, 10);
    assert_eq!((early.fates, early.take_back, early.drain), (vec![Keep(3)], vec![], vec![]));
    assert_eq!(go(&[milder("DDA")], 3, None, 130).fates, [Keep(1)], "after its two minutes");
    assert_eq!(go(&[milder("IIA")], 3, None, 10).fates, [Keep(1)], "or when it has finished");
    let paused = hold(&[milder("DDA")], &Wish { replicas: 3, current: None, rollout: &Rollout::default() }, at(10));
    assert_eq!((paused.fates, paused.take_back), (vec![Keep(3)], vec![]));
}
