//! `bonafide pin`: fixes models in YAML to the commit and the content that they stand for now.

mod edit;

use std::{path::PathBuf, process::ExitCode};

use serde_json::Value;

use self::edit::Pin;
use super::{
    USAGE,
    ask::{AskArgs, Asker, here},
    cluster::{Cluster, ClusterArgs, Failure},
    fail, print,
    status::text,
    yaml,
};
use crate::{
    api::ModelDeployment,
    controller::{self, LookedUp},
    model::Source,
};

/// What `pin` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A branch or a tag can move; a commit and a digest cannot. They are taken from the status of the ModelDeployment of the
same name in your cluster, or, with --resolve, from the source itself. Comments and layout stay; a layout that cannot
be edited without risk (braces, anchors) is left alone, and what to write by hand is said. Without --in-place the result
goes to the standard output.

With --resolve the files are chosen as the manager would without a policy. Where a policy lets only signed files be served,
the digest may be another one: take it from the cluster then. HF_TOKEN is sent to huggingface.co and to nobody else.

Exit codes: 0 done; 1 one of them cannot be pinned (nothing is written); 2 the file or the cluster cannot be read.

Examples:
  bonafide pin -f model.yaml --in-place            # what the cluster serves, for Git
  bonafide pin -f model.yaml --resolve | kubectl apply -f -
  bonafide pin -f model.yaml --resolve --endpoint https://hub.corp --allowed-host blobs.corp"
)]
pub struct PinArgs {
    /// The file with the ModelDeployments; '-' is the standard input
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    file: PathBuf,
    /// Write the file instead of the standard output
    #[arg(short = 'i', long)]
    in_place: bool,
    /// Ask the source instead of a cluster
    #[arg(long)]
    resolve: bool,
    #[command(flatten)]
    ask: AskArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Pins.
pub async fn run(args: PinArgs) -> ExitCode {
    match pin(&args).await {
        Ok(code) => code,
        Err((code, message)) => fail(code, message),
    }
}

async fn pin(args: &PinArgs) -> Result<ExitCode, Failure> {
    let before = yaml::text(&args.file).map_err(|error| (USAGE, error))?;
    let documents = yaml::documents(&before).map_err(|error| (USAGE, format!("{}: {error}", args.file.display())))?;
    let values: Vec<Value> = documents.iter().map(yaml::Node::value).collect();
    let models: Vec<(usize, &Value)> = values
        .iter()
        .enumerate()
        .filter(|(_, value)| text(value, "/kind") == "ModelDeployment" && text(value, "/apiVersion").starts_with("bonafide.dev/"))
        .collect();
    if models.is_empty() {
        return Err((USAGE, format!("{} holds no ModelDeployment", args.file.display())));
    }
    let mut pins = vec![];
    if args.resolve {
        let asker = args.ask.asker(&values)?;
        for (index, model) in &models {
            pins.push((*index, at_the_source(&asker, model).await?));
        }
    } else {
        let cluster = args.cluster.connect().await?;
        for (index, model) in &models {
            pins.push((*index, in_the_cluster(&cluster, model).await?));
        }
    }
    let after = edit::edit(&before, &pins).map_err(|error| (1, format!("{}: {error}", args.file.display())))?;
    for ((_, pin), (_, model)) in pins.iter().zip(&models) {
        eprintln!("{}: revision {}, digest {}", text(model, "/metadata/name"), pin.revision, pin.digest);
    }
    if !args.in_place {
        return Ok(print(&after));
    }
    if after != before {
        std::fs::write(&args.file, &after).map_err(|error| (USAGE, format!("{}: {error}", args.file.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the cluster resolved the model to.
async fn in_the_cluster(cluster: &Cluster, model: &Value) -> Result<Pin, Failure> {
    let name = text(model, "/metadata/name");
    let place = Some(text(model, "/metadata/namespace")).filter(|namespace| !namespace.is_empty());
    let namespace = place.unwrap_or(&cluster.namespace);
    let found = cluster.api("ModelDeployment", Some(namespace)).get_opt(name).await;
    let found = found.map_err(|error| cluster.said(&error, "get", "ModelDeployment", Some(namespace)))?;
    let Some(live) = found.and_then(|object| serde_json::to_value(object).ok()) else {
        return Err((1, format!("namespace {namespace} has no ModelDeployment {name}: apply it first, or use --resolve")));
    };
    recorded(model, &live).map_err(|why| (1, format!("ModelDeployment {name} in namespace {namespace}: {why}")))
}

/// The pin that the status of `live` gives to what is written in `model`.
fn recorded(model: &Value, live: &Value) -> Result<Pin, String> {
    let (revision, digest) = (text(live, "/status/model/revision"), text(live, "/status/model/digest"));
    if revision.is_empty() || digest.is_empty() {
        return Err("the source was not resolved yet; `bonafide status` says why".to_owned());
    }
    if text(live, "/status/trust") == "Refused" {
        return Err("a policy refuses what is there now, so it is not pinned; `bonafide status` says why".to_owned());
    }
    if live.pointer("/status/observedGeneration") != live.pointer("/metadata/generation") {
        return Err("the last change was not looked at yet; try again".to_owned());
    }
    let source = text(model, "/spec/model/source");
    if source != text(live, "/status/model/source") {
        return Err(format!(
            "the file says {source}, the cluster has {}: apply the file first",
            text(live, "/status/model/source")
        ));
    }
    let (wanted, known) = (text(model, "/spec/model/revision"), text(live, "/status/model/wantedRevision"));
    if wanted != known && wanted != revision {
        let name =
            |revision: &str| if revision.is_empty() { "the default branch".to_owned() } else { format!("revision {revision}") };
        return Err(format!("the file says {}, the cluster resolved {}: apply the file first", name(wanted), name(known)));
    }
    // Globs and the engine decide which files are served, and with them the digest.
    for field in ["/spec/model/files", "/spec/engine/name"] {
        if model.pointer(field) != live.pointer(field) {
            return Err(format!(
                "{} is not the same in the file and in the cluster: apply the file first",
                field.replace('/', ".").trim_start_matches('.')
            ));
        }
    }
    Ok(Pin { revision: revision.to_owned(), digest: digest.to_owned() })
}

/// What the source says that the model stands for.
async fn at_the_source(asker: &Asker, model: &Value) -> Result<Pin, Failure> {
    let name = text(model, "/metadata/name");
    let refused = |message: String| (1, format!("ModelDeployment {name}: {message}"));
    let read: ModelDeployment = serde_json::from_value(model.clone())
        .map_err(|error| refused(format!("it cannot be read: {error}; `bonafide lint -f FILE` says where")))?;
    let source: Source = read.spec.model.source.parse().map_err(|error| refused(format!("spec.model.source: {error}")))?;
    let found = controller::look_up(&asker.resolver, &asker.catalogue, &read.spec, &source, asker.credentials.as_ref()).await;
    let LookedUp { revision, digest } = found.map_err(|problem| refused(here(&problem)))?;
    Ok(Pin { revision, digest })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live() -> Value {
        json!({"metadata": {"generation": 1}, "spec": {"model": {"source": "hf://a/b", "revision": "main"}},
            "status": {"observedGeneration": 1, "trust": "Signed",
                "model": {"source": "hf://a/b", "wantedRevision": "main", "revision": "c1", "digest": "sha256:d1"}}})
    }

    fn file(revision: &str) -> Value {
        json!({"spec": {"model": {"source": "hf://a/b", "revision": revision}}})
    }

    #[test]
    fn the_status_of_the_same_wish_is_taken() {
        let pin = Pin { revision: "c1".into(), digest: "sha256:d1".into() };
        assert_eq!(recorded(&file("main"), &live()), Ok(pin.clone()));
        assert_eq!(recorded(&file("c1"), &live()), Ok(pin));
    }

    #[test]
    fn the_status_of_another_wish_or_of_what_is_refused_is_not() {
        let with = |pointer: &str, value: Value| {
            let mut live = live();
            *live.pointer_mut(pointer).unwrap() = value;
            live
        };
        for (file, live, says) in [
            (file("dev"), live(), "revision dev"),
            (json!({"spec": {"model": {"source": "hf://c/d", "revision": "main"}}}), live(), "hf://c/d"),
            (
                json!({"spec": {"model": {"source": "hf://a/b", "revision": "main", "files": ["*.gguf"]}}}),
                live(),
                "spec.model.files",
            ),
            (file("main"), with("/status/trust", json!("Refused")), "refuses"),
            (file("main"), with("/status/observedGeneration", json!(0)), "not looked at"),
            (file("main"), with("/status/model/digest", json!("")), "not resolved"),
        ] {
            let error = recorded(&file, &live).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
