//! `bonafide recall`: the policy that takes a model out of service, made of what the cluster recorded of it.

mod policy;
mod weights;

use std::{fmt::Write as _, process::ExitCode};

use kube::{ResourceExt as _, api::PostParams};
use serde_json::Value;

use self::{
    policy::Recall,
    weights::{LeftOut, split},
};
use super::{
    USAGE,
    cluster::{Cluster, ClusterArgs, Failure},
    fail, print,
    status::text,
};
use crate::{
    api::{ArtifactFile, ModelArtifact, ModelArtifactSpec, OnRecall},
    engine::human_size,
    model::Glob,
};

/// How many files or models are listed by name.
const SHOWN: usize = 12;

/// What `recall` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Prints a ClusterModelPolicy that denies the weights of a model by the digests of their files, for every namespace: no replica
starts any more that would serve one of them, whoever signed it and whatever it is called. It is a policy of its own, so that
nothing else undoes it; deleting it lifts the recall, and what was drained comes back by itself.

Only weights are listed. A README, a configuration or a tokenizer is in other models too, and denying it would refuse them all.
What is listed, what is not, and which other models have the same weights is said on the standard error. Where that is not what
you mean, choose with --files.

What becomes of replicas that run:
  BlockNew     they go on until they stop; no pod and no container of them starts again (the default)
  Drain        they get no new requests at once, finish those they have (spec.rollout.drain, 2 minutes), and stop.
               An older revision of the same source that served before, and that the policies accept, serves instead
  KeepRunning  as BlockNew, but a container may be started again in its pod

Exit codes: 0 done; 1 no, for a reason that is printed; 2 the cluster cannot be asked. Reading needs the role `view`, --apply the
ClusterRole `bonafide-policy-admin`.

Examples:
  bonafide recall llama-70b -n chat > recall.yaml            # look at it first, then kubectl apply -f recall.yaml
  bonafide recall llama-70b -n chat --drain --apply --reason \"withdrawn by its publisher\"
  bonafide recall llama-70b-91c04e2f -n chat                 # one record: kubectl get modelartifacts -n chat
  bonafide recall llama-70b -n chat --files '*.jinja'        # a chat template that must not be used"
)]
pub struct RecallArgs {
    /// The ModelArtifact, or the ModelDeployment whose present model is meant
    #[arg(value_name = "ARTIFACT|NAME")]
    what: String,
    /// Why: everybody whose model is refused reads it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Take what runs out of service: --on-recall Drain
    #[arg(long, conflicts_with = "on_recall")]
    drain: bool,
    /// What becomes of replicas that run: KeepRunning, BlockNew or Drain
    #[arg(long, value_name = "WHAT", value_parser = on_recall, default_value = "BlockNew")]
    on_recall: OnRecall,
    /// Deny the files that this glob matches, instead of the weights; may be given several times
    #[arg(long = "files", value_name = "GLOB")]
    files: Vec<Glob>,
    /// The policy's name; absent: recall-DATE-ARTIFACT
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Create the policy in the cluster instead of printing it
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

fn on_recall(text: &str) -> Result<OnRecall, String> {
    let all = [OnRecall::KeepRunning, OnRecall::BlockNew, OnRecall::Drain];
    let found = all.into_iter().find(|one| one.as_str().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "it is one of KeepRunning, BlockNew and Drain".to_owned())
}

/// Recalls.
pub async fn run(args: RecallArgs) -> ExitCode {
    recall(&args).await.unwrap_or_else(|(code, message)| fail(code, message))
}

async fn recall(args: &RecallArgs) -> Result<ExitCode, Failure> {
    let cluster = args.cluster.connect().await?;
    let (artifact, spec) = record(&cluster, &args.what).await?;
    let (listed, left_out) = split(&spec.files, &args.files);
    if listed.is_empty() {
        let names: Vec<&str> = spec.files.iter().take(SHOWN).map(|file| file.path.as_str()).collect();
        let what = if args.files.is_empty() { "is weights" } else { "is matched by --files" };
        let message =
            format!("no file of {artifact} {what}; it has {}. Say which ones are meant with --files GLOB", names.join(", "));
        return Err((1, message));
    }
    let now = cluster.clock.now();
    let on = if args.drain { OnRecall::Drain } else { args.on_recall };
    let recall = Recall { artifact: &artifact, spec: &spec, files: &listed, reason: args.reason.as_deref(), on, now };
    let name = args.name.clone().unwrap_or_else(|| policy::name(&artifact, now));
    let policy = policy::policy(&recall, &name).map_err(|message| (1, message))?;
    eprint!("{}", told(&artifact, &spec, &listed, &left_out));
    eprint!("{}", models(&cluster, &listed).await);
    if args.apply {
        return apply(&cluster, policy, &name, on).await;
    }
    let yaml = serde_saphyr::to_string(&policy).map_err(|error| (1, error.to_string()))?;
    eprintln!("Nothing is recalled yet: kubectl apply -f FILE, or this command with --apply.");
    Ok(print(&yaml))
}

/// The record that is meant, by its own name or that of a ModelDeployment.
async fn record(cluster: &Cluster, what: &str) -> Result<(String, ModelArtifactSpec), Failure> {
    if let Some(spec) = read(cluster, what).await? {
        return Ok((what.to_owned(), spec));
    }
    let namespace = &cluster.namespace;
    let found = cluster.api("ModelDeployment", Some(namespace)).get_opt(what).await;
    let found = found.map_err(|error| cluster.said(&error, "get", "ModelDeployment", Some(namespace)))?;
    let Some(model) = found.and_then(|object| serde_json::to_value(object).ok()) else {
        let mut names = vec![];
        for kind in ["ModelDeployment", "ModelArtifact"] {
            let there = cluster.list(kind, Some(namespace), "").await?;
            names.extend(there.iter().map(|object| text(object, "/metadata/name").to_owned()));
        }
        let has = if names.is_empty() { "has none".to_owned() } else { format!("has {}", names.join(", ")) };
        return Err((1, format!("there is no ModelArtifact and no ModelDeployment {what}: namespace {namespace} {has}")));
    };
    let artifact = text(&model, "/status/model/artifact").to_owned();
    if artifact.is_empty() {
        let message = format!(
            "ModelDeployment {what} is not resolved to a model yet, so its bytes are not known: bonafide status says why"
        );
        return Err((1, message));
    }
    others(&model, &artifact);
    match read(cluster, &artifact).await? {
        Some(spec) => Ok((artifact, spec)),
        None => Err((
            1,
            format!(
                "ModelArtifact {artifact} of ModelDeployment {what} is not there; it is written anew when the source answers"
            ),
        )),
    }
}

async fn read(cluster: &Cluster, name: &str) -> Result<Option<ModelArtifactSpec>, Failure> {
    let namespace = &cluster.namespace;
    let found = cluster.api("ModelArtifact", Some(namespace)).get_opt(name).await;
    // Without the kind a list says what is missing.
    let found = found.map_err(|error| cluster.said(&error, "get", "ModelArtifact", Some(namespace)))?;
    let Some(object) = found.and_then(|object| serde_json::to_value(object).ok()) else { return Ok(None) };
    let artifact: ModelArtifact = serde_json::from_value(object).map_err(|error| {
        (USAGE, format!("ModelArtifact {name} cannot be read: {error}. Is this program older than the cluster's?"))
    })?;
    Ok(Some(artifact.spec))
}

/// Says which other records revisions of the ModelDeployment have: they are not recalled with it.
fn others(model: &Value, artifact: &str) {
    let revisions = model.pointer("/status/revisions").and_then(Value::as_array).into_iter().flatten();
    let mut others: Vec<&str> =
        revisions.map(|revision| text(revision, "/artifact")).filter(|other| *other != artifact).collect();
    others.sort_unstable();
    others.dedup();
    if !others.is_empty() {
        let (name, others) = (text(model, "/metadata/name"), others.join(", "));
        eprintln!(
            "note: {artifact} is what {name} asks for now. Other revisions of it serve {others}, which is not recalled by this."
        );
    }
}

/// What is listed and what is not, in lines.
fn told(artifact: &str, spec: &ModelArtifactSpec, listed: &[&ArtifactFile], left_out: &[(&ArtifactFile, LeftOut)]) -> String {
    let size = |file: &ArtifactFile| human_size(u64::try_from(file.size).unwrap_or_default());
    let bytes: i64 = listed.iter().map(|file| file.size).sum();
    let mut said = format!(
        "{artifact} ({} at {}): {} of {} files are denied, {}\n",
        spec.source,
        spec.revision,
        listed.len(),
        spec.files.len(),
        human_size(u64::try_from(bytes).unwrap_or_default())
    );
    for file in listed.iter().take(SHOWN) {
        let _ = writeln!(said, "  denied      {} ({})", file.path, size(file));
    }
    more(&mut said, listed.len());
    for (file, why) in left_out.iter().take(SHOWN) {
        let _ = writeln!(said, "  not denied  {} ({}): {}", file.path, size(file), why.why());
    }
    more(&mut said, left_out.len());
    said
}

fn more(said: &mut String, count: usize) {
    if count > SHOWN {
        let _ = writeln!(said, "  and {} more", count - SHOWN);
    }
}

/// Which models the policy would refuse, as far as that may be seen.
async fn models(cluster: &Cluster, listed: &[&ArtifactFile]) -> String {
    let (records, place) = match cluster.list("ModelArtifact", None, "").await {
        Ok(records) => (records, "the cluster".to_owned()),
        Err(_) => match cluster.list("ModelArtifact", Some(&cluster.namespace), "").await {
            Ok(records) => (records, format!("namespace {}; you may not look into others", cluster.namespace)),
            Err(_) => return String::new(),
        },
    };
    let mut names = vec![];
    for record in records.into_iter().filter_map(|record| serde_json::from_value::<ModelArtifact>(record).ok()) {
        let has = |file: &&ArtifactFile| listed.iter().any(|denied| denied.sha256 == file.sha256);
        if let Some(file) = record.spec.files.iter().find(has) {
            let namespace = record.namespace().unwrap_or_default();
            let owners = record.owner_references().iter().map(|owner| format!("{namespace}/{} ({})", owner.name, file.path));
            names.extend(owners);
        }
    }
    names.sort();
    names.dedup();
    let count = names.len();
    let mut said = format!("It refuses {count} ModelDeployment{} of {place}\n", if count == 1 { "" } else { "s" });
    for name in names.iter().take(SHOWN) {
        let _ = writeln!(said, "  {name}");
    }
    more(&mut said, count);
    said
}

/// Creates the policy; one that stands there is never written over.
async fn apply(cluster: &Cluster, policy: Value, name: &str, on: OnRecall) -> Result<ExitCode, Failure> {
    let object = serde_json::from_value(policy.clone()).map_err(|error| (1, error.to_string()))?;
    let api = cluster.api("ClusterModelPolicy", None);
    let done = match api
        .create(&PostParams { field_manager: Some("bonafide-recall".to_owned()), ..PostParams::default() }, &object)
        .await
    {
        Ok(_) => "created",
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let live =
                api.get_opt(name).await.ok().flatten().and_then(|live| serde_json::to_value(live).ok()).unwrap_or_default();
            let same = |pointer: &str| live.pointer(pointer) == policy.pointer(pointer);
            let selects =
                live.pointer("/spec/namespaceSelector").and_then(Value::as_object).is_some_and(|selector| !selector.is_empty());
            let is_going = live.pointer("/metadata/deletionTimestamp").is_some();
            if selects || is_going || !["/spec/deny", "/spec/onRecall", "/spec/unmatched"].into_iter().all(same) {
                return Err((
                    1,
                    format!(
                        "there is a ClusterModelPolicy {name} already, and it says something else, is for other namespaces, or is being deleted. Give this one another name with --name"
                    ),
                ));
            }
            "there already"
        }
        Err(kube::Error::Api(status)) if status.code == 403 => {
            return Err((
                USAGE,
                format!(
                    "you may not create ClusterModelPolicies. The ClusterRole `bonafide-policy-admin` contains it: {}",
                    status.message
                ),
            ));
        }
        Err(error) => return Err(cluster.said(&error, "create", "ClusterModelPolicy", None)),
    };
    let becomes = match on {
        OnRecall::KeepRunning => "What runs goes on, and its containers may be started again",
        OnRecall::BlockNew => "What runs goes on until it stops, and does not start again",
        OnRecall::Drain => "What runs gets no new requests, finishes those it has, and stops",
    };
    Ok(print(&format!(
        "ClusterModelPolicy {name} is {done}. {becomes}. See: bonafide status -A\nTo lift it: kubectl delete clustermodelpolicy {name}\n"
    )))
}
