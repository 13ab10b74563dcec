//! `bonafide measure`: what a pod of ours runs that looks into a claim for the manager.

use std::{fs, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use axum::{Router, http::StatusCode, routing::get};
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::spawn_blocking,
    time::sleep,
};

use super::{fail, fetch::listen::bind};
use crate::{
    api::{Problem, Reason},
    model::{Glob, Source},
    weights::{
        fetch::{Outcome, Progress, Report},
        measure::{Measured, Order, measure},
    },
};

/// Hash the files in a claim, and tell the manager what is there
///
/// Reads only. Serves GET /progress and, once everything is hashed, GET /measured; ends when it was not asked for a while.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes:
  0   the result was there to be asked for
  64  the command line cannot be used
  65  the claim does not have what the source names; the termination log says what it has")]
pub struct MeasureArgs {
    /// The source, as policies see it
    #[arg(long)]
    source: Source,
    /// Where the claim is mounted
    #[arg(long, value_name = "DIR")]
    claim: PathBuf,
    /// The directory within the claim
    #[arg(long, default_value = "")]
    path: String,
    /// A branch, a tag or a commit, when the directory is one of the hub's cache
    #[arg(long)]
    revision: Option<String>,
    /// A glob of files to hash, several times; without it, all of them
    #[arg(long, value_name = "GLOB")]
    files: Vec<Glob>,
    /// The file that is the signature; without it, *.sig at the root of the directory
    #[arg(long, value_name = "FILE")]
    signature: Option<Glob>,
    /// Where it serves
    #[arg(long, value_name = "ADDRESS", default_value = "[::]:8081")]
    listen: SocketAddr,
    /// Where the outcome goes, one line of JSON; without it, to the kubelet's place if there is one
    #[arg(long, value_name = "FILE")]
    termination_log: Option<PathBuf>,
    /// How long the result is there to be asked for, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    linger: u64,
}

/// The claim does not have what the source names.
const EXIT_REFUSED: u8 = 65;
const KUBELET_LOG: &str = "/dev/termination-log";

/// Runs the command.
pub async fn run(args: MeasureArgs) -> ExitCode {
    let progress = Arc::new(Progress::default());
    let (publish, result) = watch::channel(None);
    let listener = match bind(args.listen).await {
        Ok(listener) => listener,
        Err(error) => return fail(1, format_args!("nothing can be served at {}: {error}", args.listen)),
    };
    tokio::spawn(axum::serve(listener, routes(result, Arc::clone(&progress))).into_future());
    let MeasureArgs { source, claim, path, revision, files, signature, .. } = args;
    let order = Order { source, claim, path, revision, files, signature };
    let counted = Arc::clone(&progress);
    let measured = spawn_blocking(move || measure(&order, &counted)).await;
    let measured =
        measured.unwrap_or_else(|error| Err(Problem::new(Reason::InternalError, format!("The measuring stopped: {error}."))));
    match measured {
        Ok(measured) => {
            eprintln!("{} files, revision {}", measured.files.len(), measured.revision);
            publish.send_replace(Some(Arc::new(measured)));
            stay(Duration::from_secs(args.linger)).await;
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{}: {}", problem.reason, problem.message);
            let report = Report::new(&Outcome::Failed(problem), &progress.snapshot(None));
            let kubelet = || Some(PathBuf::from(KUBELET_LOG)).filter(|log| log.exists());
            if let Some(log) = args.termination_log.or_else(kubelet)
                && let Err(error) = fs::write(&log, report.line())
            {
                eprintln!("{} cannot be written: {error}", log.display());
            }
            ExitCode::from(EXIT_REFUSED)
        }
    }
}

/// Waits to be asked, until the time is over or somebody wants it to stop.
async fn stay(linger: Duration) {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return sleep(linger).await };
    tokio::select! {
        () = sleep(linger) => {}
        _ = terminate.recv() => {}
    }
}

fn routes(result: watch::Receiver<Option<Arc<Measured>>>, progress: Arc<Progress>) -> Router {
    let far = move || async move { serde_json::to_string(&progress.download(None)).unwrap_or_default() };
    let measured = move || async move {
        let measured = result.borrow().clone();
        match measured.map(|measured| serde_json::to_string(&*measured)) {
            Some(Ok(text)) => (StatusCode::OK, text),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "it is not measured yet".to_owned()),
        }
    };
    Router::new().route("/progress", get(far)).route("/measured", get(measured))
}
