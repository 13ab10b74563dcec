//! A namespace for one test: who deploys there, what they see, and what is told when it is not what it should be.

use std::{
    fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use kube::{
    Api, Client, Config,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
    config::Kubeconfig,
};
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use super::{
    witness::{self, Witness},
    world::{SYSTEM, VAULT, World},
};

/// How long something may take that needs no pod.
pub const SOON: Duration = Duration::from_secs(40);
/// How long it may take until a real model answers, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What the real model knows the answer to.
const QUESTION: &str = "What is the capital of France? Answer in one sentence.";

static NUMBER: AtomicU32 = AtomicU32::new(1);

/// A namespace, its policy, and its models. It goes with this value; a test that failed is told about first.
pub struct Place {
    pub world: &'static World,
    pub client: Client,
    pub name: String,
    pub witness: Witness,
    http: reqwest::Client,
    _turn: OwnedMutexGuard<()>,
}

impl Place {
    /// A namespace that no policy selects.
    pub async fn open(stem: &str) -> Self {
        let (world, turn) = World::shared().await;
        world.start_hub().await;
        world.hub().set_faults(Default::default());
        world.hub().forget_requests();
        let _ = fs::remove_dir_all(world.repository(VAULT));
        let kubeconfig = Kubeconfig::read_from(world.cluster.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let name = format!("{stem}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        world.kubectl(&["create", "namespace", &name]).await;
        let witness = Witness::new(&client, &name).await;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build().unwrap();
        Self { world, client, name, witness, http, _turn: turn }
    }

    /// A namespace where only what the platform team signed is served.
    pub async fn guarded(stem: &str) -> Self {
        let place = Self::open(stem).await;
        let spec = json!({
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": place.name}},
            "signers": [{"name": "platform", "publicKey": {"pem": place.world.platform.pem}}],
            "rules": [{"name": "all", "sources": {"include": ["hf://**"]}, "signedBy": [{"name": "platform", "anyOf": ["platform"]}]}],
        });
        place.apply("ClusterModelPolicy", &place.name, json!({"spec": spec})).await;
        place
    }

    /// Puts a repository on the hub with these files; returns its directory.
    pub fn publish(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let directory = self.world.repository(&format!("{}/{name}", self.name));
        for (path, content) in files {
            let file = directory.join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        directory
    }

    /// Puts the real model on the hub; returns its directory.
    pub fn publish_real(&self, name: &str) -> PathBuf {
        let directory = self.publish(name, &[("README.md", "# A small model\n")]);
        self.world.real_model(&directory.join("model.gguf"));
        directory
    }

    /// The source of a repository of this place.
    pub fn source(&self, name: &str) -> String {
        format!("hf://{}/{name}", self.name)
    }

    /// Deploys the repository of the same name.
    pub async fn deploy(&self, name: &str) {
        self.deploy_with(name, json!({})).await;
    }

    /// The same with a merge patch of the spec.
    pub async fn deploy_with(&self, name: &str, patch: Value) {
        let spec = json!({"model": {"source": self.source(name)}, "engine": {"contextLength": 512}});
        let spec = crate::support::merge(&spec, &patch);
        self.apply("ModelDeployment", name, json!({"spec": spec})).await;
    }

    /// Applies an object of a kind as the administrator.
    pub async fn apply(&self, kind: &str, name: &str, body: Value) {
        let resource = resource(kind);
        let mut object =
            json!({"apiVersion": resource.api_version, "kind": kind, "metadata": {"name": name, "namespace": self.name}});
        object.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        self.world.cluster.apply(&object.to_string()).await.unwrap_or_else(|error| panic!("{error:#}"));
    }

    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.name, &resource(kind))
    }

    pub async fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::to_value(self.api(kind).get_opt(name).await.unwrap()).unwrap()
    }

    /// Objects of a kind that belong to a ModelDeployment, by label.
    pub async fn of(&self, kind: &str, deployment: &str) -> Vec<Value> {
        let parameters = ListParams::default().labels(&format!("bonafide.dev/deployment={deployment}"));
        let found = self.api(kind).list(&parameters).await.unwrap();
        found.items.into_iter().map(|object| serde_json::to_value(object).unwrap()).collect()
    }

    /// The one pod of a ModelDeployment that is not going.
    pub async fn pod(&self, deployment: &str) -> Value {
        let mut pods = self.of("Pod", deployment).await;
        pods.retain(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        assert_eq!(pods.len(), 1, "pods of {deployment}");
        pods.remove(0)
    }

    /// A merge patch as the administrator, by hand.
    pub async fn change(&self, kind: &str, name: &str, patch: Value) -> Value {
        let parameters = PatchParams { field_manager: Some("hand".into()), ..PatchParams::default() };
        let changed = self.api(kind).patch(name, &parameters, &Patch::Merge(patch)).await;
        serde_json::to_value(changed.unwrap_or_else(|error| panic!("{kind} {name}: {error}"))).unwrap()
    }

    /// Waits until a look at the cluster gives something.
    pub async fn until<T>(&self, patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "not after {} s: {what}", patience.as_secs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a condition of a ModelDeployment is so; returns its message.
    pub async fn condition(&self, name: &str, kind: &str, status: &str, reason: &str) -> String {
        let patience = if kind == "Ready" && status == "True" { PATIENCE } else { SOON };
        let look = async || {
            let object = self.get("ModelDeployment", name).await;
            let found = condition(&object, kind)?;
            let is = found["status"] == status
                && found["reason"] == reason
                && found["observedGeneration"] == object["metadata"]["generation"];
            is.then(|| found["message"].as_str().unwrap().to_owned())
        };
        self.until(patience, &format!("{name}: {kind}={status} ({reason})"), look).await
    }

    /// Waits until the model answers with all that is wanted.
    pub async fn ready(&self, name: &str) {
        self.condition(name, "Ready", "True", "Ready").await;
    }

    /// The line of `kubectl get mdep`.
    pub async fn columns(&self, name: &str) -> Vec<String> {
        let table = self.world.kubectl(&["get", "mdep", name, "-n", &self.name]).await;
        let (head, row) = table.split_once('\n').unwrap();
        assert_eq!(
            head.split_whitespace().collect::<Vec<_>>(),
            ["NAME", "TRUST", "STATE", "READY", "REVISION", "AGE", "WHY"],
            "{table}"
        );
        // Columns are aligned: what is empty is blank.
        let starts: Vec<usize> =
            ["NAME", "TRUST", "STATE", "READY", "REVISION", "AGE", "WHY"].iter().map(|name| head.find(name).unwrap()).collect();
        let row: Vec<char> = row.trim_end_matches('\n').chars().collect();
        let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
        let cell = |(from, to): (&usize, usize)| row.iter().take(to).skip(*from).collect::<String>().trim().to_owned();
        starts.iter().zip(ends).map(cell).collect()
    }

    /// Waits until TRUST, STATE and READY are so; returns WHY.
    pub async fn shows(&self, name: &str, columns: [&str; 3]) -> String {
        let look = async || {
            let mut found = self.columns(name).await;
            (found[1..4] == columns).then(|| found.remove(6))
        };
        self.until(SOON, &format!("{name} shows {columns:?}"), look).await
    }

    /// What stands in `status` of the ModelDeployment.
    pub async fn status(&self, name: &str) -> Value {
        self.get("ModelDeployment", name).await["status"].take()
    }

    /// Asks the model through its Service, as an application in the cluster does.
    pub async fn ask(&self, name: &str) -> Result<String, String> {
        let address = self.get("Service", name).await["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        let body =
            json!({"model": name, "temperature": 0, "max_tokens": 12, "messages": [{"role": "user", "content": QUESTION}]});
        let request = self.http.post(format!("http://{address}/v1/chat/completions")).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.map_err(|error| format!("{error:?}"))?;
        let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
        let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        let content = answer.pointer("/choices/0/message/content").and_then(Value::as_str).ok_or(text)?;
        Ok(content.to_owned())
    }

    /// Asks the engine through the Service whether it is there, with a connection of its own.
    pub async fn healthy(&self, name: &str) -> Result<(), String> {
        let address = self.get("Service", name).await["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
        let request =
            self.http.get(format!("http://{address}/health")).header("connection", "close").timeout(Duration::from_secs(5));
        let answer = request.send().await.map_err(|error| format!("{error:?}"))?;
        answer.error_for_status().map(|_| ()).map_err(|error| error.to_string())
    }

    /// Asserts that the real model answers what it knows.
    pub async fn answers(&self, name: &str) {
        let answer = self.ask(name).await;
        assert!(answer.as_ref().is_ok_and(|answer| answer.contains("Paris")), "{name} answered {answer:?}");
    }

    /// Addresses that the Service sends traffic to now.
    pub async fn endpoints(&self, service: &str) -> Vec<String> {
        let parameters = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let slices = self.api("EndpointSlice").list(&parameters).await.unwrap();
        slices.items.into_iter().flat_map(|slice| witness::ready(&serde_json::to_value(slice).unwrap())).collect()
    }

    /// Asserts for a while that no pod of the ModelDeployment is ever made.
    pub async fn never_a_pod(&self, deployments: &[&str]) {
        tokio::time::sleep(Duration::from_secs(2)).await;
        for deployment in deployments {
            assert_eq!(self.witness.count(deployment), 0, "a pod of {deployment} was made");
        }
    }

    /// Runs kubectl as somebody with the built-in role "edit" in this namespace, and nothing more.
    pub async fn tenant(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        if self.get("ServiceAccount", "tenant").await.is_null() {
            self.world.kubectl(&["create", "serviceaccount", "tenant", "-n", &self.name]).await;
            let account = format!("{}:tenant", self.name);
            let binding =
                ["create", "rolebinding", "tenant", "-n", &self.name, "--clusterrole=edit", "--serviceaccount", &account];
            self.world.kubectl(&binding).await;
        }
        let kubeconfig = self.world.cluster.service_account_kubeconfig(&self.name, "tenant").await.unwrap();
        let kubectl = localcluster::Kubectl::new(&self.world.cluster.state().join("bin/kubectl"), &kubeconfig);
        let arguments: Vec<&str> = arguments.iter().copied().chain(["-n", &self.name]).collect();
        kubectl.run_with_input(&arguments, input).await.map_err(|error| format!("{error:#}"))
    }

    fn tell(&self) {
        let place = &self.name;
        for arguments in [
            vec!["get", "mdep,pods,deployments,endpointslices", "-n", place, "-o", "wide"],
            vec![
                "get",
                "mdep",
                "-n",
                place,
                "-o",
                "jsonpath={range .items[*]}{.metadata.name}{'\\n'}{range .status.conditions[*]}  {.type}={.status} {.reason} (generation {.observedGeneration}): {.message}{'\\n'}{end}{end}",
            ],
            vec!["get", "events", "-n", place, "--sort-by=.lastTimestamp"],
            vec![
                "logs",
                "-n",
                place,
                "-l",
                "bonafide.dev/deployment",
                "--all-containers",
                "--prefix",
                "--tail=15",
                "--ignore-errors",
            ],
            vec!["get", "pods", "-n", SYSTEM, "-o", "wide"],
            vec!["logs", "-n", SYSTEM, "deploy/bonafide", "--tail=40"],
        ] {
            let told = self.kubectl_now(&arguments);
            let lines: Vec<String> = told.lines().map(|line| line.chars().take(600).collect()).collect();
            eprintln!("$ kubectl {}\n{}", arguments.join(" "), lines.join("\n"));
        }
    }

    /// kubectl for where nothing can be awaited.
    fn kubectl_now(&self, arguments: &[&str]) -> String {
        let mut command = process::Command::new(self.world.cluster.state().join("bin/kubectl"));
        match command.args(arguments).env("KUBECONFIG", self.world.cluster.kubeconfig()).output() {
            Ok(output) => format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("\n=== What stands in {} now", self.name);
            self.tell();
        }
        // The namespace alone would take the records before what they are about, which would be resolved anew.
        self.kubectl_now(&["delete", "mdep", "--all", "-n", &self.name]);
        self.kubectl_now(&["delete", "namespace", &self.name, "--wait=false"]);
        self.kubectl_now(&["delete", "clustermodelpolicy", &self.name, "--ignore-not-found"]);
        let _ = fs::remove_dir_all(self.world.repository(&self.name));
    }
}

/// A condition of an object.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// Asserts that a message says all of that.
pub fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

fn resource(kind: &str) -> ApiResource {
    let (group, version) = match kind {
        "ModelDeployment" | "ModelArtifact" | "ClusterModelPolicy" | "InferenceEngine" => ("bonafide.dev", "v1alpha1"),
        "Deployment" | "ReplicaSet" | "ControllerRevision" => ("apps", "v1"),
        "EndpointSlice" => ("discovery.k8s.io", "v1"),
        _ => ("", "v1"),
    };
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}
