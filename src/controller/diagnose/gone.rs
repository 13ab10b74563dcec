//! Pods that are lost or were sent away, and what stands in the way of new ones.

use super::{
    Case,
    looked::{Departure, Looked},
    scheduling::sentence,
};
use crate::{
    api::{Problem, Reason},
    controller::objects::slim::SlimPod,
};

/// Whether the node does not report any more, though the pod would still run as far as anybody knows.
pub fn lost(case: &Case<'_>) -> Option<Problem> {
    let name = case.pod.spec.node_name.as_deref()?;
    let message = match case.looked?.node.as_ref()? {
        None => format!("Node {name}, on which the replica was, does not exist any more."),
        Some(state) if !state.ready => {
            let since = state.since.map(|since| format!(" since {} UTC", since.strftime("%H:%M:%S"))).unwrap_or_default();
            let said = if state.message.is_empty() {
                String::new()
            } else {
                format!(" ({})", sentence(&state.message).trim_end_matches('.'))
            };
            format!("Node {name}, on which the replica is, has not reported that it is ready{since}{said}.")
        }
        Some(_) => return None,
    };
    let next = "When it stays away, the replica is replaced after 5 minutes; to have it at once, delete the node.";
    Some(Problem::new(Reason::NodeLost, format!("{message} {next}")))
}

/// Why a pod was sent away, if it was.
pub fn departure(pod: &SlimPod, looked: Option<&Looked>) -> Option<Departure> {
    let (name, node) = (pod.name(), pod.spec.node_name.as_deref().unwrap_or("its node"));
    let target = pod.condition("DisruptionTarget").filter(|condition| condition.status == "True");
    let by = target.map(|condition| condition.reason.as_str()).unwrap_or_default();
    let said = match target {
        Some(condition) if pod.status.message.is_empty() => condition.message.as_str(),
        _ => pod.status.message.as_str(),
    };
    let evicted = pod.status.phase == "Failed" && pod.status.reason == "Evicted";
    let (reason, message) = match by {
        "PreemptionByScheduler" => {
            (Reason::Preempted, format!("{name} had to give its place on {node} to a pod of higher priority: {}", sentence(said)))
        }
        _ if evicted && said.contains("ephemeral-storage") => {
            (Reason::DiskFull, format!("{name} was sent away because {node} has no room for what it writes: {}", sentence(said)))
        }
        _ if evicted || by == "TerminationByKubelet" => {
            (Reason::Evicted, format!("{name} was sent away by {node}: {}", sentence(said)))
        }
        "EvictionByEvictionAPI" => (Reason::Evicted, format!("{name} was asked to leave {node}, as when a node is drained.")),
        "DeletionByTaintManager" | "DeletionByPodGC" => {
            let lost =
                looked.and_then(|looked| looked.node.as_ref()).is_some_and(|node| node.as_ref().is_none_or(|state| !state.ready));
            let reason = if lost || by == "DeletionByPodGC" { Reason::NodeLost } else { Reason::Evicted };
            (reason, format!("{name} was taken away from {node}: {}", sentence(said)))
        }
        _ => return None,
    };
    Some(Departure { uid: pod.metadata.uid.clone()?, reason, message })
}

/// Why the cluster does not accept pods, from the words of the API server.
pub fn not_created(said: &str) -> Problem {
    if let Some((_, quota)) = said.split_once("exceeded quota: ") {
        let part = |name: &str| {
            quota
                .split_once(&format!("{name}: "))
                .map(|(_, rest)| rest.split(", ").take_while(|part| !part.contains(": ")).collect::<Vec<_>>().join(", "))
        };
        let name = quota.split(',').next().unwrap_or_default();
        if let (Some(requested), Some(used), Some(limited)) = (part("requested"), part("used"), part("limited")) {
            let message = format!(
                "Pods cannot be created: quota {name} of the namespace allows {limited}, {used} are used, and a replica takes {requested} more. Have the quota raised, or free what others use."
            );
            return Problem::new(Reason::QuotaExceeded, message);
        }
    }
    if let Some((_, quota)) = said.split_once("failed quota: ") {
        let message =
            format!("Pods cannot be created: quota {} A LimitRange with defaults in the namespace does.", sentence(quota));
        return Problem::new(Reason::QuotaExceeded, message);
    }
    if let Some(account) = missing_account(said) {
        let message = format!(
            "Pods cannot be created: the namespace has no ServiceAccount {account}. Create it, or name another in spec.pod.serviceAccountName: {}",
            sentence(said)
        );
        return Problem::new(Reason::PodsNotCreated, message);
    }
    if said.contains("no PriorityClass with name") {
        let message = format!(
            "Pods cannot be created: {} Create the PriorityClass, or name another in spec.pod.priorityClassName.",
            sentence(said)
        );
        return Problem::new(Reason::PodsNotCreated, message);
    }
    let reason = if said.contains("quota") { Reason::QuotaExceeded } else { Reason::PodsNotCreated };
    Problem::new(reason, format!("Pods cannot be created: {}", sentence(said)))
}

/// `error looking up service account chat/models: serviceaccount "models" not found`
fn missing_account(said: &str) -> Option<&str> {
    let (_, rest) = said.split_once("serviceaccount \"")?;
    let (name, rest) = rest.split_once('"')?;
    rest.starts_with(" not found").then_some(name)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn gone(status: Value) -> (Reason, String) {
        let pod = json!({ "metadata": { "name": "p", "uid": "u" }, "spec": { "nodeName": "gpu-a" }, "status": status });
        let found = departure(&serde_json::from_value(pod).unwrap(), None).unwrap();
        (found.reason, found.message)
    }

    fn target(reason: &str, message: &str) -> Value {
        json!({ "phase": "Running", "conditions": [{ "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message }] })
    }

    #[test]
    fn whoever_sends_a_pod_away_is_named() {
        let (reason, message) =
            gone(target("PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod"));
        assert_eq!(reason, Reason::Preempted);
        assert!(message.contains("p had to give its place on gpu-a"), "{message}");
        assert_eq!(gone(target("EvictionByEvictionAPI", "Eviction API: evicting")).0, Reason::Evicted);
        assert_eq!(gone(target("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")).0, Reason::Evicted);
        let low = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 20Mi.";
        let (reason, message) = gone(json!({ "phase": "Failed", "reason": "Evicted", "message": low }));
        assert_eq!(reason, Reason::Evicted);
        assert!(message.contains("low on resource: memory"), "{message}");
        let low = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 20Mi.";
        assert_eq!(gone(json!({ "phase": "Failed", "reason": "Evicted", "message": low })).0, Reason::DiskFull);
        let pod: SlimPod =
            serde_json::from_value(json!({ "metadata": { "uid": "u" }, "status": { "phase": "Failed" } })).unwrap();
        assert_eq!(departure(&pod, None), None);
    }

    #[test]
    fn a_quota_is_named_with_its_numbers() {
        let problem = not_created(
            "pods \"bonafide-chat-0a1b-x\" is forbidden: exceeded quota: few, requested: pods=1,requests.nvidia.com/gpu=4, used: pods=2,requests.nvidia.com/gpu=6, limited: pods=2,requests.nvidia.com/gpu=8",
        );
        assert_eq!(problem.reason, Reason::QuotaExceeded);
        assert!(problem.message.contains("quota few of the namespace allows pods=2,requests.nvidia.com/gpu=8, pods=2,requests.nvidia.com/gpu=6 are used, and a replica takes pods=1,requests.nvidia.com/gpu=4 more"), "{}", problem.message);
        let problem = not_created("pods \"x\" is forbidden: failed quota: few: must specify limits.memory for: engine");
        assert_eq!(problem.reason, Reason::QuotaExceeded);
        assert!(problem.message.contains("few: must specify limits.memory for: engine"), "{}", problem.message);
        assert_eq!(not_created("pods \"x\" is forbidden: violates PodSecurity").reason, Reason::PodsNotCreated);
    }

    #[test]
    fn a_missing_priority_class_is_named_with_its_field() {
        let problem = not_created("pods \"x\" is forbidden: no PriorityClass with name serving was found");
        assert_eq!(problem.reason, Reason::PodsNotCreated);
        assert!(
            problem
                .message
                .ends_with("serving was found. Create the PriorityClass, or name another in spec.pod.priorityClassName."),
            "{}",
            problem.message
        );
    }

    #[test]
    fn a_missing_account_is_named_with_its_field() {
        let said = "pods \"x\" is forbidden: error looking up service account chat/models: serviceaccount \"models\" not found";
        let problem = not_created(said);
        assert_eq!(problem.reason, Reason::PodsNotCreated);
        let says = "the namespace has no ServiceAccount models. Create it, or name another in spec.pod.serviceAccountName: ";
        assert!(problem.message.contains(says) && problem.message.contains("chat/models"), "{}", problem.message);
    }
}
