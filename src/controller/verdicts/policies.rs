//! Keeps the compiled policies, and says of each whether it is in force.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource as _,
    api::{ListParams, ObjectMeta, Patch, PatchParams},
    core::DeserializeGuard,
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use crate::{
    api::{
        ACCEPTED, ClusterModelPolicy, ClusterModelPolicyStatus, FIELD_MANAGER, Finding, Problem, Reason, SecretKeyRef, Signer,
        settle,
    },
    runtime::{clock::Clock, metrics::Metrics},
    trust::{DefaultStance, Policy, PolicySet, PolicyState},
};

/// Keys in Secrets are read again after this time: we may read Secrets by name, but not watch them.
const SECRETS: Duration = Duration::from_secs(30);

/// Changes that follow each other within this time are looked at together.
const TOGETHER: Duration = Duration::from_millis(20);

type Guarded = DeserializeGuard<ClusterModelPolicy>;

/// The PEM texts of the Secrets that policies name.
type Keys = HashMap<SecretKeyRef, String>;

/// What was written about each policy, by UID: the version of the policy that was seen then, and what was said.
type Told = HashMap<String, (Option<String>, Finding)>;

/// Which policies there are, by UID: name and generation. What was compiled and what stands in the API server are compared by it.
pub type Versions = BTreeMap<String, (String, i64)>;

/// The policies as they were compiled last.
pub struct InForce {
    /// All of them.
    pub set: PolicySet,
    /// Which ones these are.
    pub versions: Versions,
}

fn version(meta: &ObjectMeta) -> (String, (String, i64)) {
    (meta.uid.clone().unwrap_or_default(), (meta.name.clone().unwrap_or_default(), meta.generation.unwrap_or_default()))
}

/// Watches policies and publishes them compiled, until the process ends.
pub async fn run(
    client: Client,
    namespace: String,
    default: DefaultStance,
    metrics: Arc<Metrics>,
    clock: Clock,
    publish: watch::Sender<Option<Arc<InForce>>>,
) {
    let (store, writer) = reflector::store::<Guarded>();
    let api: Api<Guarded> = Api::all(client.clone());
    let mut events = pin!(watcher(api, watcher::Config::default().page_size(50)).default_backoff().reflect(writer));
    let mut again = Instant::now() + SECRETS;
    let mut complete = false;
    let mut published = None;
    let mut told = Told::new();
    let mut keys = Keys::new();
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(Ok(watcher::Event::InitDone)) => complete = true,
                Some(Ok(_)) => {}
                Some(Err(error)) => { tracing::warn!(%error, "policies cannot be watched; trying again"); continue }
                None => return,
            },
            () = tokio::time::sleep_until(again) => {}
        }
        // Many changes at once are one change.
        while let Ok(Some(event)) = tokio::time::timeout(TOGETHER, events.next()).await {
            complete |= matches!(event, Ok(watcher::Event::InitDone));
        }
        // Until the first list is complete, a policy that was not read yet could be the one that refuses.
        if !complete {
            continue;
        }
        again = Instant::now() + SECRETS;
        let mut policies = store.state();
        policies.sort_by_key(|policy| policy.meta().name.clone());
        keys = secrets(&client, &namespace, &policies, &keys).await;
        let versions = policies.iter().map(|policy| version(policy.meta())).collect();
        let in_force = Arc::new(InForce { set: compile(&policies, &keys, default), versions });
        let inputs = Some(inputs(&policies, &keys));
        if inputs != published {
            published = inputs;
            publish.send_replace(Some(in_force.clone()));
        }
        // After that: a policy that says it is accepted is in force.
        for policy in &policies {
            if let Ok(policy) = &policy.0 {
                report(&client, &metrics, &clock, policy, &in_force.set, &mut told).await;
            }
        }
        told.retain(|uid, _| in_force.versions.contains_key(uid));
    }
}

/// Everything that the compiled policies depend on: the same inputs are not published twice.
fn inputs(policies: &[Arc<Guarded>], secrets: &Keys) -> BTreeSet<String> {
    let identity = |policy: &Arc<Guarded>| format!("{:?} {:?} {}", policy.meta().uid, policy.meta().generation, policy.0.is_ok());
    policies.iter().map(identity).chain(secrets.iter().map(|(key, pem)| format!("{key:?} {pem}"))).collect()
}

fn compile(policies: &[Arc<Guarded>], secrets: &Keys, default: DefaultStance) -> PolicySet {
    let states = policies.iter().map(|policy| match &policy.0 {
        Ok(policy) => match Policy::compile(policy, &|key| secrets.get(key).cloned()) {
            Ok(compiled) => PolicyState::Accepted(compiled),
            Err(problem) => PolicyState::Broken {
                name: policy.metadata.name.clone().unwrap_or_default(),
                generation: policy.metadata.generation.unwrap_or_default(),
                selector: Some(policy.spec.namespace_selector.clone()),
                problem,
            },
        },
        Err(unreadable) => PolicyState::Broken {
            name: unreadable.metadata.name.clone().unwrap_or_default(),
            generation: unreadable.metadata.generation.unwrap_or_default(),
            selector: None,
            problem: Problem::new(Reason::PolicyUnreadable, format!("this version of Bonafide cannot read it: {unreadable}")),
        },
    });
    let mut policies: Vec<_> = states.collect();
    policies.sort_by(|a, b| a.name().cmp(b.name()));
    PolicySet { policies, default }
}

/// Reads the keys that the policies name. One that is missing is left out: the policy says so.
async fn secrets(client: &Client, namespace: &str, policies: &[Arc<Guarded>], known: &Keys) -> Keys {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut found = HashMap::new();
    let references = policies.iter().filter_map(|policy| policy.0.as_ref().ok()).flat_map(|policy| &policy.spec.signers);
    for reference in references.flat_map(Signer::secrets) {
        match api.get_opt(&reference.name).await {
            Ok(Some(secret)) => {
                let value = secret.data.unwrap_or_default().remove(&reference.key);
                found.extend(value.and_then(|value| String::from_utf8(value.0).ok()).map(|pem| (reference.clone(), pem)));
            }
            Ok(None) => {}
            // Not to be told is not to be told that it is gone.
            Err(error) => {
                tracing::warn!(secret = reference.name, %error, "a Secret that a policy names cannot be read; what it held before counts");
                found.extend(known.get_key_value(reference).map(|(key, pem)| (key.clone(), pem.clone())));
            }
        }
    }
    found
}

/// Writes the policy's `Accepted` condition, if it changed.
async fn report(
    client: &Client,
    metrics: &Metrics,
    clock: &Clock,
    policy: &ClusterModelPolicy,
    set: &PolicySet,
    told: &mut Told,
) {
    let Some(name) = policy.metadata.name.as_deref() else { return };
    let problem = set.policies.iter().find(|state| state.name() == name).and_then(|state| match state {
        PolicyState::Broken { problem, .. } => Some(problem),
        PolicyState::Accepted(_) => None,
    });
    let finding = match problem {
        None => Finding::new(ACCEPTED, Some(true), Reason::Accepted, "Every key, pattern and name in it can be used."),
        Some(problem) => {
            let message =
                format!("{} Until it is mended, nothing new is served in the namespaces that it selects.", problem.message);
            Finding::new(ACCEPTED, Some(false), problem.reason, message)
        }
    };
    // As long as the store has not seen what was written, it is not written again.
    let telling = (policy.metadata.resource_version.clone(), finding.clone());
    let uid = policy.metadata.uid.clone().unwrap_or_default();
    if told.get(&uid) == Some(&telling) {
        return;
    }
    let old = policy.status.clone().unwrap_or_default();
    let generation = policy.metadata.generation;
    let conditions = settle(&old.conditions, &[finding], generation, clock.now());
    let status = ClusterModelPolicyStatus { observed_generation: generation, conditions };
    if status == old {
        return;
    }
    metrics.wrote("ClusterModelPolicy", "patch");
    let body = json!({ "apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterModelPolicy", "status": status });
    let api: Api<ClusterModelPolicy> = Api::all(client.clone());
    if let Err(error) = api.patch_status(name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(body)).await {
        return tracing::warn!(policy = name, %error, "the policy's status could not be written; trying again");
    }
    told.insert(uid, telling);
}

/// What stands in the API server now, read past every cache.
pub async fn versions(client: &Client) -> Result<Versions, kube::Error> {
    let api: Api<kube::api::PartialObjectMeta<ClusterModelPolicy>> = Api::all(client.clone());
    let list = api.list_metadata(&ListParams::default()).await?;
    Ok(list.items.iter().map(|policy| version(&policy.metadata)).collect())
}
