//! Whether the chart's admission policies keep others off our pods. What is promised without them is less, and said so.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::{Api, Client};
use tokio::sync::watch;

/// The chart's policies; each has a binding of the same name.
const POLICIES: [&str; 9] = [
    "bonafide-bindings",
    "bonafide-children",
    "bonafide-connect",
    "bonafide-deletion",
    "bonafide-pods",
    "bonafide-records",
    "bonafide-scale",
    "bonafide-selectors",
    "bonafide-templates",
];
/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(60);
/// The same when nothing could be seen.
const AGAIN: Duration = Duration::from_secs(5);
/// An answer that takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first look, which everything else waits for, and when the next one is due. What cannot be seen soon is said to be unseen, and
/// taken to be missing.
pub async fn first(client: &Client) -> (Option<String>, Duration) {
    match look(client).await {
        Some(missing) => (missing, INTERVAL),
        None => (Some("it was not seen yet whether the admission policies are there".to_owned()), AGAIN),
    }
}

/// Looks again and again, first after `wait`, and publishes a change of what is missing: nothing when all is in place.
pub async fn run(client: Client, publish: watch::Sender<Option<String>>, mut wait: Duration) {
    loop {
        tokio::time::sleep(wait).await;
        wait = AGAIN;
        if let Some(missing) = look(&client).await {
            wait = INTERVAL;
            publish.send_if_modified(|published| {
                let changed = *published != missing;
                *published = missing;
                changed
            });
        }
    }
}

/// What is missing, if that can be seen.
async fn look(client: &Client) -> Option<Option<String>> {
    match tokio::time::timeout(PATIENCE, missing(client)).await {
        Ok(Ok(missing)) => return Some(missing),
        Ok(Err(error)) => tracing::warn!(%error, "the admission policies cannot be read; trying again"),
        Err(_) => tracing::warn!("the API server does not say whether the admission policies are there; trying again"),
    }
    None
}

/// The first policy or binding that is not there.
async fn missing(client: &Client) -> Result<Option<String>, kube::Error> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    for name in POLICIES {
        if policies.get_metadata_opt(name).await?.is_none() {
            return Ok(Some(format!("ValidatingAdmissionPolicy {name} is missing")));
        }
        let binding = bindings.get_opt(name).await?;
        let actions = binding.and_then(|binding| binding.spec).and_then(|spec| spec.validation_actions).unwrap_or_default();
        if !actions.iter().any(|action| action == "Deny") {
            return Ok(Some(format!("ValidatingAdmissionPolicyBinding {name} is missing, or does not deny")));
        }
    }
    Ok(None)
}
