//! `ModelSignature`: a signature that is delivered apart from the model.

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
    printcolumn = r#"{"name": "Digest", "type": "string", "jsonPath": ".spec.digest"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ModelSignatureSpec {
    /// The content that it is about: `sha256:` and 64 hexadecimal digits, as in `status.model.digest` of the ModelDeployment.
    #[schemars(length(max = 71))]
    #[x_kube(validation = kube::core::Rule::new("self.matches('^sha256:[0-9a-f]{64}$')")
        .message("digest must be 'sha256:' and 64 lower-case hexadecimal digits, as status.model.digest of the ModelDeployment shows it"))]
    pub digest: String,
    /// The signature: a bundle of OpenSSF Model Signing v1.0, as the file `model.sig` holds it. It may list more files than are
    /// served.
    #[schemars(length(min = 1, max = 524_288))]
    pub bundle: String,
}

impl ModelSignatureSpec {
    /// The most signatures about one content that are looked at in one namespace: the oldest.
    pub const MAX_PER_DIGEST: usize = 16;
}
