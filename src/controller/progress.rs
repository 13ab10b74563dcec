//! How far the replicas of a revision are, read from their pods: one state, one reason, one sentence.

use super::objects::slim::SlimPod;
use crate::api::{Problem, Reason, State, VOUCHED};

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
    pub const fn state(self) -> State {
        match self {
            Self::Stuck => State::Blocked,
            Self::Gated | Self::Scheduling | Self::Pulling => State::Waiting,
            Self::Fetching => State::Fetching,
            Self::Loading | Self::Vouching => State::Loading,
            Self::Ready => State::Ready,
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
    /// It will be the same every time, until somebody changes something.
    pub lasts: bool,
}

impl Progress {
    /// See the fields.
    pub fn new(step: Step, reason: Reason, message: impl Into<String>) -> Self {
        Self { step, reason, message: message.into(), lasts: false }
    }

    /// It does not go on by itself, as far as anybody sees.
    pub fn stuck(problem: Problem) -> Self {
        let lasts = is_said_every_time(problem.reason);
        Self { step: Step::Stuck, reason: problem.reason, message: problem.message, lasts }
    }
}

/// What an engine will say every time, until something is changed.
const fn is_said_every_time(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UnknownArchitecture
            | Reason::ArgumentRejected
            | Reason::ContextTooLong
            | Reason::WeightsDamaged
            | Reason::DeviceOutOfMemory
    )
}

/// Whether the pod answers and is vouched for.
pub fn answers(pod: &SlimPod) -> bool {
    !pod.is_over() && pod.is("Ready") && pod.is(VOUCHED)
}

/// What to say of several pods: what is stuck comes first, then the one that is furthest.
pub fn foremost(all: Vec<Progress>) -> Option<Progress> {
    let stuck = all.iter().find(|progress| progress.step == Step::Stuck).cloned();
    stuck.or_else(|| all.into_iter().max_by_key(|progress| progress.step))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_is_ready_but_not_vouched_for_does_not_count() {
        let ready = json!([{ "type": "Ready", "status": "True" }, { "type": "bonafide.dev/Vouched", "status": "False" }]);
        let pod: SlimPod = serde_json::from_value(json!({ "metadata": {}, "status": { "conditions": ready } })).unwrap();
        assert!(!answers(&pod));
    }

    #[test]
    fn what_is_stuck_is_told_before_what_goes_on_and_of_that_what_is_furthest() {
        let at = |step| Progress::new(step, Reason::Pending, "");
        let foremost = |steps: &[Step]| foremost(steps.iter().copied().map(at).collect()).unwrap().step;
        assert_eq!(foremost(&[Step::Scheduling, Step::Loading, Step::Fetching]), Step::Loading);
        assert_eq!(foremost(&[Step::Loading, Step::Stuck]), Step::Stuck);
    }
}
