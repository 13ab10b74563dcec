//! From a pod as it is watched to what a rollout needs to know of it.

use jiff::Timestamp;

use super::{Class, Pod};
use crate::{
    api::VOUCHED,
    controller::{objects::slim::SlimPod, plan::CONTAINER_ENGINE, progress},
};

/// What is known of a pod beside what is watched.
#[derive(Debug, Clone, Copy, Default)]
pub struct Looks {
    /// Its engine was looked at, and has no work.
    pub idle: bool,
}

/// The pod as a rollout sees it; `None` when it is over.
pub fn of_pod(pod: &SlimPod, looks: Looks) -> Option<Pod> {
    if pod.is_over() {
        return None;
    }
    let engine = pod.container(CONTAINER_ENGINE);
    let draining_since = pod.draining_since();
    let answers = progress::answers(pod);
    let class = match (draining_since, answers, engine.is_some_and(|engine| engine.ready)) {
        // Also one that is marked: until it is unrouted, it can be spared or not.
        (_, true, _) => Class::Answering,
        (Some(_), _, true) => Class::Draining,
        _ if pod.spec.node_name.is_some() => Class::Loading,
        _ => Class::Pending,
    };
    let at = |kind: &str| pod.condition(kind).and_then(|condition| condition.last_transition_time);
    let unschedulable = pod.condition("PodScheduled").filter(|c| c.status == "False" && c.reason == "Unschedulable");
    let rank = (pod.spec.node_name.is_some(), pod.status.phase == "Running", pod.is("Ready"), pod.deletion_cost());
    Some(Pod {
        name: pod.name().to_owned(),
        class,
        rank,
        answers_since: if class == Class::Answering { at("Ready").max(at(VOUCHED)) } else { None },
        silent_since: (class == Class::Loading && pod.was_vouched()).then(|| at("Ready").or_else(|| at(VOUCHED))).flatten(),
        created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        no_room_since: unschedulable.and_then(|c| c.last_transition_time),
        draining_since,
        idle: looks.idle,
        restarts: engine.map_or(0, |engine| engine.restart_count),
    })
}

/// Whether a pod that is going still holds its place: until the time by which it should be gone.
pub fn is_leaving(pod: &SlimPod, now: Timestamp) -> bool {
    pod.metadata.deletion_timestamp.as_ref().is_some_and(|by| now.duration_since(by.0).as_secs() < 30)
}
