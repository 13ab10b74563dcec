//! The cluster of the user's kubeconfig, for the commands that need one, and what its refusals mean.

use std::path::PathBuf;

use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

use super::USAGE;
use crate::runtime::clock::Clock;

/// Which cluster, and where in it.
#[derive(Debug, Clone, clap::Args)]
pub struct ClusterArgs {
    /// The namespace; absent: that of the kubeconfig's context
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// The kubeconfig's context; absent: its current one
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The kubeconfig; absent: $KUBECONFIG, or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// An exit code and what is said.
pub type Failure = (u8, String);

/// A cluster that was found.
pub struct Cluster {
    /// Asks it.
    pub client: Client,
    /// The namespace that is meant.
    pub namespace: String,
    /// What time it is there: this machine's clock may be wrong.
    pub clock: Clock,
    address: String,
}

impl ClusterArgs {
    /// The cluster that is meant. It is not asked anything yet.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used; says how to give another.
    pub async fn connect(&self) -> Result<Cluster, Failure> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let said = |error: kube::config::KubeconfigError| error.to_string();
        let config = match &self.kubeconfig {
            Some(path) => match Kubeconfig::read_from(path) {
                Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(said),
                Err(error) => Err(said(error)),
            },
            None if self.context.is_some() => Config::from_kubeconfig(&options).await.map_err(said),
            None => Config::infer().await.map_err(|error| error.to_string()),
        };
        let no_way = |error: &dyn std::fmt::Display| {
            (USAGE, format!("no cluster is known: {error}. Give one with --kubeconfig, --context or KUBECONFIG, as for kubectl"))
        };
        let config = config.map_err(|error| no_way(&error))?;
        let address = config.cluster_url.to_string();
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let clock = Clock::of_machine();
        let client = ClientBuilder::try_from(config).map_err(|error| no_way(&error))?.with_layer(&clock).build();
        Ok(Cluster { client, namespace, clock, address })
    }
}

/// The resource of a kind that the commands read.
fn resource(kind: &str) -> ApiResource {
    let (group, version) = match kind {
        "ModelDeployment" | "ModelArtifact" | "ModelSignature" | "ClusterModelPolicy" | "InferenceEngine" => {
            ("bonafide.dev", "v1alpha1")
        }
        "Deployment" | "ControllerRevision" => ("apps", "v1"),
        "Lease" => ("coordination.k8s.io", "v1"),
        _ => ("", "v1"),
    };
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

impl Cluster {
    /// Objects of a kind in a namespace; `None`: in all.
    pub fn api(&self, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource(kind)),
            None => Api::all_with(self.client.clone(), &resource(kind)),
        }
    }

    /// The Secret of that name beside the operator; `None` when there is none or nobody may read it.
    pub async fn secret(&self, name: &str) -> Option<Value> {
        let found = self.api("Secret", Some(super::manager::NAMESPACE)).get_opt(name).await;
        found.ok().flatten().and_then(|object| serde_json::to_value(object).ok())
    }

    /// All objects of a kind with these labels, in pages.
    ///
    /// # Errors
    /// See [`Cluster::said`].
    pub async fn list(&self, kind: &str, namespace: Option<&str>, labels: &str) -> Result<Vec<Value>, Failure> {
        let api = self.api(kind, namespace);
        let mut parameters = ListParams::default().labels(labels).limit(500);
        let mut found = vec![];
        loop {
            let page = api.list(&parameters).await.map_err(|error| self.said(&error, "list", kind, namespace))?;
            found.extend(page.items.into_iter().filter_map(|object| serde_json::to_value(object).ok()));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// The ModelDeployment of that name.
    ///
    /// # Errors
    /// When there is none: 1. See also [`Cluster::said`].
    pub async fn deployment(&self, name: &str) -> Result<Value, Failure> {
        let found = self.api("ModelDeployment", Some(&self.namespace)).get_opt(name).await;
        match found.map_err(|error| self.said(&error, "get", "ModelDeployment", Some(&self.namespace)))? {
            Some(object) => Ok(serde_json::to_value(object).unwrap_or_default()),
            None => {
                // What is not there may be elsewhere, or the whole kind may be missing.
                let there = self.list("ModelDeployment", Some(&self.namespace), "").await?;
                let names: Vec<&str> =
                    there.iter().filter_map(|object| object.pointer("/metadata/name").and_then(Value::as_str)).collect();
                let has = if names.is_empty() { "has none".to_owned() } else { format!("has {}", names.join(", ")) };
                Err((1, format!("there is no ModelDeployment {name}: namespace {} {has}", self.namespace)))
            }
        }
    }

    /// What an error of the API server means, and what to do: exit code 2, as nothing is known then.
    pub fn said(&self, error: &kube::Error, verb: &str, kind: &str, namespace: Option<&str>) -> Failure {
        let place = namespace.map_or_else(|| "in all namespaces".to_owned(), |namespace| format!("in namespace {namespace}"));
        let message = match error {
            kube::Error::Api(status) if status.code == 401 => {
                format!("{} does not know you: {}. Log in again, or give another context", self.address, status.message)
            }
            kube::Error::Api(status) if status.code == 403 => {
                let role = if matches!(verb, "get" | "list") { "view" } else { "edit" };
                format!("you may not {verb} {kind}s {place}. The role `{role}` contains it: {}", status.message)
            }
            kube::Error::Api(status) if status.code == 404 && kind.starts_with("Model") => {
                format!("{} knows no {kind}s: Bonafide is not installed there (helm install bonafide)", self.address)
            }
            kube::Error::Api(status) => format!("{verb} {kind}s {place}: {}", status.message),
            other => format!("the cluster at {} does not answer: {}", self.address, chain(other)),
        };
        (USAGE, message)
    }
}

/// An error and what caused it: the last of them says what matters.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}
