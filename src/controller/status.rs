//! The status: computed from what was seen and decided, without a client or a clock; written in one patch, also when an
//! earlier step failed.

use std::sync::Arc;

use super::{
    decide::{Blocked, Decision, Judged, Stage},
    gate::Doors,
    plan::Owner,
    progress::{self, Progress, Step},
    rollout,
    slim::SlimPod,
};
use crate::{
    api::{
        ANNOTATION_REFRESH, AVAILABLE, CONTENT_VERIFIED, EngineStatus, Finding, LABEL_DEPLOYMENT, LABEL_REVISION, Management,
        ModelDeployment, ModelDeploymentStatus, Problem, READY, RECONCILING, Reason, RevisionStatus, SOURCE_RESOLVED, STALLED,
        TRUSTED, VOUCHED,
    },
    trust::{Trust, Verdict},
};

/// That nothing is done.
const PAUSED: &str = "spec.management is Paused: changes wait until it is Managed. What serves goes on serving.";

/// What the status is computed from.
pub struct Picture<'a> {
    /// The object.
    pub deployment: &'a ModelDeployment,
    /// Who owns the children.
    pub owner: &'a Owner,
    /// What was decided.
    pub decision: &'a Decision,
    /// The pods.
    pub pods: &'a [Arc<SlimPod>],
    /// What came of gating and vouching.
    pub doors: &'a Doors,
    /// How replicas move between revisions.
    pub step: &'a rollout::Step,
    /// What went wrong when the children were applied.
    pub applied: Option<Problem>,
    /// What the API server did not do, which is tried again.
    pub failed: Option<Problem>,
    /// The admission policy that is missing, if one is: then others can change our pods.
    pub unprotected: Option<String>,
}

/// The status without its conditions' times, and the findings from which the conditions are made.
pub fn compute(picture: &Picture<'_>) -> (ModelDeploymentStatus, Vec<Finding>) {
    let Picture { deployment, owner, decision, pods, .. } = picture;
    let wanted = deployment.spec.replicas;
    let current = decision.revisions.iter().find(|judged| Some(&judged.seen.revision.name) == decision.current.as_ref());
    let trust = trust_finding(picture);
    let answering = pods.iter().filter(|pod| progress::answers(pod)).count();
    let current_pods: Vec<&Arc<SlimPod>> = current.map(|current| pods_of(pods, current)).unwrap_or_default();
    let current_ready = count(current_pods.iter().filter(|pod| progress::answers(pod)).count());
    // Whoever serves says what was verified: the revision that is wanted, or the ones that were there before it.
    let verified = pods.iter().find(|pod| !pod.is_over() && pod.is("Initialized") && pod.is(VOUCHED) && !pod.is_gated());
    let verified = verified.and_then(|pod| decision.revisions.iter().find(|judged| belongs(pod, judged)));
    let serving = answering > 0;

    let summary = summarise(picture, current, &current_pods, current_ready, serving);
    let ready = summary.step == Some(Step::Ready);
    let mut findings = vec![source_finding(decision), trust.1];
    findings.push(content_finding(current, verified, &summary));
    findings.push(if serving {
        Finding::new(
            AVAILABLE,
            Some(true),
            Reason::Available,
            if answering == 1 { "1 replica answers.".to_owned() } else { format!("{answering} replicas answer.") },
        )
    } else if wanted == 0 {
        Finding::new(AVAILABLE, Some(false), Reason::Idle, "No replica is wanted.")
    } else {
        Finding::new(AVAILABLE, Some(false), summary.reason, summary.message.clone())
    });
    let ready_reason = if wanted == 0 && ready { Reason::Idle } else { summary.reason };
    findings.push(Finding::new(READY, Some(ready), ready_reason, summary.message.clone()));
    let stalled = summary.stalled && !ready;
    findings.push(moving(picture, ready, stalled).unwrap_or_else(|| {
        let reason = if ready { Reason::UpToDate } else { summary.reason };
        let message = if ready || stalled { String::new() } else { summary.message.clone() };
        Finding::new(RECONCILING, Some(!ready && !stalled), reason, message)
    }));
    findings.push(Finding::new(
        STALLED,
        Some(stalled),
        if stalled { summary.reason } else { Reason::UpToDate },
        if stalled { summary.message.clone() } else { String::new() },
    ));

    let signers = decision.verdict.as_ref().map(|verdict| verdict.signers().join(",")).unwrap_or_default();
    let status = ModelDeploymentStatus {
        observed_generation: deployment.metadata.generation,
        state: summary.state.to_owned(),
        trust: trust.0,
        ready: format!("{}/{wanted}", count(answering)),
        why: why(&summary, ready, wanted),
        url: if decision.revisions.is_empty() { String::new() } else { format!("http://{}.{}.svc", owner.name, owner.namespace) },
        signer: signers,
        accelerator: current.map(|judged| judged.seen.revision.accelerator.clone()).unwrap_or_default(),
        replicas: count(pods.iter().filter(|pod| !pod.is_over()).count()),
        selector: format!("{LABEL_DEPLOYMENT}={}", owner.name),
        model: decision.model.clone(),
        revisions: decision
            .revisions
            .iter()
            .filter(|judged| judged.seen.asked.is_some() || Some(&judged.seen.revision.name) == decision.current.as_ref())
            .map(|judged| revision_status(judged, pods, decision))
            .collect(),
        engine: decision
            .engine
            .clone()
            .map(|name| EngineStatus { name, args: current.map(|judged| judged.seen.revision.args.clone()).unwrap_or_default() }),
        conditions: vec![],
        more: Default::default(),
    };
    (status, findings)
}

/// What is said of a rollout, of a drain, or of their waiting.
fn moving(picture: &Picture<'_>, ready: bool, stalled: bool) -> Option<Finding> {
    if picture.deployment.spec.management == Management::Paused {
        return Some(Finding::new(RECONCILING, Some(false), Reason::Paused, PAUSED));
    }
    let said = picture.step.said.as_ref()?;
    let message = if ready || said.reason == Reason::RollingOut { said.message.clone() } else { return None };
    (!stalled).then(|| Finding::new(RECONCILING, Some(true), said.reason, message))
}

/// That the revision was given up, while another one serves in its place.
fn given_up(picture: &Picture<'_>, current: &Judged) -> Option<Problem> {
    let failed = current.seen.failed.as_ref().filter(|_| picture.step.target.as_ref() != Some(&current.seen.revision.name))?;
    let message = format!(
        "Revision {} was given up: {} Change the spec, or try it again with kubectl annotate modeldeployment {} {ANNOTATION_REFRESH}=\"$(date)\" --overwrite.",
        current.seen.revision.name, failed.message, picture.owner.name
    );
    Some(Problem::new(Reason::RolloutFailed, message))
}

/// What the whole comes to.
struct Summary {
    state: &'static str,
    step: Option<Step>,
    reason: Reason,
    message: String,
    /// Nothing happens until somebody changes something.
    stalled: bool,
}

fn summarise(picture: &Picture<'_>, current: Option<&Judged>, pods: &[&Arc<SlimPod>], ready: i32, serving: bool) -> Summary {
    let wanted = picture.deployment.spec.replicas;
    let trouble = |state: &'static str, problem: &Problem, stalled: bool| {
        let message = if serving {
            format!("{} The replicas that were there keep serving.", problem.message)
        } else {
            problem.message.clone()
        };
        Summary { state: if serving { "Degraded" } else { state }, step: None, reason: problem.reason, message, stalled }
    };
    if let Some(blocked) = &picture.decision.blocked {
        let waits = blocked.stage == Stage::Source && blocked.retry.is_some();
        return trouble(if waits { "Waiting" } else { "Blocked" }, &with_retry(blocked), !waits);
    }
    if let Some(problem) = &picture.applied {
        return trouble("Blocked", problem, problem.reason == Reason::NameTaken);
    }
    let Some(current) = current else {
        return Summary {
            state: "Waiting",
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
        return trouble("Blocked", &Problem::new(Reason::DigestMismatch, message), true);
    }
    if let Some(problem) = given_up(picture, current) {
        return trouble("Blocked", &problem, true);
    }
    if wanted == 0 {
        return Summary { state: "Idle", step: Some(Step::Ready), reason: Reason::Idle, message: String::new(), stalled: false };
    }
    if ready >= wanted {
        return Summary {
            state: "Ready",
            step: Some(Step::Ready),
            reason: Reason::Ready,
            message: String::new(),
            stalled: false,
        };
    }
    if let Some(problem) = &picture.failed {
        return trouble("Waiting", problem, false);
    }
    if picture.deployment.spec.management == Management::Paused {
        return trouble("Waiting", &Problem::new(Reason::Paused, PAUSED), false);
    }
    if let Some((pod, objection)) = picture.doors.objections.first() {
        let message = format!(
            "Pod {pod} is not what Bonafide wrote, and gets no traffic: {objection}. Delete the pod; if it comes back the same, something in the cluster changes pods (see trustedMutators)."
        );
        return trouble("Blocked", &Problem::new(Reason::NotVouched, message), false);
    }
    if let Some(failure) = &current.seen.failure {
        let reason = if failure.contains("quota") { Reason::QuotaExceeded } else { Reason::ApiError };
        return trouble("Blocked", &Problem::new(reason, format!("Pods cannot be created: {failure}")), false);
    }
    if let Some((_, problem)) = picture.doors.unanswered.iter().find(|(name, _)| pods.iter().any(|pod| pod.name() == name)) {
        let state = if serving { "Degraded" } else { "Loading" };
        return Summary {
            state,
            step: Some(Step::Stuck),
            reason: problem.reason,
            message: problem.message.clone(),
            stalled: false,
        };
    }
    let waiting: Vec<&Arc<SlimPod>> = pods.iter().filter(|pod| !progress::answers(pod)).copied().collect();
    match progress::of(&waiting) {
        Some(Progress { step, reason, mut message }) => {
            if serving && ready == 0 {
                message.push_str(" The revision before it serves until this one answers.");
            }
            let state = if serving && step == Step::Stuck { "Degraded" } else { step.state() };
            Summary { state, step: Some(step), reason, message, stalled: false }
        }
        None => Summary {
            state: "Waiting",
            step: None,
            reason: Reason::Pending,
            message: "The pods are being created.".to_owned(),
            stalled: false,
        },
    }
}

fn with_retry(blocked: &Blocked) -> Problem {
    match (&blocked.stage, blocked.retry) {
        (Stage::Source, Some(wait)) if blocked.problem.reason != Reason::Measuring => {
            Problem::new(blocked.problem.reason, format!("{} Next try in {} s.", blocked.problem.message, wait.as_secs().max(1)))
        }
        _ => blocked.problem.clone(),
    }
}

fn why(summary: &Summary, ready: bool, wanted: i32) -> String {
    match (ready, wanted) {
        (true, 0) => "scaled to zero".to_owned(),
        (true, _) => String::new(),
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
fn first_sentence(message: &str) -> String {
    const WIDTH: usize = 140;
    let sentence = abbreviated(message.split_inclusive(". ").next().unwrap_or(message).trim_end());
    let sentence = sentence.strip_suffix('.').unwrap_or(&sentence);
    if sentence.chars().count() <= WIDTH {
        sentence.to_owned()
    } else {
        sentence.chars().take(WIDTH - 1).chain(['…']).collect()
    }
}

fn source_finding(decision: &Decision) -> Finding {
    let problem =
        |blocked: &Blocked| Finding::new(SOURCE_RESOLVED, Some(false), blocked.problem.reason, with_retry(blocked).message);
    match (&decision.blocked, &decision.model) {
        (Some(blocked), _) if blocked.stage == Stage::Source => problem(blocked),
        // What the source has does not fit; what the author wrote of the engine says nothing about the source.
        (Some(blocked), None)
            if matches!(
                blocked.problem.reason,
                Reason::NoFiles | Reason::AmbiguousFiles | Reason::UnsupportedFormat | Reason::TooManyFiles
            ) =>
        {
            problem(blocked)
        }
        (_, Some(model)) => Finding::new(
            SOURCE_RESOLVED,
            Some(true),
            Reason::Resolved,
            format!("{} at {}, {} bytes.", model.source, model.revision, model.bytes),
        ),
        _ => Finding::new(SOURCE_RESOLVED, None, Reason::Pending, "It was not looked up: what Ready says comes first."),
    }
}

fn trust_finding(picture: &Picture<'_>) -> (String, Finding) {
    let unprotected = picture.unprotected.as_ref().map(|missing| {
        format!(" Assurance=Unprotected: {missing}, so others may change these pods after they were compared. Install the chart with protect.admissionPolicies=true.")
    });
    let unprotected = unprotected.unwrap_or_default();
    let of = |verdict: &Verdict| {
        let status = match verdict.trust() {
            Trust::Signed | Trust::Pinned => Some(true),
            Trust::Unsigned | Trust::Refused => Some(false),
            Trust::Unknown => None,
        };
        (
            verdict.trust().to_string(),
            Finding::new(TRUSTED, status, verdict.reason(), format!("{}{unprotected}", verdict.message())),
        )
    };
    match (&picture.decision.blocked, &picture.decision.verdict) {
        (_, Some(verdict)) => of(verdict),
        (Some(blocked), None) if blocked.stage == Stage::Trust => (
            Trust::Refused.to_string(),
            Finding::new(TRUSTED, Some(false), blocked.problem.reason, blocked.problem.message.clone()),
        ),
        _ => (
            Trust::Unknown.to_string(),
            Finding::new(TRUSTED, None, Reason::Pending, "It is not known yet which files there are."),
        ),
    }
}

fn content_finding(current: Option<&Judged>, verified: Option<&Judged>, summary: &Summary) -> Finding {
    match (current, verified) {
        (Some(judged), _) if judged.seen.refusal.is_some() => {
            Finding::new(CONTENT_VERIFIED, Some(false), Reason::DigestMismatch, summary.message.clone())
        }
        (_, Some(judged)) => Finding::new(
            CONTENT_VERIFIED,
            Some(true),
            Reason::Verified,
            format!("Every file was hashed while it was fetched; the content is {}.", judged.seen.revision.digest),
        ),
        _ => Finding::new(CONTENT_VERIFIED, None, Reason::Pending, "No replica has fetched the weights."),
    }
}

fn revision_status(judged: &Judged, pods: &[Arc<SlimPod>], decision: &Decision) -> RevisionStatus {
    let revision = &judged.seen.revision;
    let own = pods_of(pods, judged);
    let is_current = Some(&revision.name) == decision.current.as_ref();
    let phase = match (&judged.seen.refusal, &judged.seen.failed) {
        (Some(_), _) => "Refused",
        (None, Some(_)) => "Failed",
        (None, None) if is_current => "Current",
        (None, None) => "Old",
    };
    RevisionStatus {
        name: revision.name.clone(),
        phase: phase.to_owned(),
        artifact: revision.artifact.clone(),
        digest: revision.digest.to_string(),
        trust: judged.verdict.as_ref().map_or(Trust::Unknown, Verdict::trust).to_string(),
        signers: judged.verdict.as_ref().map(|verdict| verdict.signers().to_vec()).unwrap_or_default(),
        image: revision.image.clone(),
        replicas: count(own.iter().filter(|pod| !pod.is_over()).count()),
        ready_replicas: count(own.iter().filter(|pod| progress::answers(pod)).count()),
    }
}

/// The pods of one revision.
pub fn pods_of<'a>(pods: &'a [Arc<SlimPod>], judged: &Judged) -> Vec<&'a Arc<SlimPod>> {
    pods.iter().filter(|pod| belongs(pod, judged)).collect()
}

pub fn belongs(pod: &SlimPod, judged: &Judged) -> bool {
    pod.label(LABEL_REVISION) == Some(&judged.seen.revision.name)
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
