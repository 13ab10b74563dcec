//! Conditions: their types, and the one rule by which they change.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::reason::{Reason, truncate};

/// The revision, the files and their digests are known.
pub const SOURCE_RESOLVED: &str = "SourceResolved";
/// A policy accepts the signature, or a pin the content. `Unknown` where no policy speaks of the namespace.
pub const TRUSTED: &str = "Trusted";
/// The bytes that the running replicas read are the ones that were judged.
pub const CONTENT_VERIFIED: &str = "ContentVerified";
/// At least one replica answers.
pub const AVAILABLE: &str = "Available";
/// Everything that was asked for is there.
pub const READY: &str = "Ready";
/// Work is under way (kstatus).
pub const RECONCILING: &str = "Reconciling";
/// Nothing will happen until somebody changes something (kstatus).
pub const STALLED: &str = "Stalled";
/// A policy is complete and in force; a signature can be read.
pub const ACCEPTED: &str = "Accepted";

/// A condition before it has a time: what the pure steps compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The condition's type, one of the constants of this module.
    pub kind: &'static str,
    /// True, False, or Unknown for `None`.
    pub status: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// The sentence for people.
    pub message: String,
}

impl Finding {
    /// A finding; see the fields.
    pub fn new(kind: &'static str, status: Option<bool>, reason: Reason, message: impl Into<String>) -> Self {
        Self { kind, status, reason, message: truncate(message.into()) }
    }
}

/// The new conditions: each finding, with the transition time of its predecessor in `old` unless its status changed.
pub fn settle(old: &[Condition], findings: &[Finding], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    findings
        .iter()
        .map(|finding| {
            let status = match finding.status {
                Some(true) => "True",
                Some(false) => "False",
                None => "Unknown",
            };
            let since = old
                .iter()
                .find(|previous| previous.type_ == finding.kind && previous.status == status)
                .map_or_else(|| Time(whole_seconds(now)), |previous| previous.last_transition_time.clone());
            Condition {
                type_: finding.kind.to_owned(),
                status: status.to_owned(),
                reason: finding.reason.as_str().to_owned(),
                message: finding.message.clone(),
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// The API server keeps whole seconds; anything finer would differ from what it gives back.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_condition_moves_only_when_its_status_does() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = settle(&[], &[Finding::new(READY, Some(false), Reason::Fetching, "1 %")], Some(1), at(10));
        let second = settle(&first, &[Finding::new(READY, Some(false), Reason::Loading, "loading")], Some(2), at(20));
        let third = settle(&second, &[Finding::new(READY, Some(true), Reason::Ready, "")], Some(2), at(30));
        let seconds: Vec<i64> = [&first, &second, &third].iter().map(|c| c[0].last_transition_time.0.as_second()).collect();
        assert_eq!(seconds, [10, 10, 30]);
        assert_eq!(second[0].reason, "Loading");
        assert_eq!(second[0].observed_generation, Some(2));
    }
}
