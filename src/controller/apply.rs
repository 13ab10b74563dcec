//! Brings the children to what the plan says: server-side apply, nothing written when nothing changed, prune by owner.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
};

use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, GetParams, ObjectMeta, Patch, PatchParams, Preconditions},
};
use serde_json::{Value, json};

use super::{
    context::Context,
    diff::{Rules, difference},
    plan::{Child, ChildKind, Owner, Revision, revision_of},
};
use crate::api::{FIELD_MANAGER, Problem, Reason};

/// Nothing that we did not write may stand below these paths.
const RULES: Rules<'_> = Rules { exact: &["/spec/template", "/spec/selector", "/data"], injected: &[] };

/// Why the children could not be brought to what the plan says.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Something of that name belongs to somebody else.
    #[error("{0}")]
    Taken(Problem),
    /// The API server did not do it.
    #[error("{kind} {name} could not be {verb}: {source}")]
    Api {
        /// The child's kind.
        kind: &'static str,
        /// The child's name.
        name: String,
        /// What was tried.
        verb: &'static str,
        /// What came back.
        source: Box<kube::Error>,
    },
    /// It is not what it was when it was decided that it may be lowered, or nobody decided that.
    #[error("{kind} {name} has changed meanwhile")]
    Moved {
        /// The child's kind.
        kind: &'static str,
        /// The child's name.
        name: String,
    },
    /// Something keeps changing it back.
    #[error("{kind} {name} does not stay as it is written: {difference}")]
    Contested {
        /// The child's kind.
        kind: &'static str,
        /// The child's name.
        name: String,
        /// Where it differs.
        difference: String,
    },
}

/// Which state of which child was compared with what, so that it is read again only after one of the two changed.
#[derive(Default)]
pub struct Compared(Mutex<HashMap<Key, State>>);

/// Kind, namespace and name of a child.
type Key = (ChildKind, String, String);
/// What the child looked like, and a hash of what it was compared with.
type State = (String, u64);

impl Compared {
    fn knows(&self, key: &Key, state: &State) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key) == Some(state)
    }

    fn remember(&self, key: Key, state: State) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, state);
    }

    /// Forgets the children that are not `alive`.
    pub fn keep_only(&self, alive: impl Fn(ChildKind, &str, &str) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(kind, namespace, name), _| alive(*kind, namespace, name));
    }

    fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Applies `children` in their order, then removes what `owner` has beside them.
pub async fn apply(context: &Context, owner: &Owner, children: &[Child]) -> Result<(), ApplyError> {
    use ChildKind::{ConfigMap, ControllerRevision, Deployment, PodDisruptionBudget, Service};
    for child in children.iter().filter(|child| child.kind == ControllerRevision) {
        ensure(context, owner, child).await?;
    }
    // These need nothing of each other; pods need them all.
    let needed = children.iter().filter(|child| matches!(child.kind, ConfigMap | Service | PodDisruptionBudget));
    futures::future::try_join_all(needed.map(|child| ensure(context, owner, child))).await?;
    for child in children.iter().filter(|child| child.kind == Deployment) {
        ensure(context, owner, child).await?;
    }
    prune(context, owner, children).await
}

async fn ensure(context: &Context, owner: &Owner, child: &Child) -> Result<(), ApplyError> {
    let key = (child.kind, owner.namespace.clone(), child.name.clone());
    let wanted = hash(&child.object);
    let seen = context.stores.child(child.kind, &owner.namespace, &child.name).map(|meta| fingerprint(child.kind, &meta));
    if let Some(seen) = &seen
        && context.compared.knows(&key, &(seen.clone(), wanted))
    {
        return Ok(());
    }
    let api = dynamic(context, child.kind, &owner.namespace);
    let failed = |verb| move |source| error(child, verb, source);
    let found = read(&api, child, seen.as_deref()).await.map_err(failed("read"))?;
    if let Some(found) = &found {
        let ours = found.owner_references().iter().any(|reference| reference.uid == owner.uid);
        if !ours {
            return Err(ApplyError::Taken(taken(owner, child, found)));
        }
    }
    let live = match found {
        Some(found) if differs(child, &found).is_none() => found,
        found => write(context, &api, child, found.as_ref()).await?,
    };
    if child.kind == ChildKind::ControllerRevision {
        remember(context, owner, &live);
    }
    context.compared.remember(key, (fingerprint(child.kind, &live.metadata), wanted));
    Ok(())
}

/// Reads a child as it stands. Those whose names nobody else can want are read from what the API server has at hand, which
/// costs it a fraction: when that is what the watch has told of, or both say that there is none, it is as good.
async fn read(api: &Api<DynamicObject>, child: &Child, seen: Option<&str>) -> Result<Option<DynamicObject>, kube::Error> {
    use ChildKind::{ConfigMap, ControllerRevision, Deployment};
    if matches!(child.kind, ControllerRevision | ConfigMap | Deployment) {
        let at_hand = GetParams { resource_version: Some("0".to_owned()) };
        let found = match api.get_with(&child.name, &at_hand).await {
            Ok(found) => Some(found),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => return Err(error),
        };
        if found.as_ref().map(|found| fingerprint(child.kind, &found.metadata)).as_deref() == seen {
            return Ok(found);
        }
    }
    api.get_opt(&child.name).await
}

/// What was just written or read of a revision need not be read again when the watch tells of it.
fn remember(context: &Context, owner: &Owner, live: &DynamicObject) {
    let revision = live.data.get("data").cloned().map(serde_json::from_value::<Revision>);
    if let (Some(uid), Some(Ok(revision))) = (&live.metadata.uid, revision)
        && revision_of(&owner.name, live.metadata.name.as_deref().unwrap_or_default()) == Some(&revision.name)
    {
        let mut revisions = context.revisions.lock().unwrap_or_else(PoisonError::into_inner);
        revisions.entry(uid.clone()).or_insert_with(|| Arc::new(revision));
    }
}

/// Applies; and takes out by force what others added below our paths, which applying alone leaves there.
async fn write(
    context: &Context,
    api: &Api<DynamicObject>,
    child: &Child,
    found: Option<&DynamicObject>,
) -> Result<DynamicObject, ApplyError> {
    let moved = || ApplyError::Moved { kind: child.kind.as_str(), name: child.name.clone() };
    let mut object = child.object.clone();
    // Its replicas are what others may be changing at the same time: they are written on the version that was compared.
    if let Some(found) = found.filter(|_| child.kind == ChildKind::Deployment) {
        let replicas = |object: &Value| object.pointer("/spec/replicas").and_then(Value::as_i64);
        let version = found.metadata.resource_version.as_ref();
        if replicas(&child.object) < replicas(&found.data) && version != child.version.as_ref() {
            return Err(moved());
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".to_owned(), json!(version));
        }
    }
    context.metrics.wrote(child.kind.as_str(), "apply");
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    let live = api.patch(&child.name, &parameters, &Patch::Apply(&object)).await.map_err(|source| match &source {
        kube::Error::Api(status) if status.code == 409 && found.is_some() && child.kind == ChildKind::Deployment => moved(),
        _ => error(child, "applied", source),
    })?;
    if differs(child, &live).is_none() {
        return Ok(live);
    }
    let replace = RULES
        .exact
        .iter()
        .filter_map(|path| child.object.pointer(path).map(|value| json!({ "op": "replace", "path": path, "value": value })));
    let patch = serde_json::from_value(replace.collect()).map(Patch::<()>::Json).unwrap_or(Patch::Merge(()));
    context.metrics.wrote(child.kind.as_str(), "patch");
    let live =
        api.patch(&child.name, &PatchParams::default(), &patch).await.map_err(|source| error(child, "put back", source))?;
    match differs(child, &live) {
        None => Ok(live),
        Some(difference) => Err(ApplyError::Contested { kind: child.kind.as_str(), name: child.name.clone(), difference }),
    }
}

async fn prune(context: &Context, owner: &Owner, children: &[Child]) -> Result<(), ApplyError> {
    // In reverse, so that pods go before what they need.
    for kind in ChildKind::ALL.into_iter().rev() {
        for meta in context.stores.children_of(kind, owner) {
            let name = meta.name.unwrap_or_default();
            if children.iter().any(|child| child.kind == kind && child.name == name) || meta.deletion_timestamp.is_some() {
                continue;
            }
            // A Deployment that somebody gives replicas meanwhile stays.
            let version = meta.resource_version.filter(|_| kind == ChildKind::Deployment);
            let precondition = Preconditions { uid: meta.uid, resource_version: version };
            let parameters = DeleteParams { preconditions: Some(precondition), ..DeleteParams::background() };
            context.metrics.wrote(kind.as_str(), "delete");
            match dynamic(context, kind, &owner.namespace).delete(&name, &parameters).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(source) => {
                    return Err(ApplyError::Api { kind: kind.as_str(), name, verb: "deleted", source: Box::new(source) });
                }
            }
            context.compared.forget(&(kind, owner.namespace.clone(), name));
        }
    }
    Ok(())
}

fn differs(child: &Child, live: &DynamicObject) -> Option<String> {
    let live = serde_json::to_value(live).unwrap_or_default();
    let difference = difference(&child.object, &live, RULES);
    if let Some(difference) = &difference {
        tracing::debug!(kind = child.kind.as_str(), name = child.name, difference, "a child is not what it should be");
    }
    difference
}

fn dynamic(context: &Context, kind: ChildKind, namespace: &str) -> Api<DynamicObject> {
    let (group, plural) = match kind {
        ChildKind::ControllerRevision => ("apps", "controllerrevisions"),
        ChildKind::ConfigMap => ("", "configmaps"),
        ChildKind::Service => ("", "services"),
        ChildKind::PodDisruptionBudget => ("policy", "poddisruptionbudgets"),
        ChildKind::Deployment => ("apps", "deployments"),
    };
    let resource = ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version: kind.api_version().to_owned(),
        kind: kind.as_str().to_owned(),
        plural: plural.to_owned(),
    };
    Api::namespaced_with(context.client.clone(), namespace, &resource)
}

/// What changes whenever somebody changes the child. The resource version of what has a status changes with that too, but its
/// generation only with its spec.
fn fingerprint(kind: ChildKind, meta: &ObjectMeta) -> String {
    match kind {
        ChildKind::Deployment | ChildKind::PodDisruptionBudget => {
            let owners: Vec<_> = meta.owner_references.iter().flatten().map(|owner| &owner.uid).collect();
            format!("{:?} {:?} {:?} {owners:?}", meta.uid, meta.generation, meta.labels)
        }
        _ => format!("{:?} {:?}", meta.uid, meta.resource_version),
    }
}

fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    hasher.finish()
}

fn taken(owner: &Owner, child: &Child, found: &DynamicObject) -> Problem {
    let kind = child.kind.as_str();
    let holder = match found.owner_references().first() {
        Some(reference) if reference.kind == "ModelDeployment" && reference.name == owner.name => {
            "it belongs to an earlier ModelDeployment of the same name and is being removed; this is tried again".to_owned()
        }
        Some(reference) => {
            format!("it belongs to {} {}. Rename the ModelDeployment or remove the {kind}", reference.kind, reference.name)
        }
        None => format!("it was not made by Bonafide. Rename the ModelDeployment or remove the {kind}"),
    };
    Problem::new(Reason::NameTaken, format!("{kind} {} already exists in namespace {}: {holder}.", child.name, owner.namespace))
}

fn error(child: &Child, verb: &'static str, source: kube::Error) -> ApplyError {
    ApplyError::Api { kind: child.kind.as_str(), name: child.name.clone(), verb, source: Box::new(source) }
}
