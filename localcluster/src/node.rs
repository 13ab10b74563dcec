//! The node: containerd, the kubelet and kube-proxy, in a network and with mounts of their own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::kubectl::Kubectl;
use crate::network::{self, HOST, NODE, NODE_ADDRESS, PODS, REGISTRY};
use crate::process::{Processes, Surroundings};
use crate::state::State;
use crate::{assets, cgroup, dns};

/// The node's name in the cluster.
pub(crate) const NAME: &str = "node0";

/// Where node components keep things by custom, whatever they are told; mounted over on the node.
const PLACES: [&str; 5] = ["/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods"];

/// Where Debian has the network plugins.
const NETWORK_PLUGINS: &str = "/usr/lib/cni";

/// How long each step may take. The slowest takes five seconds on two idle cores.
const WITHIN: Duration = Duration::from_secs(120);

/// Starts a node in a cluster whose control plane is up and whose bridge exists, with `images`, and waits until it can
/// run pods.
pub(crate) async fn start(state: &State, processes: &mut Processes, kubectl: &Kubectl, images: &[PathBuf]) -> Result<()> {
    let pause = assets::path(assets::PAUSE_IMAGE).await?;
    let own_group = cgroup::create()?;
    let node = start_namespaces(state, processes, &own_group).await?;
    network::connect(node)?;
    let node = Node { state, on_node: Surroundings { cgroup: Some(own_group), inside: Some(node) } };
    node.start_containerd(processes).await?;
    load_image(state, &pause).await?;
    node.start_kubelet(processes)?;
    node.start_proxy(processes)?;
    dns::start(state, processes, kubectl).await?;
    for image in images {
        load_image(state, image).await?;
    }
    // The scheduler uses it once it has no taint any more.
    let columns = "--output=jsonpath={.status.conditions[?(@.type==\"Ready\")].status}{.spec.taints}";
    let ready = async || kubectl.run(&["get", "node", NAME, columns]).await.is_ok_and(|answer| answer == "True");
    processes.wait_for("the node's readiness", "kubelet", WITHIN, ready).await?;
    dns::ready(processes).await
}

/// Loads the images of an OCI archive into the node of the cluster in `state`.
pub(crate) async fn load_image(state: &State, archive: &Path) -> Result<()> {
    let output = Command::new(state.program("ctr"))
        .args(["--address", &socket(state), "--namespace", "k8s.io", "images", "import", "--local"])
        .arg(archive)
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run ctr")?;
    if !output.status.success() {
        bail!("cannot load the image {}: {}", archive.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Lets the node pull from `registry` (`HOST:PORT`) over plain HTTP. Takes effect at the next pull.
pub(crate) fn allow_plain_http(state: &State, registry: &str) -> Result<()> {
    let directory = state.path("certs.d").join(registry);
    let text =
        format!("server = \"http://{registry}\"\n[host.\"http://{registry}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
    write(&directory, "hosts.toml", &text)
}

/// Where containerd listens.
fn socket(state: &State) -> String {
    state.path("containerd.sock").display().to_string()
}

/// Makes the node's network and mounts, and the process that holds them.
async fn start_namespaces(state: &State, processes: &mut Processes, own_group: &Path) -> Result<u32> {
    let missing: Vec<_> = PLACES.into_iter().filter(|place| !Path::new(place).exists()).collect();
    // On record before they are made, so that the teardown knows of all that were.
    write(state.directory(), "made-directories", &format!("{}\n", missing.join("\n")))?;
    for place in missing {
        fs::create_dir(place).with_context(|| format!("cannot create {place}"))?;
    }
    let ready = state.path("node-is-there");
    let script = include_str!("node.sh").to_owned();
    let mut arguments = ["--net", "--mount", "--", "sh", "-c"].map(String::from).to_vec();
    arguments.extend([script, "node".into(), state.path("places").display().to_string(), ready.display().to_string()]);
    arguments.extend(PLACES.map(String::from));
    let surroundings = Surroundings { cgroup: Some(own_group.to_owned()), inside: None };
    let node = processes.start(NAME, &surroundings, Path::new("unshare"), &arguments)?;
    processes.wait_for("the node's network and mounts", NAME, WITHIN, async || ready.exists()).await?;
    Ok(node)
}

struct Node<'a> {
    state: &'a State,
    on_node: Surroundings,
}

impl Node<'_> {
    async fn start_containerd(&self, processes: &mut Processes) -> Result<()> {
        let path = |name: &str| self.state.path(name).display().to_string();
        write(&self.state.path("cni"), "10-pods.conflist", &pod_network())?;
        allow_plain_http(self.state, REGISTRY)?;
        let configuration = CONTAINERD
            .replace("@root@", &path("containerd"))
            .replace("@state@", &path("containerd-state"))
            .replace("@socket@", &socket(self.state))
            .replace("@registries@", &path("certs.d"))
            .replace("@cni@", &path("cni"))
            .replace("@plugins@", NETWORK_PLUGINS)
            .replace("@pause@", assets::PAUSE_NAME)
            .replace("@runc@", &path("bin/runc"));
        write(self.state.directory(), "containerd.toml", &configuration)?;
        let arguments = [format!("--config={}", path("containerd.toml"))];
        processes.start("containerd", &self.on_node, &self.state.program("containerd"), &arguments)?;
        let socket = self.state.path("containerd.sock");
        let answers = async || tokio::net::UnixStream::connect(&socket).await.is_ok();
        processes.wait_for("the start of containerd", "containerd", WITHIN, answers).await
    }

    fn start_kubelet(&self, processes: &mut Processes) -> Result<()> {
        let configuration =
            KUBELET.replace("@group@", NODE).replace("@socket@", &socket(self.state)).replace("@dns@", &HOST.to_string());
        write(self.state.directory(), "kubelet.yaml", &configuration)?;
        let arguments = [
            format!("--config={}", self.state.path("kubelet.yaml").display()),
            format!("--kubeconfig={}", self.state.kubeconfig(NAME).display()),
            format!("--hostname-override={NAME}"),
            format!("--node-ip={NODE_ADDRESS}"),
        ];
        processes.start("kubelet", &self.on_node, &self.state.program("kubelet"), &arguments)?;
        Ok(())
    }

    fn start_proxy(&self, processes: &mut Processes) -> Result<()> {
        let on = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let arguments = [
            format!("--kubeconfig={}", self.state.kubeconfig("proxy").display()),
            format!("--hostname-override={NAME}"),
            "--proxy-mode=nftables".into(),
            format!("--cluster-cidr={PODS}"),
            // The machine's limits on connections are left as they are.
            "--conntrack-max-per-core=0".into(),
            format!("--healthz-bind-address={}", on(10256)),
            format!("--metrics-bind-address={}", on(10249)),
        ];
        processes.start("kube-proxy", &self.on_node, &self.state.program("kube-proxy"), &arguments)?;
        Ok(())
    }
}

fn pod_network() -> String {
    let plugins = serde_json::json!([
        {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]},
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

const CONTAINERD: &str = r#"version = 3
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

const KUBELET: &str = r#"apiVersion: kubelet.config.k8s.io/v1beta1
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
