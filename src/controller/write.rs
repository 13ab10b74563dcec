//! Writes the status, and tells of what changed in an Event.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams},
    runtime::events::{Event, EventType},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    context::Context,
    status::{Picture, compute},
};
use crate::{
    api::{
        FIELD_MANAGER, Finding, ModelDeployment, ModelDeploymentStatus, Problem, READY, Reason, SOURCE_RESOLVED, STALLED,
        TRUSTED, settle, truncate,
    },
    runtime::metrics::ReasonLabel,
};

/// How long what differs in words alone, a download's progress above all, waits after a write: so a replica that is fetched costs at
/// most six writes a minute.
const WORDS_WAIT: Duration = Duration::from_secs(10);

/// When the status of each ModelDeployment was written last, by its UID.
#[derive(Default)]
pub struct Told(Mutex<HashMap<String, Instant>>);

impl Told {
    /// How long words alone have still to wait.
    fn wait(&self, uid: &str) -> Option<Duration> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(uid).and_then(|at| WORDS_WAIT.checked_sub(at.elapsed())).filter(|wait| !wait.is_zero())
    }

    fn note(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), Instant::now());
    }

    /// Forgets the objects that are not in `alive`, and what is long ago.
    pub fn keep_only(&self, alive: &HashSet<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, at| alive.contains(uid) && at.elapsed() < WORDS_WAIT);
    }
}

/// Computes the status, writes it if it is another, and tells of the reasons that are new. Says when what was held back is due.
pub async fn status(context: &Context, picture: &Picture<'_>) -> Result<Option<Duration>, kube::Error> {
    let deployment = picture.deployment;
    let (mut status, findings) = compute(picture);
    let old = deployment.status.clone().unwrap_or_default();
    status.conditions = settle(&old.conditions, &findings, deployment.metadata.generation, context.clock.now());
    if status == old {
        return Ok(None);
    }
    let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
    if let Some(wait) = context.told.wait(uid).filter(|_| differs_in_words_alone(&old, &status)) {
        return Ok(Some(wait));
    }
    tell(context, deployment, &old, &findings).await;
    if let Some(measured) = status.cold_start.as_ref().filter(|start| old.cold_start.as_ref() != Some(*start)) {
        for phase in &measured.phases {
            context.metrics.cold_start(&phase.name, &phase.duration);
        }
    }
    apply(context, &deployment.metadata, &json!(status)).await?;
    context.told.note(uid);
    Ok(None)
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
    let api = api(context, metadata);
    let name = metadata.name.as_deref().unwrap_or_default();
    let Some(live) = api.get_opt(name).await? else { return Ok(()) };
    let old: ModelDeploymentStatus =
        live.data.get("status").cloned().and_then(|status| serde_json::from_value(status).ok()).unwrap_or_default();
    let findings = [READY, STALLED]
        .map(|kind| Finding::new(kind, Some(kind == STALLED && stalled), problem.reason, problem.message.clone()));
    let mut status = ModelDeploymentStatus {
        state: "Blocked".to_owned(),
        why: format!("{}: {}", problem.reason, problem.message),
        ..old.clone()
    };
    status.conditions.retain(|condition| !findings.iter().any(|finding| finding.kind == condition.type_));
    status.conditions.extend(settle(&old.conditions, &findings, metadata.generation, context.clock.now()));
    if status == old { Ok(()) } else { apply(context, metadata, &json!(status)).await }
}

fn api(context: &Context, metadata: &ObjectMeta) -> Api<DynamicObject> {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    Api::namespaced_with(context.client.clone(), namespace, &ApiResource::erase::<ModelDeployment>(&()))
}

async fn apply(context: &Context, metadata: &ObjectMeta, status: &serde_json::Value) -> Result<(), kube::Error> {
    let name = metadata.name.as_deref().unwrap_or_default();
    // The UID keeps the status of one object from being written to its successor of the same name.
    let body = json!({ "apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelDeployment", "metadata": { "name": name, "uid": metadata.uid }, "status": status });
    context.metrics.wrote("ModelDeployment", "patch");
    let api = api(context, metadata);
    let written = api.patch_status(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(body)).await;
    let Some(written) = unless_gone(written)? else { return Ok(()) };
    if written.data.get("status") == Some(status) {
        return Ok(());
    }
    // What others wrote beside our fields stays when we apply, and nothing in this status is theirs to say.
    let operations = json!([
        { "op": "test", "path": "/metadata/uid", "value": metadata.uid },
        { "op": "add", "path": "/status", "value": status },
    ]);
    let replace = serde_json::from_value(operations).map(Patch::<()>::Json).map_err(kube::Error::SerdeError)?;
    context.metrics.wrote("ModelDeployment", "patch");
    unless_gone(api.patch_status(name, &PatchParams::default(), &replace).await).map(|_| ())
}

/// Somebody who deleted the object meanwhile, or made another of its name, is no error.
fn unless_gone(written: Result<DynamicObject, kube::Error>) -> Result<Option<DynamicObject>, kube::Error> {
    match written {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        written => written.map(Some),
    }
}

/// One Event for each reason that is new, the most telling condition first.
async fn tell(context: &Context, deployment: &ModelDeployment, old: &ModelDeploymentStatus, findings: &[Finding]) {
    let mut told: HashSet<Reason> = HashSet::new();
    for kind in [READY, TRUSTED, SOURCE_RESOLVED] {
        let Some(finding) = findings.iter().find(|finding| finding.kind == kind) else { continue };
        let same = |reason: &str| reason == finding.reason.as_str();
        if finding.reason == Reason::Pending
            || old.conditions.iter().any(|condition| condition.type_ == kind && same(&condition.reason))
            || !told.insert(finding.reason)
        {
            continue;
        }
        context.metrics.reasons.get_or_create(&ReasonLabel { reason: finding.reason.as_str() }).inc();
        let bad = finding.status == Some(false) && finding.reason.is_trouble();
        let note = if finding.message.is_empty() { finding.reason.as_str().to_owned() } else { finding.message.clone() };
        let event = Event {
            type_: if bad { EventType::Warning } else { EventType::Normal },
            reason: finding.reason.as_str().to_owned(),
            note: Some(truncate(note)),
            action: kind.to_owned(),
            secondary: None,
        };
        let reference: ObjectReference = deployment.object_ref(&());
        if let Err(error) = context.recorder.publish(&event, &reference).await {
            tracing::warn!(deployment = deployment.name_any(), %error, "an Event could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn words_alone_wait_for_ten_seconds_and_nothing_else_does() {
        let told = Told::default();
        assert_eq!(told.wait("u"), None);
        told.note("u");
        assert_eq!(told.wait("u"), Some(WORDS_WAIT));
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(told.wait("u"), Some(Duration::from_secs(6)));
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(told.wait("u"), None);
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
}
