//! Writes the status, and tells of what changed in an Event.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Resource as _,
    api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    context::Context,
    events::Said,
    status::{Picture, compute},
};
use crate::{
    api::{
        AVAILABLE, FIELD_MANAGER, Finding, ModelDeployment, ModelDeploymentStatus, Problem, READY, RECONCILING, Reason,
        SOURCE_RESOLVED, STALLED, State, TRUSTED, settle, truncate,
    },
    runtime::metrics::ReasonLabel,
    trust::{Trust, Verdict, WARNED},
};

/// How long what differs in words alone, a download's progress above all, waits after words alone were written: so a replica that is
/// fetched costs at most six writes a minute.
const WORDS_WAIT: Duration = Duration::from_secs(10);
/// The same after something else was written: what the first look left open is known a moment later.
const SETTLES: Duration = Duration::from_secs(2);

/// The conditions whose reasons are told in Events, the most telling first.
const TOLD: [&str; 3] = [READY, TRUSTED, SOURCE_RESOLVED];

/// When the status of each ModelDeployment was written last, by its UID, when words alone may be written again, and what was told.
#[derive(Default)]
pub struct Pace(Mutex<HashMap<String, Paced>>);

struct Paced {
    at: Instant,
    due: Instant,
    /// Until then it was told, and the status does not say so.
    written: bool,
    told: ModelDeploymentStatus,
}

impl Pace {
    /// How long words alone have still to wait.
    fn wait(&self, uid: &str) -> Option<Duration> {
        let paced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paced.get(uid).map(|paced| paced.due.saturating_duration_since(Instant::now())).filter(|wait| !wait.is_zero())
    }

    /// It was told, and the status is yet to be written.
    fn telling(&self, uid: &str, told: ModelDeploymentStatus) {
        let at = Instant::now();
        let paced = Paced { at, due: at, written: false, told };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), paced);
    }

    /// A status was written.
    fn note(&self, uid: &str, words_alone: bool, told: ModelDeploymentStatus) {
        let at = Instant::now();
        let paced = Paced { at, due: at + if words_alone { WORDS_WAIT } else { SETTLES }, written: true, told };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), paced);
    }

    /// What was told last: the watch may not have heard of it yet, and what was told is not told again.
    fn told(&self, uid: &str) -> Option<ModelDeploymentStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid).map(|paced| paced.told.clone())
    }

    /// Forgets the objects that are not in `alive`, and what the status has said for a while.
    pub fn keep_only(&self, alive: &HashSet<String>) {
        let mut paced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paced.retain(|uid, paced| alive.contains(uid) && (!paced.written || paced.at.elapsed() < WORDS_WAIT));
    }
}

/// Computes the status, writes it if it is another, and tells of the reasons that are new. Says when what was held back is due.
pub async fn status(context: &Context, picture: &Picture<'_>) -> Result<Option<Duration>, kube::Error> {
    let deployment = picture.deployment;
    let (mut status, findings) = compute(picture);
    let old = deployment.status.clone().unwrap_or_default();
    status.conditions = settle(&old.conditions, &findings, deployment.metadata.generation, context.clock.now());
    status.more.clone_from(&old.more);
    if status == old {
        return Ok(None);
    }
    let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
    let words_alone = differs_in_words_alone(&old, &status);
    if let Some(wait) = context.pace.wait(uid).filter(|_| words_alone) {
        return Ok(Some(wait));
    }
    // What a policy only records (mode Audit) stands in the status and in the artifact, and nobody is called.
    let recorded = |verdict: &Verdict| verdict.trust() == Trust::Unsigned && !verdict.is_warned_of();
    let quiet = picture.decision.verdict.as_ref().is_some_and(recorded);
    let before = context.pace.told(uid).unwrap_or(old);
    let judged_anew = is_judged_anew(&before, &status);
    if let Some(measured) = status.cold_start.as_ref().filter(|start| before.cold_start.as_ref() != Some(*start)) {
        for phase in &measured.phases {
            context.metrics.cold_start(&phase.name, &phase.duration);
        }
    }
    let counts = |kind: &str, known: bool| if kind == TRUSTED { !quiet && (!known || judged_anew) } else { !known };
    let told = tell(context, deployment, &before, &findings, counts);
    let wanted = json!(status);
    let status = as_told(status);
    // What is told is told, also when the status cannot be written.
    context.pace.telling(uid, status.clone());
    let ((), written) = tokio::join!(told, replace(context, &deployment.metadata, &wanted));
    written?;
    context.pace.note(uid, words_alone, status);
    Ok(None)
}

/// What of a status decides whether something is told again, and nothing more: it is kept of every object.
fn as_told(status: ModelDeploymentStatus) -> ModelDeploymentStatus {
    let ModelDeploymentStatus { trust, conditions, cold_start, .. } = status;
    let told = conditions.into_iter().filter(|condition| TOLD.contains(&condition.type_.as_str()));
    let short = |condition: Condition| Condition {
        message: if condition.message.contains(WARNED) { WARNED.to_owned() } else { String::new() },
        ..condition
    };
    ModelDeploymentStatus { trust, conditions: told.map(short).collect(), cold_start, ..ModelDeploymentStatus::default() }
}

/// Whether everything that a program would act on is the same.
fn differs_in_words_alone(old: &ModelDeploymentStatus, new: &ModelDeploymentStatus) -> bool {
    let silent = |status: &ModelDeploymentStatus| {
        let mut status = status.clone();
        status.why.clear();
        status.conditions.iter_mut().for_each(|condition| condition.message.clear());
        status
    };
    silent(old) == silent(new)
}

/// Says of an object what stands in its way when nothing else is known of it; `stalled` when only a change of it can help.
pub async fn trouble(context: &Context, metadata: &ObjectMeta, problem: &Problem, stalled: bool) -> Result<(), kube::Error> {
    match troubled(context, metadata, problem, stalled).await? {
        Some(status) => replace(context, metadata, &status).await,
        None => Ok(()),
    }
}

/// The status that tells of it; `None` when there is no such object, or it says so already.
async fn troubled(
    context: &Context,
    metadata: &ObjectMeta,
    problem: &Problem,
    stalled: bool,
) -> Result<Option<Value>, kube::Error> {
    let name = metadata.name.as_deref().unwrap_or_default();
    let Some(live) = api(context, metadata).get_opt(name).await? else { return Ok(None) };
    let old: ModelDeploymentStatus =
        live.data.get("status").cloned().and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default();
    // All three are said: of two that are true, a tool that knows kstatus believes the one that it asks for first.
    let findings = [(READY, false), (RECONCILING, !stalled), (STALLED, stalled)]
        .map(|(kind, status)| Finding::new(kind, Some(status), problem.reason, problem.message.clone()));
    let serves = old.conditions.iter().any(|condition| condition.type_ == AVAILABLE && condition.status == "True");
    let mut status = ModelDeploymentStatus {
        observed_generation: metadata.generation,
        state: if serves { State::Degraded } else { State::Blocked }.as_str().to_owned(),
        why: format!("{}: {}", problem.reason, problem.message),
        ..old.clone()
    };
    status.conditions.retain(|condition| !findings.iter().any(|finding| finding.kind == condition.type_));
    status.conditions.extend(settle(&old.conditions, &findings, metadata.generation, context.clock.now()));
    Ok((status != old).then(|| json!(status)))
}

fn api(context: &Context, metadata: &ObjectMeta) -> Api<DynamicObject> {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    Api::namespaced_with(context.client.clone(), namespace, &ApiResource::erase::<ModelDeployment>(&()))
}

/// Writes the whole status of that one object: never of its successor of the same name. (The UID in a status that is applied is
/// ignored, so it is a patch with a test.) Fields that the definition lacks are left out by the API server.
async fn replace(context: &Context, metadata: &ObjectMeta, status: &Value) -> Result<(), kube::Error> {
    let operations = json!([
        { "op": "test", "path": "/metadata/uid", "value": metadata.uid },
        { "op": "add", "path": "/status", "value": status },
    ]);
    let patch = serde_json::from_value(operations).map(Patch::<()>::Json).map_err(kube::Error::SerdeError)?;
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let (api, name) = (api(context, metadata), metadata.name.as_deref().unwrap_or_default());
    context.metrics.wrote("ModelDeployment", "patch");
    match api.patch_status(name, &parameters, &patch).await {
        Ok(_) => Ok(()),
        // Somebody who deleted the object meanwhile is no error.
        Err(kube::Error::Api(refusal)) if refusal.code == 404 => Ok(()),
        // Nor is somebody who made another of its name; but a status that the definition refuses is one.
        Err(kube::Error::Api(refusal)) if refusal.code == 422 => match api.get_metadata_opt(name).await? {
            Some(live) if live.metadata.uid == metadata.uid => Err(kube::Error::Api(refusal)),
            _ => Ok(()),
        },
        Err(error) => Err(error),
    }
}

/// Whether the policies make something else of the model than before, be it for the same reason: it was refused and is served, it was
/// served and is refused, or it was only recorded and people are warned of it.
fn is_judged_anew(old: &ModelDeploymentStatus, new: &ModelDeploymentStatus) -> bool {
    let is_warned_of = |status: &ModelDeploymentStatus| {
        status.conditions.iter().any(|condition| condition.type_ == TRUSTED && condition.message.contains(WARNED))
    };
    old.trust != new.trust || (is_warned_of(new) && !is_warned_of(old))
}

/// One Event for each reason that counts, the most telling condition first; `counts` is told the condition, and whether it had that
/// reason before.
async fn tell(
    context: &Context,
    deployment: &ModelDeployment,
    old: &ModelDeploymentStatus,
    findings: &[Finding],
    counts: impl Fn(&str, bool) -> bool,
) {
    let mut told: HashSet<Reason> = HashSet::new();
    for kind in TOLD {
        let Some(finding) = findings.iter().find(|finding| finding.kind == kind) else { continue };
        let same = |reason: &str| reason == finding.reason.as_str();
        let known = old.conditions.iter().any(|condition| condition.type_ == kind && same(&condition.reason));
        if finding.reason == Reason::Pending || !counts(kind, known) || !told.insert(finding.reason) {
            continue;
        }
        context.metrics.reasons.get_or_create(&ReasonLabel { reason: finding.reason.as_str() }).inc();
        let bad = finding.status.is_some() && finding.reason.is_trouble();
        let note = if finding.message.is_empty() { finding.reason.as_str().to_owned() } else { finding.message.clone() };
        publish(context, deployment, bad, finding.reason, note, kind).await;
    }
}

/// Tells in an Event what happens to the object.
pub async fn event(context: &Context, deployment: &ModelDeployment, reason: Reason, message: &str) {
    context.metrics.reasons.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    publish(context, deployment, false, reason, message.to_owned(), RECONCILING).await;
}

/// The same, of something that somebody should see to.
pub async fn warning(context: &Context, deployment: &ModelDeployment, reason: Reason, message: &str) {
    context.metrics.reasons.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    publish(context, deployment, true, reason, message.to_owned(), RECONCILING).await;
}

async fn publish(context: &Context, deployment: &ModelDeployment, warning: bool, reason: Reason, note: String, action: &str) {
    let said = Said { warning, reason: reason.as_str(), action };
    context.events.tell(&deployment.object_ref(&()), &said, &truncate(note)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn words_alone_wait_for_two_seconds_then_for_ten_and_nothing_else_does() {
        let pace = Pace::default();
        assert_eq!(pace.wait("u"), None);
        for (words_alone, wait) in [(false, SETTLES), (true, WORDS_WAIT), (true, WORDS_WAIT)] {
            pace.note("u", words_alone, ModelDeploymentStatus::default());
            assert_eq!(pace.wait("u"), Some(wait));
            tokio::time::sleep(wait / 2).await;
            assert_eq!(pace.wait("u"), Some(wait / 2));
            tokio::time::sleep(wait / 2).await;
            assert_eq!(pace.wait("u"), None);
        }
    }

    #[test]
    fn what_a_program_acts_on_is_more_than_words() {
        let status = |reason: Reason, message: &str, why: &str| {
            let findings = [Finding::new(READY, Some(false), reason, message)];
            ModelDeploymentStatus {
                why: why.into(),
                conditions: settle(&[], &findings, Some(1), jiff::Timestamp::UNIX_EPOCH),
                ..ModelDeploymentStatus::default()
            }
        };
        let before = status(Reason::Fetching, "1 %", "1 %");
        assert!(differs_in_words_alone(&before, &status(Reason::Fetching, "2 %", "2 %")));
        assert!(!differs_in_words_alone(&before, &status(Reason::Loading, "2 %", "2 %")));
        assert!(!differs_in_words_alone(&before, &ModelDeploymentStatus { ready: "1/1".into(), ..before.clone() }));
    }

    #[test]
    fn another_judgement_for_the_same_reason_is_news_and_another_sentence_is_not() {
        let status = |trust: &str, message: &str| {
            let finding = Finding::new(TRUSTED, Some(false), Reason::Unsigned, message);
            let conditions = settle(&[], &[finding], Some(1), jiff::Timestamp::UNIX_EPOCH);
            ModelDeploymentStatus { trust: trust.into(), conditions, ..ModelDeploymentStatus::default() }
        };
        let audited = status("Unsigned", "It is served all the same, because the policy only records it (mode Audit).");
        let warned = status("Unsigned", WARNED);
        assert!(is_judged_anew(&audited, &warned) && !is_judged_anew(&warned, &audited));
        assert!(!is_judged_anew(&warned, &status("Unsigned", &format!("Another commit. {WARNED}"))));
        assert!(is_judged_anew(&warned, &status("Refused", "No new replica serves it.")));
        assert!(is_judged_anew(&status("Refused", "No new replica serves it."), &audited));
        for before in [&audited, &warned] {
            for now in [&audited, &warned] {
                assert_eq!(is_judged_anew(&as_told(before.clone()), now), is_judged_anew(before, now), "what is kept is enough");
            }
        }
    }
}
