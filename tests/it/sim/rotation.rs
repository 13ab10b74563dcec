//! Keys are replaced while models run: the old one, both, the new one.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::world::{World, simulate};
use crate::support::{
    fake_api::{
        caller::{Fate, Plan, Smooth, Tidings},
        request::Asked,
        store::Change,
    },
    signer::Person,
};

/// Signed by one of these persons; whatever is not is taken out of service at once.
fn any_of(people: &[u8]) -> Value {
    let name = |person: &u8| format!("keeper-{person}");
    let signers: Vec<Value> =
        people.iter().map(|person| json!({ "name": name(person), "publicKey": { "pem": Person::new(*person).pem() } })).collect();
    let names: Vec<String> = people.iter().map(name).collect();
    json!({ "spec": {
        "onRecall": "Drain", "signers": signers,
        "rules": [{ "name": "all", "sources": { "include": ["hf://**"] }, "signedBy": [{ "name": "keeper", "anyOf": names }] }],
    } })
}

/// Every pod by UID: since when it is vouched for, and how often its engine was started again.
fn pods(world: &World) -> BTreeMap<String, (Value, Value, Value)> {
    let of = |pod: &std::sync::Arc<Value>| {
        let conditions = pod["status"]["conditions"].as_array().unwrap();
        let vouched = conditions.iter().find(|one| one["type"] == "bonafide.dev/Vouched").cloned().unwrap_or_default();
        let (uid, restarts) = (pod["metadata"]["uid"].to_string(), &pod["status"]["containerStatuses"][0]["restartCount"]);
        (uid, (vouched, restarts.clone(), pod["metadata"]["annotations"].clone()))
    };
    world.api.all("Pod").iter().map(of).collect()
}

/// Changes of one kind are heard of a minute late, or longer.
struct Late(&'static str, Duration);

impl Plan for Late {
    fn request(&mut self, _: &Asked) -> Fate {
        Fate::Pass
    }

    fn event(&mut self, change: &Change) -> Tidings {
        if change.kind.kind == self.0 { Tidings::Late(self.1) } else { Tidings::Now }
    }
}

/// Delivers a signature over what a deployment serves, by somebody who had not signed it.
fn deliver(world: &World, name: &str, person: u8) {
    let digest = world.get("ModelDeployment", name).unwrap()["status"]["model"]["digest"].clone();
    let bundle = world.shelf.sign_apart(&format!("hf://orchard/{name}-GGUF"), person);
    world.make("ModelSignature", name, json!({ "spec": { "digest": digest, "bundle": bundle } }));
}

#[test]
fn a_signature_that_is_heard_of_after_the_policy_that_needs_it_keeps_what_runs_in_service() {
    simulate(2, async |world| {
        world.keep_running(|_| Box::new(Late("ModelSignature", Duration::from_secs(600))));
        world.make("ClusterModelPolicy", "keys", any_of(&[1]));
        world.deploy("pear", &[1], json!({ "replicas": 3 }));
        world.ready("pear", 3).await;
        world.rest().await;
        world.oracle.floor("pear", 3);
        let old = pods(world);
        deliver(world, "pear", 2);
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.change("ClusterModelPolicy", "keys", any_of(&[2]));
        tokio::time::sleep(Duration::from_secs(1300)).await;
        assert_eq!(pods(world), old, "{}", world.oracle.story());
        world.condition("pear", "Trusted", "True", "Signed").await;
    });
}

#[test]
fn keys_are_replaced_and_nothing_that_is_accepted_throughout_is_unvouched_or_restarted() {
    for (late, dies) in [(false, false), (false, true), (true, false), (true, true)] {
        simulate(1, async |world| {
            let policies = Duration::from_secs(60);
            world.keep_running(move |_| if late { Box::new(Late("ClusterModelPolicy", policies)) } else { Box::new(Smooth) });
            let pass = async || {
                for _ in 0..5 {
                    tokio::time::sleep(Duration::from_secs(50)).await;
                    if let Some((caller, _)) = world.managers.lock().unwrap().get("bonafide").filter(|_| dies) {
                        caller.die();
                    }
                }
                world.rest().await;
            };
            world.make("ClusterModelPolicy", "keys", any_of(&[1]));
            world.deploy("pear", &[1], json!({ "replicas": 3 }));
            world.ready("pear", 3).await;
            world.rest().await;
            world.oracle.floor("pear", 3);
            let old = pods(world);

            world.change("ClusterModelPolicy", "keys", any_of(&[1, 2]));
            // The new key signs what runs, before the old one is given up.
            deliver(world, "pear", 2);
            pass().await;
            assert_eq!(pods(world), old, "late {late}, dies {dies}\n{}", world.oracle.story());
            // Whatever comes from now on is signed by the new one alone.
            world.deploy("plum", &[2], json!({ "replicas": 2 }));
            world.ready("plum", 2).await;
            world.rest().await;
            world.oracle.floor("plum", 2);
            let both = pods(world);
            assert!(old.iter().all(|pod| both.get(pod.0) == Some(pod.1)), "{}", world.oracle.story());

            world.change("ClusterModelPolicy", "keys", any_of(&[2]));
            pass().await;
            assert_eq!(pods(world), both, "late {late}, dies {dies}\n{}", world.oracle.story());
            for name in ["pear", "plum"] {
                world.condition(name, "Trusted", "True", "Signed").await;
                world.condition(name, "Ready", "True", "").await;
            }
        });
    }
}
