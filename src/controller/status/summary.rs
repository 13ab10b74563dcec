//! What the whole comes to, in one state, one reason and one message.

use std::sync::Arc;

use super::{PAUSED, Picture};
use crate::{
    api::{ANNOTATION_REFRESH, Management, Problem, Reason, State},
    controller::{
        decide::{Blocked, Judged, Stage},
        diagnose::{far, not_created},
        objects::slim::SlimPod,
        progress::{self, Progress, Step},
        recalled, rollout,
    },
};

/// What the whole comes to.
pub(super) struct Summary {
    /// See `status.state`.
    pub state: State,
    /// How far the furthest replica is; `None` when it is not about replicas.
    pub step: Option<Step>,
    /// Why.
    pub reason: Reason,
    /// The same for people.
    pub message: String,
    /// Nothing happens until somebody changes something.
    pub stalled: bool,
}

/// What the whole comes to: what only a person can mend first, then what is missing, then how far it is.
pub(super) fn summarise(
    picture: &Picture<'_>,
    current: Option<&Judged>,
    pods: &[&Arc<SlimPod>],
    ready: i32,
    answering: i32,
) -> Summary {
    let (wanted, serving) = (picture.deployment.spec.replicas, answering > 0);
    let trouble = |state: State, problem: &Problem, stalled: bool| {
        let message = match recalled::say(picture.decision, picture.pods).filter(|_| picture.decision.current.is_none()) {
            Some(recalled) => format!("{recalled} {}", problem.message),
            None if serving => format!("{} The replicas that were there keep serving.", problem.message),
            None => problem.message.clone(),
        };
        Summary { state: if serving { State::Degraded } else { state }, step: None, reason: problem.reason, message, stalled }
    };
    let answered = |problem: Option<Problem>| {
        let state = if wanted == 0 { State::Idle } else { State::Ready };
        let (reason, message) = match problem {
            Some(problem) => (problem.reason, problem.message),
            None if wanted == 0 => (Reason::Idle, String::new()),
            None => (Reason::Ready, String::new()),
        };
        Summary { state, step: Some(Step::Ready), reason, message, stalled: false }
    };
    let complete = ready >= wanted && (wanted == 0 || picture.reachable);
    // A fresh look that the source keeps waiting takes nothing away from what answers as it was asked for.
    if let Some(blocked) = looks_again(picture, current).filter(|_| complete) {
        return answered(Some(with_retry(blocked)));
    }
    if let Some(blocked) = &picture.decision.blocked {
        let waits = blocked.waits();
        return trouble(if waits { State::Waiting } else { State::Blocked }, &with_retry(blocked), !waits);
    }
    if let Some(problem) = &picture.applied {
        return trouble(State::Blocked, problem, problem.reason == Reason::NameTaken);
    }
    let Some(current) = current else {
        return Summary {
            state: State::Waiting,
            step: None,
            reason: Reason::Pending,
            message: "It is being looked at.".to_owned(),
            stalled: false,
        };
    };
    if let Some(refusal) = &current.seen.refusal {
        let message = format!(
            "{} Another model, engine or pod in the spec tries again, and so does a new value of the annotation {ANNOTATION_REFRESH}.",
            refusal.message
        );
        return trouble(State::Blocked, &Problem::new(refusal.reason(), message), true);
    }
    if let Some(problem) = given_up(picture, current) {
        return trouble(State::Blocked, &problem, true);
    }
    // Scaled down while it is paused: what is there stays.
    let held = picture.deployment.spec.management == Management::Paused && wanted == 0 && serving;
    if complete && !held {
        return answered(picture.decision.shared.clone().filter(|_| wanted > 0));
    }
    if let Some(problem) = &picture.failed {
        return trouble(State::Waiting, problem, false);
    }
    if !picture.reachable && serving {
        let name = &picture.owner.name;
        let message = format!(
            "Service {name} is not there, so nothing reaches the replicas that answer. It is made again unless changes wait (spec.management: Paused)."
        );
        return Summary { state: State::Waiting, step: None, reason: Reason::ApiError, message, stalled: false };
    }
    if picture.deployment.spec.management == Management::Paused {
        let paused = trouble(State::Waiting, &Problem::new(Reason::Paused, PAUSED), false);
        // As many answer as are wanted, though not all as it is asked for now: nothing is broken.
        return if answering >= wanted {
            Summary { state: State::Waiting, message: PAUSED.to_owned(), ..paused }
        } else {
            paused
        };
    }
    if let Some((pod, objection)) = picture.doors.objections.first() {
        let message = format!(
            "Pod {pod} is not vouched for, and gets no traffic: {objection}. Delete the pod; if it comes back the same, something in the cluster changes pods (see trustedMutators)."
        );
        return trouble(State::Blocked, &Problem::new(Reason::NotVouched, message), true);
    }
    if let Some(revision) = &picture.doors.too_old {
        let message = format!(
            "A policy wants the formats or the configuration of the files to be looked at, and the pods of revision {revision} fetch with a release of Bonafide that looks at digests only. No new pod of it is let in. Any change of the model, engine, resources or pod in the spec makes a revision that can, for example a label in spec.pod.labels."
        );
        return trouble(State::Blocked, &Problem::new(Reason::RevisionTooOld, message), true);
    }
    if let Some(failure) = &current.seen.failure {
        return trouble(State::Blocked, &not_created(failure), false);
    }
    of_pods(picture, current, pods, ready, serving)
}

/// What keeps a fresh look at the source waiting, while there is a revision for what is asked for. What only a person can mend is
/// none: the look that was wished for does not come by itself.
pub(super) fn looks_again<'a>(picture: &'a Picture<'_>, current: Option<&Judged>) -> Option<&'a Blocked> {
    let current = current.filter(|current| current.seen.refusal.is_none() && given_up(picture, current).is_none());
    let blocked = picture.decision.blocked.as_ref().filter(|_| current.is_some() && picture.applied.is_none())?;
    blocked.waits().then_some(blocked)
}

/// That the revision was given up, while another one serves in its place.
fn given_up(picture: &Picture<'_>, current: &Judged) -> Option<Problem> {
    let failed = current.seen.failed.as_ref().filter(|_| picture.step.target.as_ref() != Some(&current.seen.revision.name))?;
    let message = format!(
        "Revision {} was given up: {} Try the same again with bonafide rollout retry {} -n {}, or change model, engine, resources or pod of the spec.",
        current.seen.revision.name, failed.message, picture.owner.name, picture.owner.namespace
    );
    Some(Problem::new(Reason::RolloutFailed, message))
}

/// What the pods of the current revision come to, of which not enough answer.
fn of_pods(picture: &Picture<'_>, current: &Judged, pods: &[&Arc<SlimPod>], ready: i32, serving: bool) -> Summary {
    let waiting = pods.iter().copied().filter(|pod| !picture.answers(pod));
    let all = far(current, waiting, picture.found, picture.now).map(|(pod, progress)| {
        let unanswered = picture.doors.unanswered.iter().find(|(name, _)| name == pod.name());
        match unanswered.filter(|_| progress.step == Step::Vouching && progress.reason != Reason::Draining) {
            Some((_, problem)) => Progress::stuck(problem.clone()),
            None if progress.reason == Reason::Vouching && picture.doors.asked.iter().any(|name| name == pod.name()) => {
                let message = "The engine says that it is ready, and is asked for a first answer.";
                Progress::new(Step::Vouching, Reason::Probing, message)
            }
            None => progress,
        }
    });
    let progress = progress::foremost(all.collect());
    // None of its pods is on its way: the rollout says what it waits for.
    let rolling = |said: &rollout::Said| Progress::new(Step::Gated, said.reason, said.message.clone());
    let created = || Progress::new(Step::Gated, Reason::Pending, "The pods are being created.");
    let mut progress = progress.unwrap_or_else(|| picture.step.said.as_ref().map_or_else(created, rolling));
    // While its successor has nothing of its own to tell, what happened to the one before it is the cause.
    if let Some(departure) = picture.found.departed.last() {
        let goes_on = matches!(progress.step, Step::Pulling | Step::Fetching | Step::Loading | Step::Vouching | Step::Ready);
        if progress.step != Step::Stuck && !goes_on {
            progress = Progress::new(progress.step, departure.reason, format!("{} {}", departure.message, progress.message));
        } else {
            progress.message = format!("{} It takes the place of another: {}", progress.message, departure.message);
        }
    }
    // Somebody waits for room, and room is being made.
    if let Some(said) = picture.step.said.as_ref().filter(|said| said.makes_room && progress.reason == Reason::Unschedulable) {
        return Summary {
            state: Step::Scheduling.state(),
            step: Some(Step::Scheduling),
            reason: said.reason,
            message: format!("{} {}", said.message, progress.message),
            stalled: false,
        };
    }
    let Progress { step, reason, mut message, lasts } = progress;
    let stuck = step == Step::Stuck || (reason.is_trouble() && !waits(reason));
    if serving && ready == 0 {
        message.push_str(" The revision before it serves until this one answers.");
    }
    let state = match (serving, stuck || lasts) {
        (true, true) => State::Degraded,
        (false, _) if lasts => State::Blocked,
        _ => step.state(),
    };
    Summary { state, step: Some(if stuck { Step::Stuck } else { step }), reason, message, stalled: lasts }
}

/// What is wrong and goes by without anybody's help.
fn waits(reason: Reason) -> bool {
    matches!(reason, Reason::WaitingForNode | Reason::FetchFailed | Reason::SourceUnavailable | Reason::ProbeFailing)
}

/// The problem, with the time of the next try where there is one.
pub(super) fn with_retry(blocked: &Blocked) -> Problem {
    match (&blocked.stage, blocked.retry) {
        (Stage::Source, Some(wait)) if blocked.problem.reason != Reason::Measuring => {
            Problem::new(blocked.problem.reason, format!("{} Next try in {} s.", blocked.problem.message, wait.as_secs().max(1)))
        }
        _ => blocked.problem.clone(),
    }
}

/// The column WHY.
pub(super) fn why(summary: &Summary, ready: bool, wanted: i32, paused: bool) -> String {
    let held = if paused { "paused: changes wait" } else { "" };
    match (ready, wanted) {
        (true, 0) if paused => format!("scaled to zero, {held}"),
        (true, 0) => "scaled to zero".to_owned(),
        (true, _) if summary.message.is_empty() => held.to_owned(),
        (true, _) => format!("{}: {}", summary.reason, first_sentence(&summary.message)),
        (false, _) if matches!(summary.step, Some(step) if step != Step::Stuck) => first_sentence(&summary.message),
        (false, _) => format!("{}: {}", summary.reason, first_sentence(&summary.message)),
    }
}

/// Digests and commits by their first eight digits.
fn abbreviated(text: &str) -> String {
    let word = |word: &str| {
        let digits = word.chars().filter(char::is_ascii_hexdigit).count();
        let long = digits >= 40 && word.chars().take(40).all(|c| c.is_ascii_hexdigit());
        if long {
            word.chars().take(8).chain(['…']).chain(word.chars().filter(|c| !c.is_ascii_hexdigit())).collect()
        } else {
            word.to_owned()
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A column has room for one sentence; the condition has all of them.
pub(super) fn first_sentence(message: &str) -> String {
    const WIDTH: usize = 140;
    let sentence = abbreviated(message.split_inclusive(". ").next().unwrap_or(message).trim_end());
    let sentence = sentence.strip_suffix('.').unwrap_or(&sentence);
    if sentence.chars().count() <= WIDTH {
        sentence.to_owned()
    } else {
        sentence.chars().take(WIDTH - 1).chain(['…']).collect()
    }
}
