//! `InferenceEngine`: how one engine is run, as data.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How one inference engine is run: its image, command line, port, probes, and what users may set.
///
/// The engines that come with Bonafide are compiled in; an object of the same name takes the place of one.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "bonafide.dev",
    version = "v1alpha1",
    kind = "InferenceEngine",
    plural = "inferenceengines",
    shortname = "ieng",
    category = "bonafide",
    printcolumn = r#"{"name": "Version", "type": "string", "jsonPath": ".spec.version"}"#,
    printcolumn = r#"{"name": "Priority", "type": "integer", "jsonPath": ".spec.priority"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct InferenceEngineSpec {
    /// The engine's own version, for people.
    #[schemars(length(min = 1, max = 63))]
    pub version: String,
    /// Of the engines that load a model, the one of highest priority is chosen when nobody names one. Default 0.
    #[serde(default)]
    pub priority: i32,
    /// The image for each class of accelerator it runs on; `none` is the CPU.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["accelerator".into()]))]
    pub images: Vec<EngineImage>,
    /// The program, when the image's own entry point is not the one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 1024)))]
    pub command: Vec<String>,
    /// The command line. Variables: `$(MODEL_PATH)`, `$(MODEL_FILE)`, `$(SERVED_NAMES)` (joined by commas), `$(SERVED_NAMES[*])`
    /// (an argument of its own, one for each name), `$(SERVED_NAME)` (the first), `$(PORT)`, `$(CONTEXT_LENGTH)`,
    /// `$(ACCELERATOR_COUNT)`. An argument whose variable has no value is left out, together with the flag before it; `$$` is
    /// a dollar sign.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 1024)))]
    pub args: Vec<String>,
    /// Environment variables that are always set, with the same variables. One whose variable has no value is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// The port on which it answers the OpenAI API.
    #[schemars(range(min = 1024, max = 65535))]
    pub port: i32,
    /// What it loads, in the order of preference.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Atomic)]
    pub loads: Vec<Loads>,
    /// How it says that it is ready.
    pub probes: EngineProbes,
    /// How one finds out that it has no work, before it is stopped. Absent: it gets the whole time that a drain may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<EngineDrain>,
    /// Its metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<EngineMetrics>,
    /// What its end means.
    #[serde(default)]
    pub exit: EngineExit,
    /// What its messages mean when it cannot start: the first pattern that a line of the log matches explains it. More
    /// telling ones come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Atomic)]
    pub errors: Vec<EngineError>,
    /// Directories it must be able to write to, beside a read-only root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = kube::core::ListMerge::Atomic)]
    pub writable: Vec<Writable>,
    /// What users may set; everything else is refused.
    #[serde(default)]
    pub user: UserSettings,
}

/// The image for one class of accelerator.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineImage {
    /// `nvidia`, `amd` or `none`.
    pub accelerator: AcceleratorClass,
    /// The image, best with a digest.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
}

/// A class of accelerators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorClass {
    Nvidia,
    Amd,
    None,
}

impl AcceleratorClass {
    /// As users write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nvidia => "nvidia",
            Self::Amd => "amd",
            Self::None => "none",
        }
    }
}

/// An environment variable.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.name.matches('^[A-Za-z_][A-Za-z0-9_]*$')").message("the name of an environment variable has only letters, digits and '_', and does not begin with a digit"))]
pub struct EnvVar {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its value. Default: empty.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// One format that an engine loads, and the files that belong to it.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Loads {
    /// The format's name: `gguf` or `safetensors`.
    #[schemars(length(min = 1, max = 63))]
    pub format: String,
    /// Globs of the weights.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 512)))]
    pub files: Vec<String>,
    /// Globs of weights that are something else, for example an image projector.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    pub except: Vec<String>,
    /// Globs of what else the engine reads: configuration, tokenizer, chat template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    pub with: Vec<String>,
    /// `All`: the weights belong together. `One`: each is a model of its own (the parts of a split file count as one), and one is served.
    pub choose: Choose,
    /// For `One`: globs in the order of preference, over names without the numbering of split files. The first that matches
    /// anything decides, and has to match exactly one model: nothing is guessed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    pub prefer: Vec<String>,
}

/// Whether a repository's weights are one model or several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Choose {
    One,
    All,
}

/// How an engine says that it is ready.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.ready.startsWith('/')").message("probes.ready is a path and begins with '/'"))]
pub struct EngineProbes {
    /// The path that answers 200 when requests would be answered.
    #[schemars(length(min = 1, max = 256))]
    pub ready: String,
    /// How long loading may take, in seconds, before the engine is started again. Default 1800.
    #[serde(default = "half_an_hour")]
    #[schemars(range(min = 10, max = 86400))]
    pub start_timeout_seconds: i32,
    /// The first request that a replica has to answer before it counts. Absent: it counts when `ready` answers 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<EngineRequest>,
}

const fn half_an_hour() -> i32 {
    1800
}

/// The first request to a replica. Engines say that they are ready, and fail on what they are asked first.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.path.startsWith('/')").message("probes.request.path begins with '/'"))]
pub struct EngineRequest {
    /// Where it is posted to.
    #[schemars(length(min = 1, max = 256))]
    pub path: String,
    /// The JSON that is posted; `$(SERVED_NAME)` is the first served name.
    #[schemars(length(min = 1, max = 4096))]
    pub body: String,
}

/// How one finds out that an engine has no work.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineDrain {
    /// Gauges among its metrics that are all zero when it has no work.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 128), regex(pattern = "^[a-zA-Z_:][a-zA-Z0-9_:]*$")))]
    pub idle_when_zero: Vec<String>,
}

/// An engine's metrics, in Prometheus' text format.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.path.startsWith('/')").message("metrics.path begins with '/'"))]
pub struct EngineMetrics {
    /// Their path, at the engine's port.
    #[schemars(length(min = 1, max = 256))]
    pub path: String,
}

/// What the end of an engine means.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineExit {
    /// Whether it ends with 0 also when it broke down.
    #[serde(default)]
    pub zero_is_crash: bool,
}

/// What a message of an engine means.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineError {
    /// A regular expression that a line of the log matches; named groups (`(?<name>…)`) can be used in `say`.
    #[serde(rename = "match")]
    #[schemars(length(min = 1, max = 512))]
    pub pattern: String,
    /// The reason, one of those that docs/reasons.md lists for pods.
    #[schemars(length(min = 1, max = 63))]
    pub reason: String,
    /// What it means and what helps, for people; `${name}` is what a named group matched.
    #[schemars(length(min = 1, max = 512))]
    pub say: String,
}

/// A directory that an engine writes to.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.path.startsWith('/') && !self.path.contains('..')").message("writable.path is absolute and has no '..'"))]
pub struct Writable {
    /// The environment variable that tells the engine, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub env: Option<String>,
    /// The directory. `/dev/shm` is memory.
    #[schemars(length(min = 2, max = 256))]
    pub path: String,
}

/// What the author of a ModelDeployment may set.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UserSettings {
    /// Flags that take a value, each as it is written: `--threads`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 2, max = 128)))]
    pub args: Vec<String>,
    /// Flags that take no value: `--enforce-eager`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 2, max = 128)))]
    pub switches: Vec<String>,
    /// Environment variables by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 253)))]
    pub env: Vec<String>,
}
