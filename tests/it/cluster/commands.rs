//! The commands for people, as the shipped program runs them, with the kubeconfig of somebody who may little.

use std::{path::Path, process::Stdio};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use super::{
    place::{NAME, Place, text},
    world::{PATIENCE, SYSTEM, World},
};

/// Exit code, output, errors.
pub type Said = (i32, String, String);

/// Runs the program.
pub async fn bonafide(kubeconfig: &Path, arguments: &[&str]) -> Said {
    run(Path::new(env!("CARGO_BIN_EXE_bonafide")), kubeconfig, arguments).await
}

async fn run(program: &Path, kubeconfig: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(program);
    command.args(arguments).env("KUBECONFIG", kubeconfig).kill_on_drop(true);
    let output = command.output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// A kubeconfig of somebody who has only the role `view` in the namespace.
pub async fn viewer(place: &Place<'_>) -> std::path::PathBuf {
    place.create("ServiceAccount", "viewer", json!({})).await;
    let binding = ["create", "rolebinding", "viewer", "--clusterrole=view", "-n", &place.name];
    let account = format!("--serviceaccount={}:viewer", place.name);
    place.world.kubectl(&[&binding[..], &[&account]].concat()).await.unwrap();
    place.world.cluster.service_account_kubeconfig(&place.name, "viewer").await.unwrap()
}

#[tokio::test]
async fn somebody_who_may_only_look_sees_the_tree_and_learns_what_else_is_missing() {
    let place = Place::new(World::shared()).await;
    let viewer = viewer(&place).await;
    let here = ["-n", place.name.as_str()];
    let (code, said, errors) = bonafide(&viewer, &[&["status"], &here[..]].concat()).await;
    assert_eq!((code, said), (0, format!("No ModelDeployment in namespace {}.\n", place.name)), "{errors}");

    place.deploy(NAME).await;
    let pod = text(&place.let_in(NAME, 1).await[0]["metadata"]["name"]);
    let object = place.condition(NAME, "Ready", "False", "Unschedulable").await;
    let (code, said, errors) = bonafide(&viewer, &[&["status", NAME], &here[..]].concat()).await;
    assert_eq!(code, 1, "{said}{errors}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("parrot  Waiting  Unknown  0/1"), "{said}");
    assert!(
        lines[1].contains("Unschedulable (Ready=False for ") && lines[1].contains("There is no node in the cluster"),
        "{said}"
    );
    let revision = text(&object["status"]["revisions"][0]["name"]);
    assert!(said.contains(&format!("revision {revision} #1  Current  0/1")) && said.contains(&format!("pod {pod}")), "{said}");
    assert!(!said.contains('\x1b'), "colours where nobody looks: {said:?}");
    let (_, said, _) = bonafide(&viewer, &[&["status", "--output", "json"], &here[..]].concat()).await;
    let json: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["items"][0]["revisions"][0]["pods"][0]["state"], "Unschedulable");

    let (code, _, errors) = bonafide(&viewer, &[&["status", "wren"], &here[..]].concat()).await;
    assert_eq!(code, 1);
    assert!(errors.contains(&format!("there is no ModelDeployment wren: namespace {} has parrot", place.name)), "{errors}");
    let (code, _, errors) = bonafide(&viewer, &["status", "-A"]).await;
    assert_eq!(code, 2);
    assert!(errors.contains("you may not list ModelDeployments in all namespaces") && errors.contains("`view`"), "{errors}");
    let (code, _, errors) = bonafide(&viewer, &[&["rollout", "pause", NAME], &here[..]].concat()).await;
    assert_eq!(code, 2);
    assert!(errors.contains("you may not change ModelDeployments") && errors.contains("`edit`"), "{errors}");

    // Nothing is wanted: everything that was asked for is there.
    place.change("ModelDeployment", NAME, json!({"spec": {"replicas": 0}})).await;
    let (code, said, errors) = bonafide(&viewer, &[&["rollout", "status", NAME, "--timeout", "30s"], &here[..]].concat()).await;
    assert_eq!(code, 0, "{said}{errors}");
    assert!(said.ends_with("parrot: ready, 0/0\n"), "{said}");
    assert_eq!(bonafide(&viewer, &[&["status"], &here[..]].concat()).await.0, 0);

    // As a plugin of kubectl its own name does not matter.
    let bin = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_bonafide"), bin.path().join("kubectl-bonafide")).unwrap();
    let kubectl = localcluster::binaries::path("kubectl").await.unwrap();
    let mut command = Command::new(kubectl);
    command.args(["bonafide", "status", NAME, "-n", &place.name]).env("PATH", bin.path()).env("KUBECONFIG", &viewer);
    let output = command.output().await.unwrap();
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).starts_with("parrot  Idle"), "{output:?}");
}

#[tokio::test]
async fn without_a_cluster_or_without_bonafide_in_it_that_is_said() {
    let state = tempfile::tempdir().unwrap();
    let (code, _, errors) = bonafide(&state.path().join("none"), &["status"]).await;
    assert_eq!(code, 2);
    assert!(errors.contains("no cluster is known") && errors.contains("--kubeconfig"), "{errors}");
    let closed = state.path().join("closed");
    let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "a",
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}], "users": [{"name": "a", "user": {}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a", "namespace": "birds"}}]});
    std::fs::write(&closed, kubeconfig.to_string()).unwrap();
    let (code, _, errors) = bonafide(&closed, &["status"]).await;
    assert_eq!(code, 2);
    assert!(errors.contains("http://127.0.0.1:1/ does not answer"), "{errors}");
}

#[tokio::test]
async fn one_goes_back_holds_and_tries_again() {
    let place = Place::new(World::shared()).await;
    place.deploy(NAME).await;
    place.condition(NAME, "Ready", "False", "Unschedulable").await;
    let first = place.child("ControllerRevision", NAME).await;
    place.change("ModelDeployment", NAME, json!({"spec": {"engine": {"contextLength": 512}, "replicas": 2}})).await;
    let look = async || match place.of("ControllerRevision", NAME).await {
        revisions if revisions.len() == 2 => Ok(revisions),
        revisions => Err(format!("{} revisions", revisions.len())),
    };
    let revisions = place.world.eventually("there are two revisions", look).await;
    let current = |object: &Value, name: &str| {
        let revisions = object["status"]["revisions"].as_array().cloned().unwrap_or_default();
        revisions.iter().any(|revision| revision["name"] == name && revision["phase"] == "Current")
    };
    let name = |revision: &Value| text(&revision["metadata"]["labels"]["bonafide.dev/revision"]);
    let second = revisions.iter().map(name).find(|found| *found != name(&first)).unwrap();
    place.until("ModelDeployment", NAME, "is at its second revision", |object| current(object, &second)).await;
    let kubeconfig = place.world.cluster.kubeconfig();
    let rollout =
        async |arguments: &[&str]| bonafide(&kubeconfig, &[&["rollout"], arguments, &["-n", &place.name]].concat()).await;
    let (code, said, errors) = rollout(&["history", NAME]).await;
    assert_eq!(code, 0, "{errors}");
    let rows: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["REVISION", "NAME", "STATE", "READY", "AGE", "DIGEST", "IMAGE", "REASON"]);
    assert_eq!((rows.len(), rows[1][0], rows[1][2], rows[2][0]), (3, "2", "Current", "1"), "{said}");

    // What the manager noted is what is gone back to.
    let (code, said, _) = rollout(&["undo", NAME, "--dry-run"]).await;
    assert_eq!((code, said.as_str()), (0, "parrot would go back to revision 1: spec.engine would be written\n"));
    place
        .change("ModelDeployment", NAME, json!({"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "birds"}}}))
        .await;
    let (code, said, errors) = rollout(&["undo", NAME]).await;
    assert_eq!(code, 0, "{errors}");
    assert!(said.contains("parrot goes back to revision 1") && errors.contains("Argo CD keeps this object"), "{said}{errors}");
    let object = place.get("ModelDeployment", NAME).await.unwrap();
    assert_eq!((object["spec"].get("engine"), &object["spec"]["replicas"]), (None, &json!(2)), "{object}");
    place.until("ModelDeployment", NAME, "is at its first revision again", |object| current(object, &name(&first))).await;
    let (_, said, _) = rollout(&["undo", NAME, "--to", "1"]).await;
    assert!(said.contains("nothing is changed"), "{said}");
    let (code, _, errors) = rollout(&["undo", NAME, "--to", "7"]).await;
    assert!(code == 1 && errors.contains("there is no revision 7"), "{errors}");

    assert_eq!(rollout(&["pause", NAME]).await.0, 0);
    // Whoever waits for what is held back is told at once, and what to do.
    let (code, said, errors) = rollout(&["status", NAME, "--timeout", "2m"]).await;
    assert!(
        code == 1 && said.ends_with("parrot: paused, 0/2: changes wait, and what serves goes on serving\n"),
        "{said}{errors}"
    );
    assert!(errors.contains(&format!("`bonafide rollout resume parrot -n {}`", place.name)), "{errors}");
    let object = place.get("ModelDeployment", NAME).await.unwrap();
    assert_eq!(object["spec"]["management"], "Paused");
    assert!(object["metadata"]["managedFields"].to_string().contains("bonafide-rollout"), "{object}");
    assert_eq!(rollout(&["resume", NAME]).await.0, 0);
    assert_ne!(place.get("ModelDeployment", NAME).await.unwrap()["spec"]["management"], "Paused");
    assert_eq!(rollout(&["retry", NAME]).await.0, 0);
    assert!(place.get("ModelDeployment", NAME).await.unwrap()["metadata"]["annotations"]["bonafide.dev/refresh"].is_string());
    let (code, said, errors) = rollout(&["status", NAME, "--timeout", "2s"]).await;
    assert!(code == 1 && said.contains("Waiting, 0/2: ") && errors.contains("is not there after 2 s"), "{said}{errors}");
}

#[tokio::test]
async fn whoever_watches_sees_what_changes_until_they_end_it() {
    let place = Place::new(World::shared()).await;
    place.deploy(NAME).await;
    place.condition(NAME, "Ready", "False", "Unschedulable").await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_bonafide"));
    command.args(["status", NAME, "--watch", "-n", &place.name]).env("KUBECONFIG", place.world.cluster.kubeconfig());
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = vec![];
    let mut until = async |what: &str| {
        let look = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                seen.push(line);
                if seen.last().unwrap().starts_with(what) {
                    return;
                }
            }
            panic!("the command ended: {seen:#?}");
        };
        assert!(tokio::time::timeout(PATIENCE, look).await.is_ok(), "{what:?} is not among {seen:#?}");
    };
    until("parrot  Waiting  Unknown  0/1").await;
    place.change("ModelDeployment", NAME, json!({"spec": {"replicas": 0}})).await;
    until("parrot  Idle  Unknown  0/0").await;
    assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn whoever_may_see_the_lease_learns_that_no_manager_leads() {
    let world = World::without_operator().await;
    let place = Place::new(&world).await;
    place.deploy(NAME).await;
    let viewer = viewer(&place).await;
    let here = ["status", NAME, "-n", place.name.as_str()];
    let admin = world.cluster.kubeconfig();
    let (code, said, errors) = bonafide(&admin, &here).await;
    assert!(
        code == 1 && said.starts_with("No manager leads: there is no Lease bonafide-manager in the cluster"),
        "{said}{errors}"
    );
    assert!(said.contains("\n\nparrot  Pending"), "{said}");

    let renewed = |ago: i64| {
        (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(ago)).strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string()
    };
    let held = |ago| json!({"spec": {"holderIdentity": "first", "leaseDurationSeconds": 15, "renewTime": renewed(ago)}});
    let system = Place::again(&world, SYSTEM).await;
    system.create("Lease", "bonafide-manager", held(600)).await;
    let (_, said, _) = bonafide(&admin, &here).await;
    let dead = "No manager leads: Lease bonafide-system/bonafide-manager was last renewed 10m ago, by first. What stands here may be as old. See: kubectl -n bonafide-system get pods\n\nparrot  ";
    assert!(said.starts_with(dead), "{said}");
    let (_, _, errors) = bonafide(&admin, &["rollout", "status", NAME, "-n", &place.name, "--timeout", "1s"]).await;
    assert!(errors.contains("parrot is not there after 1 s. No manager leads: Lease bonafide-system/"), "{errors}");
    let (_, said, _) = bonafide(&admin, &["status", "-A", "--output", "json"]).await;
    let manager = &serde_json::from_str::<Value>(&said).unwrap()["manager"];
    assert_eq!((&manager["leads"], &manager["holder"]), (&json!(false), &json!("first")), "{manager}");

    // Who may not see it is told nothing of it, until that is granted by the chart's role.
    let (_, said, errors) = bonafide(&viewer, &here).await;
    assert!(said.starts_with("parrot  ") && errors.is_empty(), "{said}{errors}");
    let binding = ["create", "clusterrolebinding", "seers", "--clusterrole=bonafide-policy-view"];
    let account = format!("--serviceaccount={}:viewer", place.name);
    world.kubectl(&[&binding[..], &[&account]].concat()).await.unwrap();
    let look = async || match bonafide(&viewer, &here).await {
        (_, said, _) if said.starts_with(dead) => Ok(()),
        (_, said, errors) => Err(said + &errors),
    };
    world.eventually("the viewer is told", look).await;

    system.change("Lease", "bonafide-manager", held(0)).await;
    let (_, said, _) = bonafide(&viewer, &here).await;
    assert!(said.starts_with("parrot  "), "{said}");
}
