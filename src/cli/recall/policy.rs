//! The policy that recalls files: made, and tried as the API server and the manager will.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use crate::{
    api::{ArtifactFile, ClusterModelPolicy, ModelArtifactSpec, OnRecall},
    cli::lint,
    trust::Policy,
};

/// The most digests of one entry, as the definition has it.
const AT_ONCE: usize = 1024;
/// The longest name of an object.
const LONGEST: usize = 253;
/// The longest name of an entry.
const ENTRY: usize = 63;
/// The longest reason, in characters.
const REASON: usize = 512;

/// What is recalled.
pub struct Recall<'a> {
    /// The name of its record.
    pub artifact: &'a str,
    /// The record.
    pub spec: &'a ModelArtifactSpec,
    /// The files to deny.
    pub files: &'a [&'a ArtifactFile],
    /// Why, when somebody says so.
    pub reason: Option<&'a str>,
    /// What becomes of replicas that run.
    pub on: OnRecall,
    /// When.
    pub now: Timestamp,
}

/// The day of a recall.
pub fn date(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string()
}

/// The policy's name, when nobody chooses another.
pub fn name(artifact: &str, now: Timestamp) -> String {
    cut(&format!("recall-{}-{artifact}", date(now)), LONGEST)
}

fn cut(text: &str, length: usize) -> String {
    let cut: String = text.chars().take(length).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

/// The policy.
///
/// # Errors
/// When an API server would refuse it, or the manager could not use it: says where and why.
pub fn policy(recall: &Recall<'_>, name: &str) -> Result<Value, String> {
    let Recall { artifact, spec, files, on, now, .. } = recall;
    let origin = format!("{} at {}, recalled on {}", spec.source, spec.revision, date(*now));
    let reason = recall.reason.map_or(origin, str::to_owned);
    if reason.chars().count() > REASON {
        return Err(format!("--reason has {} characters, and {REASON} are the most", reason.chars().count()));
    }
    let digests: Vec<String> = files.iter().map(|file| format!("sha256:{}", file.sha256)).collect();
    let parts = digests.chunks(AT_ONCE).enumerate().map(|(number, digests)| {
        let tail = if number == 0 { String::new() } else { format!("-{}", number + 1) };
        let entry = cut(artifact, ENTRY - tail.len()) + &tail;
        json!({ "name": entry, "fileDigests": digests, "reason": reason })
    });
    let policy = json!({
        "apiVersion": "bonafide.dev/v1alpha1",
        "kind": "ClusterModelPolicy",
        "metadata": { "name": name },
        "spec": { "unmatched": "Accept", "deny": parts.collect::<Vec<_>>(), "onRecall": on.as_str() },
    });
    let refused = |why: String| format!("the policy would not be accepted: {why}");
    if let Some(finding) = lint::refused(&policy).into_iter().next() {
        return Err(refused(finding.message));
    }
    let read: ClusterModelPolicy = serde_json::from_value(policy.clone()).map_err(|error| refused(error.to_string()))?;
    Policy::compile(&read, &|_| None).map_err(|problem| refused(problem.message))?;
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(files: &[ArtifactFile], reason: Option<&str>, artifact: &str) -> Result<Value, String> {
        let spec = ModelArtifactSpec {
            source: "hf://orbit/whale".into(),
            revision: "c0ffee".into(),
            digest: String::new(),
            files: files.to_vec(),
            bundles: vec![],
        };
        let now = "2026-11-02T23:59:00Z".parse().unwrap();
        let files: Vec<&ArtifactFile> = files.iter().collect();
        let recall = Recall { artifact, spec: &spec, files: &files, reason, on: OnRecall::Drain, now };
        policy(&recall, &name(artifact, now))
    }

    fn file(number: usize) -> ArtifactFile {
        ArtifactFile { path: format!("{number}.gguf"), size: 1, sha256: format!("{number:064x}") }
    }

    #[test]
    fn it_denies_every_digest_and_is_accepted() {
        let policy = made(&[file(10), file(11)], None, "whale-91c04e2f").unwrap();
        assert_eq!(policy["metadata"]["name"], "recall-2026-11-02-whale-91c04e2f");
        let entry = &policy["spec"]["deny"][0];
        assert_eq!(entry["fileDigests"][1], format!("sha256:{:064x}", 11));
        assert_eq!(entry["reason"], "hf://orbit/whale at c0ffee, recalled on 2026-11-02");
        assert_eq!((&policy["spec"]["unmatched"], &policy["spec"]["onRecall"]), (&json!("Accept"), &json!("Drain")));
        let many: Vec<ArtifactFile> = (0..2500).map(file).collect();
        let policy = made(&many, Some("withdrawn"), &"w".repeat(200)).unwrap();
        let entries = policy["spec"]["deny"].as_array().unwrap();
        let sizes: Vec<usize> = entries.iter().map(|entry| entry["fileDigests"].as_array().unwrap().len()).collect();
        assert_eq!(sizes, [1024, 1024, 452]);
        assert_eq!(entries[2]["name"], format!("{}-3", "w".repeat(61)));
        assert_eq!(entries[2]["reason"], "withdrawn");
    }

    #[test]
    fn what_would_not_be_accepted_is_not_written() {
        let long = made(&[file(1)], Some(&"x".repeat(513)), "whale").unwrap_err();
        assert!(long.contains("--reason has 513 characters"), "{long}");
        let cracked = ArtifactFile { sha256: "abc".into(), ..file(1) };
        assert!(made(&[cracked], None, "whale").unwrap_err().starts_with("the policy would not be accepted: "));
    }
}
