//! Sources in claims: a pod of ours mounts the claim read-only and says what is in it.
//!
//! The manager can mount nothing. What the pod says is a listing like a hub's: nothing is trusted because of it, and whoever serves the
//! files hashes them again before an engine starts.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, PostParams},
};
use serde_json::{Value, json};

use super::look_again;
use crate::{
    api::{ANNOTATION_REFRESH, FIELD_MANAGER, LABEL_DEPLOYMENT, LABEL_MEASURES, ModelDeployment, NAME_PREFIX, Reason},
    controller::{
        context::Context,
        diagnose::ONE_POD,
        objects::slim::SlimPod,
        plan::{self, Owner},
    },
    model::{CleanPath, Digest, Source},
    weights::{
        Credentials, Library, SourceError, Tree,
        fetch::{Report, size},
        measure::Measured,
    },
};

/// The pod is looked at again after this time.
const LOOK: Duration = Duration::from_secs(2);
/// A pod that failed is tried again after this time at the earliest.
const AGAIN: Duration = Duration::from_secs(60);
/// The port on which the pod answers.
const PORT: u16 = 8081;
/// The most results that are kept.
const KEPT: usize = 64;

/// What pods found, by the UID of the ModelDeployment and the name of the pod, which says what was asked for.
#[derive(Default)]
pub struct Results(Mutex<HashMap<String, Arc<Measured>>>);

/// The claims of one namespace, read for one ModelDeployment.
pub struct Claims<'a> {
    /// What every reconcile shares.
    pub context: &'a Context,
    /// Who asks.
    pub deployment: &'a ModelDeployment,
    /// The same, as an owner.
    pub owner: &'a Owner,
}

impl Library for Claims<'_> {
    fn resolve<'a>(
        &'a self,
        source: &'a Source,
        revision: Option<&'a str>,
        _: Option<&'a Credentials>,
    ) -> BoxFuture<'a, Result<Tree, SourceError>> {
        Box::pin(async move {
            let found = self.measured(source).await?;
            match revision {
                Some(wanted) if found.commit.is_none() && wanted != found.revision => Err(SourceError::later(
                    Reason::RevisionNotFound,
                    format!(
                        "spec.model.revision {wanted}: what lies in {source} now is {}. A directory in a claim has one revision, which says what \
                         is in it; only the hub's cache has branches and commits.",
                        found.revision
                    ),
                    None,
                )),
                _ => found.tree(source),
            }
        })
    }

    fn read<'a>(
        &'a self,
        source: &'a Source,
        _: &'a str,
        path: &'a CleanPath,
        _: u64,
        _: Option<&'a Credentials>,
    ) -> BoxFuture<'a, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            let found = self.measured(source).await?;
            let text = found.texts.get(path.as_str()).map(|text| text.clone().into_bytes());
            text.ok_or_else(|| SourceError::invalid(format!("{path} of {source} was not read along. It is measured again.")))
        })
    }
}

impl Claims<'_> {
    /// What the pod found; an error says how far it is.
    async fn measured(&self, source: &Source) -> Result<Arc<Measured>, SourceError> {
        let Self { context, deployment, owner } = self;
        let name = pod_name(deployment, &context.config.image);
        let key = format!("{} {name}", owner.uid);
        if let Some(known) = context.measured.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(known.clone());
        }
        let failed = |error: kube::Error| {
            SourceError::later(
                Reason::PodsNotCreated,
                format!("Pod {name}, which reads {source}, cannot be made: {}", crate::controller::said(&error)),
                None,
            )
        };
        let api = pods(context, owner);
        let Some(pod) = api.get_opt(&name).await.map_err(failed)? else {
            context.metrics.wrote("Pod", "create");
            let object = serde_json::from_value(pod(&name, deployment, owner, source, context)).map_err(kube::Error::SerdeError);
            let create = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
            match api.create(&create, &object.map_err(failed)?).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(failed(error)),
            }
            return Err(measuring(format!("Pod {name} is made, which reads {source}.")));
        };
        let pod: SlimPod =
            serde_json::to_value(pod).and_then(serde_json::from_value).map_err(|error| failed(kube::Error::SerdeError(error)))?;
        let ours = pod.metadata.owner_references.iter().flatten().any(|reference| reference.uid == owner.uid);
        if !ours || pod.metadata.deletion_timestamp.is_some() {
            return Err(measuring(format!("Pod {name} is in the way of the one that reads {source}, and going.")));
        }
        if matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") {
            return Err(self.over(&pod, source).await);
        }
        let address = pod.status.pod_ip.as_deref().and_then(|ip| ip.parse().ok()).filter(|_| pod.status.phase == "Running");
        let Some(address) = address else { return Err(not_running(&pod, source)) };
        let at = std::net::SocketAddr::new(address, PORT);
        match context.ask.measured(at).await {
            Ok(found) => {
                let found = Arc::new(found);
                let mut known = context.measured.0.lock().unwrap_or_else(PoisonError::into_inner);
                if known.len() >= KEPT {
                    known.clear();
                }
                known.insert(key, found.clone());
                Ok(found)
            }
            Err(said) => Err(measuring(match context.ask.download(at).await {
                Ok(far) if far.total > 0 => {
                    let percent = far.hashed.saturating_mul(100).checked_div(far.total).unwrap_or(100);
                    format!("{source} is read and hashed: {percent} % of {}.", size(far.total as f64))
                }
                Ok(_) => format!("{source} is being looked through."),
                Err(_) => format!("Pod {name}, which reads {source}, does not answer yet: {said}."),
            })),
        }
    }

    /// The pod has ended without being asked, or could not read the claim: it is told, and tried again after a while.
    async fn over(&self, pod: &SlimPod, source: &Source) -> SourceError {
        let Self { context, owner, .. } = self;
        let ended = pod.status.container_statuses.first().and_then(|container| container.state.terminated.as_ref());
        let since = ended.and_then(|ended| ended.finished_at).map_or(AGAIN, |finished| {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let since = context.sightings.since(&context.clock, &owner.uid, uid, "ended", finished);
            Duration::try_from(context.sightings.now(&context.clock).duration_since(since)).unwrap_or_default()
        });
        let lasts = look_again::lasts(self.deployment, context.clock.now());
        if since >= pause(lasts) {
            remove(context, owner, pod).await;
        }
        let report = ended.and_then(|ended| serde_json::from_str::<Report>(ended.message.trim()).ok());
        match report.filter(|report| report.outcome == "Failed") {
            Some(report) => {
                let reason = Reason::ALL.iter().flat_map(|(_, reasons)| *reasons).find(|reason| reason.as_str() == report.reason);
                SourceError::later(reason.copied().unwrap_or(Reason::SourceInvalid), report.message, None)
            }
            None => measuring(format!(
                "Pod {}, which read {source}, has ended ({}) and is made again.",
                pod.name(),
                pod.status.reason
            )),
        }
    }
}

/// How long a pod that failed stays, when the claim has not given what is wished for since `lasts`.
fn pause(lasts: Duration) -> Duration {
    look_again::patience(lasts).max(AGAIN)
}

fn measuring(message: String) -> SourceError {
    SourceError::later(Reason::Measuring, message, Some(LOOK))
}

/// The pod waits; for a claim that another pod has for itself it waits until somebody does something.
fn not_running(pod: &SlimPod, source: &Source) -> SourceError {
    let alone = pod.condition("PodScheduled").is_some_and(|found| found.status == "False" && found.message.contains(ONE_POD));
    let Source::Claim { claim, .. } = source else { return measuring(waiting(pod, source)) };
    if !alone {
        return measuring(waiting(pod, source));
    }
    let message = format!(
        "Pod {} is to read {source}, but the claim {claim} is {ONE_POD}, and another pod has it, perhaps a replica. Nothing stops because \
         of that. Use a claim that is ReadWriteOnce or ReadWriteMany, or set spec.replicas to 0 until it was read.",
        pod.name()
    );
    SourceError::later(Reason::VolumeFailed, message, Some(AGAIN))
}

/// Why the pod does not run yet.
fn waiting(pod: &SlimPod, source: &Source) -> String {
    let scheduled = pod.condition("PodScheduled").filter(|condition| condition.status == "False");
    let waits = pod.status.container_statuses.first().and_then(|container| container.state.waiting.as_ref());
    let why = match (scheduled, waits) {
        (Some(condition), _) => format!(": {}", condition.message),
        (None, Some(waits)) if !waits.message.is_empty() => format!(": {} ({})", waits.message, waits.reason),
        _ => String::new(),
    };
    format!("Pod {}, which reads {source}, does not run yet{why}.", pod.name())
}

/// Removes the pods that measured for this ModelDeployment and are not needed any more.
pub async fn tidy(context: &Context, deployment: &ModelDeployment, owner: &Owner) {
    let wanted = deployment.spec.model.source.starts_with("pvc://").then(|| pod_name(deployment, &context.config.image));
    for pod in context.stores.measuring_for(owner) {
        let key = format!("{} {}", owner.uid, pod.name());
        let done = context.measured.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key);
        if pod.metadata.deletion_timestamp.is_none() && (done || wanted.as_deref() != Some(pod.name())) {
            remove(context, owner, &pod).await;
        }
    }
}

async fn remove(context: &Context, owner: &Owner, pod: &SlimPod) {
    context.metrics.wrote("Pod", "delete");
    let precondition = kube::api::Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(precondition), ..DeleteParams::background() };
    match pods(context, owner).delete(pod.name(), &parameters).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => tracing::warn!(pod = pod.name(), %error, "a pod that measured could not be removed; trying again"),
    }
}

fn pods(context: &Context, owner: &Owner) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&());
    Api::namespaced_with(context.client.clone(), &owner.namespace, &resource)
}

/// The name of the pod that answers this question: another question, another pod.
fn pod_name(deployment: &ModelDeployment, image: &str) -> String {
    let model = &deployment.spec.model;
    let refresh = deployment.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION_REFRESH));
    let signature = model.signature.as_ref().map(|signature| &signature.file);
    let question = json!([model.source, model.revision, model.files, signature, refresh, image]).to_string();
    format!("{NAME_PREFIX}{}-measure-{}", deployment.metadata.name.as_deref().unwrap_or_default(), Digest::of(question).short())
}

/// The pod: our image, the claim read-only, no token, no rights. It carries the label of no ModelDeployment's pods, so that no
/// Service routes to it and nobody takes it for a replica.
fn pod(name: &str, deployment: &ModelDeployment, owner: &Owner, source: &Source, context: &Context) -> Value {
    let Source::Claim { claim, path, .. } = source else { return Value::Null };
    let (model, wanted) = (&deployment.spec.model, &deployment.spec.pod);
    let mut args = vec![
        "measure".to_owned(),
        "--claim=/var/lib/bonafide/claim".to_owned(),
        format!("--source={source}"),
        format!("--path={path}"),
    ];
    args.extend(model.revision.iter().map(|revision| format!("--revision={revision}")));
    args.extend(model.files.iter().map(|glob| format!("--files={glob}")));
    args.extend(model.signature.iter().map(|signature| format!("--signature={}", signature.file)));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": { "app.kubernetes.io/managed-by": "bonafide", LABEL_MEASURES: owner.name },
            "ownerReferences": [owner.reference()],
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "serviceAccountName": wanted.service_account_name.as_deref().unwrap_or("default"),
            "nodeSelector": wanted.node_selector,
            "tolerations": wanted.tolerations,
            "imagePullSecrets": wanted.image_pull_secrets,
            "securityContext": plan::pod_security(wanted.user),
            // Where the replicas are, a claim that one node at a time can mount is mounted already.
            "affinity": { "podAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
                "weight": 100,
                "podAffinityTerm": { "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchLabels": { LABEL_DEPLOYMENT: owner.name } } },
            }] } },
            "containers": [{
                "name": "measure",
                "image": context.config.image,
                "imagePullPolicy": context.config.image_pull_policy,
                "args": args,
                "ports": [{ "name": "progress", "containerPort": PORT, "protocol": "TCP" }],
                "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "readOnlyRootFilesystem": true,
                },
                "volumeMounts": [{ "name": "claim", "mountPath": "/var/lib/bonafide/claim", "readOnly": true }],
            }],
            "volumes": [{ "name": "claim", "persistentVolumeClaim": { "claimName": claim, "readOnly": true } }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_stays_as_it_is_is_read_ever_more_seldom() {
        assert_eq!([0, 70, 200, 86_400].map(|lasts| pause(Duration::from_secs(lasts)).as_secs()), [60, 60, 160, 300]);
    }

    #[test]
    fn a_pod_that_waits_for_a_claim_that_another_has_alone_says_what_to_do() {
        let pod = |said: &str| -> SlimPod {
            let condition = json!({ "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said });
            serde_json::from_value(
                json!({ "metadata": { "name": "bonafide-whale-measure-1" }, "status": { "conditions": [condition] } }),
            )
            .unwrap()
        };
        let source = "pvc://birds/models/whale".parse().unwrap();
        let said = "0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode.";
        let error = not_running(&pod(said), &source);
        assert_eq!((error.problem.reason, error.retry), (Reason::VolumeFailed, crate::weights::Retry::After(Some(AGAIN))));
        for part in ["claim models", "ReadWriteOncePod", "ReadWriteOnce or ReadWriteMany", "spec.replicas to 0"] {
            assert!(error.problem.message.contains(part), "{part}: {error}");
        }
        let error = not_running(&pod("0/1 nodes are available: 1 Insufficient cpu."), &source);
        assert_eq!(error.problem.reason, Reason::Measuring);
        assert!(error.problem.message.contains("Insufficient cpu"), "{error}");
    }
}
