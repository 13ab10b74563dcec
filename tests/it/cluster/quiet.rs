//! What the operator writes: each child once, and at rest nothing.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use super::{
    operator::Operator,
    place::{NAME, Place, text},
    world::{TOKEN, World},
};
use crate::support::signer::Person;

pub type Writes = BTreeMap<String, u64>;

/// What was written, once nothing more is.
async fn settled(world: &World) -> Writes {
    settled_of(world, world.operator()).await
}

/// The same for one that was started beside.
pub async fn settled_of(world: &World, operator: &Operator) -> Writes {
    let mut last = Writes::new();
    let look = async || {
        let before = std::mem::replace(&mut last, operator.writes().await);
        tokio::time::sleep(Duration::from_secs(3)).await;
        if before == last { Ok(before) } else { Err(format!("{last:?}")) }
    };
    world.eventually("writing ends", look).await
}

fn more(before: &Writes, after: &Writes) -> Writes {
    let grown = |(key, count): (&String, &u64)| (key.clone(), count - before.get(key).unwrap_or(&0));
    after.iter().map(grown).filter(|(_, count)| *count > 0).collect()
}

fn counts(expected: &[(&str, u64)]) -> Writes {
    expected.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect()
}

#[tokio::test]
async fn every_child_is_written_once_a_hand_is_undone_with_few_writes_and_at_rest_nothing_is_written() {
    let world = World::with_operator().await;
    let place = Place::new(&world).await;
    let refusing = Place::new(&world).await;

    // All kinds of deployments: small, with everything, on accelerators, scaled to zero, refused, and one whose name is taken.
    place.deploy(NAME).await;
    let secret = json!({"type": "bonafide.dev/source", "stringData": {"token": TOKEN, "hosts": world.hub.addr.to_string()}});
    place.create("Secret", "token", secret).await;
    let source = place.publish("Everything-GGUF", &[("everything.gguf", "everything")]);
    let pod = json!({
        "nodeSelector": {"zone": "south"}, "imagePullSecrets": [{"name": "corp"}],
        "tolerations": [{"key": "a", "operator": "Exists"}, {"key": "b", "value": "c", "effect": "NoExecute", "tolerationSeconds": 3}],
    });
    let engine = json!({"contextLength": 2048, "args": ["--threads=2"], "env": [{"name": "TZ"}, {"name": "OMP_NUM_THREADS", "value": "2"}]});
    place.create("ModelDeployment", "everything", json!({"spec": {"model": {"source": source, "secretRef": {"name": "token"}, "servedNames": ["a", "b/c"]}, "engine": engine, "pod": pod}})).await;
    let source = place.publish("Tensors", &[("config.json", "{}"), ("model.safetensors", "tensors"), ("tokenizer.json", "{}")]);
    for (name, class) in [("green", "nvidia"), ("red", "amd")] {
        place
            .create(
                "ModelDeployment",
                name,
                json!({"spec": {"model": {"source": source}, "resources": {"accelerator": {"class": class, "count": 2}}}}),
            )
            .await;
    }
    let source = place.publish("Asleep-GGUF", &[("asleep.gguf", "asleep")]);
    place.create("ModelDeployment", "asleep", json!({"spec": {"model": {"source": source}, "replicas": 0}})).await;
    let served = [NAME, "everything", "green", "red"];
    for name in served {
        place.let_in(name, 1).await;
    }
    place.condition("asleep", "Ready", "True", "Idle").await;
    let rules = json!([{"name": "all", "sources": {"include": ["hf://**"]}, "signedBy": [{"name": "k", "anyOf": ["keeper"]}]}]);
    let policy = json!({"signers": [{"name": "keeper", "publicKey": {"pem": Person::new(1).pem()}}], "rules": rules});
    refusing.policy(policy).await;
    refusing.deploy("refused").await;
    refusing.condition("refused", "Trusted", "False", "Unsigned").await;

    let writes = settled(&world).await;
    let children = served.len() as u64 + 1;
    for kind in ["ControllerRevision", "ConfigMap", "Service", "PodDisruptionBudget", "Deployment"] {
        assert_eq!(writes.get(&format!("{kind} apply")), Some(&children), "{kind}: {writes:?}");
        assert_eq!(
            writes.get(&format!("{kind} patch")),
            None,
            "{kind} is stored as something else than what was written: {writes:?}"
        );
    }
    // The gate. Nobody vouches for an engine that is not there.
    assert_eq!(writes["Pod patch"], served.len() as u64, "{writes:?}");
    assert!(writes["ModelDeployment patch"] <= 8 * (children + 1), "{writes:?}");

    // Nothing happens, and nothing is written.
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(more(&writes, &world.operator().writes().await), Writes::new());

    // What others write beside our fields is not ours to write over.
    let name = text(&place.child("Deployment", NAME).await["metadata"]["name"]);
    place
        .change("Deployment", &name, json!({"metadata": {"annotations": {"note": "theirs"}, "labels": {"team": "birds"}}}))
        .await;
    place.change("Service", NAME, json!({"metadata": {"annotations": {"note": "theirs"}}})).await;
    let after = settled(&world).await;
    assert_eq!(more(&writes, &after), Writes::new());

    // A changed value is applied over; an addition takes a second write, as applying leaves it there.
    place
        .edit(
            "Deployment",
            &name,
            json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "evil:1"}]),
        )
        .await;
    place
        .until("Deployment", &name, "has its image", |object| {
            object["spec"]["template"]["spec"]["containers"][0]["image"] != "evil:1"
        })
        .await;
    let image = settled(&world).await;
    let children =
        |writes: &Writes| more(&after, writes).into_iter().filter(|(key, _)| key.starts_with("Deployment ")).collect::<Writes>();
    assert_eq!(children(&image), counts(&[("Deployment apply", 1)]));
    place
        .edit(
            "Deployment",
            &name,
            json!([{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "EVIL"}}]),
        )
        .await;
    place.until("Deployment", &name, "has no EVIL", |object| !object.to_string().contains("EVIL\"")).await;
    assert_eq!(children(&settled(&world).await), counts(&[("Deployment apply", 2), ("Deployment patch", 1)]));
}
