//! What a revision is made of.

use crate::{
    api::{ModelArtifactSpec, ModelDeploymentSpec},
    engine::Rendered,
    model::Digest,
};

/// What goes into a revision beside the spec.
pub struct RevisionInput<'a> {
    /// The number of the revision: greater than every earlier one's.
    pub number: i64,
    /// The ModelDeployment's name.
    pub deployment: &'a str,
    /// Its spec.
    pub spec: &'a ModelDeploymentSpec,
    /// The artifact's name.
    pub artifact_name: &'a str,
    /// The artifact.
    pub artifact: &'a ModelArtifactSpec,
    /// Its content digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub bytes: u64,
    /// The engine's name.
    pub engine: &'a str,
    /// The engine, rendered.
    pub rendered: &'a Rendered,
    /// The image of the operator, for the container that fetches.
    pub fetch_image: &'a str,
    /// When that image is pulled.
    pub pull_policy: &'a str,
    /// The weights lie in a claim that only one node at a time can mount.
    pub one_node: bool,
}
