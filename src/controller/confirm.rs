//! Before anything is taken away: is what the watches told still so?
//!
//! A watch may be behind by any time, and for a moment two managers may believe that they lead. Both would lower replicas or
//! unroute pods of which each alone could be spared. So whoever takes something away looks past every cache first, and decides anew
//! by what stands there; the replicas are lowered on the version that was looked at ([`super::objects::apply`]); and a pod is unrouted only
//! after its mark stands there and enough others are seen that have none ([`Others`]): of two who mark at the same time, at least
//! one sees the mark of the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ListParams, ObjectMeta},
};

use super::{
    context::Context,
    decide::Decision,
    doors::gate,
    objects::slim::{SlimDeployment, SlimPod},
    observe::Observed,
    plan::{ChildKind, Owner, child_name, revision_of},
    progress,
    rollout::{Fate, Step},
};
use crate::api::{LABEL_DEPLOYMENT, ModelDeployment, ModelSignature, OnRecall};

/// Whether this step takes anything away: replicas, routes, whole Deployments, a revision's standing.
pub fn takes_away(context: &Context, observed: &Observed, decision: &Decision, step: &Step) -> bool {
    let lowers = decision.revisions.iter().zip(&step.fates).any(|(judged, fate)| match fate {
        Fate::Keep(replicas) => judged.seen.asked.is_some_and(|asked| asked > *replicas),
        Fate::Rest => judged.seen.asked.is_some(),
    });
    let known: BTreeSet<&str> = decision.revisions.iter().map(|judged| judged.seen.revision.name.as_str()).collect();
    let is_known = |name: &str| revision_of(&observed.owner.name, name).is_some_and(|revision| known.contains(revision));
    lowers
        || !step.drain.is_empty()
        || step.given_up.is_some()
        || !context.stores.surplus(ChildKind::Deployment, &observed.owner, is_known).is_empty()
}

/// Looks past every cache, and puts the pods and the replicas that stand there in the place of those that were told. False when
/// something else is not what was told: then nothing may be taken away before the watches have caught up.
pub async fn look(
    context: &Context,
    deployment: &ModelDeployment,
    observed: &mut Observed,
    decision: &mut Decision,
) -> Result<bool, kube::Error> {
    let owner = observed.owner.clone();
    let wishes: Api<ModelDeployment> = Api::namespaced(context.client.clone(), &owner.namespace);
    let revisions: Api<ControllerRevision> = Api::namespaced(context.client.clone(), &owner.namespace);
    let deployments: Api<SlimDeployment> = Api::namespaced(context.client.clone(), &owner.namespace);
    let of_it = of_it(&owner);
    let (wish, revisions, deployments, pods) = tokio::try_join!(
        wishes.get_metadata_opt(&owner.name),
        revisions.list_metadata(&of_it),
        deployments.list(&of_it),
        pods(context, &owner)
    )?;
    let wished = |meta: &ObjectMeta| (meta.uid.clone(), meta.generation, meta.deletion_timestamp.is_some());
    if wish.map(|wish| wished(&wish.metadata)) != Some(wished(deployment.meta())) {
        return Ok(false);
    }
    let version = |meta: &ObjectMeta| (meta.uid.clone(), meta.resource_version.clone());
    let told: BTreeSet<_> = context.stores.revisions_of(&owner).iter().map(|revision| version(&revision.metadata)).collect();
    let found = revisions.iter().map(|revision| &revision.metadata).filter(|meta| owner.owns(meta));
    if told != found.map(version).collect() {
        return Ok(false);
    }
    let deployments: BTreeMap<String, &SlimDeployment> = deployments
        .iter()
        .filter(|deployment| owner.owns(&deployment.metadata) && deployment.metadata.deletion_timestamp.is_none())
        .map(|deployment| (deployment.name_any(), deployment))
        .collect();
    for judged in &mut decision.revisions {
        let live = deployments.get(&child_name(&owner.name, &judged.seen.revision.name));
        judged.seen.asked = live.map(|live| live.spec.replicas);
        judged.seen.since = live.and_then(|live| live.metadata.creation_timestamp.as_ref()).map(|time| time.0);
        judged.seen.version = live.and_then(|live| live.metadata.resource_version.clone());
    }
    observed.pods = pods;
    // Nobody is taken out of service by a policy that is not there any more, nor for a signature that is there by now.
    if decision.revisions.iter().any(|judged| judged.is_recalled(OnRecall::Drain)) {
        let Observed { owner, namespace_labels, policies, .. } = &*observed;
        if !signatures_are_told(context, &owner.namespace).await? {
            return Ok(false);
        }
        return gate::is_today(&context.client, &owner.namespace, namespace_labels, &policies.versions).await;
    }
    Ok(true)
}

/// Whether the signatures of a namespace are those that the watch has told of.
async fn signatures_are_told(context: &Context, namespace: &str) -> Result<bool, kube::Error> {
    let api: Api<ModelSignature> = Api::namespaced(context.client.clone(), namespace);
    let found = api.list_metadata(&ListParams::default()).await?;
    let version = |meta: &ObjectMeta| (meta.uid.clone(), meta.generation);
    let told = context.stores.signatures.state();
    let told: BTreeSet<_> = told
        .iter()
        .filter(|signature| signature.metadata.namespace.as_deref() == Some(namespace))
        .map(|signature| version(&signature.metadata))
        .collect();
    Ok(told == found.iter().map(|signature| version(&signature.metadata)).collect())
}

/// The pods that are there, by a quorum.
async fn pods(context: &Context, owner: &Owner) -> Result<Vec<Arc<SlimPod>>, kube::Error> {
    let api: Api<SlimPod> = Api::namespaced(context.client.clone(), &owner.namespace);
    let mut pods: Vec<_> = api.list(&of_it(owner)).await?.items.into_iter().map(Arc::new).collect();
    pods.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(pods)
}

/// Whatever belongs to a ModelDeployment. No resource version is named: what is answered is not older than the question.
fn of_it(owner: &Owner) -> ListParams {
    ListParams::default().labels(&format!("{LABEL_DEPLOYMENT}={}", owner.name))
}

/// Who else answers, seen after the marks were written: asked once for all pods, and only when one of them is to be unrouted.
#[derive(Default)]
pub struct Others(Option<Vec<Arc<SlimPod>>>);

impl Others {
    /// Whether this pod, which is to go, may be unrouted: it is marked, and enough of those who are not go on answering. Then the
    /// version of it that was seen, on which alone it may be done.
    pub async fn spare(
        &mut self,
        context: &Context,
        owner: &Owner,
        pod: &SlimPod,
        floor: i32,
    ) -> Result<Option<String>, kube::Error> {
        let seen = match self.0.take() {
            Some(seen) => seen,
            None => pods(context, owner).await?,
        };
        let answering = seen.iter().filter(|other| other.draining_since().is_none() && progress::answers(other)).count();
        let live = seen.iter().find(|live| live.metadata.uid == pod.metadata.uid);
        let version = live.filter(|live| live.draining_since().is_some()).and_then(|live| live.metadata.resource_version.clone());
        self.0 = Some(seen);
        Ok(version.filter(|_| i32::try_from(answering).is_ok_and(|answering| answering >= floor)))
    }
}

/// Whether the revision of this name exists after all, though no watch has told of it.
pub async fn exists(context: &Context, owner: &Owner, revision: &str) -> Result<bool, kube::Error> {
    let api: Api<ControllerRevision> = Api::namespaced(context.client.clone(), &owner.namespace);
    let found = api.get_metadata_opt(&child_name(&owner.name, revision)).await?;
    Ok(found.is_some_and(|found| owner.owns(&found.metadata)))
}
