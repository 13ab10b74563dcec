//! When a source is asked again that did not give what is wished for, and whether that alone can help.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::{ModelDeployment, Reason, SOURCE_RESOLVED},
    weights::{Retry, SourceError},
};

/// The first wait, and every one while the source is silent and does not say when it will answer.
pub const FIRST: Duration = Duration::from_secs(20);
/// The longest wait while only a person can mend it: so long a repository that appears goes unseen.
const LONGEST: Duration = Duration::from_secs(300);
/// The shortest wait for what asking again does not mend.
const FRUITLESS: Duration = Duration::from_secs(120);

/// Whether what a source's problem is about goes by without anybody's help.
///
/// A Secret or a claim that is missing does: another controller may be about to make it.
pub const fn passes(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SourceUnavailable
            | Reason::Measuring
            | Reason::Pending
            | Reason::SecretNotFound
            | Reason::ClaimNotFound
            | Reason::VolumeFailed
            | Reason::PodsNotCreated
    )
}

/// How long to wait before the source is asked again, when it has not given what is wished for since `lasts`.
pub fn after(error: &SourceError, lasts: Duration) -> Duration {
    let patience = || if passes(error.problem.reason) { FIRST } else { patience(lasts) };
    match error.retry {
        Retry::Never => patience().max(FRUITLESS),
        Retry::After(told) => told.unwrap_or_else(patience),
    }
}

/// The wait for what only a person can mend: in steps, so that few different waits are written down, about as long as it has lasted.
pub fn patience(lasts: Duration) -> Duration {
    let mut wait = FIRST;
    while wait < LONGEST && wait.saturating_mul(2) <= lasts {
        wait = wait.saturating_mul(2).min(LONGEST);
    }
    wait
}

/// For how long the source has not given what is wished for, by the condition that says so; no time when it has until now.
pub fn lasts(deployment: &ModelDeployment, now: Timestamp) -> Duration {
    let conditions = deployment.status.iter().flat_map(|status| &status.conditions);
    let since = conditions.filter(|condition| condition.type_ == SOURCE_RESOLVED && condition.status == "False");
    let since = since.map(|condition| condition.last_transition_time.0).next();
    since.map_or(Duration::ZERO, |since| Duration::try_from(now.duration_since(since)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_longer_it_lasts_the_longer_is_the_wait_up_to_a_bound() {
        let wait = |lasts| patience(Duration::from_secs(lasts)).as_secs();
        let found = [0, 39, 40, 79, 80, 160, 319, 320, 1_000_000].map(wait);
        assert_eq!(found, [20, 20, 40, 40, 80, 160, 160, 300, 300]);
        assert_eq!(patience(Duration::MAX), LONGEST);
    }

    #[test]
    fn a_source_that_says_when_is_asked_then_and_one_that_is_silent_soon() {
        let (now, long) = (Duration::ZERO, Duration::from_secs(86_400));
        let seconds = |error: &SourceError| [after(error, now).as_secs(), after(error, long).as_secs()];
        let later = |reason, told| SourceError::later(reason, "It does not.", told);
        assert_eq!(seconds(&later(Reason::SourceUnavailable, None)), [20, 20]);
        assert_eq!(seconds(&later(Reason::SourceUnavailable, Some(Duration::from_secs(7)))), [7, 7]);
        assert_eq!(seconds(&later(Reason::RepositoryNotFound, None)), [20, 300]);
        assert_eq!(seconds(&later(Reason::Measuring, Some(Duration::from_secs(2)))), [2, 2]);
        assert_eq!(seconds(&SourceError::never(Reason::RepositoryRenamed, "It is.")), [120, 300]);
    }

    #[test]
    fn it_lasts_since_the_condition_says_that_the_source_does_not_give_it() {
        let lasts = |kind: &str, status: &str| {
            let since = "2026-01-01T00:00:00Z";
            let condition = json!({ "type": kind, "status": status, "reason": "R", "message": "", "lastTransitionTime": since });
            let deployment = json!({ "metadata": {}, "spec": { "model": { "source": "hf://orbit/whale" } }, "status": { "conditions": [condition] } });
            let deployment: ModelDeployment = serde_json::from_value(deployment).unwrap();
            [1, -1].map(|hours| lasts(&deployment, since.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_hours(hours)))
        };
        assert_eq!(lasts("SourceResolved", "False"), [Duration::from_secs(3600), Duration::ZERO], "a clock that was set back");
        assert_eq!(lasts("SourceResolved", "True"), [Duration::ZERO; 2]);
        assert_eq!(lasts("Ready", "False"), [Duration::ZERO; 2]);
    }
}
