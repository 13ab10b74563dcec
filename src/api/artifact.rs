//! `ModelArtifact`: the record of one resolved model, written by the operator only.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::model::{Digest, Manifest};

/// The immutable record of one resolved model: its source, its revision and every file with size and SHA-256.
///
/// The operator writes it, once for every served set of files; several ModelDeployments may share it. It is removed when
/// none does.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "bonafide.dev",
    version = "v1alpha1",
    kind = "ModelArtifact",
    plural = "modelartifacts",
    shortname = "mart",
    category = "bonafide",
    namespaced,
    status = "ModelArtifactStatus",
    printcolumn = r#"{"name": "Source", "type": "string", "jsonPath": ".spec.source"}"#,
    printcolumn = r#"{"name": "Revision", "type": "string", "jsonPath": ".spec.revision", "priority": 1}"#,
    printcolumn = r#"{"name": "Digest", "type": "string", "jsonPath": ".spec.digest"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    validation = kube::core::Rule::new("self.spec == oldSelf.spec").message("spec is immutable: an artifact is named by what it contains")
)]
#[serde(rename_all = "camelCase")]
pub struct ModelArtifactSpec {
    /// The canonical source, for example `hf://acme/smollm2`.
    #[schemars(length(max = 512))]
    pub source: String,
    /// The immutable revision: for a hub, the commit.
    #[schemars(length(max = 256))]
    pub revision: String,
    /// The content digest: SHA-256 over the lines `PATH NUL SIZE NUL SHA256 LF` of `files`, sorted by path.
    #[schemars(regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub digest: String,
    /// The files that are served, sorted by path.
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Atomic)]
    pub files: Vec<ArtifactFile>,
    /// The signatures found with the model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Atomic)]
    pub bundles: Vec<ArtifactBundle>,
}

/// One file of the model.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactFile {
    /// The path in the served tree.
    #[schemars(length(min = 1, max = 512))]
    pub path: String,
    /// The length in bytes.
    #[schemars(range(min = 0))]
    pub size: i64,
    /// The SHA-256 of its bytes, 64 hexadecimal digits.
    #[schemars(regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
}

/// A signature found with the model.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtifactBundle {
    /// Where it was found: a path in the source.
    #[schemars(length(max = 512))]
    pub from: String,
    /// The bundle, as found.
    #[schemars(length(max = 524_288))]
    pub content: String,
}

/// What the policies say of the artifact today.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelArtifactStatus {
    /// One verdict for each policy that selects the namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub verdicts: Vec<PolicyVerdict>,
}

/// What one policy says of the artifact.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyVerdict {
    /// The policy's kind: `ClusterModelPolicy`.
    #[schemars(length(max = 64))]
    pub kind: String,
    /// The policy's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The policy's generation that was evaluated.
    pub generation: i64,
    /// `Trusted`, `Refused`, or `Unsigned`: not trusted, and served all the same because of the policy's mode.
    #[schemars(length(max = 32))]
    pub result: String,
    /// The reason when it is not trusted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,
    /// The sentence for people when it is not trusted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// The names of the policy's signers whose signatures hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub signers: Vec<String>,
}

impl From<&crate::model::File> for ArtifactFile {
    fn from(file: &crate::model::File) -> Self {
        Self { path: file.path.to_string(), size: i64::try_from(file.size).unwrap_or(i64::MAX), sha256: file.sha256.hex() }
    }
}

impl ModelArtifactStatus {
    /// The most verdicts that are recorded.
    pub const MAX_VERDICTS: usize = 64;
}

impl ModelArtifactSpec {
    /// The manifest that the record holds; an error when it is not one, or when its digest is another.
    pub fn manifest(&self) -> Result<Manifest, String> {
        let files = self
            .files
            .iter()
            .map(|file| {
                Ok(crate::model::File {
                    path: file.path.parse().map_err(|error| format!("{error}"))?,
                    size: u64::try_from(file.size).map_err(|_| format!("{}: its size is negative", file.path))?,
                    sha256: Digest::from_hex(&file.sha256).map_err(|error| format!("{}: {error}", file.path))?,
                })
            })
            .collect::<Result<Vec<_>, String>>()?;
        let manifest = Manifest::new(files).map_err(|error| error.to_string())?;
        if manifest.digest().to_string() == self.digest {
            Ok(manifest)
        } else {
            Err(format!("the files have content digest {}, and the record says {}", manifest.digest(), self.digest))
        }
    }
}
