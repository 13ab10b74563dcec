//! Twenty objects that change all the time, and the policy that changes with them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    super::{
        place::{cluster_wide, condition, parse, resource, value},
        world::World,
    },
    Dice, at_last, done,
};
use crate::support::signer::Person;

/// How many objects there are.
const OBJECTS: u64 = 20;
/// The models of the hub: what the first signed, what the second signed, and what nobody signed.
const MODELS: [&str; 3] = ["first", "second", "nobody"];
/// The policy.
const POLICY: &str = "campaign";

/// What somebody wishes of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    model: usize,
    context: u64,
    replicas: u64,
}

pub struct Wishes {
    client: Client,
    dice: Dice,
    wishes: BTreeMap<String, Wish>,
    /// When nothing of the second signer was allowed: from the answer of the API server on, until before it was asked again.
    pub refusals: Vec<(Instant, Option<Instant>)>,
}

impl Wishes {
    /// Puts the models on the hub and an engine and a policy into the cluster.
    pub async fn new(world: &World, client: Client, dice: Dice, port: u16) -> Self {
        for (number, model) in MODELS.iter().enumerate() {
            let (name, content) = (format!("{model}.gguf"), format!("the weights of {model}"));
            let signature = Person::new(number as u8 + 1).signs(&[(&name, &content)]);
            let mut files = vec![(name.as_str(), content.as_str())];
            if *model != "nobody" {
                files.push(("model.sig", &signature));
            }
            world.publish(&format!("acme/{model}"), &files);
        }
        let loads = json!([{"format": "gguf", "files": ["**/*.gguf"], "choose": "One"}]);
        let engine = json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "InferenceEngine", "metadata": {"name": "stand-in"},
            "spec": {"version": "1", "priority": 99, "port": port, "args": ["--model", "$(MODEL_FILE)", "--ctx-size", "$(CONTEXT_LENGTH)"],
                "images": [{"accelerator": "none", "image": "localhost/stand-in:1"}], "loads": loads, "probes": {"ready": "/health"}},
        });
        at_last("the engine", || async {
            done(cluster_wide(&client, "InferenceEngine").create(&Default::default(), &parse(engine.clone())).await)
        })
        .await;
        let wishes = Self { client, dice, wishes: BTreeMap::new(), refusals: vec![] };
        wishes.policy(true).await;
        let policies = cluster_wide(&wishes.client, "ClusterModelPolicy");
        let _ = policies.get_opt(POLICY).await;
        wishes
    }

    /// Allows what the first signed, and what the second signed if `second`.
    async fn policy(&self, second: bool) {
        let signers: Vec<Value> = (1..=2_u8)
            .map(|number| json!({"name": format!("signer-{number}"), "publicKey": {"pem": Person::new(number).pem()}}))
            .collect();
        let trusted = if second { json!(["signer-1", "signer-2"]) } else { json!(["signer-1"]) };
        let rules =
            json!([{"name": "all", "sources": {"include": ["hf://**"]}, "signedBy": [{"name": "some", "anyOf": trusted}]}]);
        let policy = json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterModelPolicy", "metadata": {"name": POLICY},
            "spec": {"signers": signers, "rules": rules}});
        self.apply(&cluster_wide(&self.client, "ClusterModelPolicy"), POLICY, &policy).await;
    }

    async fn apply(&self, api: &Api<DynamicObject>, name: &str, object: &Value) {
        let parameters = PatchParams::apply("hand").force();
        at_last("a wish", || async { api.patch(name, &parameters, &Patch::Apply(object)).await }).await;
    }

    fn api(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &resource("ModelDeployment"))
    }

    async fn wish(&self, namespace: &str, name: &str, wish: &Wish) {
        let spec = json!({"model": {"source": format!("hf://acme/{}", MODELS[wish.model])}, "replicas": wish.replicas, "rollout": {"drain": "5s"},
            "engine": {"name": "stand-in", "contextLength": wish.context}});
        let object =
            json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": name}, "spec": spec});
        self.apply(&self.api(namespace), name, &object).await;
    }

    /// Changes one thing.
    pub async fn change(&mut self, namespace: &str) {
        let name = format!("m-{}", self.dice.roll(OBJECTS));
        let there = self.wishes.get(&name).cloned();
        let action = self.dice.roll(10);
        if action == 0 {
            return self.turn().await;
        }
        let mut wish = match there {
            Some(_) if action == 1 => {
                self.wishes.remove(&name);
                let api = self.api(namespace);
                return at_last("a deletion", || async { done(api.delete(&name, &DeleteParams::default()).await) }).await;
            }
            Some(wish) => wish,
            None => Wish { model: 0, context: 2048, replicas: 1 },
        };
        match action {
            2..=4 => wish.replicas = self.dice.roll(4),
            5..=6 => wish.context = 1024 * (1 + self.dice.roll(4)),
            // What nobody signed is wished for now and then, and never comes.
            _ => wish.model = [0, 1, 0, 1, 0, 1, 2][self.dice.roll(7) as usize],
        }
        self.wish(namespace, &name, &wish).await;
        self.wishes.insert(name, wish);
    }

    /// Forbids the second signer, or allows them again.
    async fn turn(&mut self) {
        match self.refusals.last_mut().filter(|(_, until)| until.is_none()) {
            Some((_, until)) => {
                *until = Some(Instant::now());
                self.policy(true).await;
            }
            None => {
                self.policy(false).await;
                self.refusals.push((Instant::now(), None));
            }
        }
    }

    /// Until the next change.
    pub fn pause(&mut self) -> Duration {
        Duration::from_millis(150 + self.dice.roll(700))
    }

    /// Brings it to an end that can be compared: the second signer is allowed, and every object is there.
    pub async fn end(&mut self, namespace: &str) {
        if self.refusals.last().is_some_and(|(_, until)| until.is_none()) {
            self.turn().await;
        }
        for number in 0..OBJECTS {
            let name = format!("m-{number}");
            let wish = self.wishes.entry(name.clone()).or_insert(Wish { model: 0, context: 2048, replicas: 1 }).clone();
            self.wish(namespace, &name, &wish).await;
        }
        sleep(Duration::from_secs(1)).await;
    }

    /// Wishes the same elsewhere.
    pub async fn fulfil(&self, namespace: &str) {
        for (name, wish) in &self.wishes {
            self.wish(namespace, name, wish).await;
        }
    }

    /// The names of the objects that there are in the end.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.wishes.keys()
    }

    /// Whether the policies allow it in the end, and how many replicas are wanted.
    pub fn wanted(&self, name: &str) -> Option<u64> {
        self.wishes.get(name).filter(|wish| MODELS[wish.model] != "nobody").map(|wish| wish.replicas)
    }

    /// The object as it stands in a namespace.
    pub async fn seen(&self, namespace: &str, name: &str) -> Value {
        let api = self.api(namespace);
        at_last("a look", || async { api.get_opt(name).await }).await.map(value).unwrap_or_default()
    }

    /// Whether the controller has answered the last wish.
    pub fn is_answered(object: &Value) -> bool {
        let ready = condition(object, "Ready");
        ready.is_some_and(|ready| ready["observedGeneration"] == object["metadata"]["generation"])
    }
}
