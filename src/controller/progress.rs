//! How far the replicas of a revision are, read from their pods: one state, one reason, one sentence.

use std::sync::Arc;

use super::{
    fetched,
    plan::{CONTAINER_ENGINE, CONTAINER_FETCH},
    slim::{SlimContainer, SlimPod, SlimTerminated},
};
use crate::api::{Reason, VOUCHED};

/// How far a pod is. Later is further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// It cannot go on without help.
    Stuck,
    /// It waits for our verdict.
    Gated,
    /// It waits for a node.
    Scheduling,
    /// Its images are pulled.
    Pulling,
    /// Its weights are fetched.
    Fetching,
    /// Its engine loads them.
    Loading,
    /// It waits to be vouched for.
    Vouching,
    /// It answers.
    Ready,
}

impl Step {
    /// The state that a deployment is in when its best replica is here.
    pub const fn state(self) -> &'static str {
        match self {
            Self::Stuck => "Blocked",
            Self::Gated | Self::Scheduling | Self::Pulling => "Waiting",
            Self::Fetching => "Fetching",
            Self::Loading | Self::Vouching => "Loading",
            Self::Ready => "Ready",
        }
    }
}

/// How far a pod is, and why it is not further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// How far.
    pub step: Step,
    /// The reason.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

impl Progress {
    fn new(step: Step, reason: Reason, message: impl Into<String>) -> Self {
        Self { step, reason, message: message.into() }
    }
}

/// Whether the pod answers and is vouched for.
pub fn answers(pod: &SlimPod) -> bool {
    !pod.is_over() && pod.is("Ready") && pod.is(VOUCHED)
}

/// What to say of several pods: what is stuck comes first, then the one that is furthest.
pub fn of(pods: &[&Arc<SlimPod>]) -> Option<Progress> {
    let all: Vec<Progress> = pods.iter().filter(|pod| !pod.is_over()).map(|pod| of_pod(pod)).collect();
    let stuck = all.iter().find(|progress| progress.step == Step::Stuck).cloned();
    stuck.or_else(|| all.into_iter().max_by_key(|progress| progress.step))
}

fn of_pod(pod: &SlimPod) -> Progress {
    if answers(pod) {
        return Progress::new(Step::Ready, Reason::Ready, "");
    }
    if pod.is_gated() {
        return Progress::new(Step::Gated, Reason::Gated, "The pod waits for its verdict.");
    }
    if let Some(scheduled) = pod.condition("PodScheduled").filter(|condition| condition.status == "False") {
        let message = if scheduled.message.is_empty() {
            "The pod waits for a node.".to_owned()
        } else {
            format!("No node can take the pod: {}", scheduled.message)
        };
        return Progress::new(Step::Scheduling, Reason::Unschedulable, message);
    }
    let container = |list: &[SlimContainer], name: &str| list.iter().find(|container| container.name == name).cloned();
    if let Some(fetch) = container(&pod.status.init_container_statuses, CONTAINER_FETCH)
        && fetch.state.terminated.as_ref().is_none_or(|terminated| terminated.exit_code != 0)
    {
        return of_fetch(pod, &fetch);
    }
    let Some(engine) = container(&pod.status.container_statuses, CONTAINER_ENGINE) else {
        return Progress::new(Step::Scheduling, Reason::Scheduling, "The pod is being started on its node.");
    };
    of_engine(pod, &engine)
}

fn of_fetch(pod: &SlimPod, fetch: &SlimContainer) -> Progress {
    if let Some(pulling) = pulling(fetch) {
        return pulling;
    }
    match fetched::ended(pod) {
        Some(ended) if ended.exit_code == 65 => Progress::new(Step::Stuck, Reason::DigestMismatch, fetched::message(ended)),
        Some(ended) if fetch.state.running.is_none() => {
            let message = format!("Fetching the weights failed and is tried again by itself: {}", fetched::message(ended));
            Progress::new(Step::Fetching, Reason::FetchFailed, message)
        }
        _ if fetch.state.running.is_some() => {
            Progress::new(Step::Fetching, Reason::Fetching, "The weights are being fetched and verified.")
        }
        _ => Progress::new(Step::Pulling, Reason::PullingImage, "The node is getting the pod ready."),
    }
}

fn of_engine(pod: &SlimPod, engine: &SlimContainer) -> Progress {
    if let Some(pulling) = pulling(engine) {
        return pulling;
    }
    let ended = engine.state.terminated.as_ref().or(engine.last_state.terminated.as_ref());
    if let (false, Some(ended), true) = (engine.ready, ended, engine.state.running.is_none()) {
        let (exit, lines) = (exit(engine, ended), last_lines(&ended.message));
        let message = format!("The engine stopped with {exit}, and is started again. Its last lines: {lines}");
        return Progress::new(Step::Stuck, Reason::EngineFailed, message);
    }
    if !engine.ready {
        // It is under way again, and what went wrong before is still what people want to know.
        let message = engine.last_state.terminated.as_ref().map_or_else(
            || "The engine loads the weights.".to_owned(),
            |ended| {
                let (exit, lines) = (exit(engine, ended), last_lines(&ended.message));
                format!("The engine loads the weights again. It stopped with {exit}. Its last lines: {lines}")
            },
        );
        return Progress::new(Step::Loading, Reason::Loading, message);
    }
    let vouched = pod.condition(VOUCHED).filter(|condition| condition.status == "False" && !condition.message.is_empty());
    match vouched.map(|condition| (condition.reason.as_str(), condition.message.as_str())) {
        Some(("Draining", message)) => Progress::new(Step::Vouching, Reason::Draining, message),
        Some(("Probing", message)) => Progress::new(Step::Vouching, Reason::Probing, message),
        Some((_, message)) => Progress::new(Step::Stuck, Reason::NotVouched, message),
        None => {
            Progress::new(Step::Vouching, Reason::Probing, "The engine says that it is ready, and is asked for a first answer.")
        }
    }
}

/// `exit code 1 (Error), 3 times so far`
fn exit(engine: &SlimContainer, ended: &SlimTerminated) -> String {
    let times = match engine.restart_count {
        0 | 1 => "once".to_owned(),
        more => format!("{more} times"),
    };
    format!("exit code {} ({}), {times} so far", ended.exit_code, ended.reason)
}

fn pulling(container: &SlimContainer) -> Option<Progress> {
    let waiting = container.state.waiting.as_ref()?;
    match waiting.reason.as_str() {
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" => {
            let message = format!("An image cannot be pulled ({}): {}", waiting.reason, waiting.message);
            Some(Progress::new(Step::Stuck, Reason::ImagePullFailed, message))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            let message =
                format!("The node cannot start the container {} ({}): {}", container.name, waiting.reason, waiting.message);
            Some(Progress::new(Step::Stuck, Reason::EngineFailed, message))
        }
        _ => None,
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(4);
    lines.get(from..).unwrap_or_default().join(" | ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn progress(pod: Value) -> Progress {
        let pod: SlimPod = serde_json::from_value(pod).unwrap();
        of(&[&Arc::new(pod)]).unwrap()
    }

    fn status(status: Value) -> Progress {
        progress(json!({ "metadata": { "name": "p" }, "status": status }))
    }

    #[test]
    fn every_step_of_a_pod_is_recognised() {
        let gated = progress(json!({ "metadata": {}, "spec": { "schedulingGates": [{ "name": "bonafide.dev/verdict" }] } }));
        assert_eq!(gated.step, Step::Gated);
        let unschedulable =
            status(json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes" }] }));
        assert_eq!((unschedulable.step, unschedulable.reason), (Step::Scheduling, Reason::Unschedulable));
        assert!(unschedulable.message.contains("0/1 nodes"));
        let fetching = status(json!({ "initContainerStatuses": [{ "name": "fetch", "state": { "running": {} } }] }));
        assert_eq!(fetching.step, Step::Fetching);
        let done = json!({ "name": "fetch", "state": { "terminated": { "exitCode": 0 } } });
        let loading = status(
            json!({ "initContainerStatuses": [done], "containerStatuses": [{ "name": "engine", "state": { "running": {} } }] }),
        );
        assert_eq!(loading.step, Step::Loading);
        let vouching =
            status(json!({ "initContainerStatuses": [done], "containerStatuses": [{ "name": "engine", "ready": true }] }));
        assert_eq!(vouching.step, Step::Vouching);
        let ready = json!([{ "type": "Ready", "status": "True" }, { "type": "bonafide.dev/Vouched", "status": "True" }]);
        assert_eq!(status(json!({ "conditions": ready })).step, Step::Ready);
    }

    #[test]
    fn what_is_stuck_says_why() {
        let pull = json!({ "waiting": { "reason": "ImagePullBackOff", "message": "not found" } });
        let image = status(json!({ "initContainerStatuses": [{ "name": "fetch", "state": pull }] }));
        assert_eq!((image.step, image.reason), (Step::Stuck, Reason::ImagePullFailed));
        let message = json!({ "message": "model.gguf: expected a, found b" }).to_string();
        let refused = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
        let refused =
            json!([{ "name": "fetch", "state": refused, "lastState": { "terminated": { "exitCode": 65, "message": message } } }]);
        let refused = status(json!({ "initContainerStatuses": refused }));
        assert_eq!((refused.reason, refused.message.as_str()), (Reason::DigestMismatch, "model.gguf: expected a, found b"));
        let done = json!({ "name": "fetch", "state": { "terminated": { "exitCode": 0 } } });
        let ended = json!({ "terminated": { "exitCode": 1, "reason": "Error", "message": "a\nb\nunknown architecture\n" } });
        let crash = json!({ "name": "engine", "restartCount": 3, "state": { "waiting": { "reason": "CrashLoopBackOff" } }, "lastState": ended });
        let again = json!({ "name": "engine", "restartCount": 3, "state": { "running": {} }, "lastState": crash["lastState"] });
        let crash = status(json!({ "initContainerStatuses": [done], "containerStatuses": [crash] }));
        assert_eq!(crash.reason, Reason::EngineFailed);
        assert!(crash.message.contains("unknown architecture") && crash.message.contains("3 times"), "{}", crash.message);
        let again = status(json!({ "initContainerStatuses": [done], "containerStatuses": [again] }));
        assert_eq!(again.step, Step::Loading);
        assert!(again.message.contains("unknown architecture") && again.message.contains("3 times"), "{}", again.message);
    }

    #[test]
    fn a_pod_that_is_ready_but_not_vouched_for_does_not_count() {
        let ready = json!([{ "type": "Ready", "status": "True" }, { "type": "bonafide.dev/Vouched", "status": "False" }]);
        let pod: SlimPod = serde_json::from_value(json!({ "metadata": {}, "status": { "conditions": ready } })).unwrap();
        assert!(!answers(&pod));
    }
}
