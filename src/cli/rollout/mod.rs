//! `bonafide rollout`: the history of a ModelDeployment, and how to go back, hold, try again and wait.

mod history;

use std::{process::ExitCode, time::Duration};

use clap::Subcommand;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{
    Output,
    cluster::{Cluster, ClusterArgs, Failure},
    fail, print,
    status::{condition, is_ready, text, without_leader},
};
use crate::api::{ANNOTATION_REFRESH, LABEL_DEPLOYMENT};

/// The field manager of these commands: whoever asks who changed a field finds them.
const MANAGER: &str = "bonafide-rollout";
/// Between two looks while waiting.
const INTERVAL: Duration = Duration::from_secs(1);

/// What `rollout` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "`history` and `status` need the role `view`, the others `edit`. Each has examples of its own: bonafide rollout undo --help

Exit codes: 0 done; 1 no, for a reason that is printed; 2 the cluster cannot be asked.

Examples:
  bonafide rollout history llama-70b -n chat      # what each revision served, and why it came to be
  bonafide rollout undo llama-70b -n chat         # back to the last one that did not fail
  bonafide rollout pause llama-70b -n chat        # hold changes back; `resume` lets them pass
  bonafide rollout status llama-70b -n chat --timeout 30m"
)]
pub struct RolloutArgs {
    #[command(subcommand)]
    command: Rollout,
}

#[derive(Debug, Subcommand)]
enum Rollout {
    /// List the revisions: what each served, and what made it necessary
    #[command(after_help = "Example:\n  bonafide rollout history llama-70b -n chat")]
    History {
        #[command(flatten)]
        what: What,
        /// How it is printed
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Go back to an earlier revision: its model, engine, resources, pod block and drain time are written into the spec again
    #[command(
        after_help = "Where the revision served a branch that may have moved since, its commit is written, so that the bytes are the same.
replicas and rollout stay as they are. With Argo CD or Flux, change what is in Git: they would undo this.

Examples:
  bonafide rollout undo llama-70b                 # to the last one that did not fail
  bonafide rollout undo llama-70b --to 4"
    )]
    Undo {
        #[command(flatten)]
        what: What,
        /// The revision, by its number or its name (see `rollout history`)
        #[arg(long, value_name = "REVISION")]
        to: Option<String>,
        /// Say what would be changed, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Hold changes back: what serves goes on serving (spec.management: Paused)
    #[command(after_help = "Example:\n  bonafide rollout pause llama-70b -n chat")]
    Pause {
        #[command(flatten)]
        what: What,
    },
    /// Let changes pass again
    #[command(after_help = "Example:\n  bonafide rollout resume llama-70b -n chat")]
    Resume {
        #[command(flatten)]
        what: What,
    },
    /// Ask the source again what a branch stands for, and try again what was given up
    #[command(after_help = "Example:\n  bonafide rollout retry llama-70b -n chat")]
    Retry {
        #[command(flatten)]
        what: What,
    },
    /// Wait until everything that was asked for is there
    #[command(
        after_help = "Exit codes: 0 it is there; 1 it cannot come to be without a change, it is paused, or the time is over; 2 the cluster
cannot be asked.

Example:
  kubectl apply -f model.yaml && bonafide rollout status llama-70b --timeout 30m"
    )]
    Status {
        #[command(flatten)]
        what: What,
        /// How long to wait: 90s, 30m, 1h30m
        #[arg(long, value_name = "TIME", default_value = "30m")]
        timeout: crate::api::Duration,
    },
}

#[derive(Debug, clap::Args)]
struct What {
    /// The ModelDeployment
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Does it.
pub async fn run(args: RolloutArgs) -> ExitCode {
    let done = match args.command {
        Rollout::History { what, output } => tell(&what, output).await,
        Rollout::Undo { what, to, dry_run } => undo(&what, to.as_deref(), dry_run).await,
        Rollout::Pause { what } => {
            merge(
                &what,
                json!({ "spec": { "management": "Paused" } }),
                "is paused: what serves goes on serving, and changes wait",
            )
            .await
        }
        Rollout::Resume { what } => merge(&what, json!({ "spec": { "management": null } }), "is managed again").await,
        Rollout::Retry { what } => {
            let now = Timestamp::now().to_string();
            merge(&what, json!({ "metadata": { "annotations": { (ANNOTATION_REFRESH): now } } }), "is tried again").await
        }
        Rollout::Status { what, timeout } => wait(&what, timeout.length()).await,
    };
    done.unwrap_or_else(|(code, message)| fail(code, message))
}

async fn tell(what: &What, output: Output) -> Result<ExitCode, Failure> {
    let cluster = what.cluster.connect().await?;
    let (_, entries) = read(&cluster, &what.name).await?;
    Ok(match output {
        Output::Json => print(&format!("{}\n", history::list(&entries))),
        Output::Text if entries.is_empty() => print("There is no revision yet: `bonafide status` says why.\n"),
        Output::Text => print(&history::table(&entries, Timestamp::now())),
    })
}

async fn read(cluster: &Cluster, name: &str) -> Result<(Value, Vec<history::Entry>), Failure> {
    let model = cluster.deployment(name).await?;
    let labels = format!("{LABEL_DEPLOYMENT}={name}");
    let records = cluster.list("ControllerRevision", Some(&cluster.namespace), &labels).await?;
    let entries = history::entries(&model, &records);
    Ok((model, entries))
}

async fn undo(what: &What, to: Option<&str>, dry_run: bool) -> Result<ExitCode, Failure> {
    let cluster = what.cluster.connect().await?;
    let (model, entries) = read(&cluster, &what.name).await?;
    let target = history::target(&entries, to).map_err(|message| (1, message))?;
    let (mut changes, notes) = history::changes(&model, &entries, target);
    for note in notes {
        eprintln!("note: {note}");
    }
    if changes.is_empty() {
        return Ok(print(&format!("{} asks for what revision {} has: nothing is changed\n", what.name, target.number)));
    }
    warn(&model);
    let parts: Vec<String> =
        changes.iter().map(|change| text(change, "/path").replace('/', ".").trim_start_matches('.').to_owned()).collect();
    let parts = parts.join(", ");
    if dry_run {
        return Ok(print(&format!("{} would go back to revision {}: {parts} would be written\n", what.name, target.number)));
    }
    // What somebody else wishes for meanwhile is not written over; the manager goes on writing its status.
    let generation = model.pointer("/metadata/generation").cloned().unwrap_or_default();
    changes.insert(0, json!({ "op": "test", "path": "/metadata/generation", "value": generation }));
    let patch = serde_json::from_value(Value::Array(changes)).map_err(|error| (1, error.to_string()))?;
    change(&cluster, &what.name, &Patch::<()>::Json(patch)).await?;
    let waits = held_back(&cluster, &what.name, &model);
    Ok(print(&format!("{} goes back to revision {} ({}): {parts} written{waits}\n", what.name, target.number, target.name)))
}

/// Says who will write the object again.
fn warn(model: &Value) {
    if let Some(keeper) = history::keeper(model) {
        eprintln!("warning: {keeper} keeps this object and will write its own version again. Change it there too.");
    }
}

async fn merge(what: &What, patch: Value, done: &str) -> Result<ExitCode, Failure> {
    let cluster = what.cluster.connect().await?;
    let model = cluster.deployment(&what.name).await?;
    if patch.get("spec").is_some() {
        warn(&model);
    }
    let waits = if patch.get("spec").is_some() { String::new() } else { held_back(&cluster, &what.name, &model) };
    change(&cluster, &what.name, &Patch::Merge(patch)).await?;
    Ok(print(&format!("{} {done}{waits}\n", what.name)))
}

/// That what is asked for waits, while it is paused.
fn held_back(cluster: &Cluster, name: &str, model: &Value) -> String {
    match text(model, "/spec/management") {
        "Paused" => format!("; it is paused, so that waits for `bonafide rollout resume {name} -n {}`", cluster.namespace),
        _ => String::new(),
    }
}

async fn change<P: serde::Serialize + std::fmt::Debug>(cluster: &Cluster, name: &str, patch: &Patch<P>) -> Result<(), Failure> {
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match cluster.api("ModelDeployment", Some(&cluster.namespace)).patch(name, &parameters, patch).await {
        Ok(_) => Ok(()),
        // All that is said of a test that fails in a JSON patch; of a value that cannot be, the field is named.
        Err(kube::Error::Api(status))
            if status.code == 409 || (status.code == 422 && status.message.contains("rejected our request")) =>
        {
            Err((1, format!("somebody changed {name} meanwhile: look at it, and try again")))
        }
        Err(kube::Error::Api(status)) if status.code == 422 => Err((1, status.message)),
        Err(error) => Err(cluster.said(&error, "change", "ModelDeployment", Some(&cluster.namespace))),
    }
}

async fn wait(what: &What, timeout: Duration) -> Result<ExitCode, Failure> {
    let cluster = what.cluster.connect().await?;
    let deadline = tokio::time::Instant::now() + timeout;
    let mut said = String::new();
    loop {
        let model = cluster.deployment(&what.name).await?;
        let (line, standing) = standing(&model);
        let line = format!("{}: {line}\n", what.name);
        if line != said {
            let printed = print(&line);
            if printed != ExitCode::SUCCESS {
                return Ok(printed);
            }
            said = line;
        }
        let name = &what.name;
        match standing {
            Standing::There => return Ok(ExitCode::SUCCESS),
            Standing::Stuck => return Err((1, format!("{name} cannot come to be without a change"))),
            Standing::Paused => {
                let resume = format!("bonafide rollout resume {name} -n {}", cluster.namespace);
                return Err((1, format!("{name} is paused, and waiting would not end: let its changes pass with `{resume}`")));
            }
            Standing::UnderWay if tokio::time::Instant::now() >= deadline => {
                let nobody = without_leader(&cluster).await.map(|notice| format!(". {notice}")).unwrap_or_default();
                return Err((1, format!("{name} is not there after {} s{nobody}", timeout.as_secs())));
            }
            Standing::UnderWay => tokio::time::sleep(INTERVAL).await,
        }
    }
}

/// Whether waiting has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Everything that was asked for is there.
    There,
    /// Nothing happens until somebody changes something.
    Stuck,
    /// Nothing happens until somebody lets changes pass again.
    Paused,
    /// It goes on.
    UnderWay,
}

/// How it stands, in words too.
fn standing(model: &Value) -> (String, Standing) {
    let answering = text(model, "/status/ready");
    let paused = text(model, "/spec/management") == "Paused";
    // Held back are the changes: what a paused object says of itself may be of the spec before them.
    let held = paused && condition(model, "Ready").is_some_and(|ready| text(ready, "/reason") == "Paused");
    if is_ready(model) && !held {
        let paused = if paused { ", paused" } else { "" };
        return (format!("ready, {answering}{paused}"), Standing::There);
    }
    if model.pointer("/status/observedGeneration") != model.pointer("/metadata/generation") {
        return ("the change was not looked at yet".to_owned(), Standing::UnderWay);
    }
    if paused {
        return (format!("paused, {answering}: changes wait, and what serves goes on serving"), Standing::Paused);
    }
    let stalled = condition(model, "Stalled").filter(|stalled| text(stalled, "/status") == "True");
    if let Some(stalled) = stalled {
        return (format!("{}: {}", text(stalled, "/reason"), text(stalled, "/message")), Standing::Stuck);
    }
    (format!("{}, {answering}: {}", text(model, "/status/state"), text(model, "/status/why")), Standing::UnderWay)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(observed: i64, ready: [&str; 2], stalled: &str, management: &str) -> Value {
        json!({"metadata": {"generation": 2}, "spec": {"management": management},
            "status": {"observedGeneration": observed, "ready": "1/1", "conditions": [
                {"type": "Ready", "status": ready[0], "reason": ready[1]},
                {"type": "Stalled", "status": stalled, "reason": "InvalidSpec", "message": "no"}]}})
    }

    #[test]
    fn waiting_ends_when_it_is_there_or_stuck_and_not_by_what_was_said_of_an_older_spec() {
        let standing = |observed, ready, stalled| standing(&model(observed, [ready, "Loading"], stalled, "Managed"));
        assert_eq!(standing(2, "True", "False").1, Standing::There);
        assert_eq!(standing(1, "True", "False").1, Standing::UnderWay);
        assert_eq!(standing(2, "False", "True"), ("InvalidSpec: no".to_owned(), Standing::Stuck));
        assert_eq!(standing(1, "False", "True").1, Standing::UnderWay);
        assert_eq!(standing(2, "False", "False").1, Standing::UnderWay);
    }

    #[test]
    fn waiting_for_what_is_paused_ends_at_once_unless_everything_is_there() {
        let standing = |observed, ready| standing(&model(observed, ready, "False", "Paused"));
        let paused = "paused, 1/1: changes wait, and what serves goes on serving".to_owned();
        assert_eq!(standing(2, ["False", "Paused"]), (paused, Standing::Paused));
        assert_eq!(standing(2, ["False", "Unschedulable"]).1, Standing::Paused);
        assert_eq!(standing(2, ["True", "Paused"]).1, Standing::Paused, "a change waits, whatever is said of what serves");
        assert_eq!(standing(2, ["True", "Ready"]), ("ready, 1/1, paused".to_owned(), Standing::There));
        assert_eq!(standing(1, ["True", "Ready"]).1, Standing::UnderWay);
    }
}
