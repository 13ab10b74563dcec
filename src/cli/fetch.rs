//! `bonafide fetch`: the init container that brings a model's bytes and lets nothing else in.

mod bring;
pub(super) mod listen;

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, interval_at},
};

pub use bring::HELPER;
use listen::Shown;

use crate::{
    api::{Problem, Reason, SECRET_TYPE},
    model::{Checks, Digest, Manifest, Source},
    weights::{
        Credentials, Resolver, Sources,
        fetch::{Job, Limits, Outcome, Progress, Refused, Report, fetch},
    },
};

/// Download a model while hashing it, and keep only what the manifest says
///
/// Below --into, tree/ holds exactly the manifest's files, read-only, when the command ends with 0; partial/ holds what is on its way
/// and is continued by the next run. The file refused.json remembers a refusal: in the directory of --bring if there is one, which goes with
/// the pod, for a claim at --into would remember it for ever; else below --into.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes:
  0   complete: every file has the expected size and SHA-256
  64  the command line or one of its files cannot be used
  65  refused for good: the source does not have the expected bytes; the same pod does not download it again
  75  a temporary failure: run again, and the transfer continues where it stopped")]
pub struct Fetch {
    /// The files that may be served: a JSON list of {path, size, sha256}. A file checks.json beside it may ask for more than digests:
    /// {"formats": true} wants *.safetensors and *.gguf to be weights of that format from the first byte to the last, and {"remoteCode":
    /// "Deny"} no *.json to name code (auto_map, custom_generate), with "AllowIfSigned" only none of another repository
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// The content digest of the manifest; a manifest with another one is refused
    #[arg(long, value_name = "SHA256")]
    digest: Digest,
    /// The model, for example hf://acme/smollm2
    #[arg(long)]
    source: Source,
    /// The immutable revision: a hub's commit, the SHA-256 of a manifest file
    #[arg(long, value_name = "COMMIT")]
    revision: String,
    /// The administrator's table of sources, JSON or YAML
    #[arg(long, value_name = "FILE")]
    sources: PathBuf,
    /// A mounted Secret of type bonafide.dev/source: a directory with the files hosts and token, or hosts, username and password
    #[arg(long, value_name = "DIR")]
    credentials: Option<PathBuf>,
    /// The directory to work in
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// Where the outcome goes, one line of JSON; without it, to the kubelet's place if there is one
    #[arg(long, value_name = "FILE")]
    termination_log: Option<PathBuf>,
    /// How long no byte may come before the command gives up for now, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    patience: u64,
    /// Where GET /progress is answered while the command runs, for example [::]:8081; nowhere when it is not given
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// A directory of this pod alone: the program bonafide-helper, which stands beside this one, is copied there, and a refusal remembered
    #[arg(long, value_name = "DIR")]
    bring: Option<PathBuf>,
}

/// Complete: every file has the expected size and SHA-256.
pub const EXIT_COMPLETE: u8 = 0;
/// The command line or one of its files cannot be used (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;
/// Refused for good (`EX_DATAERR`).
pub const EXIT_REFUSED: u8 = 65;
/// A temporary failure (`EX_TEMPFAIL`).
pub const EXIT_TEMPORARY: u8 = 75;

/// The longest manifest, in bytes: the most files with the longest paths fit.
const MAX_MANIFEST: u64 = 4 << 20;
/// The longest table or Secret key, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Between two lines of progress.
const EVERY: Duration = Duration::from_secs(5);
const KUBELET_LOG: &str = "/dev/termination-log";

/// Why there is nothing to run.
enum Unusable {
    Usage(Problem),
    Refused(Refused),
}

impl From<Problem> for Unusable {
    fn from(problem: Problem) -> Self {
        Self::Usage(problem)
    }
}

/// Runs the command; the outcome is in the exit code and in the termination log.
pub async fn run(args: Fetch) -> ExitCode {
    let progress = Arc::new(Progress::default());
    let brought = args.bring.as_deref().map_or(Ok(()), bring::bring).map_err(Unusable::Usage);
    let mut checks = Checks::default();
    let (outcome, code) = match brought.and_then(|()| prepare(&args)) {
        Err(Unusable::Usage(problem)) => (Outcome::Failed(problem), EXIT_USAGE),
        Err(Unusable::Refused(refused)) => (Outcome::Refused(refused), EXIT_REFUSED),
        Ok((resolver, job)) => {
            checks = job.checks;
            let limits = Limits { patience: Duration::from_secs(args.patience), ..Limits::default() };
            let outcome = watch(resolver, job, limits, &progress, args.listen).await;
            let code = match outcome {
                Outcome::Complete { .. } => EXIT_COMPLETE,
                Outcome::Refused(_) | Outcome::Unfit(..) => EXIT_REFUSED,
                Outcome::Failed(_) => EXIT_TEMPORARY,
            };
            (outcome, code)
        }
    };
    let report = Report::new(&outcome, &progress.snapshot(None)).having_looked_at(checks);
    eprintln!("{}: {}: {}", report.outcome, report.reason, report.message);
    let kubelet = || Some(PathBuf::from(KUBELET_LOG)).filter(|log| log.exists());
    if let Some(log) = args.termination_log.or_else(kubelet)
        && let Err(error) = fs::write(&log, report.line())
    {
        eprintln!("{} cannot be written: {error}", log.display());
    }
    ExitCode::from(code)
}

/// Fetches, with a line of progress now and then, until it is done or somebody wants it to stop.
async fn watch(resolver: Resolver, job: Job, limits: Limits, progress: &Arc<Progress>, listen: Option<SocketAddr>) -> Outcome {
    let stopped = || {
        let message = "The fetch was told to stop. What came is kept, and the next run continues there.";
        Outcome::Failed(Problem::new(Reason::FetchFailed, message))
    };
    let signals = signal(SignalKind::terminate()).and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
    let (mut terminate, mut interrupt) = match signals {
        Ok(signals) => signals,
        Err(error) => {
            return Outcome::Failed(Problem::new(Reason::InternalError, format!("signals cannot be received: {error}")));
        }
    };
    let mut ticks = interval_at(Instant::now() + EVERY, EVERY);
    let shown = Arc::new(Shown::new(Arc::clone(progress)));
    shown.keep();
    let mut telling = std::pin::pin!(tell(listen, Arc::clone(&shown)));
    let mut fetching = std::pin::pin!(fetch(resolver, job, limits, Arc::clone(progress)));
    loop {
        tokio::select! {
            outcome = &mut fetching => return outcome,
            _ = terminate.recv() => return stopped(),
            _ = interrupt.recv() => return stopped(),
            _ = ticks.tick() => eprintln!("{}", shown.keep()),
            () = &mut telling => {}
        }
    }
}

/// Answers those who ask how far it is. That nobody can ask is no reason not to fetch.
async fn tell(listen: Option<SocketAddr>, shown: Arc<Shown>) {
    if let Some(address) = listen {
        let served = async { listen::serve(listen::bind(address).await?, shown).await };
        if let Err(error) = served.await {
            eprintln!("--listen {address}: nobody can ask for /progress: {error}");
        }
    }
    std::future::pending().await
}

fn prepare(args: &Fetch) -> Result<(Resolver, Job), Unusable> {
    let usage = |message: String| Unusable::Usage(Problem::new(Reason::InvalidSpec, message));
    let text = read(&args.manifest, MAX_MANIFEST)?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| usage(format!("--manifest {}: {error}", args.manifest.display())))?;
    if manifest.digest() != args.digest {
        return Err(Unusable::Refused(other_manifest(args, &manifest)));
    }
    let table = read(&args.sources, MAX_FILE)?;
    let table = String::from_utf8(table).map_err(|_| usage(format!("--sources {} is no text", args.sources.display())))?;
    let sources = Sources::parse(&table).map_err(|error| usage(format!("--sources {}: {error}", args.sources.display())))?;
    let credentials = args.credentials.as_deref().map(credentials).transpose()?;
    if args.revision.is_empty() || !args.revision.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(usage(format!(
            "--revision {:?} is no immutable revision: expected the hexadecimal digits of a commit or of a digest",
            args.revision
        )));
    }
    if !args.into.is_dir() {
        return Err(usage(format!("--into {} is no directory", args.into.display())));
    }
    let job = Job {
        manifest,
        source: args.source.clone(),
        revision: args.revision.clone(),
        credentials,
        into: args.into.clone(),
        own: args.bring.as_ref().unwrap_or(&args.into).clone(),
        checks: checks(&args.manifest)?,
    };
    Ok((Resolver::new(sources)?, job))
}

/// What policies want to be looked at beside digests. It may change without a restart, so it is no argument: it stands beside the
/// manifest, and where nothing stands nothing is wanted.
fn checks(manifest: &Path) -> Result<Checks, Problem> {
    let file = manifest.with_file_name(Checks::FILE);
    if !file.exists() {
        return Ok(Checks::default());
    }
    let text = read(&file, MAX_FILE)?;
    serde_json::from_slice(&text)
        .map_err(|error| Problem::new(Reason::InvalidSpec, format!("{} cannot be read: {error}", file.display())))
}

/// The Secret as the kubelet mounts it. Its type cannot be seen from here; the manager checks it before it mounts it.
fn credentials(dir: &Path) -> Result<Credentials, Problem> {
    let mut data = BTreeMap::new();
    for key in Credentials::KEYS {
        let file = dir.join(key);
        if file.exists() {
            data.insert(key.to_owned(), read(&file, MAX_FILE)?);
        }
    }
    Credentials::from_secret(SECRET_TYPE, &data)
}

fn other_manifest(args: &Fetch, manifest: &Manifest) -> Refused {
    let (expected, found) = (args.digest, manifest.digest());
    let message = format!(
        "The manifest that was handed over has content digest {found}, and {expected} was judged for {}@{}. Nothing was downloaded. Somebody \
         changed the manifest after the verdict: find out who may write to where it is kept.",
        args.source, args.revision
    );
    let file = args.manifest.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Refused { file, expected: expected.to_string(), found: found.to_string(), message }
}

fn read(file: &Path, max: u64) -> Result<Vec<u8>, Problem> {
    let usage = |message: String| Problem::new(Reason::InvalidSpec, message);
    let length = fs::metadata(file).map_err(|error| usage(format!("{} cannot be read: {error}", file.display())))?.len();
    if length > max {
        return Err(usage(format!("{} has {length} bytes, and at most {max} are read", file.display())));
    }
    fs::read(file).map_err(|error| usage(format!("{} cannot be read: {error}", file.display())))
}
