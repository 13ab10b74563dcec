//! A cluster with the chart installed by Helm, a hub, and the operator under the chart's ServiceAccount.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use kube::{Client, Config, config::Kubeconfig};
use localcluster::{
    Cluster, Options, binaries,
    hub::{self, Hub},
};
use tokio::process::Command;

use super::operator::{self, Operator, Start};
use crate::support::path;

/// The operator's namespace.
pub const SYSTEM: &str = "bonafide-system";
/// A token that the hub knows.
pub const TOKEN: &str = "hf_a-bird-in-the-hand";
/// How long something may take that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(40);

pub struct World {
    pub cluster: Cluster,
    pub hub: hub::Handle,
    /// The operator of the shared world, and of those that have one.
    operator: Option<Operator>,
}

static SHARED: OnceLock<World> = OnceLock::new();
static NODES: OnceLock<World> = OnceLock::new();
static NAMES: AtomicU32 = AtomicU32::new(1);

impl World {
    /// The world that most tests share. It ends with the process.
    pub fn shared() -> &'static Self {
        Self::kept(&SHARED)
    }

    /// The world of the tests that play nodes: in the others a pod finds none.
    pub fn with_nodes() -> &'static Self {
        Self::kept(&NODES)
    }

    /// A world with an operator that several tests share, kept there until the process ends.
    pub fn kept(there: &'static OnceLock<Self>) -> &'static Self {
        there.get_or_init(|| {
            let (send, receive) = std::sync::mpsc::channel();
            // Its tasks belong to no test's event loop.
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
                runtime.block_on(async {
                    send.send(Self::with_operator().await).unwrap();
                    std::future::pending::<()>().await;
                });
            });
            receive.recv().expect("the shared cluster does not start; see above")
        })
    }

    /// A world of one's own with a running operator.
    pub async fn with_operator() -> Self {
        let mut world = Self::without_operator().await;
        world.start_operator().await;
        world
    }

    /// Starts the world's operator, with what the chart has configured.
    pub async fn start_operator(&mut self) {
        self.operator = Some(self.another_operator("first").await);
        let ready = async || if self.operator().get("readyz").await.0 == 200 { Ok(()) } else { Err("it is not".to_owned()) };
        self.eventually("the operator is ready", ready).await;
    }

    /// A world of one's own in which nothing of Bonafide runs; the chart is installed.
    pub async fn without_operator() -> Self {
        let world = Self::bare().await;
        world.install("install", &path("charts/bonafide"), &world.hub.url()).await;
        world
    }

    /// Installs a chart, or upgrades to it, with the address of a hub.
    pub async fn install(&self, verb: &str, chart: &Path, hub: &str) {
        let endpoint = format!("sources.hf.endpoint={hub}");
        let chart = chart.to_str().unwrap();
        let install = [verb, "bonafide", chart, "--namespace", SYSTEM, "--create-namespace", "--set", &endpoint];
        self.helm(&install).await.unwrap();
    }

    /// A world in which nothing is installed.
    pub async fn bare() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::start(Options::default()).await.unwrap();
        // The state of the cluster goes with the cluster, so the hub's files do too.
        let root = cluster.state().join("hub");
        fs::create_dir(&root).unwrap();
        let hub = Hub::start(hub::Options { tokens: vec![TOKEN.into()], ..hub::Options::new(&root) }).await.unwrap();
        Self { cluster, hub, operator: None }
    }

    /// Runs Helm as the cluster's administrator.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        helm(Some(self.cluster.kubeconfig()), arguments).await
    }

    /// Runs kubectl as the cluster's administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.cluster.kubectl().run(arguments).await.map_err(|error| format!("{error:#}"))
    }

    /// A client of the administrator, for the event loop of the test that calls.
    pub async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(self.cluster.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        Client::try_from(config).unwrap()
    }

    /// Starts an operator as the chart's Deployment would: under its ServiceAccount, with its configuration.
    pub async fn another_operator(&self, identity: &str) -> Operator {
        self.operator_of(identity, None).await
    }

    /// The same with the program of another release.
    pub async fn operator_of(&self, identity: &str, program: Option<&Path>) -> Operator {
        let config = self.cluster.state().join(format!("manager-{identity}.yaml"));
        let text =
            self.kubectl(&["get", "configmap", "bonafide", "-n", SYSTEM, "-o", "jsonpath={.data.manager\\.yaml}"]).await.unwrap();
        fs::write(&config, text).unwrap();
        let kubeconfig = self.cluster.service_account_kubeconfig(SYSTEM, "bonafide").await.unwrap();
        let logs = self.cluster.state().join("log");
        Operator::start(Start { kubeconfig: &kubeconfig, config: &config, identity, logs: &logs, program }).await
    }

    /// The operator that was started with the world.
    pub fn operator(&self) -> &Operator {
        self.operator.as_ref().unwrap()
    }

    /// Puts a model on the hub.
    pub fn publish(&self, repository: &str, files: &[(&str, &str)]) {
        let root = self.cluster.state().join("hub").join(repository);
        for (name, content) in files {
            let file = root.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
    }

    /// The logs of all operators that ever ran here.
    fn logs(&self) -> Vec<(PathBuf, String)> {
        let files = fs::read_dir(self.cluster.state().join("log")).unwrap().map(|entry| entry.unwrap().path());
        let logs = files.filter(|file| file.file_name().unwrap().to_string_lossy().starts_with("operator-"));
        logs.map(|file| (file.clone(), fs::read_to_string(&file).unwrap())).collect()
    }

    /// What the API server did not permit to any operator.
    pub fn forbidden(&self) -> Vec<String> {
        let logs = self.logs();
        let lines = logs.iter().flat_map(|(_, log)| log.lines());
        lines.filter(|line| line.contains("code: 403") && !line.contains("exceeded quota")).map(str::to_owned).collect()
    }

    /// A name that nothing else in this process has.
    pub fn unique(stem: &str) -> String {
        format!("{stem}-{}", NAMES.fetch_add(1, Ordering::Relaxed))
    }

    /// Looks again and again until it is so; panics with what was seen last.
    pub async fn eventually<T>(&self, what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
        self.within(PATIENCE, what, look).await
    }

    /// The same with another patience.
    pub async fn within<T>(&self, patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
        let deadline = Instant::now() + patience;
        loop {
            let seen = match look().await {
                Ok(found) => return found,
                Err(seen) => seen,
            };
            if Instant::now() > deadline {
                let tail = |(file, log): (PathBuf, String)| format!("{} ends:\n{}\n", file.display(), operator::tail(&log));
                let logs: String = self.logs().into_iter().map(tail).collect();
                panic!("not after {} s: {what}. Seen last:\n{seen}\n{logs}", patience.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Runs Helm, with nothing of whoever runs the tests.
pub async fn helm(kubeconfig: Option<PathBuf>, arguments: &[&str]) -> Result<String, String> {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(binaries::path("helm").await.unwrap());
    command.args(arguments).kill_on_drop(true).env("HOME", home.path()).env_remove("KUBECONFIG");
    for kind in ["CACHE", "CONFIG", "DATA"] {
        command.env(format!("HELM_{kind}_HOME"), home.path().join(kind));
    }
    command.envs(kubeconfig.map(|path| ("KUBECONFIG", path)));
    let output = command.output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("helm {}:\n{}{}", arguments.join(" "), text(&output.stdout), text(&output.stderr)))
    }
}
