//! A node: containerd, the kubelet and kube-proxy, in a network and with mounts of their own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::kubectl::Kubectl;
use crate::network::Network;
use crate::process::{self, Processes, Surroundings};
use crate::state::State;
use crate::{assets, cgroup};

/// Where node components keep things by custom, whatever they are told; mounted over on the node.
pub(crate) const PLACES: [&str; 5] =
    ["/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods"];

/// Where Debian has the network plugins.
const NETWORK_PLUGINS: &str = "/usr/lib/cni";

/// How long each step may take. The slowest takes five seconds on two idle cores.
const WITHIN: Duration = Duration::from_secs(120);

/// One node of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    pub state: &'a State,
    pub network: Network,
    /// Its number: the first is 0.
    pub number: u8,
    /// How many nodes the cluster was started with.
    pub of: u8,
}

/// The name of a node in its cluster.
pub(crate) fn name(number: u8) -> String {
    format!("node{number}")
}

/// The processes of a node, by what each is.
const CONTAINERD: &str = "containerd";
const KUBELET: &str = "kubelet";
const PROXY: &str = "kube-proxy";

impl<'a> Node<'a> {
    /// Every node of the cluster in `state`.
    pub(crate) fn all(state: &'a State) -> Vec<Self> {
        let Some((network, of)) = state.network() else { return Vec::new() };
        (0..of).map(|number| Self { state, network, number, of }).collect()
    }

    /// Its name in the cluster.
    pub(crate) fn name(&self) -> String {
        name(self.number)
    }

    /// Starts it, in a cluster whose control plane is up and whose bridge exists; its kubelet then makes it known.
    pub(crate) async fn start(&self, processes: &mut Processes) -> Result<()> {
        let pause = assets::path(assets::PAUSE_IMAGE).await?;
        let own_group = cgroup::create(&self.network.to_string(), &self.name())?;
        let process = self.start_namespaces(processes, &own_group).await?;
        self.network.connect(process, self.number, self.of)?;
        let surroundings = Surroundings { cgroup: Some(own_group), inside: Some(process) };
        self.start_containerd(processes, &surroundings).await?;
        self.load_image(&pause).await?;
        self.start_kubelet(processes, &surroundings)?;
        self.start_proxy(processes, &surroundings)
    }

    /// Waits until pods can run on it.
    pub(crate) async fn ready(&self, processes: &mut Processes, kubectl: &Kubectl) -> Result<()> {
        let name = self.name();
        // The scheduler uses it once it has no taint any more.
        let columns = "--output=jsonpath={.status.conditions[?(@.type==\"Ready\")].status}{.spec.taints}";
        let ready = async || kubectl.run(&["get", "node", &name, columns]).await.is_ok_and(|answer| answer == "True");
        processes.wait_for("the node's readiness", &self.process(KUBELET), WITHIN, ready).await
    }

    /// Whether it was started and not stopped since.
    pub(crate) fn runs(&self) -> bool {
        self.state.process(&self.name()).is_some()
    }

    /// Ends all that runs on it at once, as when its power fails. What is on its disk stays.
    pub(crate) async fn stop(&self, processes: &mut Processes) -> Result<()> {
        let (cluster, name) = (self.network.to_string(), self.name());
        let began = Instant::now();
        loop {
            let left = cgroup::processes(&cluster, &name);
            if left.is_empty() && cgroup::remove(&cluster, &name) {
                break;
            }
            process::kill(&left)?;
            if began.elapsed() > WITHIN {
                bail!("{} processes of {name} do not end", left.len());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for process in [name, self.process(CONTAINERD), self.process(KUBELET), self.process(PROXY)] {
            processes.forget(&process);
        }
        // What a machine forgets when it is switched off.
        for directory in [self.path("containerd-state"), self.path("places").join(place_name("/run/containerd"))] {
            if directory.exists() {
                fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
            }
        }
        let ready = self.path("is-there");
        fs::remove_file(&ready).with_context(|| format!("cannot remove {}", ready.display()))
    }

    /// Loads the images of an OCI archive into it.
    pub(crate) async fn load_image(&self, archive: &Path) -> Result<()> {
        let output = Command::new(self.state.program("ctr"))
            .args(["--address", &self.socket(), "--namespace", "k8s.io", "images", "import", "--local"])
            .arg(archive)
            .stdin(Stdio::null())
            .output()
            .await
            .context("cannot run ctr")?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("cannot load the image {} into {}: {complaint}", archive.display(), self.name());
        }
        Ok(())
    }

    /// A file or directory of it.
    fn path(&self, name: &str) -> PathBuf {
        self.state.path(&self.name()).join(name)
    }

    /// The name under which one of its processes is on record.
    fn process(&self, component: &str) -> String {
        format!("{}-{component}", self.name())
    }

    /// Where containerd listens.
    fn socket(&self) -> String {
        self.path("containerd.sock").display().to_string()
    }

    /// Makes the node's network and mounts, and the process that holds them.
    async fn start_namespaces(&self, processes: &mut Processes, own_group: &Path) -> Result<u32> {
        let ready = self.path("is-there");
        fs::create_dir_all(self.path("places")).with_context(|| format!("cannot create {}", self.path("places").display()))?;
        let script = include_str!("node.sh").to_owned();
        let mut arguments = ["--net", "--mount", "--", "sh", "-c"].map(String::from).to_vec();
        arguments.extend([script, "node".into(), self.path("places").display().to_string(), ready.display().to_string()]);
        arguments.extend(PLACES.map(String::from));
        let surroundings = Surroundings { cgroup: Some(own_group.to_owned()), inside: None };
        let node = processes.start(&self.name(), &surroundings, Path::new("unshare"), &arguments)?;
        processes.wait_for("the node's network and mounts", &self.name(), WITHIN, async || ready.exists()).await?;
        Ok(node)
    }

    async fn start_containerd(&self, processes: &mut Processes, surroundings: &Surroundings) -> Result<()> {
        let path = |name: &str| self.path(name).display().to_string();
        write(&self.path("cni"), "10-pods.conflist", &pod_network(&self.network.pods(self.number)))?;
        let configuration = CONTAINERD_TOML
            .replace("@root@", &path("containerd"))
            .replace("@state@", &path("containerd-state"))
            .replace("@socket@", &self.socket())
            .replace("@registries@", &self.state.path("certs.d").display().to_string())
            .replace("@cni@", &path("cni"))
            .replace("@plugins@", NETWORK_PLUGINS)
            .replace("@pause@", assets::PAUSE_NAME)
            .replace("@runc@", &self.state.program("runc").display().to_string());
        write(&self.path(""), "containerd.toml", &configuration)?;
        let arguments = [format!("--config={}", path("containerd.toml"))];
        let name = self.process(CONTAINERD);
        processes.start(&name, surroundings, &self.state.program(CONTAINERD), &arguments)?;
        let socket = self.path("containerd.sock");
        let answers = async || tokio::net::UnixStream::connect(&socket).await.is_ok();
        processes.wait_for("the start of containerd", &name, WITHIN, answers).await
    }

    fn start_kubelet(&self, processes: &mut Processes, surroundings: &Surroundings) -> Result<()> {
        let (network, name) = (self.network, self.name());
        let configuration = KUBELET_YAML
            .replace("@group@", &format!("{network}/{name}"))
            .replace("@socket@", &self.socket())
            .replace("@dns@", &network.host().to_string());
        write(&self.path(""), "kubelet.yaml", &configuration)?;
        let arguments = [
            format!("--config={}", self.path("kubelet.yaml").display()),
            format!("--kubeconfig={}", self.state.kubeconfig(&name).display()),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", network.node(self.number)),
        ];
        processes.start(&self.process(KUBELET), surroundings, &self.state.program(KUBELET), &arguments)?;
        Ok(())
    }

    fn start_proxy(&self, processes: &mut Processes, surroundings: &Surroundings) -> Result<()> {
        let on = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let arguments = [
            format!("--kubeconfig={}", self.state.kubeconfig("proxy").display()),
            format!("--hostname-override={}", self.name()),
            "--proxy-mode=nftables".into(),
            format!("--cluster-cidr={}", self.network.all_pods()),
            // The machine's limits on connections are left as they are.
            "--conntrack-max-per-core=0".into(),
            format!("--healthz-bind-address={}", on(10256)),
            format!("--metrics-bind-address={}", on(10249)),
        ];
        processes.start(&self.process(PROXY), surroundings, &self.state.program(PROXY), &arguments)?;
        Ok(())
    }
}

/// Lets nodes pull from `registry` (`HOST:PORT`) over plain HTTP. Takes effect at the next pull.
pub(crate) fn allow_plain_http(state: &State, registry: &str) -> Result<()> {
    let directory = state.path("certs.d").join(registry);
    let text =
        format!("server = \"http://{registry}\"\n[host.\"http://{registry}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
    write(&directory, "hosts.toml", &text)
}

/// The directory that is mounted over `place`, as `node.sh` names it.
fn place_name(place: &str) -> String {
    place.trim_start_matches('/').replace('/', "-")
}

fn pod_network(pods: &str) -> String {
    let plugins = serde_json::json!([
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": pods}]], "routes": [{"dst": "0.0.0.0/0"}]},
        },
        {"type": "portmap", "capabilities": {"portMappings": true}},
    ]);
    serde_json::json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}).to_string()
}

fn write(directory: &Path, name: &str, text: &str) -> Result<()> {
    let path = directory.join(name);
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(&path, text))
        .with_context(|| format!("cannot write {}", path.display()))
}

const CONTAINERD_TOML: &str = r#"version = 3
root = "@root@"
state = "@state@"
# It would make /opt/containerd.
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
  address = "@socket@"
[ttrpc]
  address = "@socket@.ttrpc"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "@pause@"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "@registries@"

[plugins."io.containerd.cri.v1.runtime"]
  # Root in a container or a small virtual machine may lack the right to lower the score.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["@plugins@"]
    conf_dir = "@cni@"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "@runc@"
"#;

const KUBELET_YAML: &str = r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://@socket@
clusterDomain: cluster.local
clusterDNS: ["@dns@"]
resolvConf: ""
failSwapOn: false
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /@group@
enforceNodeAllocatable: []
# A node is known to be lost after a quarter of a minute.
nodeLeaseDurationSeconds: 20
volumePluginDir: /var/lib/kubelet/volume-plugins
serializeImagePulls: false
# The API server comes without a certificate; nobody else reaches the node.
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
# The disk is the machine's, and may be nearly full.
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
"#;
