//! Children as they stand in the API server, and how they are asked for: without who manages which field, which is more than half
//! of every answer and is compared with nothing.

use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use kube::{
    Client,
    api::{DeleteParams, GetParams, ListMeta, ListParams, ObjectMeta, Patch, PatchParams},
    core::Request,
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{metadata::metadata, slim::SlimDeployment};
use crate::controller::plan::ChildKind;

/// One child, as the API server has it.
#[derive(Debug, Clone)]
pub struct Live(Value);

/// One page of a list.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// Where the next page begins.
    pub metadata: ListMeta,
    /// Its objects. They do not say of which kind they are.
    pub items: Vec<Live>,
}

impl Live {
    /// The whole object.
    pub fn object(&self) -> &Value {
        &self.0
    }

    /// The same with its kind, which objects of a list lack.
    pub fn of_kind(mut self, kind: ChildKind) -> Self {
        if let Some(object) = self.0.as_object_mut() {
            object.insert("apiVersion".to_owned(), kind.api_version().into());
            object.insert("kind".to_owned(), kind.as_str().into());
        }
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("/metadata/name").unwrap_or_default()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace").unwrap_or_default()
    }

    /// Its UID.
    pub fn uid(&self) -> Option<&str> {
        self.text("/metadata/uid")
    }

    /// Its resource version.
    pub fn version(&self) -> Option<&str> {
        self.text("/metadata/resourceVersion")
    }

    /// Who owns it: kind, name and UID of each.
    pub fn owners(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        let owners = self.0.pointer("/metadata/ownerReferences").and_then(Value::as_array).into_iter().flatten();
        owners.map(|owner| {
            let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
            (text("kind"), text("name"), text("uid"))
        })
    }

    /// Its metadata, as a watch would tell of it.
    pub fn meta(&self) -> ObjectMeta {
        self.0.get("metadata").and_then(|metadata| ObjectMeta::deserialize(metadata).ok()).unwrap_or_default()
    }

    /// How many replicas a Deployment is to have.
    pub fn replicas(&self) -> Option<i32> {
        self.0.pointer("/spec/replicas").and_then(Value::as_i64).and_then(|replicas| i32::try_from(replicas).ok())
    }

    /// See [`mark`].
    pub fn mark(&self, kind: ChildKind) -> u64 {
        let labels = self.0.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
        let labels = labels.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()));
        let generation = self.0.pointer("/metadata/generation").and_then(Value::as_i64);
        let owners = self.owners().map(|(_, _, uid)| uid);
        marked(kind, self.uid(), self.version(), generation, labels, owners)
    }

    fn text(&self, at: &str) -> Option<&str> {
        self.0.pointer(at).and_then(Value::as_str)
    }
}

/// A Deployment as a watch would tell of it.
impl From<&Live> for SlimDeployment {
    fn from(live: &Live) -> Self {
        Self::deserialize(&live.0).unwrap_or_default()
    }
}

/// What changes whenever somebody changes a child. The resource version of what has a status changes with that too, but its
/// generation only with its spec.
pub fn mark(kind: ChildKind, meta: &ObjectMeta) -> u64 {
    let labels = meta.labels.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
    let owners = meta.owner_references.iter().flatten().map(|owner| owner.uid.as_str());
    marked(kind, meta.uid.as_deref(), meta.resource_version.as_deref(), meta.generation, labels, owners)
}

fn marked<'a>(
    kind: ChildKind,
    uid: Option<&str>,
    version: Option<&str>,
    generation: Option<i64>,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    owners: impl Iterator<Item = &'a str>,
) -> u64 {
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    match kind {
        ChildKind::Deployment | ChildKind::PodDisruptionBudget => {
            generation.hash(&mut hasher);
            labels.for_each(|label| label.hash(&mut hasher));
            owners.for_each(|owner| owner.hash(&mut hasher));
        }
        _ => version.hash(&mut hasher),
    }
    hasher.finish()
}

/// The children of one kind, in one namespace or in all.
pub struct Children<'a> {
    client: &'a Client,
    at: Request,
}

impl<'a> Children<'a> {
    /// Those of one namespace.
    pub fn within(client: &'a Client, kind: ChildKind, namespace: &str) -> Self {
        let (group, plural) = path(kind);
        Self { client, at: Request::new(format!("{group}/namespaces/{namespace}/{plural}")) }
    }

    /// Those of all namespaces; they can be listed.
    pub fn everywhere(client: &'a Client, kind: ChildKind) -> Self {
        let (group, plural) = path(kind);
        Self { client, at: Request::new(format!("{group}/{plural}")) }
    }

    /// The one of that name, if there is one.
    pub async fn get(&self, name: &str, parameters: &GetParams) -> Result<Option<Live>, kube::Error> {
        let request = self.at.get(name, parameters).map_err(kube::Error::BuildRequest)?;
        match self.client.request(request).await {
            Ok(found) => Ok(Some(found)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Changes or makes one; returns what became of it.
    pub async fn patch(&self, name: &str, parameters: &PatchParams, patch: &Patch<&Value>) -> Result<Live, kube::Error> {
        self.client.request(self.at.patch(name, parameters, patch).map_err(kube::Error::BuildRequest)?).await
    }

    /// Removes one.
    pub async fn delete(&self, name: &str, parameters: &DeleteParams) -> Result<(), kube::Error> {
        let request = self.at.delete(name, parameters).map_err(kube::Error::BuildRequest)?;
        self.client.request_text(request).await.map(|_| ())
    }

    /// One page.
    pub async fn list(&self, parameters: &ListParams) -> Result<Page, kube::Error> {
        self.client.request(self.at.list(parameters).map_err(kube::Error::BuildRequest)?).await
    }
}

fn path(kind: ChildKind) -> (&'static str, &'static str) {
    match kind {
        ChildKind::ControllerRevision => ("/apis/apps/v1", "controllerrevisions"),
        ChildKind::ConfigMap => ("/api/v1", "configmaps"),
        ChildKind::Service => ("/api/v1", "services"),
        ChildKind::PodDisruptionBudget => ("/apis/policy/v1", "poddisruptionbudgets"),
        ChildKind::Deployment => ("/apis/apps/v1", "deployments"),
    }
}

impl<'de> Deserialize<'de> for Live {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Whole).map(Self)
    }
}

/// Reads an object with the lesser part of its metadata.
struct Whole;

impl<'de> Visitor<'de> for Whole {
    type Value = Value;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = parts.next_key::<String>()? {
            let value = if key == "metadata" { parts.next_value_seed(Metadata)? } else { parts.next_value()? };
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// Reads the metadata of an object.
struct Metadata;

impl<'de> DeserializeSeed<'de> for Metadata {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        metadata(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_without_what_nobody_compares() {
        let answer = json!({
            "kind": "Deployment", "status": {"replicas": 1}, "spec": {"status": 1, "managedFields": 2},
            "metadata": {"name": "a", "managedFields": [{"manager": "x"}], "labels": {"managedFields": "b"}},
        });
        let read: Live = serde_json::from_value(answer.clone()).unwrap();
        let mut wanted = answer;
        wanted["metadata"].as_object_mut().unwrap().remove("managedFields");
        assert_eq!(*read.object(), wanted);
    }

    #[test]
    fn a_child_has_the_same_mark_whether_a_watch_or_an_answer_tells_of_it() {
        let object = json!({"metadata": {
            "name": "a", "uid": "u", "resourceVersion": "7", "generation": 2, "labels": {"a": "b", "c": "d"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "o"}],
        }});
        let live: Live = serde_json::from_value(object.clone()).unwrap();
        for kind in ChildKind::ALL {
            assert_eq!(live.mark(kind), mark(kind, &live.meta()), "{kind:?}");
            let other = |at: &str, value: Value| {
                let mut object = object.clone();
                *object.pointer_mut(at).unwrap() = value;
                serde_json::from_value::<Live>(object).unwrap().mark(kind) != live.mark(kind)
            };
            assert!(other("/metadata/uid", json!("v")));
            let by_version = !matches!(kind, ChildKind::Deployment | ChildKind::PodDisruptionBudget);
            assert_eq!(other("/metadata/resourceVersion", json!("8")), by_version);
            let parts = [("generation", json!(3)), ("labels/a", json!("x")), ("ownerReferences/0/uid", json!("p"))];
            assert!(parts.into_iter().all(|(at, value)| other(&format!("/metadata/{at}"), value) != by_version));
        }
    }
}
