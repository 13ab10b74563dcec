//! What counts beside a model: policies, signatures, labels of namespaces and keys, of files and of a cluster.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    api::{ClusterModelPolicy, ModelSignature, Problem, Reason, SecretKeyRef},
    cli::{
        USAGE,
        cluster::{Cluster, Failure},
        manager,
        status::text,
    },
    model::Digest,
    trust::{DefaultStance, PolicySet, PolicyState},
};

/// Everything that counts.
pub struct World {
    pub policies: PolicySet,
    /// InferenceEngines, as they stand in the files or the cluster.
    pub engines: Vec<Value>,
    labels: BTreeMap<String, BTreeMap<String, String>>,
    signatures: Vec<(String, ModelSignature)>,
}

impl World {
    /// What the files have, and the cluster where they have not.
    ///
    /// # Errors
    /// When the cluster does not answer, or an object of the files cannot be read.
    pub async fn of(objects: &[Value], cluster: Option<&Cluster>, default: &str, namespace: &str) -> Result<Self, Failure> {
        let mut all: BTreeMap<(String, String, String), Value> = BTreeMap::new();
        if let Some(cluster) = cluster {
            for kind in ["ClusterModelPolicy", "InferenceEngine", "Namespace"] {
                all.extend(cluster.list(kind, None, "").await?.into_iter().map(|object| (key(kind, &object, ""), object)));
            }
            let models = objects.iter().filter(|object| text(object, "/kind") == "ModelDeployment");
            let places: BTreeSet<String> = models.map(|model| key("ModelDeployment", model, namespace).1).collect();
            for place in places {
                let signatures = cluster.list("ModelSignature", Some(&place), "").await?;
                all.extend(signatures.into_iter().map(|object| (key("ModelSignature", &object, &place), object)));
            }
        }
        all.extend(objects.iter().map(|object| (key(text(object, "/kind"), object, namespace), object.clone())));
        let of = |kind: &'static str| all.iter().filter(move |((of, ..), _)| of == kind).map(|(_, object)| object);
        let default = if default == "Deny" { DefaultStance::Deny } else { DefaultStance::Allow };
        let mut policies = Vec::new();
        for object in of("ClusterModelPolicy") {
            policies.push(policy(object, &all, cluster).await?);
        }
        let signatures = of("ModelSignature").map(|object| {
            let place = Some(text(object, "/metadata/namespace")).filter(|named| !named.is_empty()).unwrap_or(namespace);
            read::<ModelSignature>(object).map(|read| (place.to_owned(), read))
        });
        let labels = of("Namespace").map(|object| (text(object, "/metadata/name").to_owned(), labels(object)));
        Ok(Self {
            policies: PolicySet { policies, default },
            engines: of("InferenceEngine").cloned().collect(),
            labels: labels.collect(),
            signatures: signatures.collect::<Result<_, _>>()?,
        })
    }

    /// The labels of a namespace; those that Kubernetes gives when nothing else is known of it.
    pub fn labels(&self, namespace: &str) -> BTreeMap<String, String> {
        let own = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())]);
        own.into_iter().chain(self.labels.get(namespace).cloned().unwrap_or_default()).collect()
    }

    /// The signatures about one content that were delivered in a namespace.
    pub fn delivered(&self, namespace: &str, digest: Digest) -> impl Iterator<Item = (String, String)> {
        let wanted = digest.to_string();
        let about =
            self.signatures.iter().filter(move |(place, signature)| place == namespace && signature.spec.digest == wanted);
        about.map(|(_, signature)| {
            let name = signature.metadata.name.clone().unwrap_or_default();
            (format!("ModelSignature {name}"), signature.spec.bundle.clone())
        })
    }
}

fn key(kind: &str, object: &Value, default: &str) -> (String, String, String) {
    let named = text(object, "/metadata/namespace");
    let is_namespaced = matches!(kind, "ModelSignature" | "ModelDeployment");
    let place = if is_namespaced && named.is_empty() { default } else { named };
    (kind.to_owned(), place.to_owned(), text(object, "/metadata/name").to_owned())
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn read<T: serde::de::DeserializeOwned>(object: &Value) -> Result<T, Failure> {
    serde_json::from_value(object.clone()).map_err(|error| {
        let (kind, name) = (text(object, "/kind"), text(object, "/metadata/name"));
        (USAGE, format!("{kind} {name} cannot be read: {error}; `bonafide lint -f FILE` says where"))
    })
}

/// A policy as it would be in force. The keys that it names are taken from Secrets of the files, then from the cluster's.
async fn policy(
    object: &Value,
    all: &BTreeMap<(String, String, String), Value>,
    cluster: Option<&Cluster>,
) -> Result<PolicyState, Failure> {
    let read: ClusterModelPolicy = read(object)?;
    let mut keys: BTreeMap<(String, String), String> = BTreeMap::new();
    for reference in read.spec.signers.iter().flat_map(crate::api::Signer::secrets) {
        let beside = |place: &str| place.is_empty() || place == manager::NAMESPACE;
        let in_files = all.iter().find(|((kind, place, name), _)| kind == "Secret" && beside(place) && *name == reference.name);
        let secret = match (in_files, cluster) {
            (Some((_, secret)), _) => Some(secret.clone()),
            // Few may read Secrets of the operator; that one is missing is told where it is needed.
            (None, Some(cluster)) => cluster.secret(&reference.name).await,
            (None, None) => None,
        };
        if let Some(entry) = secret.as_ref().and_then(|secret| entry(secret, &reference.key)) {
            keys.insert((reference.name.clone(), reference.key.clone()), entry);
        }
    }
    let known = |reference: &SecretKeyRef| keys.get(&(reference.name.clone(), reference.key.clone())).cloned();
    Ok(match PolicyState::of(&read, &known) {
        PolicyState::Broken { name, generation, selector, problem } if problem.reason == Reason::SecretNotFound => {
            let message =
                format!("{} Here it is not known: give a file with the Secret (-f), or its key in the policy.", problem.message);
            PolicyState::Broken { name, generation, selector, problem: Problem::new(problem.reason, message) }
        }
        state => state,
    })
}

/// One entry of a Secret, as a file or the API server has it.
fn entry(secret: &Value, key: &str) -> Option<String> {
    if let Some(plain) = secret.get("stringData").and_then(|data| data.get(key)).and_then(Value::as_str) {
        return Some(plain.to_owned());
    }
    let encoded = secret.get("data")?.get(key)?.as_str()?;
    String::from_utf8(STANDARD.decode(encoded.split_ascii_whitespace().collect::<String>()).ok()?).ok()
}
