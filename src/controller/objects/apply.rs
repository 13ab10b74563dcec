//! Brings the children to what the plan says: server-side apply, nothing written when nothing changed, prune by owner.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hasher as _},
    io,
    sync::{Arc, Mutex, PoisonError},
};

use kube::api::{DeleteParams, GetParams, Patch, PatchParams, Preconditions};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{
    diff::{Rules, difference},
    live::{Children, Live},
};
use crate::{
    api::{FIELD_MANAGER, Problem, Reason},
    controller::{
        context::Context,
        plan::{Child, ChildKind, Owner, Revision, revision_of},
    },
};

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
pub struct Compared(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    states: HashMap<Key, State>,
    /// Names at which something of somebody else was found.
    taken: HashSet<Key>,
}

/// Kind, namespace and name of a child.
type Key = (ChildKind, String, String);
/// The child's [mark](super::live::mark), and a hash of what it was compared with.
type State = (u64, u64);

impl Compared {
    fn knows(&self, key: &Key, state: State) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).states.get(key) == Some(&state)
    }

    fn remember(&self, key: Key, state: State) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.taken.remove(&key);
        inner.states.insert(key, state);
    }

    /// Whether nothing was ever found or made at that name.
    fn is_new(&self, key: &Key) -> bool {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !inner.states.contains_key(key) && !inner.taken.contains(key)
    }

    fn note_taken(&self, key: Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).taken.insert(key);
    }

    /// Forgets the children that are not `alive`.
    pub fn keep_only(&self, alive: impl Fn(ChildKind, &str, &str) -> bool) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.states.retain(|(kind, namespace, name), _| alive(*kind, namespace, name));
        // Whether they are is asked again.
        inner.taken.clear();
    }

    fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).states.remove(key);
    }
}

/// Applies `children`, pods last, then removes what `owner` has beside them.
pub async fn apply(context: &Context, owner: &Owner, children: &[Child]) -> Result<(), ApplyError> {
    // These need nothing of each other; pods need them all.
    let needed = children.iter().filter(|child| child.kind != ChildKind::Deployment);
    futures::future::try_join_all(needed.map(|child| ensure(context, owner, child))).await?;
    for child in children.iter().filter(|child| child.kind == ChildKind::Deployment) {
        ensure(context, owner, child).await?;
    }
    prune(context, owner, children).await
}

/// Brings one child to what the plan says, and leaves the others alone.
pub async fn ensure(context: &Context, owner: &Owner, child: &Child) -> Result<(), ApplyError> {
    let key = (child.kind, owner.namespace.clone(), child.name.clone());
    let wanted = hash(&child.object);
    let lists = context.stores.lists(child.kind);
    let seen = context.stores.mark(child.kind, &owner.namespace, &child.name);
    if let Some(seen) = seen
        && context.compared.knows(&key, (seen, wanted))
    {
        return Ok(());
    }
    let api = Children::within(&context.client, child.kind, &owner.namespace);
    // What no watch has told of is most likely not there, and making it says so if it is.
    let made = if seen.is_none() && context.compared.is_new(&key) { make(context, &api, child).await? } else { None };
    let live = match made {
        Some(made) => made,
        None => {
            let found = read(&api, child, seen).await.map_err(|source| error(child, "read", source))?;
            if let Some(found) = &found
                && !found.owners().any(|(_, _, uid)| uid == owner.uid)
            {
                context.compared.note_taken(key);
                return Err(ApplyError::Taken(taken(owner, child, found)));
            }
            match found {
                Some(found) if differs(child, &found).is_none() => found,
                Some(found) => write(context, &api, child, &found).await?,
                // Whatever appears meanwhile is looked at first.
                None => make(context, &api, child).await?.ok_or_else(|| moved(child))?,
            }
        }
    };
    if child.kind == ChildKind::ControllerRevision {
        remember(context, owner, &live);
    }
    context.stores.foresee(child.kind, &live, lists);
    context.compared.remember(key, (live.mark(child.kind), wanted));
    Ok(())
}

/// Remembers of a child that was read what it was compared with, if it is what it should be: so it is not read again for that.
pub fn note(context: &Context, owner: &Owner, child: &Child, live: &Live) {
    if live.owners().any(|(_, _, uid)| uid == owner.uid) && differs(child, live).is_none() {
        let key = (child.kind, owner.namespace.clone(), child.name.clone());
        context.compared.remember(key, (live.mark(child.kind), hash(&child.object)));
    }
}

/// Makes a child that is not there; `None` when there is something of its name. No object has the version that is asked for, so
/// that nothing that is there is changed, whoever made it.
async fn make(context: &Context, api: &Children<'_>, child: &Child) -> Result<Option<Live>, ApplyError> {
    match apply_object(context, api, child, &on_version(child, Some("1"))).await {
        Ok(live) => settle(context, api, child, live).await.map(Some),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(source) => Err(error(child, "applied", source)),
    }
}

/// Reads a child as it stands. Those whose names nobody else can want are read from what the API server has at hand, which
/// costs it a fraction: when that is what the watch has told of, or both say that there is none, it is as good.
async fn read(api: &Children<'_>, child: &Child, seen: Option<u64>) -> Result<Option<Live>, kube::Error> {
    use ChildKind::{ConfigMap, ControllerRevision, Deployment};
    if matches!(child.kind, ControllerRevision | ConfigMap | Deployment) {
        let at_hand = GetParams { resource_version: Some("0".to_owned()) };
        let found = api.get(&child.name, &at_hand).await?;
        if found.as_ref().map(|found| found.mark(child.kind)) == seen {
            return Ok(found);
        }
    }
    api.get(&child.name, &GetParams::default()).await
}

/// What was just written or read of a revision need not be read again when the watch tells of it.
pub fn remember(context: &Context, owner: &Owner, live: &Live) {
    let revision = live.object().get("data").map(Revision::deserialize);
    if let (Some(uid), Some(Ok(revision))) = (live.uid(), revision)
        && revision_of(&owner.name, live.name()) == Some(&revision.name)
    {
        context.revisions.keep(uid, &Arc::new(revision));
    }
}

/// The child, to be written on that version of it alone.
fn on_version(child: &Child, version: Option<&str>) -> Value {
    let mut object = child.object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), json!(version));
    }
    object
}

fn moved(child: &Child) -> ApplyError {
    ApplyError::Moved { kind: child.kind.as_str(), name: child.name.clone() }
}

/// Applies; and takes out by force what others added below our paths, which applying alone leaves there.
async fn write(context: &Context, api: &Children<'_>, child: &Child, found: &Live) -> Result<Live, ApplyError> {
    // Its replicas are what others may be changing at the same time: they are written on the version that was compared.
    let on_its_version = child.kind == ChildKind::Deployment;
    let applied = if on_its_version {
        let wanted = child.object.pointer("/spec/replicas").and_then(Value::as_i64);
        if wanted < found.replicas().map(i64::from) && found.version() != child.version.as_deref() {
            return Err(moved(child));
        }
        apply_object(context, api, child, &on_version(child, found.version())).await
    } else {
        apply_object(context, api, child, &child.object).await
    };
    let live = applied.map_err(|source| match &source {
        kube::Error::Api(status) if status.code == 409 && on_its_version => moved(child),
        _ => error(child, "applied", source),
    })?;
    settle(context, api, child, live).await
}

async fn apply_object(context: &Context, api: &Children<'_>, child: &Child, object: &Value) -> Result<Live, kube::Error> {
    let written = api.patch(&child.name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object)).await;
    // One on a version that is not there any more has written nothing.
    if !matches!(&written, Err(kube::Error::Api(status)) if status.code == 409) {
        context.metrics.wrote(child.kind.as_str(), "apply");
    }
    written
}

async fn settle(context: &Context, api: &Children<'_>, child: &Child, live: Live) -> Result<Live, ApplyError> {
    if differs(child, &live).is_none() {
        return Ok(live);
    }
    let replace = RULES
        .exact
        .iter()
        .filter_map(|path| child.object.pointer(path).map(|value| json!({ "op": "replace", "path": path, "value": value })));
    let patch = serde_json::from_value(replace.collect()).map(Patch::Json).unwrap_or(Patch::Merge(&Value::Null));
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
        let wanted = |name: &str| children.iter().any(|child| child.kind == kind && child.name == name);
        for meta in context.stores.surplus(kind, owner, wanted) {
            let name = meta.name.unwrap_or_default();
            // A Deployment that somebody gives replicas meanwhile stays.
            let version = meta.resource_version.filter(|_| kind == ChildKind::Deployment);
            let precondition = Preconditions { uid: meta.uid, resource_version: version };
            let parameters = DeleteParams { preconditions: Some(precondition), ..DeleteParams::background() };
            context.metrics.wrote(kind.as_str(), "delete");
            match Children::within(&context.client, kind, &owner.namespace).delete(&name, &parameters).await {
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

fn differs(child: &Child, live: &Live) -> Option<String> {
    let difference = difference(&child.object, live.object(), RULES);
    if let Some(difference) = &difference {
        tracing::debug!(kind = child.kind.as_str(), name = child.name, difference, "a child is not what it should be");
    }
    difference
}

fn hash(value: &Value) -> u64 {
    struct Into(DefaultHasher);
    impl io::Write for Into {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut into = Into(DefaultHasher::new());
    // Nothing that is written into a hash fails.
    let _ = serde_json::to_writer(&mut into, value);
    into.0.finish()
}

fn taken(owner: &Owner, child: &Child, found: &Live) -> Problem {
    let kind = child.kind.as_str();
    let holder = match found.owners().next() {
        Some(("ModelDeployment", name, _)) if name == owner.name => {
            "it belongs to an earlier ModelDeployment of the same name and is being removed; this is tried again".to_owned()
        }
        Some((of, name, _)) => format!("it belongs to {of} {name}. Rename the ModelDeployment or remove the {kind}"),
        None => format!("it was not made by Bonafide. Rename the ModelDeployment or remove the {kind}"),
    };
    Problem::new(Reason::NameTaken, format!("{kind} {} already exists in namespace {}: {holder}.", child.name, owner.namespace))
}

fn error(child: &Child, verb: &'static str, source: kube::Error) -> ApplyError {
    ApplyError::Api { kind: child.kind.as_str(), name: child.name.clone(), verb, source: Box::new(source) }
}
