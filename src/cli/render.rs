//! `bonafide render`: the children of a ModelDeployment, without a cluster and without a network.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Output, USAGE, fail, print, verify::hash};
use crate::{
    api::{AcceleratorClass, ArtifactFile, InferenceEngine, ModelArtifact, ModelArtifactSpec, ModelDeployment},
    controller::{self, plan},
    engine::{self, Catalogue},
    model::{Checks, CleanPath, File, Manifest, Source},
};

/// What `render` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The files of a model are not in a ModelDeployment. They are taken from a ModelArtifact in one of the files given with -f,
or from a local copy of the model (--dir), which is hashed.

Examples:
  bonafide render -f examples/smollm2.yaml --dir ./SmolLM2-135M-Instruct-GGUF
  kubectl get modelartifact smollm2-91c04e2f -o yaml > artifact.yaml && bonafide render -f model.yaml -f artifact.yaml"
)]
pub struct RenderArgs {
    /// A file with a ModelDeployment, perhaps InferenceEngines, ModelArtifacts and PersistentVolumeClaims; '-' is the standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// A local copy of the model
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The operator's image, for the container that fetches
    #[arg(long, default_value = concat!("ghcr.io/bonafide-dev/bonafide:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// How the objects are printed: YAML documents or one JSON list
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Renders.
pub fn run(args: &RenderArgs) -> ExitCode {
    match render(args) {
        Ok(text) => print(&text),
        Err((code, message)) => fail(code, message),
    }
}

type Failure = (u8, String);

/// Input of these kinds is used; any other document is passed over, as a file often holds a Namespace or a policy beside them.
#[derive(Default)]
struct Input {
    deployments: Vec<ModelDeployment>,
    artifacts: Vec<ModelArtifact>,
    engines: Vec<InferenceEngine>,
    claims: Vec<PersistentVolumeClaim>,
}

fn render(args: &RenderArgs) -> Result<String, Failure> {
    let mut input = Input::default();
    for path in &args.files {
        read(path, &mut input)?;
    }
    if input.deployments.is_empty() {
        return Err((USAGE, "none of the files holds a ModelDeployment (apiVersion bonafide.dev/v1alpha1)".to_owned()));
    }
    let catalogue = Catalogue::builtin().with_objects(std::mem::take(&mut input.engines));
    let mut objects = Vec::new();
    for deployment in &input.deployments {
        objects.extend(children(args, deployment, &input, &catalogue)?);
    }
    match args.output {
        Output::Json => serde_json::to_string_pretty(&objects).map(|text| text + "\n").map_err(|error| (1, error.to_string())),
        Output::Text => objects
            .iter()
            .map(|object| serde_saphyr::to_string(object).map(|text| format!("---\n{text}")))
            .collect::<Result<String, _>>()
            .map(|objects| format!("{}{objects}", note(args)))
            .map_err(|error| (1, error.to_string())),
    }
}

/// What the objects cannot show.
fn note(args: &RenderArgs) -> &'static str {
    if args.dir.is_some() {
        "# The files are those of the local copy. In a cluster --revision is the commit that the source names, and the digest its content's.\n"
    } else {
        ""
    }
}

fn read(path: &Path, input: &mut Input) -> Result<(), Failure> {
    let unreadable = |error: &dyn std::fmt::Display| (USAGE, format!("{}: {error}", path.display()));
    let text = if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let text = text.map_err(|error| unreadable(&format_args!("it cannot be read: {error}")))?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| unreadable(&error))?;
    for document in documents {
        let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "ModelDeployment" => input.deployments.push(parse(path, &kind, document)?),
            "ModelArtifact" => input.artifacts.push(parse(path, &kind, document)?),
            "InferenceEngine" => input.engines.push(parse(path, &kind, document)?),
            // Kubernetes' own, and of every release: only what is known here is read of it.
            "PersistentVolumeClaim" => input.claims.extend(serde_json::from_value(document)),
            _ => {}
        }
    }
    Ok(())
}

fn parse<T: DeserializeOwned + Serialize>(path: &Path, kind: &str, document: Value) -> Result<T, Failure> {
    let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or("without a name").to_owned();
    let wrong = |error: &dyn std::fmt::Display| (USAGE, format!("{}: {kind} {name}: {error}", path.display()));
    let object: T = serde_json::from_value(document.clone()).map_err(|error| wrong(&error))?;
    let read = serde_json::to_value(&object).map_err(|error| wrong(&error))?;
    match unknown(document.get("spec").unwrap_or(&Value::Null), read.get("spec").unwrap_or(&Value::Null), "spec") {
        None => Ok(object),
        Some(field) => {
            Err(wrong(&format_args!("unknown field {field}; `kubectl explain {}` lists the ones there are", kind.to_lowercase())))
        }
    }
}

/// The first field of `written` that nobody `read`: a cluster would refuse it too. Empty values are left out when they are read.
fn unknown(written: &Value, read: &Value, path: &str) -> Option<String> {
    match (written, read) {
        (Value::Object(written), Value::Object(read)) => written.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            let empty = value.is_null()
                || value.as_object().is_some_and(|map| map.is_empty())
                || value.as_array().is_some_and(Vec::is_empty);
            match read.get(key) {
                Some(read) => unknown(value, read, &path),
                None if empty => None,
                None => Some(path),
            }
        }),
        (Value::Array(written), Value::Array(read)) => written
            .iter()
            .zip(read)
            .enumerate()
            .find_map(|(at, (written, read))| unknown(written, read, &format!("{path}[{at}]"))),
        _ => None,
    }
}

fn children(
    args: &RenderArgs,
    deployment: &ModelDeployment,
    input: &Input,
    catalogue: &Catalogue,
) -> Result<Vec<Value>, Failure> {
    let Input { artifacts, claims, .. } = input;
    let name = deployment.name_any();
    let refused = |message: String| (1, format!("ModelDeployment {name}: {message}"));
    let namespace = deployment.namespace().unwrap_or_else(|| "default".to_owned());
    let source = Source::in_namespace(&deployment.spec.model.source, &namespace)
        .map_err(|error| refused(format!("spec.model.source: {error}")))?;
    let recorded = artifacts.iter().find(|artifact| artifact.spec.source == source.to_string());
    let wanted = engine::wanted(&deployment.spec.model.files).map_err(|problem| refused(problem.message))?;
    let class = deployment.spec.resources.accelerator.as_ref().map_or(AcceleratorClass::None, |accelerator| accelerator.class);
    let choose = |files: &[(CleanPath, u64)]| {
        catalogue
            .choose(deployment.spec.engine.name.as_deref(), None, files, &wanted, class)
            .map_err(|problem| refused(problem.message))
    };

    let (spec, manifest, candidates) = match (recorded, &args.dir) {
        (Some(artifact), _) => {
            let manifest =
                artifact.spec.manifest().map_err(|error| refused(format!("ModelArtifact {}: {error}", artifact.name_any())))?;
            let candidates = names(&manifest);
            (artifact.spec.clone(), manifest, candidates)
        }
        (None, Some(dir)) => from_directory(deployment, &source, dir, |files| {
            let engine = choose(files)?;
            engine::select(engine, files, &wanted).map(|selection| selection.files).map_err(|problem| refused(problem.message))
        })?,
        (None, None) => {
            return Err((
                USAGE,
                format!(
                    "the files of {source} are not known without a network: give a ModelArtifact of it with -f, or a local copy with --dir"
                ),
            ));
        }
    };
    let engine = choose(&candidates)?;
    let selection = engine::select(engine, &candidates, &wanted).map_err(|problem| refused(problem.message))?;
    let served = controller::served_names(deployment, &source);
    let rendered = engine::render(engine, &selection, &controller::render_input(deployment, &served))
        .map_err(|problem| refused(problem.message))?;
    let weights_in = match &source {
        Source::Claim { claim, .. } => Some(claim.clone()),
        Source::Hub { .. } | Source::Web { .. } => deployment.spec.model.cache.as_ref().map(|cache| cache.claim_name.clone()),
    };
    let revision = plan::revision(&plan::RevisionInput {
        number: 1,
        deployment: &name,
        spec: &deployment.spec,
        artifact_name: &controller::artifact_name(&spec),
        artifact: &spec,
        digest: manifest.digest(),
        bytes: manifest.size(),
        engine: engine.name(),
        rendered: &rendered,
        fetch_image: &args.image,
        pull_policy: "IfNotPresent",
        one_node: claims
            .iter()
            .any(|claim| weights_in.as_deref() == Some(&claim.name_any()) && controller::is_of_one_node(claim)),
    });
    let owner = plan::Owner { name, namespace, uid: deployment.uid().unwrap_or_default() };
    let made_of = plan::spec_of(&deployment.spec);
    let reason = plan::reason(None, &made_of, &revision.commit, &revision.artifact);
    let notes = controller::Notes::new(&made_of, &reason, plan::asking(engine, &served), None);
    let replicas = Some(deployment.spec.replicas);
    let live = plan::Live {
        revision: &revision,
        manifest: Some(&manifest),
        checks: Checks::default(),
        replicas,
        version: None,
        notes: &notes.kept,
    };
    Ok(plan::children(&owner, &[live], &Value::Object(serde_json::Map::new())).into_iter().map(|child| child.object).collect())
}

fn names(manifest: &Manifest) -> Vec<(CleanPath, u64)> {
    manifest.files().iter().map(|file| (file.path.clone(), file.size)).collect()
}

type Local = (ModelArtifactSpec, Manifest, Vec<(CleanPath, u64)>);

/// What an artifact would record if the source had what the directory has. Its revision is unknown.
fn from_directory(
    deployment: &ModelDeployment,
    source: &Source,
    dir: &Path,
    select: impl FnOnce(&[(CleanPath, u64)]) -> Result<Vec<CleanPath>, Failure>,
) -> Result<Local, Failure> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| (USAGE, format!("{}: {error}", path.display()));
    let mut files = Vec::new();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).map_err(|error| unreadable(&directory, &error))? {
            let entry = entry.map_err(|error| unreadable(&directory, &error))?;
            let kind = entry.file_type().map_err(|error| unreadable(&entry.path(), &error))?;
            if kind.is_dir() && entry.file_name() != ".git" && entry.file_name() != ".cache" {
                pending.push(entry.path());
            } else if kind.is_file()
                && let Some(path) = entry.path().strip_prefix(dir).ok().and_then(Path::to_str)
            {
                let path: CleanPath = path.parse().map_err(|error| unreadable(dir, &error))?;
                files.push((path, entry.metadata().map_err(|error| unreadable(&entry.path(), &error))?.len()));
            }
        }
    }
    files.sort();
    let mut entries = Vec::new();
    for path in select(&files)? {
        let file = dir.join(path.as_str());
        let (size, sha256) = hash::file(&file).map_err(|error| unreadable(&file, &error))?;
        entries.push(File { path, size, sha256 });
    }
    let manifest = Manifest::new(entries).map_err(|error| (1, error.to_string()))?;
    let spec = ModelArtifactSpec {
        source: source.to_string(),
        revision: deployment.spec.model.revision.clone().unwrap_or_else(|| "main".to_owned()),
        digest: manifest.digest().to_string(),
        files: manifest.files().iter().map(ArtifactFile::from).collect(),
        bundles: vec![],
    };
    let candidates = names(&manifest);
    Ok((spec, manifest, candidates))
}
