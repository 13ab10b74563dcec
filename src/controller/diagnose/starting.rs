//! Why a pod that has a node does not start: its images, its volumes, its containers.

use super::{Case, scheduling::sentence};
use crate::{
    api::{Problem, Reason},
    controller::objects::slim::SlimContainer,
};

/// Events about volumes.
const VOLUMES: [&str; 4] = ["FailedMount", "FailedAttachVolume", "FailedMapVolume", "VolumeResizeFailed"];
/// Events about what comes before any container.
const SANDBOX: [&str; 3] = ["FailedCreatePodSandBox", "FailedPreStopHook", "NetworkNotReady"];

/// Why the node cannot start this container.
pub fn waiting(case: &Case<'_>, container: &SlimContainer) -> Option<Problem> {
    let ended = container.state.terminated.as_ref().or(container.last_state.terminated.as_ref());
    if let Some(ended) = ended.filter(|ended| matches!(ended.reason.as_str(), "StartError" | "ContainerCannotRun"))
        && container.state.running.is_none()
    {
        return Some(not_started(&container.name, &ended.reason, &ended.message));
    }
    let waiting = container.state.waiting.as_ref()?;
    match waiting.reason.as_str() {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => {
            let event =
                case.looked.and_then(|looked| looked.events.iter().find(|event| event.note.starts_with("Failed to pull image")));
            // A back-off that does not say why has an event that does.
            let silent = waiting.reason == "ImagePullBackOff" && !waiting.message.contains(": ");
            let said = event.filter(|_| silent).map_or(waiting.message.as_str(), |event| event.note.as_str());
            let image = case.asked.images.get(&container.name).map_or("", String::as_str);
            Some(image_problem(image, &waiting.reason, said))
        }
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PreCreateHookError"
        | "PreStartHookError"
        | "PostStartHookError" => Some(not_started(&container.name, &waiting.reason, &waiting.message)),
        _ => None,
    }
}

fn not_started(container: &str, reason: &str, said: &str) -> Problem {
    // What a runtime wraps around it says nothing more.
    let said = said.find("exec: \"").and_then(|at| said.get(at..)).unwrap_or(said);
    let next = if said.starts_with("exec: ") {
        "The image does not have that program: correct command or images of the InferenceEngine."
    } else {
        "It is tried again by itself; kubectl describe pod shows more."
    };
    let message = format!("The node cannot start the container {container} ({reason}): {} {next}", sentence(said));
    Problem::new(Reason::ContainerNotStarted, message)
}

/// Which of the ways an image cannot be pulled this is.
fn image_problem(image: &str, reason: &str, said: &str) -> Problem {
    let words = said.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    // Docker's hub says of what is private that it does not exist or that one may have to log in: the second can be mended.
    if has(&[
        "unauthorized",
        "authentication required",
        "access denied",
        "no basic auth",
        "insufficient_scope",
        "forbidden",
        " 401",
        " 403",
        "denied:",
    ]) {
        let message = format!(
            "The registry does not give the image {image} without other credentials: {} Put a Secret for that registry into the namespace and name it in spec.pod.imagePullSecrets.",
            sentence(said)
        );
        return Problem::new(Reason::ImagePullUnauthorized, message);
    }
    if reason == "ErrImageNeverPull" || has(&["not found", "manifest unknown", "name unknown", "does not exist"]) {
        let message = format!("There is no image {image}: {} Correct it in the InferenceEngine, or push it.", sentence(said));
        return Problem::new(Reason::ImageNotFound, message);
    }
    let message = format!(
        "The image {image} cannot be pulled ({reason}), and is tried again: {} See that the node reaches the registry.",
        sentence(said)
    );
    Problem::new(Reason::ImagePullFailed, message)
}

/// What events say of a pod of which no container has started.
pub fn from_events(case: &Case<'_>) -> Option<Problem> {
    let looked = case.looked?;
    let newest = looked.events.iter().find(|event| {
        let reason = event.reason.as_str();
        VOLUMES.contains(&reason) || SANDBOX.contains(&reason) || reason == "Pulling" || reason == "Created"
    })?;
    match newest.reason.as_str() {
        reason if VOLUMES.contains(&reason) => {
            let what = if reason == "FailedAttachVolume" { "attached to the node" } else { "mounted" };
            let message = format!("A volume of the pod cannot be {what}, and is tried again: {}", sentence(&newest.note));
            Some(Problem::new(Reason::VolumeFailed, message))
        }
        reason if SANDBOX.contains(&reason) => {
            let message = format!("The node cannot start the pod ({reason}), and tries again: {}", sentence(&newest.note));
            Some(Problem::new(Reason::ContainerNotStarted, message))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_missing_is_told_from_one_that_is_not_given_and_one_that_did_not_come() {
        let rows = [
            (
                "rpc error: code = NotFound desc = failed to pull and unpack image \"r/x:1\": failed to resolve reference \"r/x:1\": r/x:1: not found",
                Reason::ImageNotFound,
            ),
            ("manifest unknown: manifest unknown", Reason::ImageNotFound),
            (
                "failed to authorize: failed to fetch anonymous token: unexpected status from GET request: 401 Unauthorized",
                Reason::ImagePullUnauthorized,
            ),
            (
                "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
                Reason::ImagePullUnauthorized,
            ),
            ("unexpected status from HEAD request to https://r/v2/x/manifests/1: 403 Forbidden", Reason::ImagePullUnauthorized),
            ("failed to do request: Head \"https://r/v2/x\": dial tcp: lookup r: no such host", Reason::ImagePullFailed),
            ("toomanyrequests: You have reached your pull rate limit", Reason::ImagePullFailed),
            ("tls: failed to verify certificate: x509: certificate signed by unknown authority", Reason::ImagePullFailed),
        ];
        for (said, reason) in rows {
            let problem = image_problem("r/x:1", "ErrImagePull", said);
            assert_eq!(problem.reason, reason, "{said}");
            assert!(problem.message.contains("r/x:1"), "{}", problem.message);
        }
    }
}
