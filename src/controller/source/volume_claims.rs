//! The PersistentVolumeClaims that a ModelDeployment names.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;

use crate::{
    api::{ModelDeployment, Problem, Reason},
    controller::context::Context,
    model::Source,
};

/// Where the weights of a wish may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// They lie in a claim that only one node at a time can mount.
    pub one_node: bool,
}

/// Looks at the claim that a ModelDeployment names, if it names one; a problem when there is none of that name.
pub async fn look(
    context: &Context,
    deployment: &ModelDeployment,
    source: &Source,
) -> Result<Result<Reach, Problem>, kube::Error> {
    let cache = deployment.spec.model.cache.as_ref().map(|cache| ("spec.model.cache.claimName", cache.claim_name.as_str()));
    let named = match source {
        Source::Claim { claim, .. } => Some(("spec.model.source", claim.as_str())),
        Source::Hub { .. } | Source::Web { .. } => cache,
    };
    let Some((field, claim)) = named else { return Ok(Ok(Reach { one_node: false })) };
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    Ok(match api.get_opt(claim).await? {
        Some(found) if found.metadata.deletion_timestamp.is_none() => Ok(Reach { one_node: is_of_one_node(&found) }),
        Some(_) => Err(Problem::new(
            Reason::ClaimNotFound,
            format!("{field}: PersistentVolumeClaim {claim} in namespace {namespace} is being deleted. Name another one."),
        )),
        None => Err(Problem::new(
            Reason::ClaimNotFound,
            format!(
                "{field}: there is no PersistentVolumeClaim {claim} in namespace {namespace}. Create it, or name another one."
            ),
        )),
    })
}

/// Whether only one node at a time can mount the claim. What its volume can do counts, once it has one.
pub fn is_of_one_node(claim: &PersistentVolumeClaim) -> bool {
    let bound = claim.status.as_ref().and_then(|status| status.access_modes.as_ref()).filter(|modes| !modes.is_empty());
    let modes = bound.or_else(|| claim.spec.as_ref()?.access_modes.as_ref());
    modes.is_some_and(|modes| !modes.is_empty() && modes.iter().all(|mode| mode.starts_with("ReadWriteOnce")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_volume_can_do_counts_and_else_what_was_asked_for() {
        let is = |asked: &[&str], bound: &[&str]| {
            let claim = json!({ "spec": { "accessModes": asked }, "status": { "accessModes": bound } });
            is_of_one_node(&serde_json::from_value(claim).unwrap())
        };
        assert!(is(&["ReadWriteOnce"], &[]) && is(&["ReadWriteOnce"], &["ReadWriteOnce"]) && is(&["ReadWriteOncePod"], &[]));
        assert!(!is(&["ReadWriteMany"], &[]) && !is(&["ReadWriteOnce", "ReadOnlyMany"], &[]) && !is(&[], &[]));
        assert!(!is(&["ReadWriteOnce"], &["ReadWriteOnce", "ReadWriteMany"]));
    }
}
