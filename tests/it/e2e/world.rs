//! The one cluster that all tests share: node, operator, engine, hub and signers.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use localcluster::{
    Cluster, Options, assets, binaries,
    hub::{self, Hub},
    image,
};
use tokio::{process::Command, runtime::Handle, sync::OwnedMutexGuard};

use crate::support::path;

/// The operator's namespace.
pub const SYSTEM: &str = "bonafide-system";
/// The repository that only a token opens.
pub const VAULT: &str = "vault/smollm2";
/// That token.
pub const TOKEN: &str = "hf_e2e_0f1c2a";
/// How long it is waited for others to be done with the machine's one node.
const OTHERS: Duration = Duration::from_secs(900);

/// What all tests share.
pub struct World {
    pub cluster: Cluster,
    /// The real model, a GGUF file.
    pub model: PathBuf,
    /// Whom the policies trust.
    pub platform: Signer,
    /// Whom no policy knows.
    pub stranger: Signer,
    hub: Mutex<Option<Arc<hub::Handle>>>,
    options: hub::Options,
    home: Handle,
}

/// Somebody with a key.
pub struct Signer {
    key: PathBuf,
    pub pem: String,
    program: PathBuf,
}

impl Signer {
    async fn new(name: &str, directory: &Path) -> Self {
        let key = directory.join(format!("{name}.key"));
        output(Command::new("openssl").args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]).arg(&key)).await;
        let pem = output(Command::new("openssl").args(["ec", "-pubout", "-in"]).arg(&key)).await;
        Self { key, pem, program: assets::path(assets::MODEL_SIGNING).await.unwrap() }
    }

    /// Signs everything in a directory; the signature is put there as `model.sig`.
    pub async fn signs(&self, directory: &Path) {
        let signature = directory.join("model.sig");
        let _ = fs::remove_file(&signature);
        let mut command = Command::new(&self.program);
        command.args(["sign", "key"]).arg(directory).arg("--private_key").arg(&self.key).arg("--signature").arg(&signature);
        output(&mut command).await;
    }
}

/// Runs a command that has to succeed, and returns what it printed.
pub async fn output(command: &mut Command) -> String {
    let output = command.kill_on_drop(true).output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{:?}:\n{}{}", command.as_std(), text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

static SHARED: OnceLock<Result<World, String>> = OnceLock::new();
static TURN: OnceLock<Arc<tokio::sync::Mutex<()>>> = OnceLock::new();

impl World {
    /// The world, and the right to be alone in it for as long as the guard lives.
    pub async fn shared() -> (&'static Self, OwnedMutexGuard<()>) {
        let turn = TURN.get_or_init(Arc::default).clone().lock_owned().await;
        let start = || {
            let (send, receive) = std::sync::mpsc::channel();
            // Its tasks belong to no test's event loop. The cluster ends with the process.
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
                runtime.block_on(async {
                    send.send(Self::start().await).unwrap();
                    std::future::pending::<()>().await;
                });
            });
            receive.recv().unwrap_or_else(|_| Err("its start panicked, see above".to_owned()))
        };
        match tokio::task::spawn_blocking(move || SHARED.get_or_init(start)).await.unwrap() {
            Ok(world) => (world, turn),
            Err(why) => panic!("the cluster does not start: {why}"),
        }
    }

    async fn start() -> Result<Self, String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let began = Instant::now();
        let scratch = tempfile::tempdir().unwrap();
        let mut images = vec![operator_image(scratch.path()).await];
        for asset in [assets::LLAMA_IMAGE, assets::PAUSE_IMAGE] {
            images.push(assets::path(asset).await.map_err(|error| format!("{error:#}"))?);
        }
        let model = assets::path(assets::MODEL).await.map_err(|error| format!("{error:#}"))?;
        let cluster = node(&images).await?;
        // The state of the cluster goes with the cluster, so these files do too.
        let (root, keys) = (cluster.state().join("hub"), cluster.state().join("keys"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&keys).unwrap();
        let free = SocketAddr::from((cluster.network().unwrap().host(), 0));
        let mut options = hub::Options {
            listen: free,
            cdn: Some(free),
            tokens: vec![TOKEN.to_owned()],
            private: vec![VAULT.to_owned()],
            ..hub::Options::new(root)
        };
        let hub = Hub::start(options.clone()).await.unwrap();
        (options.listen, options.cdn) = (hub.addr, hub.cdn);
        let (platform, stranger) = (Signer::new("platform", &keys).await, Signer::new("stranger", &keys).await);
        let hub = Mutex::new(Some(Arc::new(hub)));
        let world = Self { cluster, model, platform, stranger, hub, options, home: Handle::current() };
        world.install(&[]).await;
        let engine = output(Command::new(env!("CARGO_BIN_EXE_bonafide")).args(["engines", "llama-cpp"])).await;
        let image = "ghcr.io/ggml-org/llama.cpp:server-b11669";
        assert!(engine.contains(image), "{engine}");
        world.cluster.apply(&engine.replace(image, assets::LLAMA_NAME)).await.unwrap();
        eprintln!("e2e: cluster, operator and hub after {:.1} s", began.elapsed().as_secs_f64());
        Ok(world)
    }

    /// Installs or upgrades the chart, with further values, and waits until the operator is ready.
    pub async fn install(&self, values: &[&str]) {
        let hub = self.hub();
        let mut sets = vec![
            "image.repository=localhost/bonafide".to_owned(),
            "image.tag=e2e".to_owned(),
            "manager.replicas=1".to_owned(),
            format!("sources.hf.endpoint={}", hub.url()),
            format!("sources.allowedHosts={{{}}}", hub.cdn.unwrap()),
        ];
        sets.extend(values.iter().map(|value| (*value).to_owned()));
        let chart = path("charts/bonafide").display().to_string();
        let mut arguments = vec!["upgrade", "--install", "bonafide", &chart, "--create-namespace", "--wait", "--timeout", "120s"];
        for set in &sets {
            arguments.extend(["--set", set]);
        }
        self.helm(&arguments).await;
    }

    /// Runs Helm as the cluster's administrator, with nothing of whoever runs the tests.
    pub async fn helm(&self, arguments: &[&str]) {
        let home = tempfile::tempdir().unwrap();
        let mut command = Command::new(binaries::path("helm").await.unwrap());
        command
            .args(arguments)
            .args(["--namespace", SYSTEM])
            .env("HOME", home.path())
            .env("KUBECONFIG", self.cluster.kubeconfig());
        for kind in ["CACHE", "CONFIG", "DATA"] {
            command.env(format!("HELM_{kind}_HOME"), home.path().join(kind));
        }
        output(&mut command).await;
    }

    /// The hub. It is there except between [`World::stop_hub`] and [`World::start_hub`].
    pub fn hub(&self) -> Arc<hub::Handle> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner).clone().expect("the hub is stopped")
    }

    /// Ends the hub: connections to it are refused.
    pub async fn stop_hub(&self) {
        let hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(hub) = hub {
            Arc::into_inner(hub).expect("somebody else uses the hub").stop().await;
        }
    }

    /// Starts the hub where it was before, unless it runs.
    pub async fn start_hub(&self) {
        if self.hub.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            let hub = self.home.spawn(Hub::start(self.options.clone())).await.unwrap().unwrap();
            *self.hub.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(hub));
        }
    }

    /// Where the hub has the files of `OWNER/NAME`.
    pub fn repository(&self, name: &str) -> PathBuf {
        self.options.root.join(name)
    }

    /// Puts a copy of the real model there: the original belongs to everybody.
    pub fn real_model(&self, file: &Path) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::copy(&self.model, file).unwrap();
    }

    /// The directory on this machine that is `/var/lib/kubelet` on the node.
    pub fn kubelet(&self) -> PathBuf {
        self.cluster.kubelet(0)
    }

    /// Runs kubectl as the cluster's administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl().run(arguments).await.unwrap_or_else(|error| panic!("{error:#}"))
    }
}

async fn operator_image(scratch: &Path) -> PathBuf {
    let (program, archive) = (scratch.join("bonafide"), scratch.join("bonafide.tar"));
    output(Command::new("strip").arg("-o").arg(&program).arg(env!("CARGO_BIN_EXE_bonafide"))).await;
    let helper = PathBuf::from(output(&mut Command::new(path("helper/build.sh"))).await.trim());
    let added = [(program, "/bonafide".to_owned()), (helper, "/bonafide-helper".to_owned())];
    image::build("localhost/bonafide:e2e", &archive, &added, &["/bonafide".to_owned()], "65532:65532").await.unwrap();
    archive
}

/// A cluster with a node; a machine holds one of them, so others are waited for.
async fn node(images: &[PathBuf]) -> Result<Cluster, String> {
    let options = Options { nodes: 1, images: images.to_vec(), patience: OTHERS, ..Options::default() };
    Cluster::start(options).await.map_err(|error| format!("{error:#}"))
}
