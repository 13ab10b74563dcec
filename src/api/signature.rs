//! `ModelSignature`: a signature that is delivered apart from the model.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A signature over a model's content that does not lie beside the model: an organisation's over somebody else's repository, or an
/// approval.
///
/// Whoever may write in the namespace may deliver one. It counts only when a policy names the key that made it, and only for
/// exactly these bytes, so nobody can forge one.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "bonafide.dev",
    version = "v1alpha1",
    kind = "ModelSignature",
    plural = "modelsignatures",
    shortname = "msig",
    category = "bonafide",
    namespaced,
    status = "ModelSignatureStatus",
    printcolumn = r#"{"name": "Digest", "type": "string", "jsonPath": ".spec.digest"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].reason"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Why", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].message", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ModelSignatureSpec {
    /// The content that it is about: `sha256:` and 64 hexadecimal digits, as in `status.model.digest` of the ModelDeployment.
    #[schemars(length(max = 71))]
    #[x_kube(validation = kube::core::Rule::new("self.matches('^sha256:[0-9a-f]{64}$')")
        .message("digest must be 'sha256:' and 64 lower-case hexadecimal digits, as status.model.digest of the ModelDeployment shows it"))]
    pub digest: String,
    /// The signature: a bundle of OpenSSF Model Signing v1.0, as the file `model.sig` holds it, which may list more files than are
    /// served; or an approval of the content, as `bonafide approve` makes it.
    #[schemars(length(min = 1, max = 524_288))]
    pub bundle: String,
}

impl ModelSignatureSpec {
    /// The most signatures about one content that are looked at in one namespace: the oldest.
    pub const MAX_PER_DIGEST: usize = 16;
}

/// Whether the signature can be read, and who has what it is about.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelSignatureStatus {
    /// The generation that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the bundle can be read. Its reason is `Unused` while no ModelDeployment of the namespace has that content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
