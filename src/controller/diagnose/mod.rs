//! Why a pod is not further: pure, from the pod and from what was looked up about it. One file per family of causes.

mod asked;
pub mod coldstart;
mod engine;
mod fetching;
mod gone;
pub mod looked;
pub mod needs;
mod quantity;
mod scheduling;
mod starting;

pub use asked::Asked;
pub use engine::last_lines;
pub use gone::{departure, not_created};
pub use looked::{Found, Looked};
pub use quantity::whole;
pub use scheduling::ONE_POD;

use std::sync::Arc;

use jiff::Timestamp;

use self::looked::Node;
use super::{
    decide::Judged,
    objects::slim::{SlimContainer, SlimPod},
    plan::{CONTAINER_ENGINE, CONTAINER_FETCH},
    progress::{Progress, Step},
};
use crate::api::Reason;

/// A pod, and what is known beside it.
pub struct Case<'a> {
    /// The pod.
    pub pod: &'a SlimPod,
    /// What its template asks for.
    pub asked: &'a Asked,
    /// What was looked up about it.
    pub looked: Option<&'a Looked>,
    /// The nodes, when they were asked for.
    pub nodes: Option<&'a [Node]>,
}

/// How far each of these pods of one revision is; those that are over are left out.
pub fn far<'a>(
    judged: &Judged,
    pods: impl Iterator<Item = &'a Arc<SlimPod>>,
    found: &Found,
    now: Timestamp,
) -> impl Iterator<Item = (&'a Arc<SlimPod>, Progress)> {
    let bytes = judged.artifact.as_ref().map_or(0, |artifact| artifact.manifest.size());
    let nodes = found.nodes.as_ref().map(|nodes| nodes.as_slice());
    let mut asked = None;
    pods.filter(|pod| !pod.is_over()).map(move |pod| {
        let asked = asked.get_or_insert_with(|| Asked::of(&judged.seen.revision.template, bytes));
        let looked = found.pods.get(pod.metadata.uid.as_deref().unwrap_or_default());
        (pod, diagnose(&Case { pod, asked, looked, nodes }, now))
    })
}

/// How far a pod that does not answer is, and why it is not further.
pub fn diagnose(case: &Case<'_>, now: Timestamp) -> Progress {
    let pod = case.pod;
    if pod.is_gated() {
        return Progress::new(Step::Gated, Reason::Gated, "The pod waits for its verdict.");
    }
    if let Some(scheduled) = pod.condition("PodScheduled").filter(|condition| condition.status == "False") {
        // It stands there until the scheduler has looked at the pod for the first time.
        if scheduled.reason == "SchedulingGated" {
            let message = match pod.spec.scheduling_gates.first() {
                None => "The pod waits for the scheduler.".to_owned(),
                Some(gate) => format!("The pod is held back by the scheduling gate {}; whoever set it lifts it.", gate.name),
            };
            return Progress::new(Step::Scheduling, Reason::Scheduling, message);
        }
        let problem = scheduling::unschedulable(case, &scheduled.message);
        let lasts = problem.reason == Reason::NoNodeFits && scheduling::is_final(case, scheduled.last_transition_time, now);
        return Progress { lasts, ..Progress::new(Step::Scheduling, problem.reason, problem.message) };
    }
    if pod.spec.node_name.is_none() {
        return Progress::new(Step::Scheduling, Reason::Scheduling, "The pod waits for the scheduler.");
    }
    if let Some(problem) = gone::lost(case) {
        return Progress::stuck(problem);
    }
    let container = |list: &[SlimContainer], name: &str| list.iter().find(|container| container.name == name).cloned();
    if let Some(fetch) = container(&pod.status.init_container_statuses, CONTAINER_FETCH)
        && fetch.state.terminated.as_ref().is_none_or(|terminated| terminated.exit_code != 0)
    {
        return fetching::progress(case, &fetch);
    }
    match container(&pod.status.container_statuses, CONTAINER_ENGINE) {
        Some(engine) => engine::progress(case, &engine, now),
        None => match starting::from_events(case) {
            Some(problem) => Progress::stuck(problem),
            None => Progress::new(Step::Scheduling, Reason::Scheduling, "The pod is being started on its node."),
        },
    }
}

#[cfg(test)]
mod tests;
