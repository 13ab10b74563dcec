//! The children of a ModelDeployment: for each revision a ControllerRevision, a ConfigMap and a Deployment; one Service, and one
//! PodDisruptionBudget.

use std::collections::BTreeMap;

use kube::{ResourceExt as _, api::ObjectMeta};
use serde_json::{Value, json};

use super::{names::child_name, revision::Revision};
use crate::{
    api::{LABEL_DEPLOYMENT, LABEL_REVISION, ModelDeployment, NAME_PREFIX},
    model::{Checks, Manifest},
};

/// The kinds of children. In this order they are applied: what a pod needs stands before the pod can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChildKind {
    /// The frozen template.
    ControllerRevision,
    /// The manifest and the table of sources, for the container that fetches.
    ConfigMap,
    /// Where requests go.
    Service,
    /// How many pods may be sent away at once.
    PodDisruptionBudget,
    /// The pods.
    Deployment,
}

impl ChildKind {
    /// All of them, in the order of application.
    pub const ALL: [Self; 5] =
        [Self::ControllerRevision, Self::ConfigMap, Self::Service, Self::PodDisruptionBudget, Self::Deployment];

    /// The kind as Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ControllerRevision => "ControllerRevision",
            Self::ConfigMap => "ConfigMap",
            Self::Service => "Service",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::Deployment => "Deployment",
        }
    }

    /// Group and version as Kubernetes writes them.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::ControllerRevision | Self::Deployment => "apps/v1",
            Self::ConfigMap | Self::Service => "v1",
            Self::PodDisruptionBudget => "policy/v1",
        }
    }
}

/// One child, as it should stand in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Its kind.
    pub kind: ChildKind,
    /// Its name.
    pub name: String,
    /// The whole object.
    pub object: Value,
    /// The version on which it was decided that a Deployment may have fewer replicas; without one it gets no fewer.
    pub version: Option<String>,
}

/// The ModelDeployment that owns the children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID.
    pub uid: String,
}

impl Owner {
    /// The one that owns the children of `deployment`.
    pub fn of(deployment: &ModelDeployment) -> Self {
        Self {
            name: deployment.name_any(),
            namespace: deployment.namespace().unwrap_or_default(),
            uid: deployment.uid().unwrap_or_default(),
        }
    }

    /// Whether an object with this metadata is one of its children.
    pub fn owns(&self, meta: &ObjectMeta) -> bool {
        meta.namespace.as_deref() == Some(&self.namespace)
            && meta.owner_references.iter().flatten().any(|reference| reference.uid == self.uid)
    }

    /// The reference that children carry.
    pub fn reference(&self) -> Value {
        json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelDeployment", "name": self.name, "uid": self.uid,
            "controller": true, "blockOwnerDeletion": true,
        })
    }
}

/// One revision with what its children need beside it.
#[derive(Debug, Clone, Copy)]
pub struct Live<'a> {
    /// The revision.
    pub revision: &'a Revision,
    /// Its files; `None` when their record is gone: then the ConfigMap that lists them is left as it is.
    pub manifest: Option<&'a Manifest>,
    /// What policies want to be looked at beside digests.
    pub checks: Checks,
    /// Its replicas; `None`: it is history, and nothing but the record of what it was is kept.
    pub replicas: Option<i32>,
    /// The version of its Deployment that was looked at, if it may be lowered.
    pub version: Option<&'a str>,
    /// What is noted of it: annotations of its ControllerRevision.
    pub notes: &'a BTreeMap<String, String>,
}

/// All children. `sources` is the administrator's table as JSON: it may change without a restart, so it is no part of the
/// template.
pub fn children(owner: &Owner, live: &[Live<'_>], sources: &Value) -> Vec<Child> {
    let mut children = vec![service(owner), disruption_budget(owner)];
    for live in live {
        children.push(controller_revision(owner, live));
        let Some(replicas) = live.replicas else { continue };
        children.push(deployment(owner, live, replicas));
        children.extend(live.manifest.map(|manifest| config_map(owner, live, manifest, sources)));
    }
    children.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    children
}

/// The one of that kind, of `live` where a revision has one; `None` when there is to be none.
pub fn one(owner: &Owner, kind: ChildKind, live: Option<&Live<'_>>, sources: &Value) -> Option<Child> {
    match kind {
        ChildKind::Service => Some(service(owner)),
        ChildKind::PodDisruptionBudget => Some(disruption_budget(owner)),
        ChildKind::ControllerRevision => live.map(|live| controller_revision(owner, live)),
        ChildKind::ConfigMap => {
            live.and_then(|live| live.replicas.and(live.manifest).map(|manifest| config_map(owner, live, manifest, sources)))
        }
        ChildKind::Deployment => live.and_then(|live| live.replicas.map(|replicas| deployment(owner, live, replicas))),
    }
}

fn child(owner: &Owner, kind: ChildKind, name: String, revision: Option<&str>, rest: Value) -> Child {
    let mut labels = json!({ "app.kubernetes.io/managed-by": "bonafide", LABEL_DEPLOYMENT: owner.name });
    if let (Some(revision), Some(labels)) = (revision, labels.as_object_mut()) {
        labels.insert(LABEL_REVISION.to_owned(), json!(revision));
    }
    let mut object = json!({
        "apiVersion": kind.api_version(),
        "kind": kind.as_str(),
        "metadata": { "name": name, "namespace": owner.namespace, "labels": labels, "ownerReferences": [owner.reference()] },
    });
    if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
        object.extend(rest);
    }
    Child { kind, name, object, version: None }
}

fn revision_child(owner: &Owner, kind: ChildKind, live: &Live<'_>, rest: Value) -> Child {
    let revision = live.revision.name.as_str();
    child(owner, kind, child_name(&owner.name, revision), Some(revision), rest)
}

fn controller_revision(owner: &Owner, live: &Live<'_>) -> Child {
    let rest = json!({ "revision": live.revision.number, "data": live.revision });
    let mut child = revision_child(owner, ChildKind::ControllerRevision, live, rest);
    // One of the release before has none, and stays as it is.
    if let (false, Some(metadata)) = (live.notes.is_empty(), child.object.get_mut("metadata").and_then(Value::as_object_mut)) {
        metadata.insert("annotations".to_owned(), json!(live.notes));
    }
    child
}

fn config_map(owner: &Owner, live: &Live<'_>, manifest: &Manifest, sources: &Value) -> Child {
    let manifest = serde_json::to_string(manifest).unwrap_or_default();
    let mut data = json!({ "manifest.json": manifest, "sources.json": sources.to_string() });
    if let Some(data) = data.as_object_mut().filter(|_| !live.checks.is_empty()) {
        data.insert(Checks::FILE.to_owned(), json!(json!(live.checks).to_string()));
    }
    revision_child(owner, ChildKind::ConfigMap, live, json!({ "data": data }))
}

fn deployment(owner: &Owner, live: &Live<'_>, replicas: i32) -> Child {
    let spec = json!({
        "replicas": replicas,
        "selector": { "matchLabels": { LABEL_DEPLOYMENT: owner.name, LABEL_REVISION: live.revision.name } },
        "template": live.revision.template,
        "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": i32::MAX,
    });
    let version = live.version.map(str::to_owned);
    Child { version, ..revision_child(owner, ChildKind::Deployment, live, json!({ "spec": spec })) }
}

fn service(owner: &Owner) -> Child {
    let spec = json!({
        "type": "ClusterIP",
        "selector": { LABEL_DEPLOYMENT: owner.name },
        "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "targetPort": "http" }],
    });
    child(owner, ChildKind::Service, owner.name.clone(), None, json!({ "spec": spec }))
}

/// One pod at a time, when nodes are emptied; and those that do not answer anyway need not be waited for.
fn disruption_budget(owner: &Owner) -> Child {
    let spec = json!({
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": { "matchLabels": { LABEL_DEPLOYMENT: owner.name } },
    });
    let name = format!("{NAME_PREFIX}{}", owner.name);
    child(owner, ChildKind::PodDisruptionBudget, name, None, json!({ "spec": spec }))
}
