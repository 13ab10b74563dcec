//! `bonafide status`: what became of ModelDeployments, from the object down to its pods, cause first.

mod draw;
mod leader;
mod picture;
mod pods;
#[cfg(test)]
mod tests;

use std::{process::ExitCode, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use self::draw::{Style, draw, note};
pub use self::picture::{Seen, age, condition, is_ready, phase, text};
use super::{
    Output,
    cluster::{Cluster, ClusterArgs, Failure},
    fail, print,
};
use crate::api::LABEL_DEPLOYMENT;

/// What `status` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Of each ModelDeployment: what stands in its way, where it comes from, its revisions, and their pods, those in trouble
first. The role `view` is enough. On top, when no manager leads and you may read its Lease: then what follows is as old
as the last one. Under the name kubectl-bonafide in the PATH the program is also `kubectl bonafide status`.

Exit codes: 0 everything is ready; 1 something is not, or is not there; 2 the cluster cannot be asked.

Examples:
  bonafide status                          # the namespace of the kubeconfig's context
  bonafide status llama-70b -n chat
  bonafide status -A --watch
  bonafide status llama-70b --output json | jq -r '.items[].revisions[].pods[].state'"
)]
pub struct StatusArgs {
    /// The ModelDeployment; absent: all of the namespace
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["name", "namespace"])]
    all_namespaces: bool,
    /// Look again and again, and print what changed with the time (UTC) on top, until interrupted
    #[arg(short = 'w', long)]
    watch: bool,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// Tells the status.
pub async fn run(args: StatusArgs) -> ExitCode {
    match tell(&args).await {
        Ok(code) => code,
        Err((code, message)) => fail(code, message),
    }
}

async fn tell(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let cluster = args.cluster.connect().await?;
    let mut last = None;
    loop {
        let seen = see(&cluster, args).await?;
        let versions = versions(&seen);
        if last.as_ref() != Some(&versions) {
            let printed = show(args, &cluster, &seen, last.is_some());
            if printed != ExitCode::SUCCESS {
                return Ok(printed);
            }
            last = Some(versions);
        }
        if !args.watch {
            return Ok(if seen.models.iter().all(is_ready) { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What is known of the manager, when the user may see that.
async fn leader(cluster: &Cluster) -> Option<leader::Leader> {
    Some(leader::Leader::of(&leader::leases(cluster).await?, cluster.clock.now()))
}

/// That no manager leads, as far as the user may see that, and what to look at.
pub async fn without_leader(cluster: &Cluster) -> Option<String> {
    leader(cluster).await?.notice(cluster.clock.now())
}

async fn see(cluster: &Cluster, args: &StatusArgs) -> Result<Seen, Failure> {
    let namespace = (!args.all_namespaces).then_some(cluster.namespace.as_str());
    let models = match &args.name {
        Some(name) => vec![cluster.deployment(name).await?],
        None => cluster.list("ModelDeployment", namespace, "").await?,
    };
    if models.is_empty() {
        return Ok(Seen::default());
    }
    let labels = match &args.name {
        Some(name) => format!("{LABEL_DEPLOYMENT}={name}"),
        None => LABEL_DEPLOYMENT.to_owned(),
    };
    let leader = async { Ok(leader(cluster).await) };
    let (revisions, deployments, pods, leader) = futures::try_join!(
        cluster.list("ControllerRevision", namespace, &labels),
        cluster.list("Deployment", namespace, &labels),
        cluster.list("Pod", namespace, &labels),
        leader,
    )?;
    Ok(Seen { models, revisions, deployments, pods, leader })
}

/// Changes when one of the objects does, or when nobody leads any more.
fn versions(seen: &Seen) -> Vec<String> {
    let all = [&seen.models, &seen.revisions, &seen.deployments, &seen.pods];
    let version = |object: &Value| format!("{} {}", text(object, "/metadata/uid"), text(object, "/metadata/resourceVersion"));
    let leader = seen.leader.as_ref().map(|leader| format!("{} {}", leader.leads, leader.holder));
    all.into_iter().flatten().map(version).chain(leader).collect()
}

fn show(args: &StatusArgs, cluster: &Cluster, seen: &Seen, again: bool) -> ExitCode {
    let now = cluster.clock.now();
    if args.output == Output::Json {
        return print(&format!("{}\n", seen.json(now)));
    }
    let style = Style::of_stdout();
    let text = if seen.models.is_empty() {
        let place = if args.all_namespaces { "the cluster".to_owned() } else { format!("namespace {}", cluster.namespace) };
        format!("No ModelDeployment in {place}.\n")
    } else {
        let stale = seen.leader.as_ref().and_then(|leader| leader.notice(now)).map(|notice| note(&notice, style));
        stale.unwrap_or_default() + &draw(&seen.tree(now, args.all_namespaces), style)
    };
    print(&if args.watch { watched(&text, style, again, now) } else { text })
}

/// One picture of several, with the time at which it was drawn: on a terminal it takes the place of the one before, in a log it
/// follows it.
fn watched(text: &str, style: Style, again: bool, now: Timestamp) -> String {
    let before = match (style.width, again) {
        (Some(_), _) => "\x1b[2J\x1b[H",
        (None, true) => "\n",
        (None, false) => "",
    };
    format!("{before}{} UTC\n{text}", now.strftime("%H:%M:%S"))
}
