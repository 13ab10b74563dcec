use serde_json::json;

use super::*;
use crate::controller::{diagnose::looked::Taint, objects::slim::SlimPod};

fn node(name: &str, gpus: f64, used: f64) -> Node {
    let allocatable = [("nvidia.com/gpu", gpus), ("cpu", 8.0), ("memory", 64e9), ("ephemeral-storage", 100e9), ("pods", 110.0)];
    Node {
        name: name.into(),
        allocatable: allocatable.map(|(name, number)| (name.to_owned(), number)).into(),
        used: [("nvidia.com/gpu".to_owned(), used)].into(),
        ..Node::default()
    }
}

fn asked() -> Asked {
    let resources = json!({ "requests": { "nvidia.com/gpu": "4", "cpu": "1", "ephemeral-storage": "50G" } });
    Asked::of(&json!({ "spec": { "containers": [{ "name": "engine", "resources": resources }] } }), 0)
}

fn judge(asked: &Asked, nodes: Option<&[Node]>, events: &[(&str, &str)]) -> Problem {
    let event =
        |(reason, note): &(&str, &str)| SlimEvent { reason: (*reason).into(), note: (*note).into(), ..SlimEvent::default() };
    let looked = Looked { events: events.iter().map(event).collect(), ..Looked::default() };
    let case = Case { pod: &SlimPod::default(), asked, looked: Some(&looked), nodes };
    unschedulable(&case, "0/3 nodes are available: 3 Insufficient nvidia.com/gpu")
}

#[test]
fn the_nodes_that_came_near_are_named_with_what_is_missing() {
    let nodes = [node("gpu-b", 8.0, 8.0), node("gpu-a", 4.0, 2.0), node("cpu", 0.0, 0.0)];
    let problem = judge(&asked(), Some(&nodes), &[]);
    assert_eq!(problem.reason, Reason::Unschedulable);
    assert_eq!(
        problem.message,
        "No node has 4 nvidia.com/gpu free: gpu-a has 2 free, gpu-b has none free. Free 2 nvidia.com/gpu on gpu-a, add a node, or ask for fewer with spec.resources.accelerator.count."
    );
}

#[test]
fn what_could_never_fit_lasts_once_no_autoscaler_brings_a_node_and_no_longer_when_one_is_added() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let lasts = |nodes: &[Node], events: &[(&str, &str)], now: i64| {
        let event =
            |(reason, note): &(&str, &str)| SlimEvent { reason: (*reason).into(), note: (*note).into(), ..SlimEvent::default() };
        let looked = Looked { events: events.iter().map(event).collect(), ..Looked::default() };
        let pod = json!({ "metadata": { "name": "p" }, "status": { "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes", "lastTransitionTime": at(0).to_string() }] } });
        let pod: SlimPod = serde_json::from_value(pod).unwrap();
        let asked = asked();
        crate::controller::diagnose::diagnose(
            &Case { pod: &pod, asked: &asked, looked: Some(&looked), nodes: Some(nodes) },
            at(now),
        )
        .lasts
    };
    let small = [node("gpu-a", 2.0, 0.0)];
    assert!(!lasts(&small, &[], 60), "an autoscaler may not have looked yet");
    assert!(lasts(&small, &[], 61));
    assert!(lasts(&small, &[("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached")], 1));
    assert!(!lasts(&small, &[("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 in backoff after failed scale-up")], 90));
    assert!(!lasts(&small, &[("TriggeredScaleUp", "pod triggered scale-up")], 90), "one is on its way");
    // It has room, or would have had: whoever frees it need not know of this.
    for nodes in [[node("gpu-a", 4.0, 0.0)], [node("gpu-a", 4.0, 4.0)]] {
        assert!(!lasts(&nodes, &[], 90));
    }
}

#[test]
fn what_could_never_fit_is_told_from_what_does_not_fit_now() {
    let small = [node("gpu-a", 2.0, 0.0), node("gpu-b", 1.0, 0.0)];
    let problem = judge(&asked(), Some(&small), &[]);
    assert_eq!(problem.reason, Reason::NoNodeFits);
    assert!(problem.message.contains("4 nvidia.com/gpu are asked for, and the largest, gpu-a, has 2"), "{}", problem.message);
    // Room would be there, but not for this pod.
    let mut tainted = node("gpu-a", 8.0, 0.0);
    tainted.taints = vec![Taint { key: "team".into(), value: "red".into(), effect: "NoSchedule".into() }];
    let problem = judge(&asked(), Some(&[tainted.clone()]), &[]);
    assert_eq!(problem.reason, Reason::NoNodeFits);
    assert!(problem.message.contains("the taint team=red:NoSchedule (1 node)"), "{}", problem.message);
    let selecting = Asked { node_selector: [("gpu".to_owned(), "big".to_owned())].into(), ..asked() };
    let problem = judge(&selecting, Some(&[node("gpu-a", 8.0, 0.0), node("gpu-b", 8.0, 0.0)]), &[]);
    assert_eq!(problem.reason, Reason::NoNodeFits);
    assert!(problem.message.contains("the label gpu=big (2 nodes without it)"), "{}", problem.message);
    // A cordoned node comes back.
    tainted.taints =
        vec![Taint { key: "node.kubernetes.io/unschedulable".into(), effect: "NoSchedule".into(), ..Taint::default() }];
    let problem = judge(&asked(), Some(&[tainted]), &[]);
    assert_eq!(
        (problem.reason, problem.message.as_str()),
        (Reason::Unschedulable, "No node can take the pod now: gpu-a is cordoned.")
    );
}

#[test]
fn a_node_on_its_way_is_waited_for_and_one_that_will_not_come_is_not() {
    let nodes = [node("gpu-a", 4.0, 2.0)];
    let up = ("TriggeredScaleUp", "pod triggered scale-up: [{gpu-pool 1->2 (max: 3)}]");
    let not = ("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached");
    let problem = judge(&asked(), Some(&nodes), &[up]);
    assert_eq!(problem.reason, Reason::WaitingForNode);
    assert!(problem.message.contains("gpu-pool 1->2"), "{}", problem.message);
    // The newest word counts.
    assert_eq!(judge(&asked(), Some(&nodes), &[up, not]).reason, Reason::WaitingForNode);
    let problem = judge(&asked(), Some(&nodes), &[not, up]);
    assert_eq!(problem.reason, Reason::Unschedulable);
    assert!(problem.message.contains("No node will come by itself: pod didn't trigger scale-up"), "{}", problem.message);
    assert_eq!(
        judge(&asked(), Some(&nodes), &[("Nominated", "Pod should schedule on: nodeclaim/gpu-7x")]).reason,
        Reason::WaitingForNode
    );
}

#[test]
fn without_nodes_and_without_an_answer_about_them_it_is_said_what_is_known() {
    let problem = judge(&asked(), Some(&[]), &[]);
    assert_eq!(problem.message, "There is no node in the cluster. Add one that has 4 nvidia.com/gpu.");
    let problem = judge(&asked(), None, &[]);
    assert_eq!(problem.message, "No node can take the pod: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.");
    // Room that the scheduler does not see has another cause, in its own words.
    assert!(judge(&asked(), Some(&[node("a", 8.0, 0.0)]), &[]).message.contains("0/3 nodes are available"));
}

#[test]
fn a_claim_that_is_not_bound_is_named() {
    let case = |unbound| Looked { unbound: vec![unbound], ..Looked::default() };
    let asked = asked();
    let judge = |looked: &Looked| {
        unschedulable(&Case { pod: &SlimPod::default(), asked: &asked, looked: Some(looked), nodes: None }, "x")
    };
    let problem = judge(&case(Claim { name: "models".into(), why: None }));
    assert_eq!(problem.reason, Reason::VolumeFailed);
    assert!(problem.message.starts_with("There is no PersistentVolumeClaim models"), "{}", problem.message);
    let problem = judge(&case(Claim { name: "models".into(), why: Some("storageclass \"fast\" not found".into()) }));
    assert_eq!(problem.message, "PersistentVolumeClaim models is not bound to a volume: storageclass \"fast\" not found.");
}

#[test]
fn a_claim_that_one_pod_at_a_time_may_have_is_named_with_what_to_do() {
    let asked = Asked { claims: vec!["models".into()], ..asked() };
    let said = "0/1 nodes are available: 1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode. preemption: 0/1 nodes are available";
    let problem = unschedulable(&Case { pod: &SlimPod::default(), asked: &asked, looked: None, nodes: None }, said);
    assert_eq!(problem.reason, Reason::VolumeFailed);
    assert!(problem.message.contains("models") && problem.message.contains("ReadWriteOnce or ReadWriteMany"), "{problem}");
    assert!(problem.message.contains("a new revision"), "{problem}");
}

#[test]
fn replicas_that_have_to_share_a_node_because_of_their_claim_say_so() {
    let labels = json!({ "bonafide.dev/deployment": "whale" });
    let term = json!({ "labelSelector": { "matchLabels": labels }, "topologyKey": "kubernetes.io/hostname" });
    let template = |terms: serde_json::Value| {
        json!({ "metadata": { "labels": labels }, "spec": {
            "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } },
            "volumes": [{ "name": "weights", "persistentVolumeClaim": { "claimName": "models" } }],
        } })
    };
    let said = "0/2 nodes are available: 1 Insufficient nvidia.com/gpu, 1 node(s) didn't match pod affinity rules.";
    let judge = |template: &serde_json::Value| {
        let asked = Asked::of(template, 0);
        let nodes = [node("gpu-a", 4.0, 4.0), node("gpu-b", 4.0, 0.0)];
        let looked = Looked::default();
        unschedulable(&Case { pod: &SlimPod::default(), asked: &asked, looked: Some(&looked), nodes: Some(&nodes) }, said)
    };
    let problem = judge(&template(json!([term])));
    assert_eq!(problem.reason, Reason::Unschedulable);
    let expected = format!(
        "All replicas have to be on one node, because one node at a time can mount the claim models. Use one that is ReadWriteMany, or ask for no more replicas than that node has room for: {said}"
    );
    assert_eq!(problem.message, expected);
    assert!(!judge(&template(json!([]))).message.contains("one node at a time"));
}
