//! What the watches know: slim copies of our children, kept up to date.

use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    core::v1::{ConfigMap, Namespace, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Resource,
    api::{ObjectMeta, PartialObjectMeta},
    core::DeserializeGuard,
    runtime::reflector::Store,
};

use super::{
    plan::{ChildKind, Owner},
    shelf::Shelf,
    slim::{SlimDeployment, SlimPod, SlimSignature},
};
use crate::api::{InferenceEngine, LABEL_DEPLOYMENT, ModelArtifact, ModelDeployment};

/// The stores that the watches fill.
pub struct Stores {
    /// Pods with our label.
    pub pods: Shelf<SlimPod>,
    /// Pods that look into claims.
    pub measuring: Shelf<SlimPod>,
    /// Deployments with our label.
    pub deployments: Shelf<SlimDeployment>,
    /// ControllerRevisions with our label.
    pub revisions: Shelf<PartialObjectMeta<ControllerRevision>>,
    /// ConfigMaps with our label.
    pub config_maps: Shelf<PartialObjectMeta<ConfigMap>>,
    /// Services with our label.
    pub services: Shelf<PartialObjectMeta<Service>>,
    /// PodDisruptionBudgets with our label.
    pub budgets: Shelf<PartialObjectMeta<PodDisruptionBudget>>,
    /// All ModelDeployments, whether they can be read or not.
    pub wishes: Store<DeserializeGuard<ModelDeployment>>,
    /// All artifacts.
    pub artifacts: Shelf<PartialObjectMeta<ModelArtifact>>,
    /// All signatures that were delivered apart from their models.
    pub signatures: Shelf<SlimSignature>,
    /// All namespaces, for their labels.
    pub namespaces: Shelf<PartialObjectMeta<Namespace>>,
    /// All engines.
    pub engines: Shelf<DeserializeGuard<InferenceEngine>>,
}

impl Stores {
    /// The metadata of one child.
    pub fn child(&self, kind: ChildKind, namespace: &str, name: &str) -> Option<ObjectMeta> {
        fn get<K: Resource<DynamicType = ()>>(shelf: &Shelf<K>, namespace: &str, name: &str) -> Option<ObjectMeta> {
            shelf.named(namespace, name).map(|object| object.meta().clone())
        }
        match kind {
            ChildKind::ControllerRevision => get(&self.revisions, namespace, name),
            ChildKind::ConfigMap => get(&self.config_maps, namespace, name),
            ChildKind::Service => get(&self.services, namespace, name),
            ChildKind::PodDisruptionBudget => get(&self.budgets, namespace, name),
            ChildKind::Deployment => get(&self.deployments, namespace, name),
        }
    }

    /// The metadata of every child of that kind which `owner` owns.
    pub fn children_of(&self, kind: ChildKind, owner: &Owner) -> Vec<ObjectMeta> {
        fn all<K: Resource<DynamicType = ()>>(shelf: &Shelf<K>, owner: &Owner) -> Vec<ObjectMeta> {
            let objects = shelf.of(&owner.namespace, &owner.name);
            objects.iter().map(|object| object.meta()).filter(|meta| owner.owns(meta)).cloned().collect()
        }
        match kind {
            ChildKind::ControllerRevision => all(&self.revisions, owner),
            ChildKind::ConfigMap => all(&self.config_maps, owner),
            ChildKind::Service => all(&self.services, owner),
            ChildKind::PodDisruptionBudget => all(&self.budgets, owner),
            ChildKind::Deployment => all(&self.deployments, owner),
        }
    }

    /// The pods that carry the label of the ModelDeployment, whoever made them.
    pub fn pods_of(&self, owner: &Owner) -> Vec<std::sync::Arc<SlimPod>> {
        let mut pods = self.pods.of(&owner.namespace, &owner.name);
        pods.retain(|pod| pod.label(LABEL_DEPLOYMENT) == Some(&owner.name));
        pods.sort_by(|a, b| a.name().cmp(b.name()));
        pods
    }

    /// The pods that look into claims for the ModelDeployment.
    pub fn measuring_for(&self, owner: &Owner) -> Vec<std::sync::Arc<SlimPod>> {
        self.measuring.of(&owner.namespace, &owner.name).into_iter().filter(|pod| owner.owns(&pod.metadata)).collect()
    }

    /// Waits until every store was filled once; false when one never will be.
    pub async fn ready(&self) -> bool {
        self.pods.filled().await
            && self.measuring.filled().await
            && self.deployments.filled().await
            && self.revisions.filled().await
            && self.config_maps.filled().await
            && self.services.filled().await
            && self.budgets.filled().await
            && self.artifacts.filled().await
            && self.signatures.filled().await
            && self.namespaces.filled().await
            && self.engines.filled().await
    }
}
