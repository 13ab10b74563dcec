//! Reads what a reconcile needs to know: the object, what it refers to, and what its children look like.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::Secret};
use kube::{Api, Resource as _, runtime::reflector::ObjectRef};

use super::{
    context::Context,
    notes::{Failure, Notes, Refusal},
    objects::slim::SlimPod,
    plan::{self, Owner, Revision, revision_of},
    verdicts::policies::InForce,
};
use crate::{
    api::{ANNOTATION_REFRESH, ModelDeployment, Problem, Reason, SECRET_TYPE},
    engine::Catalogue,
    weights::Credentials,
};

/// Everything that is seen at the beginning of a reconcile.
pub struct Observed {
    /// Who owns the children.
    pub owner: Owner,
    /// The namespace's labels: they select policies.
    pub namespace_labels: BTreeMap<String, String>,
    /// The policies.
    pub policies: Arc<InForce>,
    /// The engines.
    pub catalogue: Arc<Catalogue>,
    /// The credentials that the spec names.
    pub credentials: Result<Option<Credentials>, Problem>,
    /// The revisions that exist.
    pub revisions: Vec<ObservedRevision>,
    /// The pods with our label, whoever made them.
    pub pods: Vec<Arc<SlimPod>>,
}

/// A revision that exists.
#[derive(Clone)]
pub struct ObservedRevision {
    /// What was frozen.
    pub revision: Arc<Revision>,
    /// Replicas that its Deployment asks for.
    pub asked: Option<i32>,
    /// Why the Deployment cannot create pods.
    pub failure: Option<String>,
    /// When that Deployment was made.
    pub since: Option<Timestamp>,
    /// The version of that Deployment that was looked at past the cache, if it was.
    pub version: Option<String>,
    /// Whether it is the one that the spec asks for.
    pub asked_for: bool,
    /// What is noted of it.
    pub notes: Notes,
    /// What a replica found when the bytes were not the ones that were judged, if that counts today.
    pub refusal: Option<Refusal>,
    /// Why it was given up, if that counts today.
    pub failed: Option<Failure>,
}

/// Reads. An error means that the API server could not be asked.
pub async fn observe(context: &Context, deployment: &ModelDeployment, policies: Arc<InForce>) -> Result<Observed, kube::Error> {
    let owner = Owner::of(deployment);
    let namespace = context.stores.namespaces.get(&ObjectRef::new(&owner.namespace));
    Ok(Observed {
        namespace_labels: namespace.and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default(),
        policies,
        catalogue: catalogue(context),
        credentials: credentials(context, deployment, &owner.namespace).await?,
        revisions: revisions(context, deployment, &owner).await?,
        pods: context.stores.pods_of(&owner),
        owner,
    })
}

/// The catalogue is made anew only when an engine's object changed.
fn catalogue(context: &Context) -> Arc<Catalogue> {
    let engines = context.stores.engines.state();
    let mut made_of: Vec<String> =
        engines.iter().map(|engine| format!("{:?} {:?}", engine.meta().uid, engine.meta().generation)).collect();
    made_of.sort();
    let mut known = context.catalogue.lock().unwrap_or_else(PoisonError::into_inner);
    if known.0 != made_of {
        let objects = engines.iter().filter_map(|engine| engine.0.as_ref().ok()).cloned();
        *known = (made_of, Arc::new(Catalogue::builtin().with_objects(objects)));
    }
    known.1.clone()
}

async fn credentials(
    context: &Context,
    deployment: &ModelDeployment,
    namespace: &str,
) -> Result<Result<Option<Credentials>, Problem>, kube::Error> {
    let Some(reference) = &deployment.spec.model.secret_ref else { return Ok(Ok(None)) };
    let name = &reference.name;
    let Some(secret) = Api::<Secret>::namespaced(context.client.clone(), namespace).get_opt(name).await? else {
        let message = format!(
            "spec.model.secretRef: there is no Secret {name} in namespace {namespace}. Create it with type {SECRET_TYPE} and the keys hosts and token, or hosts, username and password."
        );
        return Ok(Err(Problem::new(Reason::SecretNotFound, message)));
    };
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    let credentials = Credentials::from_secret(secret.type_.as_deref().unwrap_or_default(), &data);
    Ok(credentials
        .map(Some)
        .map_err(|problem| Problem::new(problem.reason, format!("spec.model.secretRef: Secret {name}: {}", problem.message))))
}

async fn revisions(context: &Context, deployment: &ModelDeployment, owner: &Owner) -> Result<Vec<ObservedRevision>, kube::Error> {
    let mut revisions = Vec::new();
    let (wish, refresh) = (plan::wish(&deployment.spec), refresh(deployment));
    for record in context.stores.revisions_of(owner) {
        let meta = &record.metadata;
        let (Some(name), Some(uid)) = (&meta.name, &meta.uid) else { continue };
        if meta.deletion_timestamp.is_some() || revision_of(&owner.name, name).is_none() {
            continue;
        }
        let revision = match context.revisions.get(uid) {
            Some(revision) => revision,
            None => match read_revision(context, owner, name).await? {
                Some(revision) => {
                    context.revisions.keep(uid, &revision);
                    revision
                }
                None => continue,
            },
        };
        let slim = context.stores.deployments.get(&ObjectRef::new(name).within(&owner.namespace));
        let slim = slim.filter(|slim| slim.metadata.deletion_timestamp.is_none());
        let failure = slim
            .as_ref()
            .and_then(|slim| slim.status.conditions.iter().find(|c| c.kind == "ReplicaFailure" && c.status == "True"));
        let notes = Notes::read(meta);
        let asked_for = revision.wish == wish;
        revisions.push(ObservedRevision {
            asked: slim.as_ref().map(|slim| slim.spec.replicas),
            since: slim.as_ref().and_then(|slim| slim.metadata.creation_timestamp.as_ref()).map(|time| time.0),
            failure: failure.map(|condition| condition.message.clone()),
            version: None,
            asked_for,
            refusal: notes.refused(asked_for, refresh).cloned(),
            failed: notes.failed(asked_for, refresh).cloned(),
            notes,
            revision,
        });
    }
    revisions.sort_by(|a, b| (a.revision.number, &a.revision.name).cmp(&(b.revision.number, &b.revision.name)));
    Ok(revisions)
}

async fn read_revision(context: &Context, owner: &Owner, name: &str) -> Result<Option<Arc<Revision>>, kube::Error> {
    let api: Api<ControllerRevision> = Api::namespaced(context.client.clone(), &owner.namespace);
    let Some(data) = api.get_opt(name).await?.and_then(|found| found.data) else { return Ok(None) };
    match serde_json::from_value::<Revision>(data.0) {
        Ok(revision) if revision_of(&owner.name, name) == Some(&revision.name) => Ok(Some(Arc::new(revision))),
        Ok(_) | Err(_) => {
            tracing::error!(
                name,
                namespace = owner.namespace,
                "a ControllerRevision does not hold a revision of ours; it is not used"
            );
            Ok(None)
        }
    }
}

/// The fresh look that is wished for.
pub fn refresh(deployment: &ModelDeployment) -> Option<&str> {
    deployment.metadata.annotations.as_ref()?.get(ANNOTATION_REFRESH).map(String::as_str)
}
