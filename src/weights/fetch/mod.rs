//! The one-pass fetch: downloads, hashes and writes each byte once, and lets a file into the served tree only when its size
//! and its SHA-256 are the manifest's.
//!
//! Whatever interrupts it, the next attempt continues: partial files hold a prefix, which is hashed again from the disk and
//! never trusted. A mismatch is final: the pod remembers it and does not download it twice. Another pod looks anew.

mod checks;
mod in_place;
mod outcome;
mod progress;
mod sink;
mod transfer;
mod workdir;

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, sleep},
};
use url::Origin;

pub use outcome::{Outcome, Refused, Report};
pub use progress::{Download, Progress, Snapshot, size};
pub use sink::measure as hash_file;

use self::{
    sink::Sink,
    transfer::Transfer,
    workdir::{Access, WorkDir},
};
use super::{Credentials, Resolver};
use crate::{
    api::{Problem, Reason},
    model::{Checks, CleanPath, Digest, Manifest, Source},
};

/// What to fetch, from where, to where.
pub struct Job {
    /// Exactly the files that may be served.
    pub manifest: Manifest,
    /// The model.
    pub source: Source,
    /// The immutable revision.
    pub revision: String,
    /// A token, if the source needs one.
    pub credentials: Option<Credentials>,
    /// The directory to work in; exists and can be written to. The files end in `tree/` below it. Others may work there as well,
    /// before and after: it may be a claim.
    pub into: PathBuf,
    /// The directory in which a refusal is remembered, for as long as this pod lives: `into`, unless that outlives the pod.
    pub own: PathBuf,
    /// What is looked at beside digests.
    pub checks: Checks,
}

/// How much at once, and how long to hope.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files at once.
    pub files: usize,
    /// Ranges at once, of all files together. Their bytes may have to wait for their turn: this many times `range` is the
    /// most memory that the fetch takes.
    pub ranges: usize,
    /// Bytes of a range.
    pub range: u64,
    /// How long no byte may come before the fetch gives up.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 4, ranges: 8, range: 4 << 20, patience: Duration::from_secs(600) }
    }
}

/// The first pause before a server is asked for its manifest again.
const PAUSE: Duration = Duration::from_millis(500);

/// A fetch under way.
struct Fetch {
    resolver: Resolver,
    job: Job,
    limits: Limits,
    progress: Arc<Progress>,
    work: WorkDir,
    memory: Arc<Semaphore>,
    origin: Origin,
}

/// Why a fetch ends early.
enum Stop {
    Refused(Refused),
    Unfit(Reason, Refused),
    Failed(Problem),
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Failed(problem)
    }
}

/// One content and all the places that it has in the tree.
#[derive(Clone)]
struct Content {
    sha256: Digest,
    size: u64,
    paths: Vec<CleanPath>,
}

/// Fetches. It may be dropped at any moment: partial files stay for the next attempt.
pub async fn fetch(resolver: Resolver, job: Job, limits: Limits, progress: Arc<Progress>) -> Outcome {
    match begin(resolver, job, limits, progress).await {
        Ok(received) => Outcome::Complete { received },
        Err(Stop::Refused(refused)) => Outcome::Refused(refused),
        Err(Stop::Unfit(reason, refused)) => Outcome::Unfit(reason, refused),
        Err(Stop::Failed(problem)) => Outcome::Failed(problem),
    }
}

async fn begin(resolver: Resolver, job: Job, limits: Limits, progress: Arc<Progress>) -> Result<u64, Stop> {
    let look = checks::Look::of(&job);
    let received = bring(resolver, job, limits, progress).await?;
    // Now the bytes have the digests that were judged; what is wrong with them is wrong for good.
    look.run().await.map(|()| received)
}

async fn bring(resolver: Resolver, job: Job, limits: Limits, progress: Arc<Progress>) -> Result<u64, Stop> {
    if job.source.is_in_place() {
        return in_place::verify(job, progress).await.map(|()| 0);
    }
    let work = WorkDir::at(&job.into);
    let contents = contents(&job)?;
    let origin = resolver.sources().endpoint(&job.source).join([]).origin();
    let memory = Arc::new(Semaphore::new(limits.ranges.max(1)));
    let fetch = Arc::new(Fetch { resolver, job, limits, progress, work, memory, origin });
    if fetch.is_there(&contents).await? {
        return Ok(0);
    }
    let _lock = fetch.lock(Access::Write).await?;
    let work = fetch.work.clone();
    let prepared = spawn_blocking(move || work.prepare()).await.map_err(io::Error::other).flatten();
    prepared.map_err(|error| failed(format!("{} cannot be used to fetch into: {error}", fetch.job.into.display())))?;
    fetch.forget_others();
    fetch.recall()?;
    let ended = fetch.run(contents).await;
    if let Err(Stop::Refused(refused)) = &ended {
        // Not being able to remember costs a download, not safety.
        let _ = outcome::remember(&fetch.refusal(), &fetch.job, refused);
    }
    ended.map(|()| fetch.progress.snapshot(None).received)
}

/// The distinct contents, the largest first, so that the longest transfer is not the last to begin.
fn contents(job: &Job) -> Result<Vec<Content>, Stop> {
    let mut contents = BTreeMap::<Digest, Content>::new();
    for file in job.manifest.files() {
        let content =
            contents.entry(file.sha256).or_insert_with(|| Content { sha256: file.sha256, size: file.size, paths: Vec::new() });
        if content.size != file.size {
            let message = format!(
                "{}: the manifest gives one digest two sizes, {} and {} bytes. No file can have both; make the manifest again.",
                file.path, content.size, file.size
            );
            return Err(Problem::new(Reason::SourceInvalid, message).into());
        }
        content.paths.push(file.path.clone());
    }
    let mut contents: Vec<_> = contents.into_values().collect();
    contents.sort_by_key(|content| std::cmp::Reverse(content.size));
    Ok(contents)
}

impl Fetch {
    /// Several pods may share a claim; one of them fetches, and the others, which find everything there, look through it at the same
    /// time.
    async fn lock(&self, to: Access) -> Result<std::fs::File, Stop> {
        let dir = self.job.into.display();
        loop {
            match self.work.try_lock(to) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => {
                    tracing::info!(%dir, "another process works in the same directory; waiting for it");
                    sleep(Duration::from_secs(2)).await;
                }
                Err(error) => return Err(failed(format!("{dir} cannot be locked: {error}")).into()),
            }
        }
    }

    /// Where a refusal is remembered.
    fn refusal(&self) -> PathBuf {
        self.job.own.join(workdir::REFUSAL)
    }

    /// Takes away what a version that remembered in the claim left there: it would hold for every pod and for ever.
    fn forget_others(&self) {
        let left = self.job.into.join(workdir::REFUSAL);
        if left != self.refusal() {
            // Nobody but that version reads it.
            let _ = std::fs::remove_file(left);
        }
    }

    /// What was refused for good is refused again, by the same pod.
    fn recall(&self) -> Result<(), Stop> {
        outcome::recall(&self.refusal(), &self.job).map_or(Ok(()), |refused| Err(Stop::Refused(refused)))
    }

    /// Whether an earlier fetch was completed here and every byte is still what it was. Nothing is written for that, so that many
    /// can find out at once.
    async fn is_there(self: &Arc<Self>, contents: &[Content]) -> Result<bool, Stop> {
        let _lock = self.lock(Access::Read).await?;
        self.recall()?;
        if !self.on_disk("the served tree", |fetch| Ok(fetch.work.is_sealed(&fetch.job.manifest))).await? {
            return Ok(false);
        }
        self.progress.expect(contents.iter().map(|content| content.size).sum());
        let look = |content: Content| async move {
            let name = content.paths.first().map(ToString::to_string).unwrap_or_default();
            self.on_disk(&name, move |fetch| Ok(fetch.good(&content).1.is_empty())).await
        };
        let checks = stream::iter(contents.to_vec()).map(look).buffer_unordered(self.limits.files.max(1));
        let whole = checks.try_fold(true, |whole, good| async move { Ok(whole && good) }).await?;
        if !whole {
            self.progress.forget(self.progress.snapshot(None).hashed);
        }
        Ok(whole)
    }

    async fn run(self: &Arc<Self>, contents: Vec<Content>) -> Result<(), Stop> {
        self.progress.expect(contents.iter().map(|content| content.size).sum());
        self.on_disk("the served tree", |fetch| fetch.work.clean(&fetch.job.manifest)).await?;
        let files = self.limits.files.max(1);
        let check = |content| async { self.missing(content).await };
        let missing: Vec<_> = stream::iter(contents).map(check).buffer_unordered(files).try_collect().await?;
        let missing: Vec<_> = missing.into_iter().flatten().collect();
        self.check_room(&missing).await?;
        if !missing.is_empty() {
            self.check_manifest().await?;
        }
        let bring = |content| async move { self.bring(content).await };
        stream::iter(missing).map(bring).buffer_unordered(files).try_collect::<()>().await?;
        self.on_disk("the served tree", |fetch| fetch.work.seal(&fetch.job.manifest)).await
    }

    /// A manifest on a server has to be the one that was judged: it is the revision of the model.
    async fn check_manifest(&self) -> Result<(), Stop> {
        let Job { source, revision, credentials, .. } = &self.job;
        let Source::Web { url } = source else { return Ok(()) };
        let file = url.rsplit('/').next().unwrap_or_default();
        let patience = Instant::now() + self.limits.patience;
        let mut pause = PAUSE;
        loop {
            let error = match self.resolver.resolve(source, Some(revision), credentials.as_ref()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.problem.reason == Reason::RevisionNotFound => {
                    return Err(Stop::Refused(Refused::manifest(&self.job, file, &error.problem)));
                }
                Err(error) => error,
            };
            if !error.is_passing() || Instant::now() + pause > patience {
                return Err(error.problem.into());
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
    }

    /// Hashes what stands in the tree already. The content comes back when no place has it.
    async fn missing(self: &Arc<Self>, content: Content) -> Result<Option<Content>, Stop> {
        let name = content.paths.first().map(ToString::to_string).unwrap_or_default();
        self.on_disk(&name, move |fetch| {
            let (good, bad) = fetch.good(&content);
            let Some(first) = good.first() else { return Ok(Some(content)) };
            fetch.work.repeat(first, &bad)?;
            Ok(None)
        })
        .await
    }

    /// Hashes a content in all its places: those that have it, and the others. It counts once when any place has it.
    fn good(&self, content: &Content) -> (Vec<CleanPath>, Vec<CleanPath>) {
        let has = |path: &CleanPath| {
            // What cannot be read is replaced.
            let measured = sink::measure(&self.work.place(path), content.size, &self.progress).unwrap_or_default();
            if measured.is_some() {
                self.progress.forget(content.size);
            }
            measured == Some(content.sha256)
        };
        let (good, bad): (Vec<_>, Vec<_>) = content.paths.iter().cloned().partition(has);
        if !good.is_empty() {
            self.progress.add_hashed(content.size);
        }
        (good, bad)
    }

    async fn check_room(self: &Arc<Self>, missing: &[Content]) -> Result<(), Stop> {
        let missing = missing.to_vec();
        let (needed, free) = self
            .on_disk("the free space", move |fetch| {
                let rest = |content: &Content| {
                    let there = fetch.work.partial(&content.sha256).symlink_metadata().map_or(0, |found| found.len());
                    content.size.saturating_sub(there)
                };
                Ok((missing.iter().map(rest).sum::<u64>(), fetch.work.free()?))
            })
            .await?;
        if needed > free { Err(self.full(needed, free).into()) } else { Ok(()) }
    }

    /// Downloads one content and puts it to its places.
    async fn bring(self: &Arc<Self>, content: Content) -> Result<(), Stop> {
        let Content { sha256, size, paths } = content;
        let Some(path) = paths.first().cloned() else { return Ok(()) };
        let name = path.to_string();
        let mut again = false;
        loop {
            let partial = self.work.partial(&sha256);
            let opened = Sink::open(partial.clone(), size, Arc::clone(&self.progress)).await;
            let mut sink = opened.map_err(|error| self.disk(&name, &error))?;
            let resumed = sink.at() > 0;
            let transfer = Transfer::new(Arc::clone(self), path.clone(), sha256, size);
            if let Err(stop) = transfer.run(&mut sink).await {
                if matches!(stop, Stop::Refused(_)) {
                    self.on_disk(&name, move |_| std::fs::remove_file(partial)).await?;
                }
                return Err(stop);
            }
            let found = sink.finish().await.map_err(|error| self.disk(&name, &error))?;
            if found == sha256 {
                return self.on_disk(&name, move |fetch| fetch.work.publish(&sha256, &paths)).await;
            }
            self.on_disk(&name, move |_| std::fs::remove_file(partial)).await?;
            self.progress.forget(size);
            // What was pieced together may be broken by the piecing; what came in one go is what the source has.
            if again || !(resumed || transfer.was_interrupted()) {
                return Err(Stop::Refused(Refused::digest(&self.job, &transfer.sender(), &path, sha256, found)));
            }
            again = true;
        }
    }

    /// Runs something that waits for the disk; `what` is named when it fails.
    async fn on_disk<T, F>(self: &Arc<Self>, what: &str, work: F) -> Result<T, Stop>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> io::Result<T> + Send + 'static,
    {
        let fetch = Arc::clone(self);
        let done = spawn_blocking(move || work(&fetch)).await.map_err(io::Error::other).flatten();
        done.map_err(|error| self.disk(what, &error).into())
    }

    /// What people are told when the disk does not take something.
    fn disk(&self, what: &str, error: &io::Error) -> Problem {
        if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge) {
            let now = self.progress.snapshot(None);
            return self.full(now.total.saturating_sub(now.hashed), self.work.free().unwrap_or_default());
        }
        failed(format!("{what} cannot be written to {}: {error}", self.job.into.display()))
    }

    fn full(&self, needed: u64, free: u64) -> Problem {
        Problem::new(
            Reason::DiskFull,
            format!(
                "{} more are needed for {} and {} are free ({needed} and {free} bytes). Give the pod more ephemeral storage, use a larger claim \
                 in spec.model.cache, or choose fewer files with spec.model.files.",
                size(needed as f64),
                self.job.source,
                size(free as f64)
            ),
        )
    }
}

fn failed(message: String) -> Problem {
    Problem::new(
        Reason::FetchFailed,
        format!("{message}. It is tried again by itself; check the volume and who may write to it."),
    )
}
