//! What a step comes to, for people.

use super::{
    Class, Seen, Step, Wish,
    failure::spoken,
    share::{Mode, Plan},
};
use crate::api::Reason;

/// What is said of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The reason: `RollingOut`, `Draining`.
    pub reason: Reason,
    /// Sentences.
    pub message: String,
    /// Replicas are replaced one by one because no node has room for one more: what waits for room is being helped.
    pub makes_room: bool,
}

pub fn of(
    seen: &[Seen],
    current: Option<usize>,
    target: Option<usize>,
    wish: &Wish<'_>,
    plan: &Plan,
    step: &Step,
) -> Option<Said> {
    let recalled: String =
        seen.iter().filter(|revision| revision.is_drained() && !revision.pods.is_empty()).map(recall).collect();
    let draining =
        seen.iter().flat_map(|revision| &revision.pods).filter(|pod| pod.class == Class::Draining).count() + step.drain.len();
    let draining = draining.saturating_sub(step.take_back.len());
    let finishing = match draining {
        0 => String::new(),
        1 => " 1 replica finishes its requests before it stops.".to_owned(),
        more => format!(" {more} replicas finish their requests before they stop."),
    };
    let Some(target) = target.and_then(|at| seen.get(at)) else {
        let message = format!("{recalled}{finishing} That takes at most {}.", spoken(wish.drain())).trim_start().to_owned();
        let drained = draining > 0 && !recalled.is_empty();
        return drained.then_some(Said { reason: Reason::Draining, message, makes_room: false });
    };
    let going = |revision: &&Seen| revision.name != target.name && revision.occupied() > 0;
    let old: Vec<&str> = seen.iter().filter(going).map(|revision| revision.name.as_str()).collect();
    if old.is_empty() || plan.mode == Mode::Still {
        let message = format!("{recalled}{finishing}").trim_start().to_owned();
        return (draining > 0).then_some(Said { reason: Reason::Draining, message, makes_room: false });
    }
    let back = current.and_then(|at| seen.get(at)).is_some_and(|current| current.name != target.name);
    let verb = if back { "takes its place back from" } else { "takes the place of" };
    let takes_back = if old.len() == 1 { "takes its place back" } else { "take their places back" };
    // Who is on its way out makes room, and so does one that stops for it.
    let on_its_way_out = |revision: &Seen| revision.leaving > 0 || revision.pods.iter().any(|pod| pod.class == Class::Draining);
    let makes_room = plan.no_room || seen.iter().any(|revision| revision.name != target.name && on_its_way_out(revision));
    let one_by_one = if plan.no_room { " one by one, as no node has room for a replica more" } else { "" };
    let mut message = format!(
        "Revision {} {verb} {}{one_by_one}: {} of its {} replicas answer.",
        target.name,
        old.join(" and "),
        target.answering(),
        wish.replicas
    );
    match plan.mode {
        Mode::Canary(share, None) => message.push_str(&format!(" A share of {share} goes first.")),
        Mode::Canary(share, Some(_)) => {
            message
                .push_str(&format!(" A share of {share} is on trial, and the others follow when it has answered long enough."));
        }
        _ => {}
    }
    if plan.no_room {
        message.push_str(" An old one stops before a new one starts.");
    } else if plan.mode == Mode::OneByOne {
        message.push_str(" They are replaced one by one, as rollout.strategy says.");
    }
    message.push_str(&recalled);
    let comes_back = seen.iter().any(|revision| going(&revision) && !revision.is_drained());
    if !back && comes_back && target.answering() < wish.replicas && step.given_up.is_none() {
        message.push_str(&format!(" Each has {} to answer, or {} {takes_back}.", spoken(target.deadline), old.join(" and ")));
    }
    if draining > 0 {
        message.push_str(&finishing);
        message.push_str(&format!(" That takes at most {}.", spoken(wish.drain())));
    }
    Some(Said { reason: Reason::RollingOut, message, makes_room })
}

/// That a revision is to go, and by whom.
fn recall(revision: &Seen) -> String {
    format!(" What revision {} serves is recalled by {} (onRecall: Drain).", revision.name, policies(&revision.drained_by))
}

/// `ClusterModelPolicy a`, `ClusterModelPolicies a and b`.
pub fn policies(names: &[String]) -> String {
    format!("ClusterModelPolic{} {}", if names.len() == 1 { "y" } else { "ies" }, names.join(" and "))
}
