//! A revision: what a spec and a resolved model were rendered to, frozen.
//!
//! A newer operator would perhaps render something else. It does not: what stands in the ControllerRevision is used as it
//! is, until the spec changes. That is why an upgrade of ours restarts no pod.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    input::RevisionInput,
    pod::{PodInput, pod_template},
    why::spec_of,
};
use crate::{
    api::ModelDeploymentSpec,
    model::{Checks, Digest},
};

/// What stands in a ControllerRevision, which the API server keeps from changing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Eight hexadecimal digits, named after the wish and the artifact.
    pub name: String,
    /// Its number: later ones are greater.
    pub number: i64,
    /// Which wish it answers: see [`wish`].
    pub wish: String,
    /// Its ModelArtifact.
    pub artifact: String,
    /// The canonical source.
    pub source: String,
    /// The commit.
    pub commit: String,
    /// The content digest that its pods serve.
    pub digest: Digest,
    /// The engine's name.
    pub engine: String,
    /// The engine's image.
    pub image: String,
    /// The engine's arguments.
    pub args: Vec<String>,
    /// The engine's port.
    pub port: i32,
    /// `nvidia:4` or `none`.
    pub accelerator: String,
    /// The whole pod template.
    pub template: Value,
    /// What its fetch can look at beside digests ([`Checks::KNOWN`](crate::model::Checks::KNOWN)): it is the version that made
    /// the revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// What a later version of Bonafide wrote beside that: kept as it is, since nothing of this may ever change.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A digest over what the author asked for, as far as it decides what pods look like.
///
/// `replicas` is not part of it, nor is the pin: it only checks. Fields that are absent are not written, so that a field
/// which is added to the API later changes nothing for those who do not use it.
pub fn wish(spec: &ModelDeploymentSpec) -> String {
    let mut wish = spec_of(spec);
    if let Some(model) = wish.get_mut("model").and_then(Value::as_object_mut) {
        model.remove("digest");
    }
    // It stands where the first release had it: the digest of a wish never changes.
    let drain = wish.as_object_mut().and_then(|wish| wish.remove("rollout")?.get("drain").cloned());
    if let (Some(drain), Some(wish)) = (drain, wish.as_object_mut()) {
        wish.insert("drain".to_owned(), drain);
    }
    Digest::of(wish.to_string()).hex()
}

/// Renders a revision.
pub fn revision(input: &RevisionInput<'_>) -> Revision {
    let wish = wish(input.spec);
    let name = Digest::of(format!("{wish}\n{}", input.artifact_name)).short();
    let template = pod_template(&PodInput { revision: &name, of: input });
    let accelerator = input.spec.resources.accelerator.as_ref().map_or_else(
        || "none".to_owned(),
        |accelerator| match accelerator.class {
            crate::api::AcceleratorClass::None => "none".to_owned(),
            class => format!("{}:{}", class.as_str(), accelerator.count.unwrap_or(1)),
        },
    );
    Revision {
        name,
        number: input.number,
        wish,
        artifact: input.artifact_name.to_owned(),
        source: input.artifact.source.clone(),
        commit: input.artifact.revision.clone(),
        digest: input.digest,
        engine: input.engine.to_owned(),
        image: input.rendered.image.clone(),
        args: input.rendered.args.clone(),
        port: input.rendered.port,
        accelerator,
        template,
        checks: Checks::KNOWN.map(str::to_owned).to_vec(),
        more: Map::new(),
    }
}
