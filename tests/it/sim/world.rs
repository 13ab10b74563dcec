//! One run: a cluster, a shelf, and somebody who wants models served.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bonafide::runtime::clock::Clock;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use super::{
    cluster::{
        self,
        kubelet::{Behaviour, Kubelet, Manners},
    },
    oracle::Oracle,
    pods::Pods,
    shelf::Shelf,
};
use crate::support::{
    dice::Dice,
    fake_api::{FakeApi, caller::Caller, refuse::Refusal},
    merge,
    signer::Person,
};

/// The namespace of the models.
pub const PLACE: &str = "orchard";
/// The operator's namespace.
pub const SYSTEM: &str = "bonafide-system";
/// What everything has to come to an end within.
pub const PATIENCE: Duration = Duration::from_secs(3 * 3600);

const PROTECTION: [&str; 9] = [
    "bonafide-bindings",
    "bonafide-children",
    "bonafide-connect",
    "bonafide-deletion",
    "bonafide-pods",
    "bonafide-records",
    "bonafide-scale",
    "bonafide-selectors",
    "bonafide-templates",
];

/// Clocks that are wrong by so many seconds.
struct Skew {
    dice: Dice,
    clocks: Vec<Arc<AtomicI64>>,
}

#[derive(Clone)]
pub struct World {
    pub api: FakeApi,
    pub shelf: Shelf,
    pub pods: Pods,
    pub oracle: Oracle,
    dice: Arc<Mutex<Dice>>,
    manners: Manners,
    skew: Arc<Mutex<Option<Skew>>>,
    /// Managers that run, by name.
    pub managers: Arc<Mutex<BTreeMap<String, (Caller, AbortHandle)>>>,
}

/// Lets a run take place, on a clock of its own.
pub fn simulate<T>(seed: u64, act: impl AsyncFnOnce(&World) -> T) -> T {
    if let Ok(filter) = std::env::var("SIM_LOG") {
        let _ = tracing_subscriber::fmt().with_env_filter(filter).without_time().with_ansi(false).try_init();
    }
    // Watches wait by chance after they failed.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(seed);
        let done = act(&world).await;
        world.oracle.verdict();
        done
    })
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let api = FakeApi::new();
        let shelf = Shelf::default();
        let manners: Manners = Arc::new(Mutex::new(Box::new(|_| Behaviour::default())));
        let oracle = Oracle::watch(&api, &shelf);
        let world = Self {
            pods: Pods::new(&api),
            shelf,
            oracle,
            manners: manners.clone(),
            dice: Arc::new(Mutex::new(dice.another())),
            skew: Arc::default(),
            managers: Arc::default(),
            api,
        };
        for namespace in [PLACE, SYSTEM] {
            world.make("Namespace", namespace, json!({}));
        }
        for name in PROTECTION {
            world.make("ValidatingAdmissionPolicy", name, json!({ "spec": {} }));
            world.make(
                "ValidatingAdmissionPolicyBinding",
                name,
                json!({ "spec": { "policyName": name, "validationActions": ["Deny"] } }),
            );
        }
        world.room(16);
        tokio::spawn(cluster::run(world.api.clone(), Kubelet::new(manners), dice.another()));
        world
    }

    /// The one node has room for so many pods.
    pub fn room(&self, pods: usize) {
        let allocatable = json!({
            "sim.dev/room": pods.to_string(), "pods": "110", "cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti",
        });
        if self.api.get("Node", "", "node0").is_none() {
            self.make("Node", "node0", json!({}));
        }
        self.api.edit("Node", "", "node0", "user", |node| {
            node["status"] = json!({ "allocatable": allocatable, "conditions": [{ "type": "Ready", "status": "True" }] });
        });
    }

    /// From now on pods that start behave so.
    pub fn behave(&self, manners: impl FnMut(&Value) -> Behaviour + Send + 'static) {
        *self.manners.lock().unwrap() = Box::new(manners);
    }

    /// Creates an object as somebody who may.
    pub fn make(&self, kind: &str, name: &str, rest: Value) {
        let object = merge(&json!({ "metadata": { "name": name } }), &rest);
        self.api.create(kind, PLACE, "user", &object).unwrap_or_else(|refusal: Refusal| panic!("{kind} {name}: {refusal:?}"));
    }

    /// A ModelDeployment of a model that is on the shelf, signed by these persons.
    pub fn deploy(&self, name: &str, signers: &[u8], spec: Value) {
        let source = format!("hf://orchard/{name}-GGUF");
        self.shelf.put(&source, signers);
        self.deploy_from(name, &source, spec);
    }

    pub fn deploy_from(&self, name: &str, source: &str, spec: Value) {
        let base = json!({ "spec": { "model": { "source": source } } });
        self.make("ModelDeployment", name, merge(&base, &json!({ "spec": spec })));
    }

    /// A policy for all namespaces: everything must be signed by that person.
    pub fn policy(&self, name: &str, person: u8) {
        self.make("ClusterModelPolicy", name, json!({ "spec": demand(person) }));
    }

    /// Changes an object as somebody who may.
    pub fn change(&self, kind: &str, name: &str, patch: Value) {
        assert!(self.get(kind, name).is_some(), "there is no {kind} {name} to change");
        self.api.edit(kind, PLACE, name, "user", |object| *object = merge(object, &patch));
    }

    /// Deletes an object as somebody who may.
    pub fn delete(&self, kind: &str, name: &str) {
        let uid = self.get(kind, name).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
        self.api.delete(kind, PLACE, name, "user", &uid);
    }

    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.api.get(kind, PLACE, name)
    }

    /// The objects of a kind that belong to a ModelDeployment, by label.
    pub fn of(&self, kind: &str, deployment: &str) -> Vec<Arc<Value>> {
        let label = |object: &Arc<Value>| object["metadata"]["labels"]["bonafide.dev/deployment"] == deployment;
        self.api.all(kind).into_iter().filter(label).collect()
    }

    /// Waits until it is so; panics when it is not in the end.
    pub async fn until(&self, what: &str, look: impl Fn(&Self) -> Result<(), String>) {
        self.within(PATIENCE, what, look).await;
    }

    /// The same with another patience.
    pub async fn within(&self, patience: Duration, what: &str, look: impl Fn(&Self) -> Result<(), String>) {
        let mut changed = self.api.changed();
        let deadline = Instant::now() + patience;
        loop {
            changed.borrow_and_update();
            self.oracle.verdict();
            let seen = match look(self) {
                Ok(()) => return,
                Err(seen) => seen,
            };
            tokio::select! {
                biased;
                () = changed.changed() => {}
                () = sleep_until(deadline) => panic!("not within {} s: {what}. Seen last: {seen}\n{}", patience.as_secs(), self.oracle.story()),
            }
        }
    }

    /// Waits until the manager's condition of that object is so.
    pub async fn condition(&self, name: &str, kind: &str, status: &str, reason: &str) {
        let look = |world: &Self| {
            let object = world.get("ModelDeployment", name).ok_or("it is gone")?;
            let fresh = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            match condition(&object, kind) {
                Some(found) if fresh && found["status"] == status && (reason.is_empty() || found["reason"] == reason) => Ok(()),
                _ => Err(object["status"].to_string()),
            }
        };
        self.until(&format!("{name} is {kind}={status} ({reason})"), look).await;
    }

    /// Waits until it is Ready with so many replicas of one revision, and nothing else is left.
    pub async fn ready(&self, name: &str, replicas: usize) {
        let look = |world: &Self| {
            let object = world.get("ModelDeployment", name).ok_or("it is gone")?;
            let fresh = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            let is = condition(&object, "Ready").is_some_and(|found| found["status"] == "True");
            let pods = world.of("Pod", name);
            let revisions: std::collections::BTreeSet<_> =
                pods.iter().map(|pod| pod["metadata"]["labels"]["bonafide.dev/revision"].to_string()).collect();
            let routed = pods.iter().filter(|pod| routed(pod)).count();
            if fresh && is && pods.len() == replicas && routed == replicas && revisions.len() <= 1 {
                Ok(())
            } else {
                Err(format!("{} pods, {routed} routed, {}", pods.len(), object["status"]))
            }
        };
        self.until(&format!("{name} is ready with {replicas}"), look).await;
    }

    /// Waits until the manager has written nothing for a while.
    pub async fn rest(&self) {
        loop {
            let before = self.oracle.writes();
            tokio::time::sleep(Duration::from_secs(90)).await;
            if self.oracle.writes() == before {
                return;
            }
        }
    }

    /// Waits for longer than the manager ever goes without looking.
    pub async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(1300)).await;
        self.rest().await;
    }

    /// From now on the clocks of the machines on which managers start are wrong, by up to two days, and are set from time to
    /// time.
    pub fn skew(&self, mut dice: Dice) {
        *self.skew.lock().unwrap() = Some(Skew { dice: dice.another(), clocks: vec![] });
        let skew = self.skew.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(10 + dice.below(600))).await;
                if let Some(skew) = &mut *skew.lock().unwrap() {
                    let Skew { dice, clocks } = skew;
                    clocks.iter().for_each(|clock| clock.store(off(dice), Ordering::Relaxed));
                }
            }
        });
    }

    /// The clock of the machine on which a manager starts.
    pub fn clock(&self) -> Clock {
        let shows = Arc::new(AtomicI64::new(0));
        if let Some(skew) = &mut *self.skew.lock().unwrap() {
            shows.store(off(&mut skew.dice), Ordering::Relaxed);
            skew.clocks.push(shows.clone());
        }
        let api = self.api.clone();
        Clock::new(move || api.now() + SignedDuration::from_secs(shows.load(Ordering::Relaxed)))
    }

    /// Dice of this run.
    pub fn dice(&self) -> Dice {
        self.dice.lock().unwrap().another()
    }
}

/// Seconds by which a clock is wrong: not at all, by minutes, by days.
fn off(dice: &mut Dice) -> i64 {
    let most = [0, 300, 2 * 86_400][usize::try_from(dice.below(3)).unwrap()];
    i64::try_from(dice.below(2 * most + 1)).unwrap() - i64::try_from(most).unwrap()
}

/// Whether a Service sends requests there.
pub fn routed(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_null() && cluster::deployments::is_ready(pod)
}

/// The spec of a policy that demands the signature of one person.
pub fn demand(person: u8) -> Value {
    json!({
        "signers": [{ "name": "keeper", "publicKey": { "pem": Person::new(person).pem() } }],
        "rules": [{ "name": "all", "sources": { "include": ["hf://**"] }, "signedBy": [{ "name": "keeper", "anyOf": ["keeper"] }] }],
    })
}

/// A condition of an object.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}
