//! How a fetch ended, in the words of the termination message.

use std::{fs, io, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Job, Snapshot};
use crate::{
    api::{Problem, Reason},
    model::{Checks, CleanPath, Digest, Source},
};

/// How a fetch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// `tree/` holds exactly the manifest's files, and each hashes to what the manifest says.
    Complete {
        /// The bytes that came over the network.
        received: u64,
    },
    /// The source does not have these bytes. Trying again would download the same ones.
    Refused(Refused),
    /// The bytes are the ones that were judged, and a policy does not take what is in them.
    Unfit(Reason, Refused),
    /// Something else went wrong; it may be otherwise at the next attempt.
    Failed(Problem),
}

/// What was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The file.
    pub file: String,
    /// The digest or the size that the manifest says.
    pub expected: String,
    /// The digest or the size that came.
    pub found: String,
    /// The sentences for people.
    pub message: String,
}

/// One line of JSON, at most [`Report::MAX`] bytes: what the manager reads from a pod's termination message. Manager and fetcher may
/// be of different releases: fields that only a newer one knows are passed over, and new ones may be absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `Complete`, `Refused` or `Failed`.
    pub outcome: String,
    /// The reason, as in conditions.
    pub reason: String,
    /// The sentences for people.
    pub message: String,
    /// The refused file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The digest or size that was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The digest or size that came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What was looked at beside digests.
    #[serde(default, skip_serializing_if = "Checks::is_empty")]
    pub checks: Checks,
    /// The bytes that came over the network.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// How much of that went into hashing what lay on the disk already; what comes over the network is hashed while it comes.
    #[serde(default, rename = "verifySeconds", skip_serializing_if = "is_zero")]
    pub verify_seconds: f64,
}

fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

impl Report {
    /// What the kubelet keeps of a termination message, in bytes.
    pub const MAX: usize = 4096;

    /// The report about `outcome` of a fetch that ended like this.
    pub fn new(outcome: &Outcome, end: &Snapshot) -> Self {
        let (name, reason, message, refused) = match outcome {
            Outcome::Complete { .. } => {
                ("Complete", Reason::Verified, "every file has the digest that was expected".to_owned(), None)
            }
            Outcome::Refused(refused) => ("Refused", Reason::DigestMismatch, refused.message.clone(), Some(refused)),
            Outcome::Unfit(reason, refused) => ("Refused", *reason, refused.message.clone(), Some(refused)),
            Outcome::Failed(problem) => ("Failed", problem.reason, problem.message.clone(), None),
        };
        Self {
            outcome: name.to_owned(),
            reason: reason.as_str().to_owned(),
            message,
            file: refused.map(|refused| refused.file.clone()),
            expected: refused.map(|refused| refused.expected.clone()),
            found: refused.map(|refused| refused.found.clone()),
            checks: Checks::default(),
            bytes: end.received,
            seconds: seconds(end.elapsed),
            verify_seconds: seconds(end.verifying),
        }
    }

    /// The same of a fetch that was told to take these looks.
    pub fn having_looked_at(self, checks: Checks) -> Self {
        Self { checks, ..self }
    }

    /// The line. A message that escapes to too many bytes is left out of it, never cut inside the JSON.
    pub fn line(&self) -> String {
        let write = |report: &Self| serde_json::to_string(report).unwrap_or_default();
        let line = write(self);
        if line.len() <= Self::MAX {
            return line;
        }
        let message: String = self.message.chars().filter(|c| !c.is_control()).take(200).collect();
        write(&Self { message, file: self.file.as_ref().map(|file| file.chars().take(240).collect()), ..self.clone() })
    }
}

impl Refused {
    /// The bytes of `path` that came from `from` hash to something else.
    pub(super) fn digest(job: &Job, from: &str, path: &CleanPath, expected: Digest, found: Digest) -> Self {
        Self::new(job, from, path, expected.to_string(), found.to_string())
    }

    /// The source has more or fewer bytes of `path`.
    pub(super) fn size(job: &Job, from: &str, path: &CleanPath, expected: u64, found: &str) -> Self {
        Self::new(job, from, path, format!("{expected} bytes"), found.to_owned())
    }

    /// The manifest of a server is another one than the one that was judged.
    pub(super) fn manifest(job: &Job, file: &str, problem: &Problem) -> Self {
        let expected = format!("sha256:{}", job.revision);
        Self { file: file.to_owned(), expected, found: "another manifest".to_owned(), message: problem.message.clone() }
    }

    /// What lies in a claim is not what was judged.
    pub(super) fn in_place(job: &Job, path: &CleanPath, expected: String, found: String) -> Self {
        let message = format!(
            "{path}: measured as {expected}, but {} has {found} now. Nothing new is served. If the new file is wanted, give the \
             ModelDeployment the annotation bonafide.dev/refresh with a new value; if not, find out who writes to the claim.",
            job.source
        );
        let message = Problem::new(Reason::DigestMismatch, message).message;
        Self { file: path.to_string(), expected, found, message }
    }

    /// The bytes of `path` are the ones that were judged, and a policy does not take what is in them.
    pub(super) fn unfit(source: &Source, path: &CleanPath, why: &str, reason: Reason) -> Self {
        let message = format!(
            "{path} of {source} {why}. Its bytes are the ones that were recorded; nothing of it is served. Leave the file out with \
             spec.model.files if it is not needed, or choose another model."
        );
        let message = Problem::new(reason, message).message;
        Self {
            file: path.to_string(),
            expected: "what the policies take".to_owned(),
            found: "something else".to_owned(),
            message,
        }
    }

    fn new(job: &Job, from: &str, path: &CleanPath, expected: String, found: String) -> Self {
        let Job { source, revision, .. } = job;
        let message = format!(
            "{path}: recorded as {expected}, but {source}@{} has {found} now, sent by {from}. Nothing new is served. If the new file \
             is wanted, have it signed again, or pin it with spec.model.digest, and set spec.model.revision to its commit; if not, tell the \
             repository's owner, and whoever runs the mirror or proxy if there is one.",
            short(revision)
        );
        let message = Problem::new(Reason::DigestMismatch, message).message;
        Self { file: path.to_string(), expected, found, message }
    }
}

/// A commit as people read it.
fn short(revision: &str) -> &str {
    revision.get(..7).filter(|_| revision.len() >= 40).unwrap_or(revision)
}

/// A refusal as it is remembered in a directory of the pod, for exactly this content from exactly this place.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marker {
    content: Digest,
    source: String,
    revision: String,
    refused: Refused,
}

/// What an earlier attempt at the same job refused for good.
pub(super) fn recall(file: &Path, job: &Job) -> Option<Refused> {
    let marker: Marker = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let same =
        marker.content == job.manifest.digest() && marker.source == job.source.to_string() && marker.revision == job.revision;
    same.then_some(marker.refused)
}

/// Remembers a refusal, so that a container that is started again does not download the same bytes again.
pub(super) fn remember(file: &Path, job: &Job, refused: &Refused) -> io::Result<()> {
    let marker = Marker {
        content: job.manifest.digest(),
        source: job.source.to_string(),
        revision: job.revision.clone(),
        refused: refused.clone(),
    };
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_vec(&marker)?)?;
    fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(received: u64, milliseconds: u64, verifying: u64) -> Snapshot {
        let (elapsed, verifying) = (Duration::from_millis(milliseconds), Duration::from_millis(verifying));
        Snapshot { total: received, hashed: received, received, elapsed, verifying, rate: 0.0 }
    }

    #[test]
    fn a_report_is_one_line_of_json_that_fits_whatever_is_in_it() {
        let nasty = "\u{1}\"\\\n".repeat(250);
        let refused = Refused {
            file: nasty.clone(),
            expected: Digest::of("a").to_string(),
            found: Digest::of("b").to_string(),
            message: nasty,
        };
        let report = Report::new(&Outcome::Refused(refused), &end(7, 1500, 250));
        let line = report.line();
        assert!(line.len() <= Report::MAX && !line.contains('\n'), "{}", line.len());
        let read: Report = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (read.outcome.as_str(), read.reason.as_str(), read.bytes, read.seconds, read.verify_seconds),
            ("Refused", "DigestMismatch", 7, 1.5, 0.25)
        );
        assert_eq!(read.expected, Some(Digest::of("a").to_string()));
    }

    #[test]
    fn a_complete_report_names_no_file() {
        let line = Report::new(&Outcome::Complete { received: 3 }, &end(3, 1000, 0)).line();
        assert_eq!(
            line,
            r#"{"outcome":"Complete","reason":"Verified","message":"every file has the digest that was expected","bytes":3,"seconds":1.0}"#
        );
    }
    #[test]
    fn reports_of_an_older_and_of_a_newer_release_are_read() {
        let older = r#"{"outcome":"Complete","reason":"Verified","message":"m","bytes":3,"seconds":1.0}"#;
        assert_eq!(serde_json::from_str::<Report>(older).unwrap().verify_seconds, 0.0);
        let newer =
            r#"{"outcome":"Failed","reason":"DiskFull","message":"m","bytes":3,"seconds":1.0,"verifySeconds":0.5,"later":{}}"#;
        let report: Report = serde_json::from_str(newer).unwrap();
        assert_eq!((report.reason.as_str(), report.verify_seconds), ("DiskFull", 0.5));
    }
}
