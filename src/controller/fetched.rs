//! What the container that fetches has to say: its outcome is its termination message.

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    context::Context,
    plan::{CONTAINER_FETCH, Owner, child_name},
    slim::{SlimPod, SlimTerminated},
};
use crate::api::Reason;

/// On the ControllerRevision: what a replica found when the bytes were not the ones that were judged. It outlives the pod
/// and us, so that nothing downloads the same again.
pub const REFUSED_ANNOTATION: &str = "bonafide.dev/refused";

/// The exit code of `bonafide fetch` after which trying again is of no use.
const REFUSED: i32 = 65;

/// The bytes of a revision were not the ones that were judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The generation of the ModelDeployment at that time: any later change of the spec tries again.
    pub generation: i64,
    /// The pods that found it.
    pub pods: Vec<String>,
    /// The sentence for people.
    pub message: String,
}

/// The outcome as `bonafide fetch` writes it, as far as it is used here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outcome {
    reason: String,
    message: String,
}

/// The refusal that these pods of one revision report, together with what was `known`; `None` when there is nothing new.
pub fn refusal(pods: &[&SlimPod], known: Option<&Refusal>, past: &[String], generation: i64) -> Option<Refusal> {
    let mut refusal = known.cloned().unwrap_or(Refusal { generation, pods: past.to_vec(), message: String::new() });
    let before = refusal.pods.len();
    for pod in pods {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some(terminated) = ended(pod).filter(|ended| ended.exit_code == REFUSED)
            && !refusal.pods.contains(&uid)
        {
            refusal.pods.push(uid);
            refusal.message = message(terminated);
        }
    }
    (refusal.pods.len() > before).then_some(refusal)
}

/// How the fetching container ended, now or the last time.
pub fn ended(pod: &SlimPod) -> Option<&SlimTerminated> {
    let fetch = pod.status.init_container_statuses.iter().find(|container| container.name == CONTAINER_FETCH)?;
    fetch.state.terminated.as_ref().or(fetch.last_state.terminated.as_ref())
}

/// The sentence for people in its termination message.
pub fn message(terminated: &SlimTerminated) -> String {
    let outcome: Outcome = serde_json::from_str(terminated.message.trim()).unwrap_or_default();
    if outcome.message.is_empty() {
        format!(
            "The container that fetches the weights ended with exit code {} ({}) and left no message.",
            terminated.exit_code, terminated.reason
        )
    } else {
        outcome.message
    }
}

/// The reason in its termination message; `FetchFailed` when it gives none that is known.
pub fn reason(terminated: &SlimTerminated) -> Reason {
    let outcome: Outcome = serde_json::from_str(terminated.message.trim()).unwrap_or_default();
    Reason::named(&outcome.reason).filter(|reason| reason.is_trouble()).unwrap_or(Reason::FetchFailed)
}

/// Writes the refusal down where it outlives the pod.
pub async fn record(context: &Context, owner: &Owner, revision: &str, refusal: &Refusal) -> Result<(), kube::Error> {
    let api: Api<k8s_openapi::api::apps::v1::ControllerRevision> = Api::namespaced(context.client.clone(), &owner.namespace);
    let value = serde_json::to_string(refusal).map_err(kube::Error::SerdeError)?;
    context.metrics.wrote("ControllerRevision", "patch");
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { REFUSED_ANNOTATION: value } } }));
    api.patch(&child_name(&owner.name, revision), &PatchParams::default(), &patch).await.map(|_| ())
}
