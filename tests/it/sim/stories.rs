//! What people do with models, each story up to an end that does not depend on the way there.

use futures::future::LocalBoxFuture;
use serde_json::json;

use super::{
    cluster::kubelet::Behaviour,
    recalls::demanding,
    world::{World, condition, demand, routed},
};

/// A story.
pub struct Story {
    pub name: &'static str,
    pub act: fn(&World) -> LocalBoxFuture<'_, ()>,
}

macro_rules! stories {
    ($($name:ident),* $(,)?) => {
        /// All of them.
        pub const STORIES: &[Story] = &[$(Story { name: stringify!($name), act: |world| Box::pin($name(world)) }),*];
    };
}

stories![
    a_model_is_served,
    an_unsigned_model_is_refused,
    a_signed_model_is_served,
    a_policy_comes_and_goes,
    a_signer_is_recalled_while_pods_come_and_go,
    a_change_replaces_every_replica,
    replicas_are_added_and_taken_away,
    a_model_sleeps_and_wakes,
    a_deployment_is_deleted,
    a_deployment_is_replaced_by_its_namesake,
    an_engine_that_never_loads_is_mended,
    wrong_bytes_are_replaced_by_right_ones,
    two_share_a_record,
    the_shelf_is_closed_at_first,
    a_hand_in_the_children,
    a_name_is_taken,
    a_full_cluster_changes_one_by_one,
    a_revision_that_fails_leaves_the_old_one,
    a_paused_deployment_waits,
    a_busy_replica_is_drained_before_it_goes,
    a_share_goes_first_and_the_others_follow,
    a_share_that_fails_is_taken_back,
    one_replica_after_the_other_is_replaced_where_it_is_asked_for,
    fewer_find_room_than_are_wanted,
    a_change_is_taken_back_halfway,
    a_fresh_look_finds_other_bytes,
    a_fresh_look_at_a_closed_shelf_takes_nothing_away,
    a_secret_comes_late,
    a_claim_comes_late,
    who_has_a_name_keeps_it,
    a_recall_drains_what_runs_and_is_lifted,
    a_recall_while_pods_and_containers_are_recycled,
    an_older_revision_serves_instead_of_a_recalled_one,
];

const NAME: &str = "pear";

async fn a_model_is_served(world: &World) {
    world.deploy(NAME, &[], json!({}));
    world.ready(NAME, 1).await;
}

/// No pod of it is there that was let in.
fn nobody_serves(world: &World, name: &str) -> Result<(), String> {
    let in_the_way = world.of("Pod", name).iter().filter(|pod| !pod["spec"]["nodeName"].is_null()).count();
    if in_the_way == 0 { Ok(()) } else { Err(format!("{in_the_way} pods are on nodes")) }
}

async fn an_unsigned_model_is_refused(world: &World) {
    world.policy("strict", 1);
    world.deploy(NAME, &[], json!({}));
    world.condition(NAME, "Trusted", "False", "Unsigned").await;
    world.until("nothing of it serves", |world| nobody_serves(world, NAME)).await;
}

async fn a_signed_model_is_served(world: &World) {
    world.policy("strict", 1);
    world.deploy(NAME, &[1, 2], json!({}));
    world.ready(NAME, 1).await;
    world.condition(NAME, "Trusted", "True", "Signed").await;
}

async fn a_policy_comes_and_goes(world: &World) {
    world.deploy(NAME, &[2], json!({}));
    world.ready(NAME, 1).await;
    world.policy("strict", 1);
    world.condition(NAME, "Trusted", "False", "").await;
    world.change("ModelDeployment", NAME, json!({ "spec": { "replicas": 2 } }));
    world.condition(NAME, "Trusted", "False", "").await;
    world.rest().await;
    assert_eq!(world.of("Pod", NAME).iter().filter(|pod| routed(pod)).count(), 1, "{}", world.oracle.story());
    world.delete("ClusterModelPolicy", "strict");
    world.ready(NAME, 2).await;
}

async fn a_signer_is_recalled_while_pods_come_and_go(world: &World) {
    world.policy("strict", 1);
    world.deploy(NAME, &[1], json!({}));
    world.ready(NAME, 1).await;
    world.change("ClusterModelPolicy", "strict", json!({ "spec": demand(2) }));
    // The pod goes at the same moment.
    let pod = world.of("Pod", NAME).remove(0);
    world.delete("Pod", pod["metadata"]["name"].as_str().unwrap());
    world.condition(NAME, "Trusted", "False", "").await;
    world.until("nothing of it serves", |world| nobody_serves(world, NAME)).await;
    world.change("ClusterModelPolicy", "strict", json!({ "spec": demand(1) }));
    world.ready(NAME, 1).await;
}

async fn a_change_replaces_every_replica(world: &World) {
    world.deploy(NAME, &[], json!({ "replicas": 2 }));
    is_changed(world, 2, 2).await;
}

/// All replicas answer, something else is asked for, and in the end all answer that; never fewer than `floor` on the way.
async fn is_changed(world: &World, replicas: usize, floor: usize) {
    world.ready(NAME, replicas).await;
    let first = revision(world);
    world.oracle.floor(NAME, floor);
    world.change("ModelDeployment", NAME, json!({ "spec": { "engine": { "contextLength": 512 } } }));
    another_than(world, &first).await;
    world.ready(NAME, replicas).await;
}

/// The revision that status speaks of as the one that is wanted.
fn revision(world: &World) -> String {
    let object = world.get("ModelDeployment", NAME).unwrap();
    let revisions = object["status"]["revisions"].as_array().cloned().unwrap_or_default();
    let current = revisions.iter().find(|revision| revision["phase"] == "Current");
    current.map(|revision| revision["name"].to_string()).unwrap_or_default()
}

async fn replicas_are_added_and_taken_away(world: &World) {
    world.deploy(NAME, &[], json!({}));
    world.ready(NAME, 1).await;
    world.oracle.floor(NAME, 1);
    world.change("ModelDeployment", NAME, json!({ "spec": { "replicas": 3 } }));
    world.ready(NAME, 3).await;
    world.change("ModelDeployment", NAME, json!({ "spec": { "replicas": 1 } }));
    world.ready(NAME, 1).await;
}

async fn a_model_sleeps_and_wakes(world: &World) {
    world.deploy(NAME, &[], json!({}));
    world.ready(NAME, 1).await;
    world.change("ModelDeployment", NAME, json!({ "spec": { "replicas": 0 } }));
    world.condition(NAME, "Ready", "True", "Idle").await;
    world.until("no pod is left", |world| if world.of("Pod", NAME).is_empty() { Ok(()) } else { Err("pods".into()) }).await;
    world.change("ModelDeployment", NAME, json!({ "spec": { "replicas": 1 } }));
    world.ready(NAME, 1).await;
}

/// Nothing is left of a deployment.
fn nothing_is_left(world: &World, name: &str) -> Result<(), String> {
    for kind in ["ControllerRevision", "ConfigMap", "Service", "Deployment", "ReplicaSet", "Pod"] {
        if !world.of(kind, name).is_empty() {
            return Err(format!("{kind}s"));
        }
    }
    Ok(())
}

async fn a_deployment_is_deleted(world: &World) {
    world.deploy(NAME, &[], json!({}));
    world.ready(NAME, 1).await;
    world.delete("ModelDeployment", NAME);
    world.until("nothing is left", |world| nothing_is_left(world, NAME)).await;
    world
        .until(
            "no record is left",
            |world| if world.api.all("ModelArtifact").is_empty() { Ok(()) } else { Err("a record".into()) },
        )
        .await;
}

async fn a_deployment_is_replaced_by_its_namesake(world: &World) {
    world.deploy(NAME, &[], json!({}));
    world.ready(NAME, 1).await;
    world.delete("ModelDeployment", NAME);
    world.shelf.put("hf://orchard/quince-GGUF", &[]);
    world.deploy_from(NAME, "hf://orchard/quince-GGUF", json!({}));
    let fresh = |world: &World| {
        let object = world.get("ModelDeployment", NAME).unwrap();
        let mine = |pod: &std::sync::Arc<serde_json::Value>| {
            let child = pod["metadata"]["labels"]["bonafide.dev/revision"].as_str().unwrap().to_owned();
            world
                .get("ControllerRevision", &format!("bonafide-{NAME}-{child}"))
                .is_some_and(|revision| revision["metadata"]["ownerReferences"][0]["uid"] == object["metadata"]["uid"])
        };
        let pods = world.of("Pod", NAME);
        if pods.len() == 1 && pods.iter().all(mine) { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    };
    world.until("only pods of the new one are left", fresh).await;
    world.ready(NAME, 1).await;
}

async fn an_engine_that_never_loads_is_mended(world: &World) {
    world.behave(|pod| {
        let args = pod["spec"]["containers"][0]["args"].to_string();
        let broken = args.contains("--seed");
        Behaviour { crashes: broken.then_some((1, "error: unknown architecture 'pomelo'")), ..Behaviour::default() }
    });
    world.deploy(NAME, &[], json!({ "engine": { "args": ["--seed=1"] } }));
    let told = |world: &World| {
        let object = world.get("ModelDeployment", NAME).unwrap();
        let message = condition(&object, "Ready").map(|found| found["message"].to_string()).unwrap_or_default();
        if message.contains("pomelo") { Ok(()) } else { Err(object["status"].to_string()) }
    };
    world.until("the engine's words are told", told).await;
    world.change("ModelDeployment", NAME, json!({ "spec": { "engine": { "args": null } } }));
    world.ready(NAME, 1).await;
}

async fn wrong_bytes_are_replaced_by_right_ones(world: &World) {
    const SAID: &str = r#"{"message":"pear-gguf.gguf: expected a, found b"}"#;
    let mended = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_mended = mended.clone();
    world.behave(move |_| match is_mended.load(std::sync::atomic::Ordering::Relaxed) {
        true => Behaviour::default(),
        false => Behaviour { fetched: vec![(65, SAID)], ..Behaviour::default() },
    });
    world.deploy(NAME, &[], json!({}));
    world.condition(NAME, "ContentVerified", "False", "DigestMismatch").await;
    world.until("no pod goes on fetching", |world| nobody_serves(world, NAME)).await;
    mended.store(true, std::sync::atomic::Ordering::Relaxed);
    world.change("ModelDeployment", NAME, json!({ "spec": { "engine": { "contextLength": 512 } } }));
    world.ready(NAME, 1).await;
}

async fn two_share_a_record(world: &World) {
    world.deploy(NAME, &[], json!({}));
    world.deploy_from("plum", "hf://orchard/pear-GGUF", json!({}));
    world.ready(NAME, 1).await;
    world.ready("plum", 1).await;
    let record = world.api.all("ModelArtifact").remove(0);
    let both = |world: &World| {
        let owners = world.api.all("ModelArtifact").remove(0)["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len);
        if owners == 2 { Ok(()) } else { Err(format!("{owners} owners")) }
    };
    world.until("it belongs to both", both).await;
    world.delete("ModelDeployment", NAME);
    world.until("nothing is left of the first", |world| nothing_is_left(world, NAME)).await;
    world.rest().await;
    let left = world.api.all("ModelArtifact");
    assert!(left.len() == 1 && left[0]["metadata"]["uid"] == record["metadata"]["uid"], "{}", world.oracle.story());
    world.change("ModelDeployment", "plum", json!({ "spec": { "replicas": 2 } }));
    world.ready("plum", 2).await;
}

async fn the_shelf_is_closed_at_first(world: &World) {
    world.shelf.close(true);
    world.deploy(NAME, &[], json!({}));
    world.condition(NAME, "SourceResolved", "False", "SourceUnavailable").await;
    world.shelf.close(false);
    world.ready(NAME, 1).await;
}

async fn a_hand_in_the_children(world: &World) {
    world.deploy(NAME, &[], json!({}));
    world.ready(NAME, 1).await;
    let child = |kind: &str| world.of(kind, NAME).remove(0)["metadata"]["name"].as_str().unwrap().to_owned();
    let (deployment, map) = (child("Deployment"), child("ConfigMap"));
    world.delete("ConfigMap", &map);
    world.change(
        "Deployment",
        &deployment,
        json!({ "spec": { "replicas": 2, "template": { "spec": { "hostNetwork": true } } } }),
    );
    world.change("Service", NAME, json!({ "spec": { "selector": { "role": "none" } } }));
    let back = |world: &World| {
        let deployment = world.get("Deployment", &deployment).ok_or("no Deployment")?;
        let service = world.get("Service", NAME).ok_or("no Service")?;
        let template = &deployment["spec"]["template"]["spec"];
        if template["hostNetwork"].is_null()
            && service["spec"]["selector"]["role"].is_null()
            && world.get("ConfigMap", &map).is_some()
        {
            Ok(())
        } else {
            Err("it is not put back".to_owned())
        }
    };
    world.until("all is put back", back).await;
    world.ready(NAME, 1).await;
}

async fn a_name_is_taken(world: &World) {
    world.make("Service", NAME, json!({ "spec": { "ports": [{ "port": 80, "protocol": "TCP" }] } }));
    world.deploy(NAME, &[], json!({}));
    world.condition(NAME, "Ready", "False", "NameTaken").await;
    world.delete("Service", NAME);
    world.ready(NAME, 1).await;
}

async fn a_full_cluster_changes_one_by_one(world: &World) {
    world.room(2);
    world.deploy(NAME, &[], json!({ "replicas": 2 }));
    is_changed(world, 2, 1).await;
}

async fn a_revision_that_fails_leaves_the_old_one(world: &World) {
    world.behave(|pod| {
        let broken = pod["spec"]["containers"][0]["args"].to_string().contains("--seed");
        Behaviour { crashes: broken.then_some((1, "error: unknown architecture 'pomelo'")), ..Behaviour::default() }
    });
    world.deploy(NAME, &[], json!({ "replicas": 2 }));
    world.ready(NAME, 2).await;
    world.oracle.floor(NAME, 2);
    world.change("ModelDeployment", NAME, json!({ "spec": { "engine": { "args": ["--seed=1"] } } }));
    let given_up = |world: &World| {
        let object = world.get("ModelDeployment", NAME).unwrap();
        let pods = world.of("Pod", NAME);
        let told = object["status"].to_string().contains("RolloutFailed");
        if told && pods.len() == 2 && pods.iter().all(|pod| routed(pod)) {
            Ok(())
        } else {
            Err(format!("{} pods, {}", pods.len(), object["status"]))
        }
    };
    world.until("it is given up, and the old one serves", given_up).await;
    world.change("ModelDeployment", NAME, json!({ "spec": { "engine": null } }));
    world.ready(NAME, 2).await;
}

async fn a_paused_deployment_waits(world: &World) {
    world.deploy(NAME, &[], json!({}));
    world.ready(NAME, 1).await;
    let before = world.of("ControllerRevision", NAME).len();
    world.oracle.floor(NAME, 1);
    world.change("ModelDeployment", NAME, json!({ "spec": { "management": "Paused", "engine": { "contextLength": 512 } } }));
    let seen = |world: &World| {
        let object = world.get("ModelDeployment", NAME).unwrap();
        if object["status"].to_string().contains("Paused") { Ok(()) } else { Err(object["status"].to_string()) }
    };
    world.until("it says that it is paused", seen).await;
    world.rest().await;
    assert_eq!(world.of("ControllerRevision", NAME).len(), before, "{}", world.oracle.story());
    world.change("ModelDeployment", NAME, json!({ "spec": { "management": "Managed" } }));
    world
        .until("there is another revision", |world| {
            if world.of("ControllerRevision", NAME).len() > before { Ok(()) } else { Err("none".to_owned()) }
        })
        .await;
    world.ready(NAME, 1).await;
}

async fn a_busy_replica_is_drained_before_it_goes(world: &World) {
    world.deploy(NAME, &[], json!({ "replicas": 2, "rollout": { "drain": "1h" } }));
    world.ready(NAME, 2).await;
    let names =
        |world: &World| world.of("Pod", NAME).iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    let busy: Vec<String> = names(world);
    busy.iter().for_each(|pod| world.pods.busy(pod, 3));
    world.change("ModelDeployment", NAME, json!({ "spec": { "replicas": 1 } }));
    // A manager that has not heard of the change may bring others meanwhile, and they may go again. These two work.
    let unrouted = |world: &World| {
        let pods: Vec<_> = busy.iter().filter_map(|name| world.get("Pod", name)).collect();
        let all_live = pods.len() == 2 && pods.iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        assert!(all_live, "a pod that works was told to end\n{}", world.oracle.story());
        let routed = pods.iter().filter(|pod| routed(pod)).count();
        if routed < 2 { Ok(()) } else { Err(format!("{routed} are routed to")) }
    };
    world.until("one gets no requests any more", unrouted).await;
    for _ in 0..600 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let _ = unrouted(world);
    }
    world.until("one gets no requests still", unrouted).await;
    busy.iter().for_each(|pod| world.pods.busy(pod, 0));
    world.ready(NAME, 1).await;
}

/// Waits until the status speaks of another revision than that one.
async fn another_than(world: &World, first: &str) {
    let look = |world: &World| if revision(world) == first { Err(first.to_owned()) } else { Ok(()) };
    world.until("there is another revision", look).await;
}

async fn a_share_goes_first_and_the_others_follow(world: &World) {
    let rollout = json!({ "strategy": "Canary", "canary": { "percent": 30, "hold": "60s" } });
    world.deploy(NAME, &[], json!({ "replicas": 3, "rollout": rollout }));
    is_changed(world, 3, 3).await;
}

async fn a_share_that_fails_is_taken_back(world: &World) {
    world.behave(|pod| {
        let broken = pod["spec"]["containers"][0]["args"].to_string().contains("--seed");
        Behaviour { falls_after: broken.then_some(std::time::Duration::from_secs(120)), ..Behaviour::default() }
    });
    let rollout = json!({ "strategy": "Canary", "canary": { "percent": 30, "hold": "1h" } });
    world.deploy(NAME, &[], json!({ "replicas": 2, "rollout": rollout }));
    world.ready(NAME, 2).await;
    world.change("ModelDeployment", NAME, json!({ "spec": { "engine": { "args": ["--seed=1"] } } }));
    let taken_back = |world: &World| {
        let object = world.get("ModelDeployment", NAME).unwrap();
        let pods = world.of("Pod", NAME);
        let new = pods.iter().filter(|pod| pod["spec"]["containers"][0]["args"].to_string().contains("--seed")).count();
        let told = object["status"].to_string().contains("RolloutFailed");
        if told && new == 0 && pods.len() == 2 && pods.iter().all(|pod| routed(pod)) {
            Ok(())
        } else {
            Err(format!("{} pods, {new} of them new, {}", pods.len(), object["status"]))
        }
    };
    world.until("the share is taken back", taken_back).await;
    world.change("ModelDeployment", NAME, json!({ "spec": { "engine": null } }));
    world.ready(NAME, 2).await;
}

async fn one_replica_after_the_other_is_replaced_where_it_is_asked_for(world: &World) {
    world.deploy(NAME, &[], json!({ "replicas": 3, "rollout": { "strategy": "OneByOne" } }));
    is_changed(world, 3, 2).await;
}

async fn fewer_find_room_than_are_wanted(world: &World) {
    world.room(2);
    world.deploy(NAME, &[], json!({ "replicas": 3 }));
    let serve = |world: &World, short: bool| {
        let pods = world.of("Pod", NAME);
        let of_it = |pod: &&std::sync::Arc<serde_json::Value>| {
            routed(pod) && pod["spec"]["containers"][0]["args"].to_string().contains("512") == short
        };
        match (pods.iter().filter(of_it).count(), pods.len()) {
            (2, 3) => Ok(()),
            (serve, all) => Err(format!("{serve} of {all}")),
        }
    };
    world.until("two answer", |world| serve(world, false)).await;
    world.oracle.floor(NAME, 1);
    world.change("ModelDeployment", NAME, json!({ "spec": { "engine": { "contextLength": 512 } } }));
    world.until("two of the new ones answer", |world| serve(world, true)).await;
    world.condition(NAME, "Ready", "False", "Unschedulable").await;
}

async fn a_change_is_taken_back_halfway(world: &World) {
    world.deploy(NAME, &[], json!({ "replicas": 2 }));
    world.ready(NAME, 2).await;
    let first = revision(world);
    world.oracle.floor(NAME, 2);
    world.change("ModelDeployment", NAME, json!({ "spec": { "engine": { "contextLength": 512 } } }));
    let begun = |world: &World| {
        let new = world
            .of("Pod", NAME)
            .iter()
            .filter(|pod| pod["metadata"]["labels"]["bonafide.dev/revision"] != first.trim_matches('"'))
            .count();
        if new > 0 { Ok(()) } else { Err("none of it is there".to_owned()) }
    };
    world.until("the new one has begun", begun).await;
    world.change("ModelDeployment", NAME, json!({ "spec": { "engine": null } }));
    world.until("it is the first again", |world| if revision(world) == first { Ok(()) } else { Err(revision(world)) }).await;
    world.ready(NAME, 2).await;
}

/// Asks for a fresh look.
fn refresh(world: &World) {
    world.change("ModelDeployment", NAME, json!({ "metadata": { "annotations": { "bonafide.dev/refresh": "once" } } }));
}

async fn a_fresh_look_finds_other_bytes(world: &World) {
    world.deploy(NAME, &[], json!({}));
    world.ready(NAME, 1).await;
    let first = revision(world);
    world.oracle.floor(NAME, 1);
    world.shelf.put_content("hf://orchard/pear-GGUF", "riper", &[]);
    world.rest().await;
    assert_eq!(revision(world), first, "nobody asked\n{}", world.oracle.story());
    refresh(world);
    another_than(world, &first).await;
    world.ready(NAME, 1).await;
}

async fn a_fresh_look_at_a_closed_shelf_takes_nothing_away(world: &World) {
    world.deploy(NAME, &[], json!({}));
    world.ready(NAME, 1).await;
    let first = revision(world);
    world.oracle.floor(NAME, 1);
    world.shelf.close(true);
    refresh(world);
    world.condition(NAME, "Reconciling", "True", "SourceUnavailable").await;
    world.condition(NAME, "Ready", "True", "SourceUnavailable").await;
    world.shelf.put_content("hf://orchard/pear-GGUF", "riper", &[]);
    world.shelf.close(false);
    another_than(world, &first).await;
    world.ready(NAME, 1).await;
}

async fn a_secret_comes_late(world: &World) {
    world.deploy(NAME, &[], json!({ "model": { "secretRef": { "name": "key" } } }));
    world.condition(NAME, "SourceResolved", "False", "SecretNotFound").await;
    world.make(
        "Secret",
        "key",
        json!({ "type": "bonafide.dev/source", "data": { "token": "aGZfcGVhcg==", "hosts": "aHViLmV4YW1wbGU=" } }),
    );
    world.ready(NAME, 1).await;
}

async fn a_claim_comes_late(world: &World) {
    world.deploy(NAME, &[], json!({ "model": { "cache": { "claimName": "cellar" } } }));
    world.condition(NAME, "SourceResolved", "False", "ClaimNotFound").await;
    world.make("PersistentVolumeClaim", "cellar", json!({ "spec": { "accessModes": ["ReadWriteMany"] } }));
    world.ready(NAME, 1).await;
}

async fn who_has_a_name_keeps_it(world: &World) {
    world.deploy("plum", &[], json!({ "replicas": 0 }));
    world.condition("plum", "Ready", "True", "Idle").await;
    world.deploy(NAME, &[], json!({ "model": { "servedNames": ["chat"] } }));
    world.ready(NAME, 1).await;
    world.change("ModelDeployment", "plum", json!({ "spec": { "replicas": 1, "model": { "servedNames": ["chat"] } } }));
    world.condition("plum", "Ready", "False", "NameTaken").await;
    let first = revision(world);
    world.change("ModelDeployment", NAME, json!({ "spec": { "engine": { "contextLength": 512 } } }));
    another_than(world, &first).await;
    world.ready(NAME, 1).await;
    assert!(nobody_serves(world, "plum").is_ok(), "{}", world.oracle.story());
    world.change("ModelDeployment", NAME, json!({ "spec": { "model": { "servedNames": ["other"] } } }));
    world.ready("plum", 1).await;
    world.ready(NAME, 1).await;
}

async fn a_recall_drains_what_runs_and_is_lifted(world: &World) {
    world.deploy(NAME, &[], json!({ "replicas": 2 }));
    world.ready(NAME, 2).await;
    world.make("ClusterModelPolicy", "strict", demanding(1, "Drain"));
    world.condition(NAME, "Trusted", "False", "Unsigned").await;
    world.until("nothing of it is left", |world| nobody_serves(world, NAME)).await;
    world.delete("ClusterModelPolicy", "strict");
    world.ready(NAME, 2).await;
}

/// Whoever starts from then on, be it a pod or a container, serves nobody: the oracle sees to it.
async fn a_recall_while_pods_and_containers_are_recycled(world: &World) {
    let mut all = 0_u64;
    world.behave(move |_| {
        all += 1;
        Behaviour { falls_after: Some(std::time::Duration::from_secs(40 * all)), ..Behaviour::default() }
    });
    world.policy("strict", 1);
    world.deploy(NAME, &[1], json!({ "replicas": 3 }));
    let some = |world: &World| if world.of("Pod", NAME).iter().any(|pod| routed(pod)) { Ok(()) } else { Err("none".to_owned()) };
    world.until("one serves", some).await;
    world.change("ClusterModelPolicy", "strict", json!({ "spec": demand(2) }));
    // A pod goes at the same moment, engines stop in the minutes after it, and then the other pods go one by one.
    for _ in 0..6 {
        if let Some(pod) = world.of("Pod", NAME).iter().find(|pod| !pod["spec"]["nodeName"].is_null()) {
            world.delete("Pod", pod["metadata"]["name"].as_str().unwrap());
        }
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    }
    world.condition(NAME, "Trusted", "False", "WrongSigner").await;
    let names: Vec<String> =
        world.of("Pod", NAME).iter().map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    names.iter().filter(|name| world.get("Pod", name).is_some()).for_each(|name| world.delete("Pod", name));
    world.until("nothing of it serves", |world| nobody_serves(world, NAME)).await;
    world.behave(|_| Behaviour::default());
    world.change("ClusterModelPolicy", "strict", json!({ "spec": demand(1) }));
    world.ready(NAME, 3).await;
}

async fn an_older_revision_serves_instead_of_a_recalled_one(world: &World) {
    const SOURCE: &str = "hf://orchard/pear-GGUF";
    world.make("ClusterModelPolicy", "strict", demanding(1, "Drain"));
    world.shelf.put_content(SOURCE, "unripe", &[1, 2]);
    world.deploy_from(NAME, SOURCE, json!({}));
    world.ready(NAME, 1).await;
    let first = revision(world);
    world.shelf.put_content(SOURCE, "ripe", &[1]);
    world.change("ModelDeployment", NAME, json!({ "spec": { "model": { "revision": "v2" } } }));
    another_than(world, &first).await;
    world.ready(NAME, 1).await;
    world.change("ClusterModelPolicy", "strict", demanding(2, "Drain"));
    let instead = |world: &World| {
        let pods = world.of("Pod", NAME);
        let old = |pod: &std::sync::Arc<serde_json::Value>| {
            pod["metadata"]["labels"]["bonafide.dev/revision"] == first.trim_matches('"')
        };
        if pods.len() == 1 && pods.iter().all(|pod| old(pod) && routed(pod)) {
            Ok(())
        } else {
            Err(format!("{} pods", pods.len()))
        }
    };
    world.until("the first serves instead", instead).await;
    world.change("ClusterModelPolicy", "strict", demanding(1, "Drain"));
    another_than(world, &first).await;
    world.ready(NAME, 1).await;
}
