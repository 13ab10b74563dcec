//! Where the weights of a pod lie: in a directory of its own, in a claim that keeps what was fetched, or in a claim where they are
//! read in place.

use serde_json::{Value, json};

use super::{MODEL_PATH, RevisionInput};
use crate::{
    api::{Assurance, Model, ModelArtifactSpec, Problem, Reason},
    model::{Digest, Source},
};

/// The volume.
const VOLUME: &str = "weights";
/// Where the container that fetches has it.
const WEIGHTS: &str = "/var/lib/bonafide/weights";

/// The most files of a model that is read in place: each is a mount of its own, in two containers.
pub const MAX_IN_PLACE: usize = 256;

/// What is said of a model in a claim that has more files than that.
pub fn too_many_in_place(source: &Source, files: usize) -> Problem {
    let message = format!(
        "{source}: {files} files would be mounted one by one, and at most {MAX_IN_PLACE} are. Serve fewer files with spec.model.files."
    );
    Problem::new(Reason::TooManyFiles, message)
}

/// Where the weights of a pod lie.
enum Place<'a> {
    /// In a directory of its own, which goes with the pod.
    Own,
    /// In a claim, in a directory named after the content; other pods find it there.
    Kept { claim: &'a str, directory: String },
    /// In a claim, where somebody put them. Only the files of the manifest are mounted: what is not in it does not exist there.
    Found { claim: String, directory: String },
}

fn place<'a>(input: &RevisionInput<'a>) -> Place<'a> {
    match (input.artifact.source.parse(), &input.spec.model.cache) {
        (Ok(Source::Claim { claim, path, .. }), _) => Place::Found { claim, directory: directory(&path, input.artifact) },
        (_, Some(cache)) => Place::Kept { claim: &cache.claim_name, directory: kept(input.digest) },
        (_, None) => Place::Own,
    }
}

/// The directory of a claim in which this content is kept.
fn kept(digest: Digest) -> String {
    format!("bonafide/sha256-{}", digest.hex())
}

/// The directory of a claim that holds the files: a commit of forty digits is one of the hub's cache.
fn directory(path: &str, artifact: &ModelArtifactSpec) -> String {
    let commit = &artifact.revision;
    let snapshot = if commit.len() == 40 { format!("snapshots/{commit}") } else { String::new() };
    [path, &snapshot].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

/// The volume that holds the weights.
pub fn volume(input: &RevisionInput<'_>) -> Value {
    match place(input) {
        Place::Own => json!({ "name": VOLUME, "emptyDir": {} }),
        Place::Kept { claim, .. } => json!({ "name": VOLUME, "persistentVolumeClaim": { "claimName": claim } }),
        Place::Found { claim, .. } => {
            json!({ "name": VOLUME, "persistentVolumeClaim": { "claimName": claim, "readOnly": true } })
        }
    }
}

/// The mounts of the container that fetches.
pub fn of_fetch(input: &RevisionInput<'_>) -> Vec<Value> {
    match place(input) {
        Place::Own => vec![json!({ "name": VOLUME, "mountPath": WEIGHTS })],
        Place::Kept { directory, .. } => vec![json!({ "name": VOLUME, "mountPath": WEIGHTS, "subPath": directory })],
        Place::Found { directory, .. } => files(input, &directory, &format!("{WEIGHTS}/tree")),
    }
}

/// The mounts of the engine: the tree of the manifest, read-only.
pub fn of_engine(input: &RevisionInput<'_>) -> Vec<Value> {
    let tree = |path: String| vec![json!({ "name": VOLUME, "mountPath": MODEL_PATH, "subPath": path, "readOnly": true })];
    match place(input) {
        Place::Own => tree("tree".to_owned()),
        Place::Kept { directory, .. } => tree(format!("{directory}/tree")),
        Place::Found { directory, .. } => files(input, &directory, MODEL_PATH),
    }
}

/// A mount for each file, so that the claim's other files cannot be reached.
fn files(input: &RevisionInput<'_>, directory: &str, at: &str) -> Vec<Value> {
    let mount = |path: &str| {
        let from = if directory.is_empty() { path.to_owned() } else { format!("{directory}/{path}") };
        json!({ "name": VOLUME, "mountPath": format!("{at}/{path}"), "subPath": from, "readOnly": true })
    };
    input.artifact.files.iter().map(|file| mount(&file.path)).collect()
}

/// Whether the pod needs room for the weights on its node.
pub fn takes_room(input: &RevisionInput<'_>) -> bool {
    matches!(place(input), Place::Own)
}

/// How sure it will be that pods of this wish read what was verified.
pub fn assurance_of(model: &Model) -> Assurance {
    if model.cache.is_some() || model.source.starts_with("pvc://") { Assurance::InPlace } else { Assurance::Copied }
}

/// How sure it is that pods of this template read what was verified: in a claim, others may write afterwards.
pub fn assurance(template: &Value) -> Assurance {
    let volumes = template.pointer("/spec/volumes").and_then(Value::as_array);
    let in_claim = |volume: &Value| {
        volume.get("name").and_then(Value::as_str) == Some(VOLUME) && volume.get("persistentVolumeClaim").is_some()
    };
    if volumes.is_some_and(|volumes| volumes.iter().any(in_claim)) { Assurance::InPlace } else { Assurance::Copied }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_reads_a_claim_is_less_sure_than_one_that_copies() {
        let template = |volume: Value| json!({ "spec": { "volumes": [{ "name": "bin", "emptyDir": {} }, volume] } });
        let claim = json!({ "claimName": "models" });
        assert_eq!(assurance(&template(json!({ "name": "weights", "emptyDir": {} }))), Assurance::Copied);
        assert_eq!(assurance(&template(json!({ "name": "weights", "persistentVolumeClaim": claim }))), Assurance::InPlace);
        let extra = json!({ "name": "extra-data", "persistentVolumeClaim": claim });
        assert_eq!(assurance(&template(extra)), Assurance::Copied, "a volume of the author's own holds no weights");
        let source = "pvc://chat/models/a".parse().unwrap();
        assert!(too_many_in_place(&source, 300).message.contains("at most 256"));
    }

    #[test]
    fn only_a_commit_of_forty_digits_is_a_snapshot_of_the_hubs_cache() {
        let artifact = |revision: &str| ModelArtifactSpec {
            source: String::new(),
            revision: revision.to_owned(),
            digest: String::new(),
            files: vec![],
            bundles: vec![],
        };
        let commit = "12fd25f77366fa6b3b4b768ec3050bf629380bac";
        assert_eq!(directory("hub/a", &artifact(commit)), format!("hub/a/snapshots/{commit}"));
        assert_eq!(directory("llama", &artifact(&"0".repeat(64))), "llama");
        assert_eq!(directory("", &artifact(&"0".repeat(64))), "");
    }
}
