//! A namespace of one test, and what is done and seen in it as the cluster's administrator.

use std::collections::BTreeMap;

use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::world::World;

/// The name that ModelDeployments have here when a test needs only one.
pub const NAME: &str = "parrot";

pub struct Place<'a> {
    pub world: &'a World,
    pub client: Client,
    /// The namespace.
    pub name: String,
    /// Whether nothing may ever be forbidden to the operator. An API server that has just started forbids everything for a
    /// moment.
    strict: bool,
}

/// The resource of a kind.
pub fn resource(kind: &str) -> ApiResource {
    let (group, version) = match kind {
        "ModelDeployment" | "ModelArtifact" | "ModelSignature" | "ClusterModelPolicy" | "InferenceEngine" => {
            ("bonafide.dev", "v1alpha1")
        }
        "Deployment" | "ReplicaSet" | "ControllerRevision" => ("apps", "v1"),
        "PodDisruptionBudget" => ("policy", "v1"),
        "Lease" => ("coordination.k8s.io", "v1"),
        "Event" => ("events.k8s.io", "v1"),
        "CustomResourceDefinition" => ("apiextensions.k8s.io", "v1"),
        _ => ("", "v1"),
    };
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// Objects of one kind in the cluster.
pub fn cluster_wide(client: &Client, kind: &str) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource(kind))
}

/// The whole object as JSON.
pub fn value(object: DynamicObject) -> Value {
    serde_json::to_value(object).unwrap()
}

/// Every test sees to it that the operator never did what the chart does not permit.
impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.strict && !std::thread::panicking() {
            assert_eq!(self.world.forbidden(), Vec::<String>::new());
        }
    }
}

impl<'a> Place<'a> {
    /// A new namespace.
    pub async fn new(world: &'a World) -> Self {
        Self::named(world, &World::unique("place")).await
    }

    /// A new namespace of that name.
    pub async fn named(world: &'a World, name: &str) -> Self {
        let place = Self { world, client: world.client().await, name: name.to_owned(), strict: true };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place.name}});
        cluster_wide(&place.client, "Namespace").create(&PostParams::default(), &parse(namespace)).await.unwrap();
        place
    }

    /// A namespace that is there already.
    pub async fn again(world: &'a World, name: &str) -> Self {
        Self { world, client: world.client().await, name: name.to_owned(), strict: false }
    }

    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        match kind {
            "ClusterModelPolicy" | "InferenceEngine" | "Namespace" | "Node" | "PersistentVolume" => {
                cluster_wide(&self.client, kind)
            }
            _ => Api::namespaced_with(self.client.clone(), &self.name, &resource(kind)),
        }
    }

    /// Creates an object of a kind; the rest of it stands in `body`.
    pub async fn create(&self, kind: &str, name: &str, body: Value) -> Value {
        let resource = resource(kind);
        let mut object = json!({"apiVersion": resource.api_version, "kind": kind, "metadata": {"name": name}});
        object.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        value(self.api(kind).create(&PostParams::default(), &parse(object)).await.unwrap())
    }

    /// A model on the hub with a signature: `hf://PLACE/NAME`.
    pub fn publish(&self, name: &str, files: &[(&str, &str)]) -> String {
        let repository = format!("{}/{name}", self.name);
        self.world.publish(&repository, files);
        format!("hf://{repository}")
    }

    /// A small model without a signature, and a ModelDeployment of it.
    pub async fn deploy(&self, name: &str) -> Value {
        let source = self.publish(&format!("{name}-GGUF"), &[(&format!("{name}.gguf"), name)]);
        self.create("ModelDeployment", name, json!({"spec": {"model": {"source": source}}})).await
    }

    /// A policy for this namespace alone, in force.
    pub async fn policy(&self, mut spec: Value) -> String {
        let name = World::unique("policy");
        spec["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": self.name}});
        self.create("ClusterModelPolicy", &name, json!({"spec": spec})).await;
        self.until("ClusterModelPolicy", &name, "is looked at", |policy| condition(policy, "Accepted").is_some()).await;
        name
    }

    /// The object, if it exists.
    pub async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.api(kind).get_opt(name).await.unwrap().map(value)
    }

    /// All objects of a kind that belong to the ModelDeployment of that name, by label.
    pub async fn of(&self, kind: &str, deployment: &str) -> Vec<Value> {
        let parameters = ListParams::default().labels(&format!("bonafide.dev/deployment={deployment}"));
        self.api(kind).list(&parameters).await.unwrap().items.into_iter().map(value).collect()
    }

    /// The one object of a kind that belongs to that ModelDeployment, once there is one.
    pub async fn child(&self, kind: &str, deployment: &str) -> Value {
        let look = async || {
            let mut found = self.of(kind, deployment).await;
            if found.len() == 1 {
                Ok(found.remove(0))
            } else {
                Err(format!("{} objects\n{}", found.len(), self.told(deployment).await))
            }
        };
        self.world.eventually(&format!("{deployment} has one {kind}"), look).await
    }

    /// Waits until the object is as it should be, and returns it.
    pub async fn until(&self, kind: &str, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let look = async || match self.get(kind, name).await {
            Some(object) if is(&object) => Ok(object),
            Some(object) => Err(serde_saphyr::to_string(&without_noise(object)).unwrap()),
            None => Err("it is not there".to_owned()),
        };
        self.world.eventually(&format!("{kind} {name} {what}"), look).await
    }

    /// Waits until the ModelDeployment's condition is so.
    pub async fn condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> Value {
        let what = format!("is {kind}={status} ({reason})");
        let is = |object: &Value| condition(object, kind).is_some_and(|c| c["status"] == status && c["reason"] == reason);
        self.until("ModelDeployment", name, &what, is).await
    }

    /// Waits until there are so many pods of the ModelDeployment that are no longer held by our gate.
    pub async fn let_in(&self, deployment: &str, count: usize) -> Vec<Value> {
        let look = async || {
            let pods = self.of("Pod", deployment).await;
            let free: Vec<Value> = pods.iter().filter(|pod| !gated(pod)).cloned().collect();
            if free.len() == count {
                Ok(free)
            } else {
                Err(format!("{} of {} pods\n{}", free.len(), pods.len(), self.told(deployment).await))
            }
        };
        self.world.eventually(&format!("the gates of {count} pods are lifted"), look).await
    }

    /// Changes an object as somebody who may: a merge patch.
    pub async fn change(&self, kind: &str, name: &str, patch: Value) -> Value {
        let parameters = PatchParams { field_manager: Some("hand".into()), ..PatchParams::default() };
        value(self.api(kind).patch(name, &parameters, &Patch::Merge(patch)).await.unwrap())
    }

    /// The same with a JSON patch.
    pub async fn edit(&self, kind: &str, name: &str, operations: Value) -> Value {
        let patch = Patch::<()>::Json(serde_json::from_value(operations).unwrap());
        value(self.api(kind).patch(name, &PatchParams::default(), &patch).await.unwrap())
    }

    pub async fn delete(&self, kind: &str, name: &str) {
        self.api(kind).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// The ModelDeployment's status, for messages.
    async fn told(&self, deployment: &str) -> String {
        let object = self.get("ModelDeployment", deployment).await.unwrap_or_default();
        serde_saphyr::to_string(&object["status"]).unwrap()
    }

    /// Version of every object that belongs to the ModelDeployment: they change when somebody writes.
    pub async fn versions(&self, deployment: &str) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        for kind in ["ControllerRevision", "ConfigMap", "Service", "Deployment", "Pod"] {
            for object in self.of(kind, deployment).await {
                versions.insert(
                    format!("{kind} {}", text(&object["metadata"]["name"])),
                    text(&object["metadata"]["resourceVersion"]),
                );
            }
        }
        versions
    }
}

/// A condition of an object.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Whether the pod waits for our verdict.
pub fn gated(pod: &Value) -> bool {
    pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| gates.iter().any(|gate| gate["name"] == "bonafide.dev/verdict"))
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn parse(object: Value) -> DynamicObject {
    serde_json::from_value(object).unwrap()
}

fn without_noise(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    object
}
