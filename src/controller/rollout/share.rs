//! How many pods each revision is to have now, on the way to having all of them in one.

use std::time::Duration;

use jiff::Timestamp;

use super::{Class, NO_ROOM, REFUSED, Seen, Standing, Wish, left, others, soonest};
use crate::api::{Rollout, Strategy};

/// The share of the replicas that goes first, in percent.
const CANARY_PERCENT: i32 = 10;
/// How long the share has to answer before the others follow.
const CANARY_HOLD: Duration = Duration::from_secs(600);

/// How the replicas move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They do not.
    Still,
    /// One more than wanted, then one less of the old.
    Surge,
    /// One less of the old, then one more.
    OneByOne,
    /// A share first: so many pods; how long it still has to answer, once it does.
    Canary(i32, Option<Duration>),
}

/// How many pods each revision is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Pods, in the order of the revisions.
    pub each: Vec<i32>,
    /// So many have to go on answering.
    pub floor: i32,
    /// How the replicas move.
    pub mode: Mode,
    /// Whether they move one by one because a pod more found no room.
    pub no_room: bool,
    /// Whether the revision that is gone to has passed its trial, and that was not noted yet.
    pub passed: bool,
    /// When that changes by itself.
    pub again: Option<Duration>,
}

/// No revision can be gone to: what answers stays, and what serves best follows what is wanted.
pub fn of_what_is_left(seen: &[Seen], current: Option<usize>, wish: &Wish<'_>, now: Timestamp) -> Plan {
    let mut again = None;
    let mut keeps = |at: usize, revision: &Seen| {
        if revision.is_drained() {
            return 0;
        }
        // Who was taken out of service finishes and goes, also when what took them out is made milder meanwhile: nobody can vouch for
        // them while their revision is refused.
        let asked = revision.asked.unwrap_or(0).min(wish.replicas).min(revision.not_going());
        let mut lasting = || {
            soonest(&mut again, revision.gives_up(now));
            asked.min(revision.lasting(now))
        };
        // Replicas that have verified their bytes stay; none is added that would fetch the others.
        if revision.standing == Standing::Refused || (current.is_some() && Some(at) != current) {
            return lasting();
        }
        // Who waits behind a gate costs nothing; who has a node and may not serve keeps it from others.
        let idle = revision.count(|pod| pod.class == Class::Loading && pod.silent_since.is_none()) > 0;
        match revision.refused_since.filter(|_| idle).map(|since| left(Some(since), REFUSED, now)) {
            Some(wait) if wait.is_zero() => lasting(),
            wait => {
                soonest(&mut again, wait);
                asked
            }
        }
    };
    let mut each: Vec<i32> = seen.iter().enumerate().map(|(at, revision)| keeps(at, revision)).collect();
    // While what is asked for now may not be served, the one before it goes on as if nothing else were asked for.
    let serves = |(_, revision): &(usize, &Seen)| revision.is_way_back() && revision.capable() > 0;
    let best = seen.iter().enumerate().filter(serves).max_by_key(|(_, revision)| revision.proven());
    let best = best.or_else(|| stand_in(seen));
    if let Some((at, _)) = best.filter(|_| current.is_none()) {
        let others = each.iter().sum::<i32>() - each.get(at).copied().unwrap_or(0);
        if let Some(each) = each.get_mut(at) {
            *each = (wish.replicas - others).max(*each);
        }
    }
    Plan { each, floor: wish.replicas, mode: Mode::Still, no_room: false, passed: false, again }
}

/// The revision that serves in the place of one that the policies say is to go, when nothing serves any more: one that has served
/// before and may again. The one that was begun with is gone on with.
fn stand_in(seen: &[Seen]) -> Option<(usize, &Seen)> {
    let is_one = |revision: &Seen| {
        let proven = revision.answered || revision.capable() > 0;
        revision.stands_in && revision.may_serve && revision.standing == Standing::Good && proven
    };
    let needed = seen.iter().any(|revision| revision.is_drained() && (revision.asked_for || revision.occupied() > 0))
        && !seen.iter().any(|revision| !revision.is_drained() && revision.capable() > 0);
    let ones = seen.iter().enumerate().filter(|(_, revision)| needed && is_one(revision));
    ones.max_by_key(|(_, revision)| (revision.asked > Some(0), revision.proven()))
}

/// All replicas are to be in the revision at `target`.
pub fn between(seen: &[Seen], target: usize, wish: &Wish<'_>, now: Timestamp) -> Plan {
    let wanted = wish.replicas;
    let others = others(seen, target);
    let old = |of: fn(&Seen) -> i32| others.iter().filter_map(|at| seen.get(*at)).map(of).sum::<i32>();
    // What is to go in any case holds its place until it is gone, and nobody counts on it.
    let stays = |revision: &Seen| if revision.is_drained() { 0 } else { revision.capable() };
    let (old_capable, old_occupied) = (old(stays), old(Seen::occupied));
    let Some(new) = seen.get(target) else {
        return Plan { each: vec![], floor: wanted, mode: Mode::Still, no_room: false, passed: false, again: None };
    };
    let is_current = Some(new.name.as_str()) == wish.current;
    let answering = new.answering();
    let mut again = None;

    let on_trial = wish.rollout.strategy == Strategy::Canary && !new.tried && is_current && old_capable > 0 && wanted > 0;
    let canary = canary(new, wish, now).filter(|_| on_trial);
    let goal = canary.map_or(wanted, |(share, _)| share);
    let (no_room, wait) = no_room(seen, target, wish, old_occupied, now);
    soonest(&mut again, wait);
    let one_by_one = no_room || (wish.rollout.strategy == Strategy::OneByOne && is_current);
    let under_way = new.occupied().min(goal);

    let (old_wanted, new_wanted, floor) = if one_by_one {
        let next = i32::from(answering >= new.occupied() && under_way < goal);
        (wanted - new.occupied() - next, (wanted - old_occupied).max(under_way), wanted - 1)
    } else {
        (wanted - answering, wanted + surge(wanted) - old_occupied, wanted)
    };
    // A share is never all of it: there is something to compare with, and to go back to.
    let mut old_wanted = canary.map_or(old_wanted, |(share, _)| old_wanted.max(wanted - share).max(1));
    let mut floor = floor;
    if no_room && crowded(new, old_occupied, old_capable) {
        let since = others.iter().filter_map(|at| seen.get(*at)?.counted_since).max();
        // Another one goes when the room that the last one made was taken, and never for room that nobody can take.
        let untouched = since <= new.since || !others.iter().filter_map(|at| seen.get(*at)).any(|old| old.gave_room);
        let taken = new.pods.iter().filter_map(|pod| pod.answers_since).max() >= since;
        match left(since, NO_ROOM, now) {
            _ if !untouched && !taken => {}
            left if left.is_zero() => {
                old_wanted = old_wanted.min(old_capable - 1).max(i32::from(canary.is_some()));
                floor = floor.min(old_capable + answering - 1);
            }
            left => soonest(&mut again, Some(left)),
        }
    }
    // What it was given before is not taken away again: an earlier release surged by more.
    let given = new.asked.unwrap_or(0).min(goal).max(new.capable().min(wanted));
    let new_wanted = new_wanted.min(goal).max(given).max(0);

    let mut each = vec![0; seen.len()];
    let mut rest = old_wanted.max(0);
    for at in others.into_iter().filter(|at| seen.get(*at).is_some_and(|old| !old.is_drained())) {
        // What does not answer serves nobody; it is waited for, but not where it holds the room that the new one needs.
        let keeps = seen.get(at).map_or(0, |old| if no_room { old.capable() } else { old.lasting(now) }).min(rest);
        soonest(&mut again, seen.get(at).and_then(|old| old.gives_up(now)));
        rest -= keeps;
        if let Some(each) = each.get_mut(at) {
            *each = keeps;
        }
    }
    if let Some(each) = each.get_mut(target) {
        *each = new_wanted;
    }
    let mode = match canary {
        _ if old_occupied == 0 => Mode::Still,
        Some((share, hold)) => {
            soonest(&mut again, hold);
            Mode::Canary(share, hold)
        }
        None if one_by_one => Mode::OneByOne,
        None => Mode::Surge,
    };
    Plan {
        each,
        floor: if old_occupied == 0 { wanted } else { floor },
        mode,
        no_room,
        passed: on_trial && canary.is_none(),
        again,
    }
}

/// How many pods there may be beside those that are wanted.
pub fn surge(wanted: i32) -> i32 {
    wanted.saturating_add(3).div_euclid(4).max(1)
}

/// The share that goes first, and how long it still has to answer; `None` when it is over, or there is none.
pub fn canary(new: &Seen, wish: &Wish<'_>, now: Timestamp) -> Option<(i32, Option<Duration>)> {
    let Rollout { strategy: Strategy::Canary, canary, .. } = wish.rollout else { return None };
    let percent = canary.as_ref().and_then(|canary| canary.percent).unwrap_or(CANARY_PERCENT);
    let hold = canary.as_ref().and_then(|canary| canary.hold.as_ref()).map_or(CANARY_HOLD, |hold| hold.length());
    let share = wish.replicas.saturating_mul(percent).saturating_add(99).div_euclid(100).clamp(1, wish.replicas.max(1));
    if new.tried {
        return None;
    }
    let mut since: Vec<Timestamp> = new.pods.iter().filter_map(|pod| pod.answers_since).collect();
    since.sort_unstable();
    let complete = usize::try_from(share).ok().and_then(|share| since.get(share.saturating_sub(1)).copied());
    let Some(complete) = complete else { return Some((share, None)) };
    let left = left(Some(complete), hold, now);
    (!left.is_zero()).then_some((share, Some(left)))
}

/// Whether fewer have found room than are wanted, so that the new revision finds some only where one of the old is: all that there
/// is of the old answers, nothing of the new is on its way, and somebody goes on answering.
fn crowded(new: &Seen, old_occupied: i32, old_capable: i32) -> bool {
    new.count(|pod| pod.class == Class::Loading) == 0 && old_capable == old_occupied && old_capable + new.answering() >= 2
}

/// Whether a pod of the new revision has found no room for so long that one of the old has to make some; or how long that is to
/// be waited for.
fn no_room(seen: &[Seen], target: usize, wish: &Wish<'_>, old: i32, now: Timestamp) -> (bool, Option<Duration>) {
    let by_itself = wish.rollout.strategy != Strategy::Surge;
    // What is on its way out makes room without anybody's doing.
    let leaves = |revision: &Seen| revision.leaving > 0 || (revision.is_drained() && !revision.pods.is_empty());
    if !by_itself || old == 0 || seen.iter().any(leaves) {
        return (false, None);
    }
    let waits = seen.get(target).into_iter().flat_map(|new| &new.pods).filter_map(|pod| pod.no_room_since);
    match waits.map(|since| left(Some(since), NO_ROOM, now)).min() {
        Some(left) if left.is_zero() => (true, None),
        left => (false, left),
    }
}
