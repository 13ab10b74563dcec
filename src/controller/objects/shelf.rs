//! Objects of one kind as a watch tells of them, found by name and by the ModelDeployment that they belong to.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use kube::{
    Resource, ResourceExt as _,
    runtime::{reflector::ObjectRef, watcher::Event},
};
use tokio::sync::watch;

use crate::api::LABEL_DEPLOYMENT;

/// What a watch knows of one kind. Clones are the same shelf.
pub struct Shelf<K> {
    rooms: Arc<RwLock<Rooms<K>>>,
    filled: watch::Receiver<bool>,
}

struct Rooms<K> {
    /// The objects by namespace.
    of: HashMap<String, Room<K>>,
    /// The newest version that the watch has told of. What is older than that it has told of too.
    newest: u64,
    /// How many lists began or ended.
    lists: u64,
}

/// The objects of one namespace.
struct Room<K> {
    by_name: HashMap<String, Arc<K>>,
    by_deployment: HashMap<String, Vec<Arc<K>>>,
}

/// Takes what a watch says and puts it on its shelf.
pub struct Filler<K> {
    rooms: Arc<RwLock<Rooms<K>>>,
    filled: watch::Sender<bool>,
    /// What the list in progress has named, by namespace and name.
    listed: HashSet<(String, String)>,
}

/// What became of one object; it was not there, or is not there any more, or is another now.
pub struct Change<K> {
    /// What it was.
    pub before: Option<Arc<K>>,
    /// What it is.
    pub now: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// What it is, or was.
    pub fn either(&self) -> Option<&K> {
        self.now.as_deref().or(self.before.as_deref())
    }
}

/// An empty shelf, and who fills it.
pub fn shelf<K>() -> (Shelf<K>, Filler<K>) {
    let rooms = Arc::new(RwLock::new(Rooms { of: HashMap::new(), newest: 0, lists: 0 }));
    let (filled, is_filled) = watch::channel(false);
    (Shelf { rooms: rooms.clone(), filled: is_filled }, Filler { rooms, filled, listed: HashSet::new() })
}

impl<K> Clone for Shelf<K> {
    fn clone(&self) -> Self {
        Self { rooms: self.rooms.clone(), filled: self.filled.clone() }
    }
}

impl<K: Resource<DynamicType = ()>> Shelf<K> {
    /// The object of that namespace and name.
    pub fn get(&self, object: &ObjectRef<K>) -> Option<Arc<K>> {
        self.named(object.namespace.as_deref().unwrap_or_default(), &object.name)
    }

    /// The same by its names; the namespace is empty for a kind that has none.
    pub fn named(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.rooms.read().unwrap_or_else(PoisonError::into_inner).of.get(namespace)?.by_name.get(name).cloned()
    }

    /// The objects that carry the label of a ModelDeployment, or are owned by one of that name; in no order.
    pub fn of(&self, namespace: &str, deployment: &str) -> Vec<Arc<K>> {
        let rooms = self.rooms.read().unwrap_or_else(PoisonError::into_inner);
        rooms.of.get(namespace).and_then(|room| room.by_deployment.get(deployment)).cloned().unwrap_or_default()
    }

    /// All of them, in no order.
    pub fn state(&self) -> Vec<Arc<K>> {
        let rooms = self.rooms.read().unwrap_or_else(PoisonError::into_inner);
        rooms.of.values().flat_map(|room| room.by_name.values().cloned()).collect()
    }

    /// How many lists began or ended so far: for [`Self::foresee`].
    pub fn lists(&self) -> u64 {
        self.rooms.read().unwrap_or_else(PoisonError::into_inner).lists
    }

    /// Puts on the shelf what was just written; when the watch tells of it, that is no change. Not when the watch has told of
    /// something newer: then it has told of this as well, and perhaps of its end. Nor when there was a list since `lists`.
    pub fn foresee(&self, object: K, lists: u64) {
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        if rooms.lists == lists && number(&object).is_some_and(|version| version > rooms.newest) {
            rooms.put(object);
        }
    }

    /// Waits until everything was read once; false when it never will be.
    pub async fn filled(&self) -> bool {
        self.filled.clone().wait_for(|filled| *filled).await.is_ok()
    }
}

impl<K: Resource<DynamicType = ()>> Filler<K> {
    /// Puts on the shelf what the watch says; returns what changed by that. What is listed again and is the same as before
    /// is no change; what a new list has lost, while the watch was interrupted, is one.
    pub fn take(&mut self, event: Event<K>) -> Vec<Change<K>> {
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        if let Event::Apply(object) | Event::InitApply(object) | Event::Delete(object) = &event {
            rooms.newest = rooms.newest.max(number(object).unwrap_or(0));
        }
        match event {
            Event::Init => {
                self.listed.clear();
                rooms.lists += 1;
                vec![]
            }
            Event::InitApply(object) => {
                self.listed.insert(place(&object));
                rooms.put(object).into_iter().collect()
            }
            Event::Apply(object) => rooms.put(object).into_iter().collect(),
            Event::Delete(object) => {
                let (namespace, name) = place(&object);
                let before = rooms.remove(&namespace, &name).unwrap_or_else(|| Arc::new(object));
                vec![Change { before: Some(before), now: None }]
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let all = rooms.of.values().flat_map(|room| room.by_name.values()).map(|object| place(&**object));
                let mut gone: Vec<_> = all.filter(|place| !listed.contains(place)).collect();
                gone.sort_unstable();
                let gone: Vec<_> = gone.iter().filter_map(|(namespace, name)| rooms.remove(namespace, name)).collect();
                rooms.lists += 1;
                self.filled.send_replace(true);
                gone.into_iter().map(|before| Change { before: Some(before), now: None }).collect()
            }
        }
    }
}

impl<K: Resource<DynamicType = ()>> Rooms<K> {
    fn put(&mut self, object: K) -> Option<Change<K>> {
        let (namespace, name) = place(&object);
        let now = Arc::new(object);
        let room = self.of.entry(namespace).or_default();
        let before = room.by_name.insert(name.clone(), now.clone());
        if let Some(before) = &before {
            room.forget(before, &name);
        }
        for deployment in deployments(&*now) {
            room.by_deployment.entry(deployment).or_default().push(now.clone());
        }
        let same = |before: &Arc<K>| {
            before.meta().uid == now.meta().uid && version(&**before).is_some() && version(&**before) == version(&*now)
        };
        (!before.as_ref().is_some_and(same)).then_some(Change { before, now: Some(now) })
    }

    fn remove(&mut self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let room = self.of.get_mut(namespace)?;
        let before = room.by_name.remove(name)?;
        room.forget(&before, name);
        if room.by_name.is_empty() {
            self.of.remove(namespace);
        }
        Some(before)
    }
}

impl<K> Default for Room<K> {
    fn default() -> Self {
        Self { by_name: HashMap::new(), by_deployment: HashMap::new() }
    }
}

impl<K: Resource<DynamicType = ()>> Room<K> {
    fn forget(&mut self, object: &K, name: &str) {
        for deployment in deployments(object) {
            let Some(objects) = self.by_deployment.get_mut(&deployment) else { continue };
            objects.retain(|object| object.meta().name.as_deref() != Some(name));
            if objects.is_empty() {
                self.by_deployment.remove(&deployment);
            }
        }
    }
}

/// The names of the ModelDeployments that an object belongs to: that of its label, and those of its owners.
pub fn deployments<K: Resource>(object: &K) -> Vec<String> {
    let meta = object.meta();
    let label = meta.labels.as_ref().and_then(|labels| labels.get(LABEL_DEPLOYMENT));
    let owners = meta.owner_references.iter().flatten().filter(|owner| owner.kind == "ModelDeployment").map(|owner| &owner.name);
    // A shared artifact may have a thousand owners, none of them twice.
    let mut names: Vec<String> = owners.cloned().collect();
    if let Some(label) = label.filter(|label| !names.contains(label)) {
        names.push(label.clone());
    }
    names
}

fn version<K: Resource>(object: &K) -> Option<&str> {
    object.meta().resource_version.as_deref()
}

/// The version as a number: versions of objects of one kind only grow.
fn number<K: Resource>(object: &K) -> Option<u64> {
    version(object)?.parse().ok()
}

fn place<K: Resource>(object: &K) -> (String, String) {
    (object.meta().namespace.clone().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn object(name: &str, deployment: &str, version: u32) -> ConfigMap {
        let owners = json!([{"apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelDeployment", "name": "owner", "uid": "u"}]);
        let metadata = json!({
            "namespace": "n", "name": name, "uid": name, "resourceVersion": version.to_string(),
            "labels": {"bonafide.dev/deployment": deployment}, "ownerReferences": owners,
        });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    fn names(objects: Vec<Arc<ConfigMap>>) -> Vec<String> {
        let mut names: Vec<_> = objects.iter().map(|object| object.name_any()).collect();
        names.sort();
        names
    }

    #[test]
    fn objects_are_found_by_name_by_label_and_by_owner_and_only_by_what_they_say_now() {
        let (shelf, mut filler) = shelf();
        filler.take(Event::Apply(object("a", "chat", 1)));
        filler.take(Event::Apply(object("b", "other", 2)));
        assert_eq!(names(shelf.of("n", "chat")), ["a"]);
        assert_eq!(names(shelf.of("n", "owner")), ["a", "b"]);
        assert!(shelf.of("elsewhere", "owner").is_empty());
        filler.take(Event::Apply(object("a", "other", 3)));
        assert!(shelf.of("n", "chat").is_empty());
        assert_eq!(names(shelf.of("n", "other")), ["a", "b"]);
        filler.take(Event::Delete(object("a", "other", 4)));
        assert_eq!(names(shelf.of("n", "owner")), ["b"]);
        assert!(shelf.named("n", "a").is_none());
        assert_eq!(names(shelf.state()), ["b"]);
    }

    #[test]
    fn a_new_list_changes_only_what_is_another_and_tells_of_what_it_has_lost() {
        let (shelf, mut filler) = shelf();
        let mut list = |objects: Vec<ConfigMap>| {
            let events = std::iter::once(Event::Init).chain(objects.into_iter().map(Event::InitApply));
            let changes = events.chain([Event::InitDone]).flat_map(|event| filler.take(event));
            changes.map(|change| (change.before.map(|o| o.name_any()), change.now.map(|o| o.name_any()))).collect::<Vec<_>>()
        };
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(list(vec![object("a", "x", 1), object("b", "x", 2)]), [(None, some("a")), (None, some("b"))]);
        assert_eq!(list(vec![object("a", "x", 1), object("b", "x", 3)]), [(some("b"), some("b"))]);
        assert_eq!(list(vec![object("b", "x", 3)]), [(some("a"), None)]);
        assert_eq!(names(shelf.state()), ["b"]);
    }

    #[test]
    fn what_was_written_is_foreseen_unless_the_watch_may_have_told_of_its_end() {
        let (shelf, mut filler) = shelf();
        filler.take(Event::Init);
        filler.take(Event::InitDone);
        let lists = shelf.lists();
        shelf.foresee(object("a", "x", 5), lists);
        assert!(filler.take(Event::Apply(object("a", "x", 5))).is_empty(), "it was known");
        assert_eq!(filler.take(Event::Delete(object("a", "x", 6))).len(), 1);
        shelf.foresee(object("a", "x", 5), lists);
        assert!(shelf.named("n", "a").is_none(), "it is gone, as the watch has told");
        shelf.foresee(object("b", "x", 9), lists);
        assert!(shelf.named("n", "b").is_some());
        filler.take(Event::Init);
        shelf.foresee(object("c", "x", 10), lists);
        filler.take(Event::InitDone);
        shelf.foresee(object("d", "x", 11), lists);
        assert!(shelf.state().is_empty(), "a list knows what there is");
    }

    #[tokio::test]
    async fn a_shelf_is_filled_once_its_first_list_has_ended() {
        let (shelf, mut filler) = shelf();
        filler.take(Event::Init);
        filler.take(Event::InitApply(object("a", "x", 1)));
        let waiting = shelf.filled();
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        filler.take(Event::InitDone);
        assert!(waiting.await);
        let (shelf, filler) = super::shelf::<ConfigMap>();
        drop(filler);
        assert!(!shelf.filled().await);
    }
}
