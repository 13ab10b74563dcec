//! `ModelDeployment`: a model that should be served.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    duration::Duration,
    engine::{AcceleratorClass, EnvVar},
    pod::Pod,
    secret::SecretRef,
};

/// A model that should be served: where its weights come from, which engine runs them, on what, and how many times.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "bonafide.dev",
    version = "v1alpha1",
    kind = "ModelDeployment",
    plural = "modeldeployments",
    shortname = "mdep",
    category = "bonafide",
    namespaced,
    status = "ModelDeploymentStatus",
    scale(spec_replicas_path = ".spec.replicas", status_replicas_path = ".status.replicas", label_selector_path = ".status.selector"),
    printcolumn = r#"{"name": "Trust", "type": "string", "jsonPath": ".status.trust"}"#,
    printcolumn = r#"{"name": "State", "type": "string", "jsonPath": ".status.state"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.ready"}"#,
    printcolumn = r#"{"name": "Revision", "type": "string", "jsonPath": ".status.model.shortRevision"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Why", "type": "string", "jsonPath": ".status.why"}"#,
    printcolumn = r#"{"name": "Digest", "type": "string", "jsonPath": ".status.model.digest", "priority": 1}"#,
    printcolumn = r#"{"name": "Signer", "type": "string", "jsonPath": ".status.signer", "priority": 1}"#,
    printcolumn = r#"{"name": "Engine", "type": "string", "jsonPath": ".status.engine.name", "priority": 1}"#,
    printcolumn = r#"{"name": "Accel", "type": "string", "jsonPath": ".status.accelerator", "priority": 1}"#,
    printcolumn = r#"{"name": "Cold", "type": "string", "jsonPath": ".status.coldStart.total", "priority": 1}"#,
    printcolumn = r#"{"name": "URL", "type": "string", "jsonPath": ".status.url", "priority": 1}"#,
    validation = Rule::new("self.metadata.name.size() <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must have at most 40 lower-case letters, digits and '-', begin with a letter and not end with '-': the Service and the pods are named after it")
)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentSpec {
    /// The model.
    pub model: Model,
    /// The engine that runs it. Absent: the engine of highest priority that loads what the source has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub engine: Engine,
    /// What each replica gets.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// How many replicas are wanted. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,
    /// How a change reaches the replicas.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rollout: Rollout,
    /// `Managed` (the default), or `Paused`: changes wait, and what serves goes on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub management: Management,
    /// What is said of the pods beyond that.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pod: Pod,
}

const fn one() -> i32 {
    1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How a change reaches the replicas.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.canary) || (has(self.strategy) && self.strategy == 'Canary')").message("rollout.canary has a meaning only with strategy Canary"))]
pub struct Rollout {
    /// `Surge`: a replica of the new revision answers before one of the old stops. `OneByOne`: one of the old stops before one of the
    /// new begins. `Auto` (the default): Surge where there is room, else OneByOne. `Canary`: as Auto, a share first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strategy: Strategy,
    /// How long the new revision may take for its next replica to answer; then it is given up and the old one stays. Absent: by
    /// the bytes to fetch and the time that the engine may load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Duration>,
    /// How long a replica that is to stop may finish its requests. Default `2m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Duration>,
    /// The share that goes first, with strategy Canary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// How a change reaches the replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Strategy {
    #[default]
    Auto,
    Surge,
    OneByOne,
    Canary,
}

/// The share of replicas that goes first.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// Its share of the replicas in percent, rounded up. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub percent: Option<i32>,
    /// How long the share has to answer without a failure before the others follow. Default `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Duration>,
}

/// Whether the operator acts on changes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Management {
    #[default]
    Managed,
    Paused,
}

/// Where the weights come from.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.source.startsWith('pvc://') || (!has(self.cache) && !has(self.secretRef))").message("model.cache and model.secretRef have no meaning with a pvc:// source: its files are read where they lie"))]
pub struct Model {
    /// `hf://OWNER/NAME`, a repository of the hub; `https://HOST/PATH`, a manifest file of `bonafide manifest`; `pvc://CLAIM/PATH`, a
    /// directory in a claim of this namespace.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("!self.contains('..') && !self.matches('/[.](/|$)') && (self.matches('^hf://[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?/[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?$') ? !self.contains('--') : self.matches('^https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?(/[A-Za-z0-9_.~+@=-]+)+$') ? !self.contains(':443/') : self.matches('^pvc://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/[A-Za-z0-9_.~+@=-]+)*$'))")
        .message("source must be hf://OWNER/NAME, for example hf://HuggingFaceTB/SmolLM2-135M-Instruct, https://HOST/PATH of a manifest, or pvc://CLAIM/PATH: no other scheme, no user info, no query, no '%' and no '..'; a revision goes into spec.model.revision"))]
    #[x_kube(validation = Rule::new("!self.matches('^https://(huggingface|hf)[.]co/[^/]+/[^/]+$')").message("source is the address of a page of the hub: write hf://OWNER/NAME"))]
    pub source: String,
    /// A branch, a tag or a commit, resolved once and kept; absent: the default branch. Of `https://` the SHA-256 of the manifest file;
    /// absent: the one that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9_]([A-Za-z0-9_./-]*[A-Za-z0-9_.-])?$') && !self.contains('..') && !self.contains('//')")
        .message("revision must be a branch, a tag or a commit: letters, digits, '_', '.', '/' and '-', without '..' and '//'"))]
    pub revision: Option<String>,
    /// A pin: this content and no other. `sha256:` and 64 hexadecimal digits, as in `status.model.digest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    #[x_kube(validation = Rule::new("self.matches('^sha256:[0-9a-f]{64}$')")
        .message("digest must be 'sha256:' and 64 lower-case hexadecimal digits, as status.model.digest shows it"))]
    pub digest: Option<String>,
    /// Globs of the files to serve: `*` within a segment, `**` for whole segments. Absent: what the engine needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    #[x_kube(validation = Rule::new("self.all(f, !f.startsWith('/') && !f.contains('..') && !f.matches('[?\\\\[\\\\]{}!\\\\\\\\]'))")
        .message("files are globs relative to the model's root; only '*' and '**' are wildcards, and '..' and a leading '/' are not allowed"))]
    pub files: Vec<String>,
    /// Where the signature is. Absent: `model.sig`, `*.oms.sig` or `*.sig` at the root. ModelSignatures of the content count besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureFile>,
    /// A Secret of type `bonafide.dev/source` with `hosts` and `token`, or `hosts`, `username` and `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// A claim that keeps what was fetched for the next replica. Absent: each fetches into a directory of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// The names by which requests ask for the model. Absent: the last part of the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(n, n.matches('^[A-Za-z0-9_][A-Za-z0-9_./:@-]*$'))")
        .message("servedNames have letters, digits, '_', '.', '/', ':', '@' and '-', and begin with a letter, a digit or '_'"))]
    pub served_names: Vec<String>,
}

/// A claim in which fetched bytes are kept.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// A PersistentVolumeClaim of this namespace. Only its directory `bonafide/` is written to.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message("this must be the name of a PersistentVolumeClaim: lower-case letters, digits, '-' and '.'"))]
    pub claim_name: String,
}

/// A signature beside the model.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignatureFile {
    /// Its path within the source.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.contains('..') && !self.contains('//') && !self.contains('*') && !self.endsWith('/')")
        .message("signature.file is a path relative to the model's root, without '*', '..', '//' and a leading '/'"))]
    pub file: String,
}

/// Which engine runs the model, and how.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Engine {
    /// An InferenceEngine, or an engine that is built in (`bonafide engines`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub name: Option<String>,
    /// The longest context in tokens. Absent: the engine's own default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_777_216))]
    pub context_length: Option<i64>,
    /// More arguments: only those that the engine lets users set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 1024)))]
    pub args: Vec<String>,
    /// Environment variables: only those that the engine lets users set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
}

/// What each replica gets.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Accelerators. Absent: the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<Accelerator>,
    /// Processors that a replica is sure to get: `4`, `1.5`, `500m`. It may use more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]{1,6}([.][0-9]{1,3})?|[0-9]{1,9}m)$') && !self.matches('^[0.]+m?$')").message("cpu is a number of processors: 4, 1.5 or 500m"))]
    pub cpu: Option<String>,
    /// Memory of a replica, and no more: `16Gi`; `/dev/shm` is part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,11}(k|M|G|T|Ki|Mi|Gi|Ti)?$')").message("memory is a whole number of bytes, perhaps with k, M, G, T, Ki, Mi, Gi or Ti: 16Gi"))]
    pub memory: Option<String>,
    /// The most that `/dev/shm` may hold. Absent: half of `memory`, else 16Gi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,11}(k|M|G|T|Ki|Mi|Gi|Ti)?$')").message("sharedMemory is a whole number of bytes, perhaps with k, M, G, T, Ki, Mi, Gi or Ti: 2Gi"))]
    pub shared_memory: Option<String>,
}

/// Accelerators of one class.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.class == 'none' ? !has(self.count) : true").message("accelerator.count has no meaning with class none: leave it out"))]
pub struct Accelerator {
    /// `nvidia`, `amd`, or `none` for the CPU.
    pub class: AcceleratorClass,
    /// How many each replica gets. Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub count: Option<i32>,
}

/// What is so. The top level speaks of what is wanted, `revisions` of what serves.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelDeploymentStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Idle`, `Waiting`, `Fetching`, `Loading`, `Blocked` or `Degraded`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// `Signed`, `Pinned`, `Unsigned`, `Refused` or `Unknown`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trust: String,
    /// Replicas that answer, of those wanted: `2/2`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ready: String,
    /// What is in the way, in one sentence.
    #[serde(default)]
    pub why: String,
    /// Where requests go, within the cluster.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// The policy's signers whose signatures hold, joined by commas.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub signer: String,
    /// The accelerators of each replica: `nvidia:4`, or `none`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub accelerator: String,
    /// Replicas that exist, for `/scale`.
    #[serde(default)]
    pub replicas: i32,
    /// The label selector of the pods, for `/scale`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// The model as resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ResolvedModel>,
    /// What serves; several while one replaces another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub revisions: Vec<RevisionStatus>,
    /// The engine that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineStatus>,
    /// How long the replica that was made last took until it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start: Option<ColdStart>,
    /// `SourceResolved`, `Trusted`, `ContentVerified`, `Available`, `Ready`, `Reconciling`, `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// What a newer version wrote beside that: written again as it is, so that nothing is lost.
    #[serde(flatten)]
    #[schemars(skip)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

/// The model as resolved.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedModel {
    /// The ModelArtifact that records it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub artifact: String,
    /// The source that was resolved.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The revision that was asked for; empty: the default branch.
    #[serde(default)]
    pub wanted_revision: String,
    /// The immutable revision: for a hub, the commit.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The first seven characters of the revision.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub short_revision: String,
    /// The content digest of what is served.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub digest: String,
    /// The bytes of all files together.
    #[serde(default)]
    pub bytes: i64,
}

/// One revision of the deployment: what a spec and a resolved model were rendered to, and how far it is.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// Its name: `bonafide-NAME-REVISION` is its Deployment.
    pub name: String,
    /// `Current`, `Old`, `Refused`, or `Failed`: it was given up.
    #[serde(default)]
    pub phase: String,
    /// Its ModelArtifact.
    #[serde(default)]
    pub artifact: String,
    /// Its content digest.
    #[serde(default)]
    pub digest: String,
    /// What the policies say of it today.
    #[serde(default)]
    pub trust: String,
    /// The signers whose signatures hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub signers: Vec<String>,
    /// The engine's image.
    #[serde(default)]
    pub image: String,
    /// Replicas that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Replicas that answer.
    #[serde(default)]
    pub ready_replicas: i32,
}

/// How long a replica took from nothing to answering.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ColdStart {
    /// The pod that was measured.
    #[serde(default)]
    pub pod: String,
    /// The whole, for example `94s`.
    #[serde(default)]
    pub total: String,
    /// The phase that took longest.
    #[serde(default)]
    pub slowest: String,
    /// What took a second or more: `queued` (verdict, quota, room), `scheduled` (volumes, network), `image`, `fetch`, `verify`, `load`,
    /// `ready` (first answer, vouching).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub phases: Vec<ColdStartPhase>,
}

/// A part of a cold start.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ColdStartPhase {
    /// Which.
    pub name: String,
    /// How long it took, for example `61s`.
    pub duration: String,
}

/// The engine that was chosen.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineStatus {
    /// Its name.
    pub name: String,
    /// Its arguments, as rendered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub args: Vec<String>,
}
