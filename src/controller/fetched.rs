//! What the container that fetches has to say: its outcome is its termination message.

use serde::Deserialize;

use super::{
    notes::Refusal,
    objects::slim::{SlimPod, SlimTerminated},
    plan::CONTAINER_FETCH,
};
use crate::{api::Reason, model::Checks};

/// The exit code of `bonafide fetch` after which trying again is of no use.
const REFUSED: i32 = 65;

/// The outcome as `bonafide fetch` writes it, as far as it is used here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outcome {
    reason: String,
    message: String,
    checks: Checks,
}

/// The refusal that these pods of one revision report, together with what is `known`, also of pods that were heard long ago;
/// `None` when there is nothing new.
pub fn refusal(pods: &[&SlimPod], known: Option<&Refusal>, generation: i64, refresh: Option<&str>) -> Option<Refusal> {
    let mut refusal = known.cloned().unwrap_or_default();
    let before = refusal.pods.len();
    for pod in pods {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some(terminated) = ended(pod).filter(|ended| ended.exit_code == REFUSED)
            && !refusal.pods.contains(&uid)
        {
            refusal.pods.push(uid);
            refusal.message = message(terminated);
            refusal.reason = Some(refused(terminated)).filter(|why| *why != Reason::DigestMismatch).map(|why| why.to_string());
        }
    }
    let new = refusal.pods.len() > before;
    new.then(|| Refusal { generation, refresh: refresh.map(str::to_owned), forgiven: false, ..refusal })
}

/// How the fetching container ended, now or the last time.
pub fn ended(pod: &SlimPod) -> Option<&SlimTerminated> {
    let fetch = pod.status.init_container_statuses.iter().find(|container| container.name == CONTAINER_FETCH)?;
    fetch.state.terminated.as_ref().or(fetch.last_state.terminated.as_ref())
}

/// The sentence for people in its termination message.
pub fn message(terminated: &SlimTerminated) -> String {
    let outcome: Outcome = serde_json::from_str(terminated.message.trim()).unwrap_or_default();
    if outcome.message.is_empty() {
        format!(
            "The container that fetches the weights ended with exit code {} ({}) and left no message.",
            terminated.exit_code, terminated.reason
        )
    } else {
        outcome.message
    }
}

/// Why it refused: other bytes than those that were judged, unless it says that they are of another format.
pub fn refused(terminated: &SlimTerminated) -> Reason {
    let of_content = |reason: &Reason| matches!(reason, Reason::FormatMismatch | Reason::RemoteCodeDenied);
    Some(reason(terminated)).filter(of_content).unwrap_or(Reason::DigestMismatch)
}

/// What a fetch that was complete had looked at beside digests: all that its pod was told of when it began.
pub fn checked(pod: &SlimPod) -> Checks {
    let complete = ended(pod).filter(|ended| ended.exit_code == 0);
    let outcome: Outcome = complete.and_then(|ended| serde_json::from_str(ended.message.trim()).ok()).unwrap_or_default();
    outcome.checks
}

/// The reason in its termination message; `FetchFailed` when it gives none that is known.
pub fn reason(terminated: &SlimTerminated) -> Reason {
    let outcome: Outcome = serde_json::from_str(terminated.message.trim()).unwrap_or_default();
    Reason::named(&outcome.reason).filter(|reason| reason.is_trouble()).unwrap_or(Reason::FetchFailed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(code: i32, message: &str) -> SlimPod {
        let state = json!({ "terminated": { "exitCode": code, "message": message } });
        serde_json::from_value(
            json!({ "metadata": {}, "status": { "initContainerStatuses": [{ "name": CONTAINER_FETCH, "state": state }] } }),
        )
        .unwrap()
    }

    #[test]
    fn a_refusal_has_the_reason_that_is_true() {
        for (said, reason) in [
            ("RemoteCodeDenied", Reason::RemoteCodeDenied),
            ("FormatMismatch", Reason::FormatMismatch),
            ("DigestMismatch", Reason::DigestMismatch),
            ("Nonsense", Reason::DigestMismatch),
        ] {
            let pod = pod(REFUSED, &json!({ "outcome": "Refused", "reason": said, "message": "m" }).to_string());
            assert_eq!(refused(ended(&pod).unwrap()), reason, "{said}");
        }
    }

    #[test]
    fn what_was_looked_at_is_what_a_complete_fetch_says() {
        let said = |checks: &str| format!(r#"{{"outcome":"Complete","reason":"Verified","message":"m","checks":{checks}}}"#);
        assert_eq!(checked(&pod(0, &said(r#"{"formats":true}"#))), Checks { formats: true, remote_code: None });
        assert_eq!(checked(&pod(65, &said(r#"{"formats":true}"#))), Checks::default());
        assert_eq!(checked(&pod(0, r#"{"outcome":"Complete","reason":"Verified","message":"m"}"#)), Checks::default());
        assert_eq!(checked(&pod(0, "")), Checks::default());
    }
}
