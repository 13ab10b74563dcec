//! `ClusterModelPolicy`: whose signatures the cluster's owner trusts, for which sources, in which namespaces.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Format, RemoteCode};

/// Whose signatures are trusted, for which sources, in which namespaces.
///
/// A policy is selected by namespace, never by anything that the author of a ModelDeployment writes. Every policy that
/// selects a namespace must accept a model before it is served there.
#[derive(CustomResource, KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "bonafide.dev",
    version = "v1alpha1",
    kind = "ClusterModelPolicy",
    plural = "clustermodelpolicies",
    shortname = "cmpol",
    category = "bonafide",
    status = "ClusterModelPolicyStatus",
    printcolumn = r#"{"name": "Mode", "type": "string", "jsonPath": ".spec.mode"}"#,
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].status"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Why", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].message", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterModelPolicySpec {
    /// The namespaces it is for, by their labels. Empty (the default): every namespace.
    #[serde(default)]
    pub namespace_selector: LabelSelector,
    /// What becomes of a model whose signatures a rule does not accept: `Enforce` (the default) refuses it; `Warn` serves it, calls
    /// it Unsigned and says so in an Event; `Audit` serves it and calls it Unsigned. Damaged signatures, changed files, pins,
    /// `deny` and sources that no rule names are refused in every mode.
    #[serde(default)]
    pub mode: Mode,
    /// What becomes of a model whose source no rule matches: `Refuse` (the default) or `Accept`.
    #[serde(default)]
    pub unmatched: Unmatched,
    /// Who there is. Rules refer to them by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub signers: Vec<Signer>,
    /// What is demanded of which sources. At least one rule must match (see `unmatched`), and every one that matches must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub rules: Vec<PolicyRule>,
    /// Bytes and origins of which nothing is served, whoever signed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub deny: Vec<Deny>,
    /// What becomes of files that the signature does not cover: `Exclude` (the default) leaves them out of the served tree,
    /// `Reject` refuses the model when the engine would read one.
    #[serde(default)]
    pub unsigned_files: UnsignedFiles,
    /// Whether every file that a signature lists must be served: then nobody can leave one out (a safety model, a chat template) and
    /// still call the model signed. It asks for it of the signatures that a rule demands. Default false.
    #[serde(default)]
    pub complete_tree: bool,
    /// The formats of weights that may be served: `safetensors`, `gguf`. A file is taken for what the end of its name says; its
    /// bytes are looked at before anything is mounted, and one that is not of that format from the first byte to the last is refused.
    /// Beside weights only configuration, tokenizers, templates and texts are served. Holds for every source and in every mode. Absent:
    /// any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub formats: Vec<Format>,
    /// What becomes of a model that brings code along (`*.py` and the like) or whose configuration names some (`auto_map`,
    /// `custom_generate`, at any depth): `Deny` (the default) refuses it; `AllowIfSigned` takes it where a rule's signatures cover every
    /// file, but never code from another repository. It holds for the sources that a rule of the policy names, in every mode.
    #[serde(default)]
    pub remote_code: RemoteCode,
    /// Which engines may serve. Absent: any that the cluster has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engines: Option<EngineDemand>,
    /// How sure it has to be that the engine reads the bytes that were verified: `Copied` (the default) wants them hashed while they
    /// are brought to a place of the pod's own; `InPlace` also takes those that are hashed where they lie, in a claim that others
    /// may write to afterwards (`pvc://` sources and `model.cache`). It holds for the sources that a rule of the policy names.
    #[serde(default)]
    pub minimum_assurance: Assurance,
    /// What becomes of replicas that run when this policy refuses what they serve, for whatever reason. `BlockNew` (the default): they
    /// go on until they stop; no pod and no container starts again. `KeepRunning`: the same, but a container may be started again
    /// within its pod. `Drain`: they get no new requests from then on, finish those they have, within `rollout.drain` of the
    /// ModelDeployment, and stop. Of several policies that refuse, the strictest counts. A policy that cannot be used drains nothing.
    #[serde(default)]
    pub on_recall: OnRecall,
}

/// What becomes of replicas that run while what they serve is refused, the strictest last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum OnRecall {
    KeepRunning,
    #[default]
    BlockNew,
    Drain,
}

impl OnRecall {
    /// As it stands in a policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeepRunning => "KeepRunning",
            Self::BlockNew => "BlockNew",
            Self::Drain => "Drain",
        }
    }
}

/// Which engines may serve.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineDemand {
    /// The images that may run, each with its digest: `REGISTRY/NAME@sha256:…`. What an engine reads, it could give away: only one of
    /// these gets the weights. Holds for every source and in every mode; the engine's image has to be written with its digest
    /// (InferenceEngine), as a tag may mean another image tomorrow.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512), regex(pattern = r"^[^@\s]+@sha256:[0-9a-f]{64}$")))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub images: Vec<String>,
}

/// How strictly a policy acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    #[default]
    Enforce,
    Warn,
    Audit,
}

/// How sure it is that an engine reads the bytes that were verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Assurance {
    #[default]
    Copied,
    InPlace,
}

/// What becomes of a source that no rule matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Unmatched {
    #[default]
    Refuse,
    Accept,
}

/// What becomes of files that no signature covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnsignedFiles {
    #[default]
    Exclude,
    Reject,
}

/// Somebody whose signature can be demanded.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.publicKey), has(self.certificate), has(self.keyless)].exists_one(x, x)").message("a signer needs exactly one method: publicKey, certificate or keyless"))]
pub struct Signer {
    /// The name that rules use.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// A public key: EC P-256, P-384 or P-521.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PublicKeySource>,
    /// Whoever has a certificate for code signing from an authority of one's own, under a given name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateSigner>,
    /// Whoever an issuer of identities calls by a given name, as Sigstore attests it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyless: Option<KeylessSigner>,
}

impl Signer {
    /// The entries of Secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        let key = self.public_key.as_ref().and_then(|key| key.secret_key_ref.as_ref());
        let ca = self.certificate.as_ref().and_then(|certificate| certificate.ca.secret_key_ref.as_ref());
        let root = self.keyless.as_ref().and_then(|keyless| keyless.trusted_root.as_ref()?.secret_key_ref.as_ref());
        key.into_iter().chain(ca).chain(root)
    }
}

/// Whoever has a certificate from an authority, under a given name. The certificate must be valid when a verdict is reached.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.subject) || has(self.san)").message("certificate needs subject or san: without either, everybody with a certificate of the authority could sign"))]
pub struct CertificateSigner {
    /// The authority. The way from a signer's certificate to it is taken from the signature.
    pub ca: AuthoritySource,
    /// The certificate's subject, as RFC 4514 writes it, the most specific part first: `CN=Models,O=Acme`. Where `san` is given
    /// too, both must fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<NamePattern>,
    /// A name beside the subject (subjectAltName).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub san: Option<AlternativeName>,
}

/// Whoever signs under an identity, with a certificate that Sigstore gives for some minutes and an entry in its log.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeylessSigner {
    /// Who knows the signer: the URL of the issuer of identities, to the letter as it stands in the certificate, such as
    /// `https://accounts.google.com`.
    #[schemars(length(min = 1, max = 512))]
    pub issuer: String,
    /// What the issuer calls the signer: a mail address, or the URI of a workflow.
    pub identity: NamePattern,
    /// The Sigstore instance. Absent: the public one, as it was known when Bonafide was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_root: Option<TrustedRootSource>,
}

/// Where the keys of a Sigstore instance are.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.json), has(self.secretKeyRef)].exists_one(x, x)").message("trustedRoot needs exactly one of json and secretKeyRef"))]
pub struct TrustedRootSource {
    /// The instance's `trusted_root.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub json: Option<String>,
    /// The same in a Secret in the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// Where an authority's certificates are.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.pem), has(self.secretKeyRef)].exists_one(x, x)").message("ca needs exactly one of pem and secretKeyRef"))]
pub struct AuthoritySource {
    /// PEM blocks `CERTIFICATE`, several while the authority changes its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 65536))]
    pub pem: Option<String>,
    /// The same in a Secret in the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// What a name must be.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("[has(self.exact), has(self.regex)].exists_one(x, x)").message("a name needs exactly one of exact and regex"))]
pub struct NamePattern {
    /// This and nothing else; case matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub exact: Option<String>,
    /// An expression that must fit the whole name, from its first character to its last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub regex: Option<String>,
}

/// A name beside the subject of a certificate. One of the same kind must fit.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("[has(self.email), has(self.uri), has(self.dns)].exists_one(x, x)").message("san needs exactly one of email, uri and dns"))]
pub struct AlternativeName {
    /// A mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<NamePattern>,
    /// A URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<NamePattern>,
    /// A DNS name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<NamePattern>,
}

/// Where a public key is.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.pem), has(self.secretKeyRef)].exists_one(x, x)").message("publicKey needs exactly one of pem and secretKeyRef"))]
pub struct PublicKeySource {
    /// The key itself: a PEM block `PUBLIC KEY`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub pem: Option<String>,
    /// A key of a Secret in the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// One entry of a Secret in the operator's namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in its data.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What is demanded of the sources it matches. Everything that it says must hold.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.signedBy) || has(self.digests)").message("a rule needs signedBy or digests: without either, it would demand nothing"))]
pub struct PolicyRule {
    /// The rule's name, for messages.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The sources it is for.
    pub sources: SourceMatch,
    /// Who must have signed: every entry must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub signed_by: Vec<SignedBy>,
    /// Content digests (`status.model.digest`, `bonafide verify`), `sha256:` and 64 hexadecimal digits: the content must be one of
    /// them. So a rule pins what may be served, and keeps an older or another model of the same signer out. Holds in every mode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 71, max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$")))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub digests: Vec<String>,
}

/// Which sources a rule is for.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceMatch {
    /// Globs over canonical sources, of which one must match: `*` within a segment, `**` for whole segments.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 512)))]
    pub include: Vec<String>,
    /// Globs of which none may match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub exclude: Vec<String>,
}

/// Signatures that a rule demands.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minimum <= size(self.anyOf)").message("minimum must not be greater than the number of signers in anyOf"))]
pub struct SignedBy {
    /// The entry's name, for messages.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Signers by name.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    pub any_of: Vec<String>,
    /// How many different ones of them must have signed. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub minimum: i32,
}

const fn one() -> i32 {
    1
}

/// Bytes or an origin of which nothing is ever served.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.fileDigests) != has(self.source)").message("an entry of deny needs exactly one of fileDigests and source"))]
#[x_kube(validation = Rule::new("!has(self.revision) || has(self.source)").message("revision needs source: it is a revision of that source"))]
pub struct Deny {
    /// The entry's name, for messages.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// SHA-256 digests of files, `sha256:` and 64 hexadecimal digits. A model that would serve one of them is refused, wherever it
    /// comes from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 1024), inner(length(min = 71, max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$")))]
    pub file_digests: Vec<String>,
    /// A source, or a glob over sources as in `rules`: nothing of it is served. Bytes that were copied elsewhere are not meant: name
    /// them in `fileDigests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub source: Option<String>,
    /// Only this revision of `source`, as `status.model.revision` has it: the whole commit, or the digest of a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub revision: Option<String>,
    /// Why, for the people who read the message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub reason: String,
}

/// Whether the policy is in force.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterModelPolicyStatus {
    /// The generation that the conditions speak of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: every key, pattern and name in it can be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
