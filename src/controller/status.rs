//! The status: computed from what was seen and decided, without a client or a clock; written in one patch, also when an
//! earlier step failed.

mod summary;

use std::sync::Arc;

use jiff::Timestamp;

use self::summary::{Summary, summarise, why, with_retry};
use super::{
    decide::{Blocked, Decision, Judged, Stage},
    diagnose::{Found, coldstart},
    doors::gate::Doors,
    objects::slim::SlimPod,
    plan::{self, Owner},
    progress::{self, Step},
    recalled, rollout,
};
use crate::{
    api::{
        AVAILABLE, Assurance, CONTENT_VERIFIED, EngineStatus, Finding, LABEL_DEPLOYMENT, LABEL_REVISION, Management,
        ModelDeployment, ModelDeploymentStatus, OnRecall, Problem, READY, RECONCILING, Reason, RevisionStatus, SOURCE_RESOLVED,
        STALLED, TRUSTED, VOUCHED,
    },
    trust::{Trust, Verdict},
};

/// That nothing is done.
const PAUSED: &str = "spec.management is Paused: changes wait until it is Managed. What serves goes on serving.";

/// So many revisions the definition lets a status list.
const MAX_REVISIONS: usize = 32;

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
    /// Whether the Service is there that leads to the replicas.
    pub reachable: bool,
    /// What went wrong when the children were applied.
    pub applied: Option<Problem>,
    /// What the API server did not do, which is tried again.
    pub failed: Option<Problem>,
    /// The admission policy that is missing, if one is: then others can change our pods.
    pub unprotected: Option<String>,
    /// What was looked up beside the watches.
    pub found: &'a Found,
    /// The time.
    pub now: Timestamp,
}

impl Picture<'_> {
    /// Whether the pod answers, and nothing that was found since speaks against it.
    fn answers(&self, pod: &SlimPod) -> bool {
        progress::answers(pod) && !self.doors.objections.iter().any(|(name, _)| name == pod.name())
    }
}

/// The status without its conditions' times, and the findings from which the conditions are made.
pub fn compute(picture: &Picture<'_>) -> (ModelDeploymentStatus, Vec<Finding>) {
    let Picture { deployment, owner, decision, pods, .. } = picture;
    let wanted = deployment.spec.replicas;
    let current = decision.revisions.iter().find(|judged| Some(&judged.seen.revision.name) == decision.current.as_ref());
    let trust = trust_finding(picture);
    let answering: Vec<&Arc<SlimPod>> = pods.iter().filter(|pod| picture.answers(pod)).collect();
    let cold_start = coldstart::of(&answering, deployment.status.as_ref().and_then(|status| status.cold_start.as_ref()));
    let answering = answering.len();
    let current_pods: Vec<&Arc<SlimPod>> = current.map(|current| pods_of(pods, current)).unwrap_or_default();
    let current_ready = count(current_pods.iter().filter(|pod| picture.answers(pod)).count());
    // Whoever serves says what was verified: the revision that is wanted, or the ones that were there before it.
    let verified = pods.iter().find(|pod| !pod.is_over() && pod.is("Initialized") && pod.is(VOUCHED) && !pod.is_gated());
    let verified = verified.and_then(|pod| decision.revisions.iter().find(|judged| belongs(pod, judged)));
    let serving = answering > 0;

    let summary = summarise(picture, current, &current_pods, current_ready, count(answering));
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
    findings.push(moving(picture, current, ready, stalled).unwrap_or_else(|| {
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
        state: summary.state.as_str().to_owned(),
        trust: trust.0,
        ready: format!("{}/{wanted}", count(answering)),
        why: why(&summary, ready, wanted, deployment.spec.management == Management::Paused),
        url: if decision.revisions.is_empty() { String::new() } else { format!("http://{}.{}.svc", owner.name, owner.namespace) },
        signer: signers,
        accelerator: current.map(|judged| judged.seen.revision.accelerator.clone()).unwrap_or_default(),
        replicas: count(pods.iter().filter(|pod| !pod.is_over()).count()),
        selector: format!("{LABEL_DEPLOYMENT}={}", owner.name),
        model: decision.model.clone(),
        revisions: listed(decision).map(|judged| revision_status(picture, judged)).collect(),
        engine: decision
            .engine
            .clone()
            .map(|name| EngineStatus { name, args: current.map(|judged| judged.seen.revision.args.clone()).unwrap_or_default() }),
        cold_start,
        conditions: vec![],
        more: Default::default(),
    };
    (status, findings)
}

/// What is said of a rollout, of a drain, or of their waiting.
fn moving(picture: &Picture<'_>, current: Option<&Judged>, ready: bool, stalled: bool) -> Option<Finding> {
    if picture.deployment.spec.management == Management::Paused {
        return Some(Finding::new(RECONCILING, Some(false), Reason::Paused, PAUSED));
    }
    if let Some(blocked) = summary::looks_again(picture, current).filter(|_| ready) {
        return Some(Finding::new(RECONCILING, Some(true), blocked.problem.reason, with_retry(blocked).message));
    }
    let said = picture.step.said.as_ref()?;
    let message = if ready || said.reason == Reason::RollingOut { said.message.clone() } else { return None };
    (!stalled).then(|| Finding::new(RECONCILING, Some(true), said.reason, message))
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
    let recalled = |message: &str| match recalled::say(picture.decision, picture.pods) {
        Some(recalled) => format!("{recalled} {message}"),
        None => message.to_owned(),
    };
    let of = |verdict: &Verdict| {
        let status = match verdict.trust() {
            Trust::Signed | Trust::Pinned => Some(true),
            Trust::Unsigned | Trust::Refused => Some(false),
            Trust::Unknown => None,
        };
        (
            verdict.trust().to_string(),
            match verdict.trust() {
                Trust::Refused => Finding::new(TRUSTED, status, verdict.reason(), recalled(verdict.message()) + &unprotected),
                _ => Finding::new(TRUSTED, status, verdict.reason(), format!("{}{unprotected}", verdict.message())),
            },
        )
    };
    match (&picture.decision.blocked, &picture.decision.verdict) {
        (_, Some(verdict)) => of(verdict),
        (Some(blocked), None) if blocked.stage == Stage::Trust => (
            Trust::Refused.to_string(),
            Finding::new(TRUSTED, Some(false), blocked.problem.reason, recalled(&blocked.problem.message)),
        ),
        _ => (
            Trust::Unknown.to_string(),
            Finding::new(TRUSTED, None, Reason::Pending, "It is not known yet which files there are."),
        ),
    }
}

fn content_finding(current: Option<&Judged>, verified: Option<&Judged>, summary: &Summary) -> Finding {
    let refusal = current.and_then(|judged| judged.seen.refusal.as_ref());
    match (refusal, verified) {
        (Some(refusal), _) => Finding::new(CONTENT_VERIFIED, Some(false), refusal.reason(), summary.message.clone()),
        (_, Some(judged)) => Finding::new(CONTENT_VERIFIED, Some(true), Reason::Verified, how_verified(judged)),
        _ => Finding::new(CONTENT_VERIFIED, None, Reason::Pending, "No replica that answers has verified the weights yet."),
    }
}

/// How the bytes were verified, and what that does not guarantee.
fn how_verified(judged: &Judged) -> String {
    let digest = judged.seen.revision.digest;
    match plan::assurance(&judged.seen.revision.template) {
        Assurance::Copied => format!("Every file was hashed while it was fetched; the content is {digest}."),
        Assurance::InPlace => format!(
            "Every file was hashed where it lies before the engine started; the content is {digest}. Assurance=InPlace: whoever may write to the claim can change it afterwards."
        ),
    }
}

/// The revisions that have a Deployment, the current one, and the one that is asked for and recalled: the newest of them, in their order, when there are more than the
/// status has room for.
fn listed(decision: &Decision) -> impl Iterator<Item = &Judged> {
    let is_current = |judged: &Judged| Some(&judged.seen.revision.name) == decision.current.as_ref();
    let waits = |judged: &Judged| judged.seen.asked_for && judged.is_recalled(OnRecall::Drain);
    let counts = |judged: &&Judged| judged.seen.asked.is_some() || is_current(judged) || waits(judged);
    let listed: Vec<&Judged> = decision.revisions.iter().filter(counts).collect();
    let mut surplus = listed.len().saturating_sub(MAX_REVISIONS);
    listed.into_iter().filter(move |judged| {
        let leaves_out = surplus > 0 && !is_current(judged);
        surplus -= usize::from(leaves_out);
        !leaves_out
    })
}

fn revision_status(picture: &Picture<'_>, judged: &Judged) -> RevisionStatus {
    let Picture { pods, decision, .. } = picture;
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
        ready_replicas: count(own.iter().filter(|pod| picture.answers(pod)).count()),
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
