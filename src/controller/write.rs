//! Writes the status, and tells of what changed in an Event.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams},
    runtime::events::{Event, EventType},
};
use serde_json::json;

use super::{
    context::Context,
    status::{Picture, compute},
};
use crate::{
    api::{
        FIELD_MANAGER, Finding, ModelDeployment, ModelDeploymentStatus, Problem, READY, RECONCILING, Reason, SOURCE_RESOLVED,
        STALLED, TRUSTED, settle, truncate,
    },
    runtime::metrics::ReasonLabel,
};

/// Computes the status, writes it if it is another, and tells of the reasons that are new.
pub async fn status(context: &Context, picture: &Picture<'_>) -> Result<(), kube::Error> {
    let deployment = picture.deployment;
    let (mut status, findings) = compute(picture);
    let old = deployment.status.clone().unwrap_or_default();
    status.conditions = settle(&old.conditions, &findings, deployment.metadata.generation, context.clock.now());
    if status == old {
        return Ok(());
    }
    tell(context, deployment, &old, &findings).await;
    apply(context, &deployment.metadata, &json!(status)).await
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
        let stalled = findings.iter().any(|finding| finding.kind == STALLED && finding.status == Some(true));
        let bad = finding.status == Some(false) && (kind != READY || stalled);
        let note = if finding.message.is_empty() { finding.reason.as_str().to_owned() } else { finding.message.clone() };
        let kind_of = if bad { EventType::Warning } else { EventType::Normal };
        publish(context, deployment, kind_of, finding.reason, note, kind).await;
    }
}

/// Tells in an Event what happens to the object.
pub async fn event(context: &Context, deployment: &ModelDeployment, reason: Reason, message: &str) {
    context.metrics.reasons.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    publish(context, deployment, EventType::Normal, reason, message.to_owned(), RECONCILING).await;
}

async fn publish(context: &Context, deployment: &ModelDeployment, type_: EventType, reason: Reason, note: String, action: &str) {
    let (reason, note, action) = (reason.as_str().to_owned(), Some(truncate(note)), action.to_owned());
    let event = Event { type_, reason, note, action, secondary: None };
    let reference: ObjectReference = deployment.object_ref(&());
    if let Err(error) = context.recorder.publish(&event, &reference).await {
        tracing::warn!(deployment = deployment.name_any(), %error, "an Event could not be written");
    }
}
