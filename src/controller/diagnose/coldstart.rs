//! How long a replica took from nothing to its first request, by phase: read from the times that stand on its pod.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    api::{ColdStart, ColdStartPhase},
    controller::{
        objects::slim::{SlimCondition, SlimPod},
        plan::{CONTAINER_ENGINE, CONTAINER_FETCH},
    },
};

/// The phases, in their order.
pub const PHASES: [&str; 7] = ["queued", "scheduled", "image", "fetch", "verify", "load", "ready"];

/// The cold start of the replica that was made last, of those that answer; what was said of it before stays, since a pod that
/// becomes ready a second time was not started a second time.
pub fn of(answering: &[&Arc<SlimPod>], before: Option<&ColdStart>) -> Option<ColdStart> {
    let created = |pod: &&&Arc<SlimPod>| pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let Some(last) = answering.iter().max_by_key(created) else { return before.cloned() };
    if let Some(before) = before.filter(|before| before.pod == last.name()) {
        return Some(before.clone());
    }
    of_pod(last).or_else(|| before.cloned())
}

/// The phases of one pod that is ready; `None` when its times do not tell.
fn of_pod(pod: &SlimPod) -> Option<ColdStart> {
    let became = |kind: &str| pod.condition(kind).filter(|condition| condition.status == "True").and_then(since);
    let created = pod.metadata.creation_timestamp.as_ref()?.0;
    let scheduled = became("PodScheduled")?;
    let ready = became("Ready")?;
    let fetch = pod.status.init_container_statuses.iter().find(|container| container.name == CONTAINER_FETCH)?;
    let fetch = fetch.state.terminated.as_ref()?;
    let (fetching, fetched) = (fetch.started_at?, fetch.finished_at?);
    let engine = pod.status.container_statuses.iter().find(|container| container.name == CONTAINER_ENGINE)?;
    // What went by in runs that broke down belongs to loading.
    let engine = if engine.restart_count == 0 { engine.state.running.as_ref()?.started_at? } else { fetched };
    let prepared = became("PodReadyToStartContainers").filter(|at| (scheduled..=fetching).contains(at)).unwrap_or(scheduled);
    let answered = became("ContainersReady").filter(|at| *at <= ready).unwrap_or(ready);
    let between = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs().max(0);
    let whole = between(fetching, fetched);
    let verify = verified(&fetch.message).min(whole);
    let lengths = [
        between(created, scheduled),
        between(scheduled, prepared),
        between(prepared, fetching) + between(fetched, engine),
        whole - verify,
        verify,
        between(engine, answered),
        between(answered, ready),
    ];
    let phases: Vec<(&str, i64)> = PHASES.into_iter().zip(lengths).filter(|(_, seconds)| *seconds > 0).collect();
    // The first of equals wins.
    let slowest = phases.iter().rev().max_by_key(|(_, seconds)| *seconds).map(|(name, _)| (*name).to_owned());
    Some(ColdStart {
        pod: pod.name().to_owned(),
        total: format!("{}s", between(created, ready)),
        slowest: slowest.unwrap_or_default(),
        phases: phases
            .into_iter()
            .map(|(name, seconds)| ColdStartPhase { name: name.to_owned(), duration: format!("{seconds}s") })
            .collect(),
    })
}

fn since(condition: &SlimCondition) -> Option<Timestamp> {
    condition.last_transition_time
}

/// Seconds that the fetch spent on hashing beside its transfers, as far as it says so; the rest was hashed while it came.
fn verified(report: &str) -> i64 {
    let report: serde_json::Value = serde_json::from_str(report.trim()).unwrap_or_default();
    let seconds = report.get("verifySeconds").and_then(serde_json::Value::as_f64).unwrap_or_default();
    i64::try_from(super::whole(seconds)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        "2026-11-22T10:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(seconds)
    }

    fn pod(name: &str, created: i64, ready: i64, restarts: i32) -> Arc<SlimPod> {
        let yes = |kind: &str, seconds: i64| json!({ "type": kind, "status": "True", "lastTransitionTime": at(seconds) });
        let line = r#"{"outcome":"Complete","reason":"Verified","message":"","bytes":7,"seconds":61.0,"verifySeconds":4.2}"#;
        // What the manager reads here is what `bonafide fetch` writes.
        let report = serde_json::from_str::<crate::weights::fetch::Report>(line).unwrap().line();
        let fetch: Value = json!({ "name": "fetch", "state": { "terminated": { "exitCode": 0, "startedAt": at(9), "finishedAt": at(70), "message": report } } });
        let engine = json!({ "name": "engine", "restartCount": restarts, "state": { "running": { "startedAt": at(72) } } });
        let conditions =
            json!([yes("PodScheduled", 3), yes("PodReadyToStartContainers", 5), yes("ContainersReady", 98), yes("Ready", ready)]);
        let pod = json!({ "metadata": { "name": name, "creationTimestamp": at(created) },
            "status": { "conditions": conditions, "initContainerStatuses": [fetch], "containerStatuses": [engine] } });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn lengths(start: &ColdStart) -> Vec<(&str, &str)> {
        start.phases.iter().map(|phase| (phase.name.as_str(), phase.duration.as_str())).collect()
    }

    #[test]
    fn the_phases_of_a_cold_start_add_up_to_the_whole() {
        let start = of(&[&pod("a", 0, 99, 0)], None).unwrap();
        assert_eq!((start.total.as_str(), start.slowest.as_str()), ("99s", "fetch"));
        let expected = [
            ("queued", "3s"),
            ("scheduled", "2s"),
            ("image", "6s"),
            ("fetch", "57s"),
            ("verify", "4s"),
            ("load", "26s"),
            ("ready", "1s"),
        ];
        assert_eq!(lengths(&start), expected);
        let sum: i64 = start.phases.iter().map(|phase| phase.duration.trim_end_matches('s').parse::<i64>().unwrap()).sum();
        assert_eq!(sum, 99);
    }

    #[test]
    fn what_went_by_in_runs_that_broke_down_is_loading() {
        let start = of(&[&pod("a", 0, 99, 2)], None).unwrap();
        assert!(lengths(&start).contains(&("load", "28s")) && lengths(&start).contains(&("image", "4s")), "{start:?}");
    }

    #[test]
    fn a_pod_is_measured_once_and_the_one_made_last_counts() {
        let (old, new) = (pod("old", 0, 5000, 0), pod("new", 2, 99, 0));
        let start = of(&[&old, &new], None).unwrap();
        assert_eq!(start.pod, "new");
        let known = ColdStart { pod: "new".into(), total: "12s".into(), ..ColdStart::default() };
        assert_eq!(of(&[&old, &new], Some(&known)), Some(known.clone()));
        assert_eq!(of(&[], Some(&known)), Some(known));
    }
}
