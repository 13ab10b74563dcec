//! ModelSignatures: which ones are about a content, and what they hold.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use kube::{Api, Resource as _};

use crate::{
    api::{ModelSignature, ModelSignatureSpec, truncate},
    controller::{context::Context, events::Said, objects::slim::SlimSignature},
    model::Digest,
    trust,
};

/// A signature as it is judged: where it was found, and its content.
pub type Bundle = (String, String);

/// The generation that was read, and its content.
type Read = (Option<i64>, Arc<Bundle>);

/// Signatures that were read, by UID. The watch keeps everything of them but the content.
#[derive(Default)]
pub struct Delivered(Mutex<HashMap<String, Read>>);

impl Delivered {
    /// Forgets the signatures that are not in `alive`.
    pub fn keep_only(&self, alive: &HashSet<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| alive.contains(uid));
    }
}

/// What was delivered in `namespace` about the content `digest`.
pub async fn about(context: &Context, namespace: &str, digest: Digest) -> Result<Vec<Arc<Bundle>>, kube::Error> {
    let mut bundles = Vec::new();
    for found in of(&context.stores.signatures.state(), namespace, &digest.to_string()) {
        bundles.extend(read(context, namespace, &found).await?);
    }
    Ok(bundles)
}

/// The oldest come first, so that a new one never displaces one that counts already.
fn of(all: &[Arc<SlimSignature>], namespace: &str, digest: &str) -> Vec<Arc<SlimSignature>> {
    let concerns = |found: &&Arc<SlimSignature>| {
        found.metadata.namespace.as_deref() == Some(namespace)
            && found.spec.digest == digest
            && found.metadata.deletion_timestamp.is_none()
    };
    let mut found: Vec<_> = all.iter().filter(concerns).cloned().collect();
    found.sort_by_cached_key(|found| (found.metadata.creation_timestamp.clone(), found.metadata.name.clone()));
    found.truncate(ModelSignatureSpec::MAX_PER_DIGEST);
    found
}

async fn read(context: &Context, namespace: &str, found: &SlimSignature) -> Result<Option<Arc<Bundle>>, kube::Error> {
    let (Some(name), Some(uid)) = (&found.metadata.name, &found.metadata.uid) else { return Ok(None) };
    let known = context.delivered.0.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned();
    if let Some((_, bundle)) = known.filter(|(known, _)| *known == found.metadata.generation) {
        return Ok(Some(bundle));
    }
    let api: Api<ModelSignature> = Api::namespaced(context.client.clone(), namespace);
    let Some(live) = api.get_opt(name).await? else { return Ok(None) };
    // What stands there now may be about another content, or be another object of that name: the watch will tell.
    if live.metadata.uid.as_ref() != Some(uid) || live.spec.digest != found.spec.digest {
        return Ok(None);
    }
    tell(context, &live).await;
    let bundle = Arc::new((format!("ModelSignature {name}"), live.spec.bundle));
    let read = (live.metadata.generation, bundle.clone());
    context.delivered.0.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.clone(), read);
    Ok(Some(bundle))
}

/// Tells whoever delivered a signature that it cannot be read: they see the ModelSignature, and perhaps no ModelDeployment.
async fn tell(context: &Context, live: &ModelSignature) {
    let bundle = live.spec.bundle.as_bytes();
    let Err(rejected) = trust::Bundle::parse(bundle, trust::Bundle::MAX_RECORDED) else { return };
    let said = Said { warning: true, reason: rejected.reason.as_str(), action: "Read" };
    let note = format!(
        "spec.bundle {rejected}. It counts for nothing. Put the signature there as model_signing writes it, or delete this object."
    );
    context.events.tell_once(&live.object_ref(&()), &said, &truncate(note), bundle).await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn signature(namespace: &str, name: &str, second: u8, digest: &str) -> Arc<SlimSignature> {
        let created = format!("2026-01-01T00:00:{second:02}Z");
        let metadata = json!({"name": name, "namespace": namespace, "uid": name, "creationTimestamp": created});
        Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": {"digest": digest, "bundle": "long"}})).unwrap())
    }

    #[test]
    fn only_what_is_about_this_content_in_this_namespace_counts_and_the_oldest_first() {
        let mut all = vec![
            signature("a", "late", 9, "sha256:1"),
            signature("a", "early", 1, "sha256:1"),
            signature("a", "other", 2, "sha256:2"),
            signature("b", "elsewhere", 3, "sha256:1"),
        ];
        let names = |all: &[Arc<SlimSignature>]| -> Vec<_> {
            of(all, "a", "sha256:1").iter().map(|found| found.metadata.name.clone().unwrap()).collect()
        };
        assert_eq!(names(&all), ["early", "late"]);
        all.extend((0..20).map(|number| signature("a", &format!("flood-{number}"), 30 + number, "sha256:1")));
        assert_eq!(names(&all).len(), ModelSignatureSpec::MAX_PER_DIGEST);
        assert_eq!(names(&all)[..2], ["early", "late"], "a flood displaces nothing that was there before");
    }
}
