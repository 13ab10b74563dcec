//! Runs pods: pulls, fetches, loads, serves, fails and ends, each taking its time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::fake_api::FakeApi;

const WHO: &str = "kubelet";

/// How long a pod that is told to end takes.
const ENDING: Duration = Duration::from_secs(6);

/// What a pod does.
#[derive(Debug, Clone)]
pub struct Behaviour {
    pub pull: Duration,
    pub fetch: Duration,
    /// How the container that fetches ends: code and message; the last one again and again.
    pub fetched: Vec<(i32, &'static str)>,
    pub load: Duration,
    /// How the engine ends instead of answering: code and last lines; empty: it answers.
    pub crashes: Option<(i32, &'static str)>,
    /// After this time of answering, the engine ends once.
    pub falls_after: Option<Duration>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            pull: Duration::from_secs(2),
            fetch: Duration::from_secs(20),
            fetched: vec![(0, "")],
            load: Duration::from_secs(15),
            crashes: None,
            falls_after: None,
        }
    }
}

/// Says what a pod does, when it starts.
pub type Manners = Arc<Mutex<Box<dyn FnMut(&Value) -> Behaviour + Send>>>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Pulling,
    Fetching,
    FetchWaits,
    Loading,
    Serving,
    EngineWaits,
}

struct Life {
    behaviour: Behaviour,
    stage: Stage,
    since: Instant,
    fetches: u32,
    starts: u32,
    fetched: Option<(i32, String)>,
    /// What its fetch was told to look at.
    told: Value,
    crashed: Option<(i32, String)>,
    dying: Option<Instant>,
    address: String,
    started: Value,
}

/// All nodes' kubelets.
pub struct Kubelet {
    manners: Manners,
    lives: HashMap<String, Life>,
    addresses: u32,
}

impl Kubelet {
    pub fn new(manners: Manners) -> Self {
        Self { manners, lives: HashMap::new(), addresses: 0 }
    }

    /// Looks at every pod on a node, and says when to look again.
    pub fn look(&mut self, api: &FakeApi) -> Instant {
        let now = Instant::now();
        let mut next = now + Duration::from_secs(3600);
        let pods = api.all("Pod");
        let mut alive = vec![];
        for pod in pods.iter().filter(|pod| !pod["spec"]["nodeName"].is_null()) {
            let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
            let (namespace, name, uid) = (text("namespace"), text("name"), text("uid"));
            alive.push(uid.clone());
            let addresses = &mut self.addresses;
            let life = self.lives.entry(uid.clone()).or_insert_with(|| {
                *addresses += 1;
                let address = format!("10.1.{}.{}", *addresses / 250, *addresses % 250 + 1);
                Life {
                    behaviour: (self.manners.lock().unwrap())(pod),
                    stage: Stage::Pulling,
                    since: now,
                    fetches: 0,
                    starts: 0,
                    fetched: None,
                    told: Value::Null,
                    crashed: None,
                    dying: None,
                    address,
                    started: api.time(),
                }
            });
            if !pod["metadata"]["deletionTimestamp"].is_null() {
                let since = *life.dying.get_or_insert(now);
                if now >= since + ENDING {
                    api.remove("Pod", &namespace, &name, WHO);
                } else {
                    next = next.min(since + ENDING);
                }
                continue;
            }
            while let Some(at) = life.due() {
                if at > now {
                    next = next.min(at);
                    break;
                }
                if matches!(life.stage, Stage::Pulling | Stage::FetchWaits) {
                    life.told = told(api, pod);
                }
                life.go_on(at, api.time());
            }
            let time = api.time();
            api.edit("Pod", &namespace, &name, WHO, |pod| life.show(pod, &time));
        }
        self.lives.retain(|uid, _| alive.contains(uid));
        next
    }
}

impl Life {
    /// When the stage ends by itself.
    fn due(&self) -> Option<Instant> {
        let wait = |times: u32| Duration::from_secs(10 << times.min(5)).min(Duration::from_secs(300));
        let lasts = match self.stage {
            Stage::Pulling => self.behaviour.pull,
            Stage::Fetching => self.behaviour.fetch,
            Stage::FetchWaits => wait(self.fetches),
            Stage::Loading => self.behaviour.load,
            Stage::EngineWaits => wait(self.starts),
            Stage::Serving => self.behaviour.falls_after.filter(|_| self.starts == 1)?,
        };
        Some(self.since + lasts)
    }

    fn go_on(&mut self, at: Instant, time: Value) {
        self.since = at;
        self.stage = match self.stage {
            Stage::Pulling | Stage::FetchWaits => Stage::Fetching,
            Stage::Fetching => {
                let outcome = self.behaviour.fetched.get(self.fetches as usize).or(self.behaviour.fetched.last()).unwrap();
                self.fetches += 1;
                let looked = json!({ "outcome": "Complete", "reason": "Verified", "message": "", "checks": self.told });
                let is_told = outcome.0 == 0 && self.told.is_object();
                self.fetched = Some((outcome.0, if is_told { looked.to_string() } else { outcome.1.to_owned() }));
                if outcome.0 == 0 {
                    self.starts += 1;
                    self.started = time;
                    Stage::Loading
                } else {
                    Stage::FetchWaits
                }
            }
            Stage::Loading => match self.behaviour.crashes {
                Some((code, lines)) => {
                    self.crashed = Some((code, lines.to_owned()));
                    Stage::EngineWaits
                }
                None => Stage::Serving,
            },
            Stage::EngineWaits => {
                self.starts += 1;
                self.started = time;
                Stage::Loading
            }
            Stage::Serving => {
                self.crashed = Some((139, "segmentation fault".to_owned()));
                Stage::EngineWaits
            }
        };
    }

    /// Writes the status.
    fn show(&self, pod: &mut Value, now: &Value) {
        let ended = |outcome: &Option<(i32, String)>| {
            outcome.as_ref().map_or(json!({}), |(code, message)| {
                let reason = if *code == 0 { "Completed" } else { "Error" };
                json!({ "terminated": { "exitCode": code, "reason": reason, "message": message } })
            })
        };
        let waiting = |reason: &str| json!({ "waiting": { "reason": reason } });
        let running = json!({ "running": { "startedAt": self.started } });
        let fetch = match self.stage {
            Stage::Pulling => waiting("PodInitializing"),
            Stage::Fetching => json!({ "running": {} }),
            Stage::FetchWaits => waiting("CrashLoopBackOff"),
            _ => ended(&self.fetched),
        };
        let engine = match self.stage {
            Stage::Loading | Stage::Serving => running,
            Stage::EngineWaits => waiting("CrashLoopBackOff"),
            _ => waiting("PodInitializing"),
        };
        let initialized = matches!(self.stage, Stage::Loading | Stage::Serving | Stage::EngineWaits);
        let serving = self.stage == Stage::Serving;
        pod["status"]["phase"] = json!(if initialized { "Running" } else { "Pending" });
        if self.stage != Stage::Pulling {
            pod["status"]["podIP"] = json!(self.address);
        }
        let before = if self.fetches > 0 && !initialized { ended(&self.fetched) } else { json!({}) };
        pod["status"]["initContainerStatuses"] = json!([{
            "name": "fetch", "ready": initialized, "restartCount": self.fetches.saturating_sub(u32::from(initialized)),
            "state": fetch, "lastState": before, "image": "", "imageID": "",
        }]);
        pod["status"]["containerStatuses"] = json!([{
            "name": "engine", "ready": serving, "restartCount": self.starts.saturating_sub(1), "state": engine,
            "lastState": ended(&self.crashed), "image": "", "imageID": "",
        }]);
        set_condition(pod, "Initialized", initialized, "", "", now);
        set_condition(pod, "ContainersReady", serving, "", "", now);
        let gates = pod["spec"]["readinessGates"].as_array().cloned().unwrap_or_default();
        let open = gates.iter().all(|gate| {
            let conditions = pod["status"]["conditions"].as_array().unwrap();
            conditions.iter().any(|one| one["type"] == gate["conditionType"] && one["status"] == "True")
        });
        set_condition(pod, "Ready", serving && open, "", "", now);
    }
}

/// What stands in a pod's ConfigMap for its fetch to look at, when it begins.
fn told(api: &FakeApi, pod: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let config = volumes.filter_map(|volume| volume["configMap"]["name"].as_str()).next().unwrap_or_default();
    let config = api.get("ConfigMap", &text(&pod["metadata"]["namespace"]), config);
    config.and_then(|config| serde_json::from_str(config["data"]["checks.json"].as_str()?).ok()).unwrap_or(Value::Null)
}

/// Sets a condition of a pod, with the time when its status changed.
pub fn set_condition(pod: &mut Value, kind: &str, is: bool, reason: &str, message: &str, now: &Value) {
    let status = if is { "True" } else { "False" };
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    let conditions = pod["status"]["conditions"].as_array_mut().unwrap();
    let mut condition = json!({ "type": kind, "status": status, "lastTransitionTime": now });
    for (field, value) in [("reason", reason), ("message", message)] {
        if !value.is_empty() {
            condition[field] = json!(value);
        }
    }
    match conditions.iter_mut().find(|one| one["type"] == kind) {
        Some(found) => {
            if found["status"] == status {
                condition["lastTransitionTime"] = found["lastTransitionTime"].clone();
            }
            *found = condition;
        }
        None => conditions.push(condition),
    }
}
