//! What stands in the cluster when the work begins, read page by page. Otherwise each child is read on its own when its object is
//! looked at first: seven requests for each ModelDeployment.
//!
//! What cannot be read here is read then. Nothing is decided here: what was read is remembered with its UID and version, and counts
//! only while the watches tell of the same.

use futures::future::{try_join, try_join_all};
use kube::{Api, api::ListParams};
use serde_json::Value;

use super::{
    apply,
    live::{Children, Live},
};
use crate::{
    api::{LABEL_DEPLOYMENT, ModelArtifact},
    controller::{
        context::Context,
        notes::Notes,
        plan::{self, ChildKind, Owner},
        verdicts::artifacts,
    },
    model::Checks,
};

/// Children in a page.
const PAGE: u32 = 100;
/// Artifacts in a page: they may be large.
const FEW: u32 = 25;

/// Reads everything once.
pub async fn survey(context: &Context) {
    if let Err(error) = read(context).await {
        tracing::debug!(%error, "not everything could be read page by page; it is read one by one");
    }
}

async fn read(context: &Context) -> Result<(), kube::Error> {
    // The others are compared with what these say.
    try_join(records(context), children(context, ChildKind::ControllerRevision)).await?;
    let rest = ChildKind::ALL.into_iter().filter(|kind| *kind != ChildKind::ControllerRevision);
    try_join_all(rest.map(|kind| children(context, kind))).await.map(drop)
}

async fn records(context: &Context) -> Result<(), kube::Error> {
    let api: Api<ModelArtifact> = Api::all(context.client.clone());
    let mut parameters = ListParams::default().limit(FEW);
    loop {
        let page = api.list(&parameters).await?;
        page.items.into_iter().for_each(|artifact| drop(artifacts::remember(context, artifact)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(()),
        }
    }
}

async fn children(context: &Context, kind: ChildKind) -> Result<(), kube::Error> {
    let api = Children::everywhere(&context.client, kind);
    let mut parameters = ListParams::default().labels(LABEL_DEPLOYMENT).limit(PAGE);
    loop {
        let page = api.list(&parameters).await?;
        page.items.into_iter().for_each(|child| take(context, kind, &child.of_kind(kind)));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// Compares a child with what it should be.
fn take(context: &Context, kind: ChildKind, live: &Live) {
    let (namespace, name) = (live.namespace(), live.name());
    let Some((_, owner, uid)) = live.owners().find(|(kind, ..)| *kind == "ModelDeployment") else { return };
    let owner = Owner { name: owner.to_owned(), namespace: namespace.to_owned(), uid: uid.to_owned() };
    if kind == ChildKind::ControllerRevision {
        apply::remember(context, &owner, live);
    }
    let record = context.stores.revisions.named(namespace, name);
    let notes = record.as_ref().map(|record| Notes::read(&record.metadata)).unwrap_or_default();
    let revision = record.as_ref().and_then(|record| context.revisions.get(record.metadata.uid.as_deref()?));
    let artifact = revision.as_ref().and_then(|revision| artifacts::known(context, namespace, &revision.artifact));
    let artifact = artifact.filter(|artifact| revision.as_ref().is_some_and(|of| of.digest == artifact.manifest.digest()));
    let of = revision.as_ref().map(|revision| plan::Live {
        revision,
        manifest: artifact.as_ref().map(|artifact| &artifact.manifest),
        // How many there are to be is decided later.
        replicas: Some(live.replicas().unwrap_or_default()),
        // So is what policies want.
        checks: checks(live),
        notes: &notes.kept,
        version: None,
    });
    if let Some(child) = plan::one(&owner, kind, of.as_ref(), &context.sources).filter(|child| child.name == name) {
        apply::note(context, &owner, &child, live);
    }
}

/// What a ConfigMap says is to be looked at.
fn checks(live: &Live) -> Checks {
    let text = live.object().get("data").and_then(|data| data.get(Checks::FILE)).and_then(Value::as_str);
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
