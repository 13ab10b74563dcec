//! ModelArtifacts: written once for what was resolved, shared by deployments, let go when nobody needs them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
    runtime::reflector::ObjectRef,
};
use serde_json::{Value, json};

use crate::{
    api::{FIELD_MANAGER, ModelArtifact, ModelArtifactSpec, ModelArtifactStatus, PolicyVerdict},
    controller::{context::Context, plan::Owner},
    model::{Digest, Manifest, Source},
};

/// An artifact as the later steps use it.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// Its name.
    pub name: String,
    /// What it records.
    pub spec: ModelArtifactSpec,
    /// Its files: read and checked once.
    pub manifest: Manifest,
}

/// Artifacts by UID: they are immutable, so each is read once.
#[derive(Default)]
pub struct Known(Mutex<HashMap<String, Arc<Artifact>>>);

impl Known {
    /// Forgets the artifacts that are not in `alive`.
    pub fn keep_only(&self, alive: &std::collections::HashSet<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| alive.contains(uid));
    }
}

/// The name of the artifact that records `spec`: the last part of the source, and the beginning of a digest over everything in it.
pub fn name(spec: &ModelArtifactSpec) -> String {
    let (base, digest) = identity(spec);
    format!("{base}-{}", digest.short())
}

/// The same with the whole digest, for when somebody has found another content with the same beginning.
fn long_name(spec: &ModelArtifactSpec) -> String {
    let (base, digest) = identity(spec);
    format!("{base}-{}", digest.hex())
}

fn identity(spec: &ModelArtifactSpec) -> (String, Digest) {
    let source = spec.source.parse::<Source>();
    let base = source.as_ref().map_or("", Source::base_name).to_ascii_lowercase();
    let clean: String = base.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let clean = clean.trim_matches('-');
    let bundles: Vec<_> = spec.bundles.iter().map(|bundle| (&bundle.from, Digest::of(&bundle.content))).collect();
    let identity = json!([spec.source, spec.revision, spec.digest, bundles]).to_string();
    (if clean.is_empty() { "model" } else { clean }.to_owned(), Digest::of(identity))
}

/// The artifact of that name, when there is one and it records what its digest says.
pub async fn get(context: &Context, namespace: &str, name: &str) -> Result<Option<Arc<Artifact>>, kube::Error> {
    if let Some(known) = known(context, namespace, name) {
        return Ok(Some(known));
    }
    let Some(found) = api(context, namespace).get_opt(name).await? else { return Ok(None) };
    Ok(remember(context, found))
}

/// The artifact of that name, if it was read before.
pub fn known(context: &Context, namespace: &str, name: &str) -> Option<Arc<Artifact>> {
    let uid = context.stores.artifacts.named(namespace, name)?.metadata.uid.clone()?;
    context.artifacts.0.lock().unwrap_or_else(PoisonError::into_inner).get(&uid).cloned()
}

/// Keeps what was read of an artifact, if it is what its digest says.
pub fn remember(context: &Context, found: ModelArtifact) -> Option<Arc<Artifact>> {
    let (name, uid) = (found.metadata.name?, found.metadata.uid?);
    let manifest = match found.spec.manifest() {
        Ok(manifest) => manifest,
        Err(error) => {
            tracing::error!(artifact = name, error, "an artifact does not hold what its digest says; it is not used");
            return None;
        }
    };
    let key = format!("{}/{name}", found.metadata.namespace.unwrap_or_default());
    let recorded = (found.metadata.resource_version, found.status.unwrap_or_default());
    context.recorded.lock().unwrap_or_else(PoisonError::into_inner).insert(key, recorded);
    let artifact = Arc::new(Artifact { name, spec: found.spec, manifest });
    context.artifacts.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, artifact.clone());
    Some(artifact)
}

/// Writes the artifact if it is not there yet, and makes `owner` one of its owners.
pub async fn ensure(context: &Context, owner: &Owner, spec: ModelArtifactSpec) -> Result<Option<Arc<Artifact>>, kube::Error> {
    let api = api(context, &owner.namespace);
    let mut name = name(&spec);
    // What no watch has told of is most likely not there, and creating it says so if it is.
    let mut found = match context.stores.artifacts.named(&owner.namespace, &name) {
        Some(_) => api.get_opt(&name).await?,
        None => None,
    };
    if found.as_ref().is_some_and(|found| found.spec != spec) {
        name = long_name(&spec);
        found = api.get_opt(&name).await?;
    }
    if let Some(found) = found.filter(|found| found.spec == spec) {
        join(context, owner, &found.metadata).await?;
        return Ok(remember(context, found));
    }
    let metadata =
        serde_json::from_value(json!({ "name": name, "namespace": owner.namespace, "ownerReferences": [reference(owner)] }));
    let artifact = ModelArtifact { metadata: metadata.unwrap_or_else(|_| ObjectMeta::default()), spec, status: None };
    context.metrics.wrote("ModelArtifact", "apply");
    let lists = context.stores.artifacts.lists();
    match api.create(&PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() }, &artifact).await {
        Ok(created) => {
            foresee(context, &created, lists);
            Ok(remember(context, created))
        }
        // Another deployment was faster with the same artifact.
        Err(kube::Error::Api(status)) if status.code == 409 => match api.get_opt(&name).await? {
            Some(found) if found.spec == artifact.spec => {
                join(context, owner, &found.metadata).await?;
                Ok(remember(context, found))
            }
            _ => Ok(None),
        },
        Err(error) => Err(error),
    }
}

/// What was written is what the watch will tell of.
fn foresee(context: &Context, written: &ModelArtifact, lists: u64) {
    let metadata = ObjectMeta { managed_fields: None, ..written.metadata.clone() };
    context.stores.artifacts.foresee(metadata.into(), lists);
}

/// Makes `owner` one of the owners of the artifact, if it is none.
async fn join(context: &Context, owner: &Owner, artifact: &ObjectMeta) -> Result<(), kube::Error> {
    let owners = artifact.owner_references.as_deref().unwrap_or_default();
    if owners.iter().any(|reference| reference.uid == owner.uid) {
        return Ok(());
    }
    let add = match owners {
        // The version keeps an owner that somebody else adds meanwhile from being written over.
        [] => json!([
            { "op": "test", "path": "/metadata/resourceVersion", "value": artifact.resource_version },
            { "op": "add", "path": "/metadata/ownerReferences", "value": [reference(owner)] },
        ]),
        _ => json!([{ "op": "add", "path": "/metadata/ownerReferences/-", "value": reference(owner) }]),
    };
    patch(context, &api(context, &owner.namespace), artifact.name.as_deref().unwrap_or_default(), add).await
}

/// Makes `owner` one of the owners of every artifact that it needs.
pub async fn keep(context: &Context, owner: &Owner, needed: &[&str]) -> Result<(), kube::Error> {
    for name in needed {
        let Some(known) = context.stores.artifacts.get(&ObjectRef::new(name).within(&owner.namespace)) else { continue };
        let owned = known.metadata.owner_references.iter().flatten().any(|reference| reference.uid == owner.uid);
        if owned || known.metadata.deletion_timestamp.is_some() {
            continue;
        }
        // The store may be behind: what counts is what stands there now.
        if let Some(found) = api(context, &owner.namespace).get_opt(name).await? {
            join(context, owner, &found.metadata).await?;
        }
    }
    Ok(())
}

/// `NAMESPACE/NAME` of an artifact.
pub fn key(meta: &ObjectMeta) -> String {
    format!("{}/{}", meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

/// Writes down what the policies say of the artifact, if that changed.
pub async fn record(
    context: &Context,
    namespace: &str,
    artifact: &Artifact,
    verdicts: Vec<PolicyVerdict>,
) -> Result<(), kube::Error> {
    let key = format!("{namespace}/{}", artifact.name);
    // What refuses comes first, if there are more than the record holds.
    let mut verdicts = verdicts;
    if verdicts.len() > ModelArtifactStatus::MAX_VERDICTS {
        verdicts.sort_by_key(|verdict| verdict.reason.is_empty());
        verdicts.truncate(ModelArtifactStatus::MAX_VERDICTS);
    }
    let status = ModelArtifactStatus { verdicts };
    let meta = context.stores.artifacts.get(&ObjectRef::new(&artifact.name).within(namespace));
    let seen = meta.and_then(|meta| meta.metadata.resource_version.clone());
    let known = context.recorded.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let api = api(context, namespace);
    let (mut version, recorded) = match known {
        // It was just written, and the watch is yet to tell; or nobody has changed it since it was read.
        Some(known) if seen.is_none() || known.0 == seen => known,
        _ => {
            let Some(found) = api.get_opt(&artifact.name).await? else { return Ok(()) };
            (found.metadata.resource_version, found.status.unwrap_or_default())
        }
    };
    if recorded != status {
        context.metrics.wrote("ModelArtifact", "patch");
        // The list is written also when it is empty: applying a status with nothing in it would make it null.
        let status = json!({ "verdicts": status.verdicts });
        let body = json!({ "apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelArtifact", "status": status });
        let lists = context.stores.artifacts.lists();
        let written = api.patch_status(&artifact.name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(body)).await?;
        foresee(context, &written, lists);
        version = written.metadata.resource_version;
    }
    context.recorded.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (version, status));
    Ok(())
}

/// Lets go of every artifact of `owner` that is not `needed`; the last owner's going removes it.
pub async fn release(context: &Context, owner: &Owner, needed: &[&str]) -> Result<(), kube::Error> {
    for meta in context.stores.artifacts.of(&owner.namespace, &owner.name) {
        let name = meta.metadata.name.clone().unwrap_or_default();
        let owners = meta.metadata.owner_references.as_deref().unwrap_or_default();
        let ours = owners.iter().position(|reference| reference.uid == owner.uid);
        if meta.metadata.namespace.as_deref() != Some(&owner.namespace)
            || needed.contains(&name.as_str())
            || meta.metadata.deletion_timestamp.is_some()
        {
            continue;
        }
        let Some(ours) = ours else { continue };
        let api = api(context, &owner.namespace);
        let outcome = if owners.len() == 1 {
            context.metrics.wrote("ModelArtifact", "delete");
            let precondition =
                Preconditions { uid: meta.metadata.uid.clone(), resource_version: meta.metadata.resource_version.clone() };
            api.delete(&name, &DeleteParams { preconditions: Some(precondition), ..DeleteParams::background() }).await.map(|_| ())
        } else {
            let path = format!("/metadata/ownerReferences/{ours}");
            let remove =
                json!([{ "op": "test", "path": format!("{path}/uid"), "value": owner.uid }, { "op": "remove", "path": path }]);
            patch(context, &api, &name, remove).await
        };
        match outcome {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {}
            other => other?,
        }
    }
    Ok(())
}

fn api(context: &Context, namespace: &str) -> Api<ModelArtifact> {
    Api::namespaced(context.client.clone(), namespace)
}

fn reference(owner: &Owner) -> Value {
    json!({ "apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelDeployment", "name": owner.name, "uid": owner.uid })
}

async fn patch(context: &Context, api: &Api<ModelArtifact>, name: &str, operations: Value) -> Result<(), kube::Error> {
    context.metrics.wrote("ModelArtifact", "patch");
    let operations: json_patch::Patch = serde_json::from_value(operations).map_err(kube::Error::SerdeError)?;
    api.patch(name, &PatchParams::default(), &Patch::<()>::Json(operations)).await.map(|_| ())
}
