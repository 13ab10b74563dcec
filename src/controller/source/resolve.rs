//! From the wish to an artifact: which commit, which files, with which digests, and the signature beside them.
//!
//! No weights are read here. The hub names the digests of large files; small ones are read and hashed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use crate::{
    api::{ArtifactBundle, ArtifactFile, ModelArtifactSpec, ModelDeploymentSpec, Problem, Reason},
    engine::{self, Catalogue, Selection},
    model::{CleanPath, Digest, File, Glob, InvalidManifest, Manifest, Source},
    trust,
    weights::{Credentials, Library, SourceError, Tree, WebManifest},
};

/// How long a listed tree is taken for what a branch points at.
const FRESH: Duration = Duration::from_secs(60);
/// Trees are large: few are kept.
const TREES: usize = 64;
/// How many small files are read at the same time.
const AT_ONCE: usize = 8;
/// The most bytes of signatures that an artifact can record.
const MAX_BUNDLE: u64 = 512 * 1024;
/// The most bytes of JSON that the list of files may have: with the signatures it fits a record in etcd (1.5 MiB), and with the
/// table of sources a ConfigMap (1 MiB).
const MAX_LIST: usize = 900_000;

/// A listed tree and what was read of it.
struct Listed {
    tree: Tree,
    at: Instant,
    /// Contents of bundles and digests of small files, as they were read.
    bundles: tokio::sync::Mutex<Option<BTreeMap<CleanPath, String>>>,
    hashes: tokio::sync::Mutex<BTreeMap<CleanPath, Digest>>,
}

/// Trees that were listed, by who asked for what.
#[derive(Default)]
pub struct Trees(Mutex<HashMap<String, Arc<Listed>>>);

/// What is asked for.
pub struct Question<'a> {
    /// The UID of the ModelDeployment that asks: what one may read with its credentials is not another's to see, and one that is
    /// new is told what a branch points at now.
    pub asker: &'a str,
    /// The wish.
    pub spec: &'a ModelDeploymentSpec,
    /// The source, parsed.
    pub source: &'a Source,
    /// The revision to look up: the wish's, or the commit it was resolved to before.
    pub revision: Option<&'a str>,
    /// Who asks.
    pub credentials: Option<&'a Credentials>,
    /// The engine that was chosen before.
    pub kept_engine: Option<&'a str>,
    /// Whether only files that the signature lists are chosen from.
    pub restrict_to_signed: bool,
}

/// What was found.
pub struct Answer {
    /// The record, complete.
    pub artifact: ModelArtifactSpec,
    /// The engine that runs it.
    pub engine: engine::Engine,
    /// The files that were chosen.
    pub selection: Selection,
}

/// Why there is no answer.
pub enum Unanswered {
    /// The source does not give it, and whether to ask again.
    Source(SourceError),
    /// What the source has does not fit the wish.
    Spec(Problem),
    /// The signature cannot be used at all, or a file that it lists is not there.
    Trust(Problem),
}

impl From<SourceError> for Unanswered {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// Asks the source.
pub async fn resolve(
    resolver: &dyn Library,
    trees: &Trees,
    catalogue: &Catalogue,
    question: &Question<'_>,
) -> Result<Answer, Unanswered> {
    let listed = list(resolver, trees, question).await?;
    let reader = Reader { resolver, question, listed: &listed };
    let wanted = engine::wanted(&question.spec.model.files).map_err(Unanswered::Spec)?;
    let asked_for = |path: &str| wanted.iter().any(|glob| glob.matches(path));
    listed.tree.refuse_unclean(question.source, asked_for).map_err(Unanswered::Spec)?;
    let bundles = reader.bundles().await?;

    let candidates = candidates(question, &listed.tree, &bundles);
    let class =
        question.spec.resources.accelerator.as_ref().map_or(crate::api::AcceleratorClass::None, |accelerator| accelerator.class);
    let name = question.spec.engine.name.as_deref();
    let engine = catalogue.choose(name, question.kept_engine, &candidates, &wanted, class).map_err(Unanswered::Spec)?.clone();
    let selection = engine::select(&engine, &candidates, &wanted).map_err(Unanswered::Spec)?;

    let manifest = reader.manifest(&selection.files).await?;
    let artifact = ModelArtifactSpec {
        source: question.source.to_string(),
        revision: listed.tree.revision.clone(),
        digest: manifest.digest().to_string(),
        files: manifest.files().iter().map(ArtifactFile::from).collect(),
        bundles: bundles.into_iter().map(|(from, content)| ArtifactBundle { from: from.to_string(), content }).collect(),
    };
    Ok(Answer { artifact, engine, selection })
}

/// What is there to choose from. When only signed files count, a name that the signature lists stays a candidate although
/// the source lacks it: then it is missed by name instead of being passed over.
fn candidates(question: &Question<'_>, tree: &Tree, bundles: &BTreeMap<CleanPath, String>) -> Vec<(CleanPath, u64)> {
    let manifest = WebManifest::itself(question.source);
    let of_the_model = |path: &CleanPath| !bundles.contains_key(path) && manifest.as_ref() != Some(path);
    let there = || tree.files.iter().filter(|file| of_the_model(&file.path)).map(|file| (file.path.clone(), file.size));
    let signed: Vec<CleanPath> = bundles.values().filter_map(|bundle| trust::listed_names(bundle)).flatten().collect();
    if !question.restrict_to_signed || signed.is_empty() {
        return there().collect();
    }
    let sizes: HashMap<CleanPath, u64> = there().collect();
    let mut candidates: Vec<_> = signed
        .into_iter()
        .filter(|path| manifest.as_ref() != Some(path))
        .map(|path| {
            let size = sizes.get(&path).copied().unwrap_or(0);
            (path, size)
        })
        .collect();
    candidates.sort();
    candidates.dedup_by(|a, b| a.0 == b.0);
    candidates
}

async fn list(resolver: &dyn Library, trees: &Trees, question: &Question<'_>) -> Result<Arc<Listed>, SourceError> {
    let secret = question.spec.model.secret_ref.as_ref().map_or("", |secret| &secret.name);
    let key = format!("{} {} {:?} {secret}", question.asker, question.source, question.revision);
    if let Some(listed) = trees.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
        && listed.at.elapsed() < FRESH
    {
        return Ok(listed.clone());
    }
    let tree = resolver.resolve(question.source, question.revision, question.credentials).await?;
    let listed = Arc::new(Listed { tree, at: Instant::now(), bundles: Default::default(), hashes: Default::default() });
    let mut trees = trees.0.lock().unwrap_or_else(PoisonError::into_inner);
    trees.retain(|_, listed| listed.at.elapsed() < FRESH);
    if trees.len() < TREES {
        trees.insert(key, listed.clone());
    }
    Ok(listed)
}

/// Reads small files of one listed tree.
struct Reader<'a> {
    resolver: &'a dyn Library,
    question: &'a Question<'a>,
    listed: &'a Listed,
}

impl Reader<'_> {
    async fn read(&self, path: &CleanPath, size: u64) -> Result<Vec<u8>, SourceError> {
        self.resolver.read(self.question.source, &self.listed.tree.revision, path, size, self.question.credentials).await
    }

    /// The signature that the wish names; else those at the root: `model.sig`, then `*.oms.sig`, then `*.sig`; the first of these
    /// that has any.
    async fn bundles(&self) -> Result<BTreeMap<CleanPath, String>, Unanswered> {
        let mut known = self.listed.bundles.lock().await;
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let mut found = BTreeMap::new();
        let named = self.question.spec.model.signature.as_ref().map(|signature| signature.file.as_str());
        let look: &[&str] = named.as_ref().map_or(&["model.sig", "*.oms.sig", "*.sig"], std::slice::from_ref);
        for pattern in look {
            let Ok(pattern) = pattern.parse::<Glob>() else { continue };
            let files: Vec<_> =
                self.listed.tree.files.iter().filter(|file| pattern.matches(file.path.as_str())).take(8).collect();
            let size: u64 = files.iter().map(|file| file.size).sum();
            if let Some(file) = files.first().filter(|_| size > MAX_BUNDLE) {
                let message = format!(
                    "{}: the signatures have {size} bytes, and at most {MAX_BUNDLE} can be recorded. Sign fewer files, or sign the \
                     files that are served in a repository of their own.",
                    file.path
                );
                return Err(Unanswered::Trust(Problem::new(Reason::SignatureMalformed, message)));
            }
            for file in files {
                let content = self.read(&file.path, file.size).await?;
                if file.sha256.is_some_and(|listed| listed != Digest::of(&content)) {
                    let (path, source) = (&file.path, self.question.source);
                    let message =
                        format!("{path}: {source} lists it with another SHA-256 than what it sends. It is asked again.");
                    return Err(SourceError::invalid(message).into());
                }
                // A signature that is not text is kept as what it is: not a signature.
                found.insert(file.path.clone(), String::from_utf8_lossy(&content).into_owned());
            }
            if !found.is_empty() {
                break;
            }
        }
        if let Some(file) = named.filter(|_| found.is_empty()) {
            let message = format!(
                "spec.model.signature.file: {} at {} has no file {file}. Nothing new is served. Correct the path, or leave \
                 spec.model.signature out: then model.sig, *.oms.sig and *.sig are looked for.",
                self.question.source, self.listed.tree.revision
            );
            return Err(Unanswered::Trust(Problem::new(Reason::Unsigned, message)));
        }
        *known = Some(found.clone());
        Ok(found)
    }

    async fn file(&self, path: &CleanPath) -> Result<File, Unanswered> {
        let Some(file) = self.listed.tree.files.iter().find(|file| file.path == *path) else {
            let message = format!(
                "{path}: the signature lists it, but {} at {} does not have it. Nothing new is served. Restore the file, or have the \
                 model signed again without it.",
                self.question.source, self.listed.tree.revision
            );
            return Err(Unanswered::Trust(Problem::new(Reason::SignedFileMissing, message)));
        };
        let sha256 = match file.sha256 {
            Some(sha256) => sha256,
            None => self.hash(path, file.size).await?,
        };
        Ok(File { path: path.clone(), size: file.size, sha256 })
    }

    async fn manifest(&self, paths: &[CleanPath]) -> Result<Manifest, Unanswered> {
        let too_many = |what: &dyn std::fmt::Display| {
            Unanswered::Spec(Problem::new(Reason::TooManyFiles, format!("spec.model.files: {what}")))
        };
        // Before thousands of small files are read for nothing.
        if paths.len() > Manifest::MAX_FILES {
            return Err(too_many(&InvalidManifest::TooMany(paths.len())));
        }
        let files = futures::stream::iter(paths.to_vec())
            .map(|path| async move { self.file(&path).await }.boxed())
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        let manifest = Manifest::new(files).map_err(|error| match error {
            InvalidManifest::Empty | InvalidManifest::TooMany(_) => too_many(&error),
            InvalidManifest::Duplicate(_) | InvalidManifest::Nested(..) => SourceError::invalid(format!(
                "{}: {error}. Leave one of the two out with spec.model.files.",
                self.question.source
            ))
            .into(),
        })?;
        let length = serde_json::to_string(&manifest).map_or(usize::MAX, |list| list.len());
        if length > MAX_LIST {
            let files = paths.len();
            return Err(too_many(&format_args!(
                "the list of these {files} files with their paths and digests has {length} bytes, and at most {MAX_LIST} can be recorded; \
                 choose fewer"
            )));
        }
        Ok(manifest)
    }

    async fn hash(&self, path: &CleanPath, size: u64) -> Result<Digest, SourceError> {
        if let Some(known) = self.listed.hashes.lock().await.get(path) {
            return Ok(*known);
        }
        let digest = Digest::of(self.read(path, size).await?);
        self.listed.hashes.lock().await.insert(path.clone(), digest);
        Ok(digest)
    }
}

/// What a wish stands for at this moment.
pub struct LookedUp {
    /// The immutable revision.
    pub revision: String,
    /// The content digest of what would be served.
    pub digest: String,
}

/// Asks the source what a wish stands for, as the manager does where no policy speaks.
///
/// # Errors
/// What the source or the wish lacks.
pub async fn look_up(
    library: &dyn Library,
    catalogue: &Catalogue,
    spec: &ModelDeploymentSpec,
    source: &Source,
    credentials: Option<&Credentials>,
) -> Result<LookedUp, Problem> {
    let answer = find(library, catalogue, spec, source, credentials, false).await?;
    Ok(LookedUp { revision: answer.artifact.revision, digest: answer.artifact.digest })
}

/// Asks the source once for everything about a wish. `restrict_to_signed` as in [`Question`].
///
/// # Errors
/// What the source, the signature or the wish lacks.
pub async fn find(
    library: &dyn Library,
    catalogue: &Catalogue,
    spec: &ModelDeploymentSpec,
    source: &Source,
    credentials: Option<&Credentials>,
    restrict_to_signed: bool,
) -> Result<Answer, Problem> {
    let question = Question {
        asker: "",
        spec,
        source,
        revision: spec.model.revision.as_deref(),
        credentials,
        kept_engine: None,
        restrict_to_signed,
    };
    resolve(library, &Trees::default(), catalogue, &question).await.map_err(|unanswered| match unanswered {
        Unanswered::Source(error) => error.problem,
        Unanswered::Spec(problem) | Unanswered::Trust(problem) => problem,
    })
}

#[cfg(test)]
mod tests;
