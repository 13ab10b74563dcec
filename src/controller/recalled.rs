//! What is said of replicas that run while the policies refuse what they serve.

use std::{cmp::Reverse, sync::Arc};

use super::{
    decide::{Decision, Judged},
    objects::slim::SlimPod,
    progress,
    rollout::policies,
    status::pods_of,
};
use crate::{api::OnRecall, trust::Recall};

/// How many replicas serve what is refused, what becomes of them and by which policy, and what serves instead: sentences that end with
/// a full stop; `None` when nothing runs of what is refused.
pub fn say(decision: &Decision, pods: &[Arc<SlimPod>]) -> Option<String> {
    let mut said: Vec<(OnRecall, String)> =
        decision.revisions.iter().filter_map(|judged| of(judged, &pods_of(pods, judged))).collect();
    said.sort_by_key(|(on, _)| Reverse(*on));
    let drains = said.first().is_some_and(|(on, _)| *on == OnRecall::Drain);
    let mut said: Vec<String> = said.into_iter().map(|(_, sentence)| sentence).collect();
    if said.is_empty() && !decision.revisions.iter().any(|judged| judged.is_recalled(OnRecall::Drain)) {
        return None;
    }
    let serves = |judged: &&Judged| judged.may_serve() && pods_of(pods, judged).iter().any(|pod| progress::answers(pod));
    let instead = decision.revisions.iter().find(serves).filter(|_| decision.current.is_none() && (drains || said.is_empty()));
    said.extend(instead.map(|judged| format!("Revision {} serves instead.", judged.seen.revision.name)));
    (!said.is_empty()).then(|| said.join(" "))
}

fn of(judged: &Judged, pods: &[&Arc<SlimPod>]) -> Option<(OnRecall, String)> {
    let recall = judged.recall()?;
    let runs = |pod: &&&Arc<SlimPod>| !pod.is_over() && (progress::answers(pod) || pod.draining_since().is_some());
    let count = pods.iter().filter(runs).count();
    (count > 0).then(|| (recall.on, sentence(count, recall)))
}

fn sentence(count: usize, recall: &Recall) -> String {
    if recall.on == OnRecall::Drain {
        return drained(count, recall);
    }
    let serve = match (recall.on, count) {
        (OnRecall::KeepRunning, 1) => "goes on serving",
        (OnRecall::KeepRunning, _) => "go on serving",
        (_, 1) => "still serves",
        _ => "still serve",
    };
    let by = match recall.by.as_slice() {
        [] => "is refused".to_owned(),
        [_] => format!("{} refuses (onRecall: {})", policies(&recall.by), recall.on.as_str()),
        _ => format!("{} refuse (onRecall: {})", policies(&recall.by), recall.on.as_str()),
    };
    format!("{} {serve} what {by}.", replicas(count))
}

/// That so many replicas are taken out of service.
pub fn drained(count: usize, recall: &Recall) -> String {
    let (are, they) = if count == 1 { ("is", "it serves") } else { ("are", "they serve") };
    let verb = if recall.by.len() == 1 { "recalls" } else { "recall" };
    format!("{} {are} being drained: {} {verb} what {they} (onRecall: Drain).", replicas(count), policies(&recall.by))
}

fn replicas(count: usize) -> String {
    if count == 1 { "1 replica".to_owned() } else { format!("{count} replicas") }
}
