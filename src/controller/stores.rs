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
    runtime::reflector::{ObjectRef, Store},
};

use super::{
    plan::{ChildKind, Owner},
    slim::{SlimDeployment, SlimPod, SlimSignature},
};
use crate::api::{InferenceEngine, LABEL_DEPLOYMENT, ModelArtifact, ModelDeployment};

/// The stores that the watches fill.
pub struct Stores {
    /// Pods with our label.
    pub pods: Store<SlimPod>,
    /// Pods that look into claims.
    pub measuring: Store<SlimPod>,
    /// Deployments with our label.
    pub deployments: Store<SlimDeployment>,
    /// ControllerRevisions with our label.
    pub revisions: Store<PartialObjectMeta<ControllerRevision>>,
    /// ConfigMaps with our label.
    pub config_maps: Store<PartialObjectMeta<ConfigMap>>,
    /// Services with our label.
    pub services: Store<PartialObjectMeta<Service>>,
    /// PodDisruptionBudgets with our label.
    pub budgets: Store<PartialObjectMeta<PodDisruptionBudget>>,
    /// All ModelDeployments, whether they can be read or not.
    pub wishes: Store<DeserializeGuard<ModelDeployment>>,
    /// All artifacts.
    pub artifacts: Store<PartialObjectMeta<ModelArtifact>>,
    /// All signatures that were delivered apart from their models.
    pub signatures: Store<SlimSignature>,
    /// All namespaces, for their labels.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// All engines.
    pub engines: Store<DeserializeGuard<InferenceEngine>>,
}

impl Stores {
    /// The metadata of one child.
    pub fn child(&self, kind: ChildKind, namespace: &str, name: &str) -> Option<ObjectMeta> {
        fn get<K>(store: &Store<K>, namespace: &str, name: &str) -> Option<ObjectMeta>
        where
            K: Resource<DynamicType: Default + Eq + std::hash::Hash + Clone> + Clone + 'static,
        {
            store.get(&ObjectRef::new(name).within(namespace)).map(|object| object.meta().clone())
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
        fn all<K>(store: &Store<K>, owner: &Owner) -> Vec<ObjectMeta>
        where
            K: Resource<DynamicType: Default + Eq + std::hash::Hash + Clone> + Clone + 'static,
        {
            store.state().iter().map(|object| object.meta()).filter(|meta| owns(owner, meta)).cloned().collect()
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
        let mut pods: Vec<_> = self
            .pods
            .state()
            .into_iter()
            .filter(|pod| {
                pod.metadata.namespace.as_deref() == Some(&owner.namespace) && pod.label(LABEL_DEPLOYMENT) == Some(&owner.name)
            })
            .collect();
        pods.sort_by(|a, b| a.name().cmp(b.name()));
        pods
    }

    /// The pods that look into claims for the ModelDeployment.
    pub fn measuring_for(&self, owner: &Owner) -> Vec<std::sync::Arc<SlimPod>> {
        self.measuring.state().into_iter().filter(|pod| owns(owner, &pod.metadata)).collect()
    }

    /// Waits until every store was filled once.
    pub async fn ready(&self) -> Result<(), kube::runtime::reflector::store::WriterDropped> {
        self.pods.wait_until_ready().await?;
        self.measuring.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        self.revisions.wait_until_ready().await?;
        self.config_maps.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.budgets.wait_until_ready().await?;
        self.artifacts.wait_until_ready().await?;
        self.signatures.wait_until_ready().await?;
        self.namespaces.wait_until_ready().await?;
        self.engines.wait_until_ready().await
    }
}

fn owns(owner: &Owner, meta: &ObjectMeta) -> bool {
    meta.namespace.as_deref() == Some(&owner.namespace)
        && meta.owner_references.iter().flatten().any(|reference| reference.uid == owner.uid)
}
