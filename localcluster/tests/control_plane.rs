//! Control planes alone: no node, no root, several at once.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use localcluster::{Cluster, Kubectl, Options};

#[tokio::test]
async fn a_control_plane_answers_admits_and_leaves_nothing_behind() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let state = cluster.state().to_owned();
    assert!(cluster.kubectl().run(&["get", "--raw=/version"]).await.unwrap().contains("v1.36.3"));

    cluster.apply(REFUSES_SECRETS).await.unwrap();
    let create = ["create", "deployment", "greeter", "--image=greeter:1"];
    cluster.kubectl().run(&create).await.unwrap();
    let pods = ["get", "pods", "--selector=app=greeter", "--output=name"];
    eventually("the controllers make a pod", async || !cluster.kubectl().run(&pods).await.unwrap().is_empty()).await;
    // A policy takes a moment until it is enforced.
    let refused = ["create", "secret", "generic", "s", "--dry-run=server"];
    eventually("a policy is enforced", async || {
        cluster.kubectl().run(&refused).await.is_err_and(|error| error.to_string().contains("no secrets here"))
    })
    .await;

    cluster.kubectl().run(&["create", "serviceaccount", "reader"]).await.unwrap();
    let grant = ["create", "rolebinding", "reader", "--clusterrole=view", "--serviceaccount=default:reader"];
    cluster.kubectl().run(&grant).await.unwrap();
    let kubeconfig = cluster.service_account_kubeconfig("default", "reader").await.unwrap();
    let reader = Kubectl::new(&state.join("bin/kubectl"), &kubeconfig);
    assert!(reader.run(&["auth", "whoami"]).await.unwrap().contains("system:serviceaccount:default:reader"));
    eventually("a grant takes effect", async || reader.run(&pods).await.is_ok()).await;
    assert!(reader.run(&create).await.is_err(), "a reader created something");

    let ids = process_ids(&state);
    assert_eq!(ids.len(), 4, "etcd, API server, controllers, scheduler");
    cluster.stop().await.unwrap();
    assert!(!state.exists(), "{} is still there", state.display());
    assert_eq!(ids.into_iter().filter(|id| runs(*id)).collect::<Vec<_>>(), Vec::<u32>::new());
}

#[tokio::test]
async fn two_control_planes_at_once_know_nothing_of_each_other() {
    let (one, two) = tokio::join!(Cluster::start(Options::default()), Cluster::start(Options::default()));
    let (one, two) = (one.unwrap(), two.unwrap());
    one.kubectl().run(&["create", "namespace", "only-in-one"]).await.unwrap();
    assert!(one.kubectl().run(&["get", "namespace", "only-in-one"]).await.is_ok());
    assert!(two.kubectl().run(&["get", "namespace", "only-in-one"]).await.unwrap_err().to_string().contains("not found"));

    let again = Options { state: Some(two.state().to_owned()), ..Options::default() };
    let refused = Cluster::start(again).await.unwrap_err().to_string();
    assert!(refused.contains("already") && refused.contains(&std::process::id().to_string()), "{refused}");

    drop(one);
    let attached = Cluster::attach(two.state()).unwrap();
    assert!(attached.kubectl().run(&["get", "--raw=/readyz"]).await.is_ok(), "it ended with the other");
    drop(attached);
    assert!(two.kubectl().run(&["get", "--raw=/readyz"]).await.is_ok(), "it ended with a second handle");
}

#[tokio::test]
async fn a_request_that_cannot_be_met_is_answered_with_what_can() {
    let ask = async |options| Cluster::start(options).await.unwrap_err().to_string();
    assert!(ask(Options { nodes: 9, ..Options::default() }).await.contains("0 (a control plane alone) to 8"));
    assert!(ask(Options { images: vec!["a.tar".into()], ..Options::default() }).await.contains("one node"));
    assert!(ask(Options { state: Some("relative".into()), ..Options::default() }).await.contains("absolute"));
    let nothing = tempfile::tempdir().unwrap();
    assert!(Cluster::attach(nothing.path()).unwrap_err().to_string().contains("localcluster up"));
}

const REFUSES_SECRETS: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-secrets}
spec:
  failurePolicy: Fail
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [secrets]}]}
  validations: [{expression: "false", message: "no secrets here"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-secrets}
spec: {policyName: no-secrets, validationActions: [Deny]}
"#;

async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..200 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    unreachable!("not within 20 s: {what}");
}

fn process_ids(state: &Path) -> Vec<u32> {
    let records =
        std::fs::read_dir(state.join("pid")).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    records.map(|record| record.split(' ').next().unwrap().parse().unwrap()).collect()
}

fn runs(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
