//! What has to be looked up to understand a pod that does not answer, and when again: pure.

use std::time::Duration;

use jiff::Timestamp;

use crate::controller::{
    objects::slim::{SlimContainer, SlimPod},
    plan::{CONTAINER_ENGINE, CONTAINER_FETCH},
};

/// Between two looks at what only a look tells.
pub const PERIOD: Duration = Duration::from_secs(3);
/// Between two looks at an engine that loads: only its node may be lost meanwhile.
const LOADING: Duration = Duration::from_secs(10);
/// Between two looks at what has been so for hours.
const RARELY: Duration = Duration::from_secs(60);

/// What has to be looked up about one pod.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Its events.
    pub events: bool,
    /// Its node.
    pub node: bool,
    /// All nodes.
    pub nodes: bool,
    /// Its engine's log: of the run before the present one?
    pub log: Option<bool>,
    /// How far its download is.
    pub download: bool,
    /// The memory that it may use.
    pub limit: bool,
    /// Its claims.
    pub claims: bool,
    /// When it is to be looked at again.
    pub again: Option<Duration>,
}

impl Needs {
    /// What this pod needs.
    pub fn of(pod: &SlimPod, now: Timestamp) -> Self {
        if pod.is_gated() {
            return Self::default();
        }
        if let Some(scheduled) = pod.condition("PodScheduled").filter(|condition| condition.status == "False") {
            if scheduled.reason == "SchedulingGated" {
                return Self::default();
            }
            let again = Some(patience(age(scheduled.last_transition_time.or_else(|| created(pod)), now)));
            return Self { events: true, nodes: true, claims: true, again, ..Self::default() };
        }
        let ended = pod.is_over();
        let node = Self { node: true, again: Some(LOADING), ..Self::default() };
        if ended {
            let disrupted = pod.is("DisruptionTarget") && pod.metadata.deletion_timestamp.is_some();
            return if disrupted { node } else { Self::default() };
        }
        if pod.spec.node_name.is_none() {
            return Self::default();
        }
        let find = |list: &[SlimContainer], name: &str| list.iter().find(|container| container.name == name).cloned();
        let engine = find(&pod.status.container_statuses, CONTAINER_ENGINE);
        let fetch = find(&pod.status.init_container_statuses, CONTAINER_FETCH);
        let since = pod.condition("PodScheduled").and_then(|condition| condition.last_transition_time).or_else(|| created(pod));
        let again = Some(patience(age(since, now)));
        match (fetch, engine) {
            (Some(fetch), _) if fetch.state.running.is_some() => Self { download: true, again: Some(PERIOD), ..node },
            (Some(fetch), _) if fetch.state.terminated.as_ref().is_none_or(|ended| ended.exit_code != 0) => {
                Self { events: true, again, ..node }
            }
            (_, Some(engine)) => of_engine(&engine, node, again),
            _ => Self { events: true, again, ..node },
        }
    }

    /// Whether there is anything to look up.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

fn of_engine(engine: &SlimContainer, node: Needs, again: Option<Duration>) -> Needs {
    let (now, before) = (engine.state.terminated.as_ref(), engine.last_state.terminated.as_ref());
    let limit = now.or(before).is_some_and(|ended| ended.reason == "OOMKilled");
    let log = if now.is_some() { Some(false) } else { before.map(|_| true) };
    let events = !engine.ready;
    // Where a container waits only to be made, nothing but an event tells what is in its way.
    let silent = engine.state.running.is_none() && log.is_none();
    // Nor what a probe hears of an engine that has started.
    let told_by_events = silent || engine.started == Some(true);
    // An engine that was ready in a pod that is not: its node may be lost.
    let again = if engine.ready { Some(PERIOD) } else { again.filter(|_| told_by_events).or(node.again) };
    Needs { events, log: log.filter(|_| !engine.ready), limit, again, ..node }
}

fn created(pod: &SlimPod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn age(since: Option<Timestamp>, now: Timestamp) -> Duration {
    since.and_then(|since| Duration::try_from(now.duration_since(since)).ok()).unwrap_or_default()
}

/// What has been so for long is looked at less often.
fn patience(age: Duration) -> Duration {
    (age / 30).clamp(PERIOD, RARELY)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn needs(node: Option<&str>, status: Value) -> Needs {
        let pod = json!({ "metadata": { "name": "p", "uid": "u", "creationTimestamp": at(0) }, "spec": { "nodeName": node }, "status": status });
        Needs::of(&serde_json::from_value(pod).unwrap(), at(10))
    }

    #[test]
    fn a_pod_is_looked_up_only_for_what_its_state_leaves_open() {
        let unscheduled = json!({ "conditions": [{ "type": "PodScheduled", "status": "False", "lastTransitionTime": at(0) }] });
        let found = needs(None, unscheduled);
        assert!(found.nodes && found.events && found.claims && !found.node && found.again == Some(PERIOD));
        assert!(!needs(None, json!({})).any());
        let fetching = needs(Some("n"), json!({ "initContainerStatuses": [{ "name": "fetch", "state": { "running": {} } }] }));
        assert!(fetching.download && !fetching.events && fetching.again == Some(PERIOD));
        let creating = needs(Some("n"), json!({ "initContainerStatuses": [{ "name": "fetch", "state": { "waiting": {} } }] }));
        assert!(creating.events && creating.node && creating.again == Some(PERIOD));
        let ended = json!({ "terminated": { "exitCode": 137, "reason": "OOMKilled" } });
        let engine = |engine: Value| needs(Some("n"), json!({ "containerStatuses": [engine] }));
        let first = engine(json!({ "name": "engine", "state": ended }));
        assert_eq!((first.log, first.limit), (Some(false), true));
        let again = engine(json!({ "name": "engine", "state": { "waiting": {} }, "lastState": ended }));
        assert_eq!(again.log, Some(true));
        let loading = engine(json!({ "name": "engine", "state": { "running": {} } }));
        assert_eq!((loading.log, loading.node, loading.again), (None, true, Some(LOADING)));
        let unready = engine(json!({ "name": "engine", "started": true, "state": { "running": {} } }));
        assert_eq!(unready.again, Some(PERIOD));
        let ready = engine(json!({ "name": "engine", "ready": true, "state": { "running": {} }, "lastState": ended }));
        assert_eq!((ready.log, ready.events, ready.again), (None, false, Some(PERIOD)));
    }

    #[test]
    fn what_has_been_so_for_long_is_looked_at_less_often() {
        assert_eq!(patience(Duration::from_secs(60)), PERIOD);
        assert_eq!(patience(Duration::from_secs(600)), Duration::from_secs(20));
        assert_eq!(patience(Duration::from_secs(86_400)), RARELY);
    }
}
