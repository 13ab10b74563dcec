//! The PersistentVolumeClaims that a ModelDeployment names.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;

use super::context::Context;
use crate::{
    api::{ModelDeployment, Problem, Reason},
    model::Source,
};

/// What is said when a claim that is named does not exist.
pub async fn missing(context: &Context, deployment: &ModelDeployment, source: &Source) -> Result<Option<Problem>, kube::Error> {
    let cache = deployment.spec.model.cache.as_ref().map(|cache| ("spec.model.cache.claimName", cache.claim_name.as_str()));
    let named = match source {
        Source::Claim { claim, .. } => Some(("spec.model.source", claim.as_str())),
        Source::Hub { .. } | Source::Web { .. } => cache,
    };
    let Some((field, claim)) = named else { return Ok(None) };
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    Ok(match api.get_metadata_opt(claim).await? {
        Some(found) if found.metadata.deletion_timestamp.is_none() => None,
        Some(_) => Some(Problem::new(
            Reason::ClaimNotFound,
            format!("{field}: PersistentVolumeClaim {claim} in namespace {namespace} is being deleted. Name another one."),
        )),
        None => Some(Problem::new(
            Reason::ClaimNotFound,
            format!(
                "{field}: there is no PersistentVolumeClaim {claim} in namespace {namespace}. Create it, or name another one."
            ),
        )),
    })
}
