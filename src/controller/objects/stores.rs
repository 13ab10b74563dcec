//! What the watches know: slim copies of our children, kept up to date.

use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::ControllerRevision,
    core::v1::{ConfigMap, Namespace, Service},
    policy::v1::PodDisruptionBudget,
};
use kube::{api::ObjectMeta, runtime::reflector::Store};

use super::{
    live::{self, Live},
    shelf::Shelf,
    slim::{SlimDeployment, SlimPod, SlimSignature},
    told::{Guarded, Meta},
};
use crate::{
    api::{InferenceEngine, LABEL_DEPLOYMENT, ModelArtifact, ModelDeployment},
    controller::plan::{ChildKind, Owner},
};

/// The stores that the watches fill.
pub struct Stores {
    /// Pods with our label.
    pub pods: Shelf<SlimPod>,
    /// Pods that look into claims.
    pub measuring: Shelf<SlimPod>,
    /// Deployments with our label.
    pub deployments: Shelf<SlimDeployment>,
    /// ControllerRevisions with our label.
    pub revisions: Shelf<Meta<ControllerRevision>>,
    /// ConfigMaps with our label.
    pub config_maps: Shelf<Meta<ConfigMap>>,
    /// Services with our label.
    pub services: Shelf<Meta<Service>>,
    /// PodDisruptionBudgets with our label.
    pub budgets: Shelf<Meta<PodDisruptionBudget>>,
    /// All ModelDeployments, whether they can be read or not.
    pub wishes: Store<Guarded<ModelDeployment>>,
    /// All artifacts.
    pub artifacts: Shelf<Meta<ModelArtifact>>,
    /// All signatures that were delivered apart from their models.
    pub signatures: Shelf<SlimSignature>,
    /// All namespaces, for their labels.
    pub namespaces: Shelf<Meta<Namespace>>,
    /// All engines.
    pub engines: Shelf<Guarded<InferenceEngine>>,
}

/// What is asked of the shelf of that kind of children.
macro_rules! ask {
    ($stores:expr, $kind:expr, $shelf:ident => $question:expr) => {
        match $kind {
            ChildKind::ControllerRevision => {
                let $shelf = &$stores.revisions;
                $question
            }
            ChildKind::ConfigMap => {
                let $shelf = &$stores.config_maps;
                $question
            }
            ChildKind::Service => {
                let $shelf = &$stores.services;
                $question
            }
            ChildKind::PodDisruptionBudget => {
                let $shelf = &$stores.budgets;
                $question
            }
            ChildKind::Deployment => {
                let $shelf = &$stores.deployments;
                $question
            }
        }
    };
}

impl Stores {
    /// The [mark](live::mark) of one child; `None` when there is none of that name.
    pub fn mark(&self, kind: ChildKind, namespace: &str, name: &str) -> Option<u64> {
        ask!(self, kind, shelf => shelf.named(namespace, name).map(|found| live::mark(kind, &found.metadata)))
    }

    /// How many lists of that kind began or ended so far.
    pub fn lists(&self, kind: ChildKind) -> u64 {
        ask!(self, kind, shelf => shelf.lists())
    }

    /// Takes what was just written or read for what the watch will tell of; see [`Shelf::foresee`].
    pub fn foresee(&self, kind: ChildKind, live: &Live, lists: u64) {
        ask!(self, kind, shelf => shelf.foresee(live.into(), lists));
    }

    /// The metadata of every ControllerRevision that `owner` owns.
    pub fn revisions_of(&self, owner: &Owner) -> Vec<Arc<Meta<ControllerRevision>>> {
        let mut revisions = self.revisions.of(&owner.namespace, &owner.name);
        revisions.retain(|revision| owner.owns(&revision.metadata));
        revisions
    }

    /// The metadata of every child of that kind which `owner` owns, which is not `wanted` and not on its way out.
    pub fn surplus(&self, kind: ChildKind, owner: &Owner, wanted: impl Fn(&str) -> bool) -> Vec<ObjectMeta> {
        let is_surplus = |meta: &ObjectMeta| {
            let name = meta.name.as_deref().unwrap_or_default();
            !wanted(name) && meta.deletion_timestamp.is_none() && owner.owns(meta)
        };
        ask!(self, kind, shelf => {
            let all = shelf.of(&owner.namespace, &owner.name);
            all.iter().map(|object| &object.metadata).filter(|meta| is_surplus(meta)).cloned().collect()
        })
    }

    /// The pods that carry the label of the ModelDeployment, whoever made them.
    pub fn pods_of(&self, owner: &Owner) -> Vec<Arc<SlimPod>> {
        let mut pods = self.pods.of(&owner.namespace, &owner.name);
        pods.retain(|pod| pod.label(LABEL_DEPLOYMENT) == Some(&owner.name));
        pods.sort_by(|a, b| a.name().cmp(b.name()));
        pods
    }

    /// The pods that look into claims for the ModelDeployment.
    pub fn measuring_for(&self, owner: &Owner) -> Vec<Arc<SlimPod>> {
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
