//! A cluster, from its start to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::binaries::{self, CONTROL_PLANE, NODE};
use crate::control_plane::{self, Reach};
use crate::kubectl::Kubectl;
use crate::network::Network;
use crate::node::{self, Node};
use crate::pki::{self, ADMIN};
use crate::process::Processes;
use crate::progress::say;
use crate::state::{Owner, Standing, State};
use crate::teardown::{self, Teardown};
use crate::{assets, dns, network, packages, paths, progress, registry};

/// What kind of cluster to start.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// 0 for a control plane alone, which needs no root and of which there can be many; up to [`network::NODES`] nodes,
    /// whose containers are real, need root; [`network::SLOTS`] clusters can have nodes at the same time.
    pub nodes: u8,
    /// Where everything of it is kept; by default a directory of its own under the system's temporary directory.
    pub state: Option<PathBuf>,
    /// OCI archives whose images every node has from the start.
    pub images: Vec<PathBuf>,
    /// How long to wait while others have all that the machine has for clusters with nodes; by default not at all.
    pub patience: Duration,
}

/// A running cluster. One that was started ends with this value, or with the process, whatever ends that; one that was
/// found with [`Cluster::attach`] lives on.
#[derive(Debug)]
pub struct Cluster {
    state: State,
    kubectl: Kubectl,
    processes: Processes,
    teardown: Option<Teardown>,
}

impl Cluster {
    /// Starts a cluster, and waits until it can be used. What it needs is built and installed first, when missing;
    /// progress is told on standard error.
    pub async fn start(options: Options) -> Result<Self> {
        let with_nodes = match options.nodes {
            0 if !options.images.is_empty() => bail!("images need a node to be loaded into: ask for one node"),
            more if more > network::NODES => {
                bail!("{more} nodes were asked for; there can be 0 (a control plane alone) to {}", network::NODES)
            }
            nodes => nodes > 0,
        };
        if with_nodes && paths::user()? != 0 {
            bail!("a node needs root, as it runs containers: run this as root, or ask for 0 nodes");
        }
        let state = match &options.state {
            Some(directory) => State::at(directory)?,
            None => State::temporary()?,
        };
        // Better now than after minutes of building.
        state.wait_until_free(with_nodes, options.patience).await?;
        if with_nodes {
            packages::ensure(packages::NODE).await?;
            binaries::ensure(&[CONTROL_PLANE.as_slice(), NODE.as_slice()].concat()).await?;
            assets::path(assets::PAUSE_IMAGE).await?;
        } else {
            binaries::ensure(&CONTROL_PLANE).await?;
        }
        let began = Instant::now();
        let teardown = state.claim(options.nodes).await?;
        let mut processes = Processes::new(&state);
        let kubectl = match bring_up(&state, &mut processes, &options).await {
            Ok(kubectl) => kubectl,
            Err(error) => {
                let logs = keep_logs(&state);
                drop(teardown);
                processes.reap();
                return Err(match logs {
                    Ok(logs) => error.context(format!("the cluster did not come up; all its logs are in {}", logs.display())),
                    Err(why) => error.context(format!("the cluster did not come up, and its logs could not be kept ({why:#})")),
                });
            }
        };
        say(format_args!("the cluster in {} is up after {}", state.directory().display(), progress::spoken(began.elapsed())));
        Ok(Self { state, kubectl, processes, teardown: Some(teardown) })
    }

    /// Finds the cluster that runs in `state`; it does not end with the value returned.
    pub fn attach(state: &Path) -> Result<Self> {
        let state = State::at(state)?;
        match state.standing()? {
            Standing::Held(_) => {}
            Standing::Free => bail!("there is no cluster in {}: `localcluster up` starts one", state.directory().display()),
            Standing::Remains => bail!(
                "the cluster in {} has ended without being taken down: `localcluster up` starts it anew, `localcluster down` removes it",
                state.directory().display()
            ),
        }
        let kubectl = control_plane::kubectl(&state);
        Ok(Self { processes: Processes::new(&state), state, kubectl, teardown: None })
    }

    /// Lets the cluster live on when this process ends; `localcluster down` ends it then.
    pub fn detach(mut self) -> Result<()> {
        self.state.leave_to_machine()?;
        self.teardown.take().map_or(Ok(()), Teardown::release)
    }

    /// The kubeconfig of the cluster's administrator. It refers to no other file.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.kubeconfig(ADMIN)
    }

    /// The directory of the cluster: `log/` has a log per process, `bin/` the programs.
    pub fn state(&self) -> &Path {
        self.state.directory()
    }

    /// `kubectl` as the cluster's administrator.
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// Applies a manifest (YAML or JSON) as the cluster's administrator.
    pub async fn apply(&self, manifest: &str) -> Result<()> {
        self.kubectl.apply(manifest).await
    }

    /// Writes a kubeconfig for a ServiceAccount that exists, with a token that is valid for a day.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let namespace_argument = format!("--namespace={namespace}");
        let token = self.kubectl.run(&["create", "token", name, &namespace_argument, "--duration=24h"]).await?;
        let server = self.kubectl.run(&["config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}"]).await?;
        let path = self.state.kubeconfig(&format!("serviceaccount-{namespace}-{name}"));
        pki::write_kubeconfig(&path, server.trim(), &self.state.path("pki").join("ca.crt"), token.trim())?;
        Ok(path)
    }

    /// Loads the images of an OCI archive into every node that runs.
    pub async fn load_image(&self, archive: &Path) -> Result<()> {
        self.network()?;
        for node in Node::all(&self.state).iter().filter(|node| node.runs()) {
            node.load_image(archive).await?;
        }
        Ok(())
    }

    /// The addresses of a cluster with nodes.
    pub fn network(&self) -> Result<Network> {
        match self.state.network() {
            Some((network, _)) => Ok(network),
            None => bail!("the cluster in {} has no node: start it with one (`--nodes 1`)", self.state.directory().display()),
        }
    }

    /// Lets the nodes pull from `registry` (`HOST:PORT`) over plain HTTP, from the next pull on.
    /// [`Network::registry`] is allowed from the start.
    pub fn allow_plain_http(&self, registry: &str) -> Result<()> {
        self.network()?;
        node::allow_plain_http(&self.state, registry)
    }

    /// Starts an image registry at [`Network::registry`], which ends with the cluster; does nothing when it runs.
    pub async fn start_registry(&mut self) -> Result<()> {
        let network = self.network()?;
        registry::start(&self.state, &mut self.processes, network).await
    }

    /// The directory on this machine that is `/var/lib/kubelet` on a node.
    pub fn kubelet(&self, node: u8) -> PathBuf {
        self.state.path(&node::name(node)).join("places/var-lib-kubelet")
    }

    /// Ends all that runs on a node at once, as when its power fails; its object in the cluster stays, and turns not ready.
    pub async fn stop_node(&mut self, node: u8) -> Result<()> {
        let network = self.network()?;
        let nodes = Node::all(&self.state);
        self::node(&nodes, node)?.stop(&mut self.processes).await?;
        match nodes.iter().find(|node| node.runs()) {
            Some(other) => network.reach_services(other.number),
            None => Ok(()),
        }
    }

    /// Starts a node that was stopped, with what is on its disk, and waits until it is ready.
    pub async fn start_node(&mut self, node: u8) -> Result<()> {
        self.network()?;
        let nodes = Node::all(&self.state);
        let node = self::node(&nodes, node)?;
        if node.runs() {
            bail!("{} runs already", node.name());
        }
        node.start(&mut self.processes).await?;
        node.ready(&mut self.processes, &self.kubectl).await
    }

    /// Cuts a node off from the others and from this machine, while all on it runs on; or lets it back.
    pub fn link_node(&self, node: u8, up: bool) -> Result<()> {
        let nodes = Node::all(&self.state);
        self.network()?.link(self::node(&nodes, node)?.number, up)
    }

    /// Ends a process of the control plane at once (`etcd`, `kube-apiserver`, `kube-controller-manager`,
    /// `kube-scheduler`), as `kill -9` does, and waits until it is gone. [`Cluster::restart`] starts it again.
    pub async fn kill(&mut self, process: &str) -> Result<()> {
        self.processes.kill(process).await
    }

    /// Starts a process again that was ended, as it was started before. Does not wait until it answers.
    pub fn restart(&mut self, process: &str) -> Result<()> {
        self.processes.start_again(process)
    }

    /// Starts again what has ended of the control plane, and waits until the API server says that it is ready. The
    /// controllers and the scheduler give up when the API server fails them at the wrong moment; elsewhere the kubelet
    /// starts them anew.
    pub async fn ready(&mut self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < control_plane::READY_WITHIN {
            for process in control_plane::PROCESSES {
                if !self.processes.runs(process) {
                    self.restart(process)?;
                }
            }
            if self.kubectl.succeeds(&["get", "--raw=/readyz"]).await {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the API server is not ready again; the logs are in {}", self.state.path("log").display())
    }

    /// Copies what etcd holds into the directory `to`, which must not exist. etcd is ended for it and started again, so
    /// that the copy is of one moment.
    pub async fn snapshot(&mut self, to: &Path) -> Result<()> {
        self.kill(control_plane::ETCD).await?;
        let copied = copy(&self.state.path("etcd"), to).await;
        self.restart(control_plane::ETCD)?;
        copied?;
        self.ready().await
    }

    /// Puts back what [`Cluster::snapshot`] copied, as after a disaster: versions of objects go backwards. As Kubernetes'
    /// manual says, everything of the control plane is started anew with it, as it keeps what it has read.
    pub async fn restore(&mut self, from: &Path) -> Result<()> {
        for process in control_plane::PROCESSES.into_iter().rev() {
            self.kill(process).await?;
        }
        let data = self.state.path("etcd");
        fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        copy(from, &data).await?;
        self.ready().await
    }

    /// Ends the cluster, and waits until nothing is left of it. One that was found with [`Cluster::attach`] ends, too.
    pub async fn stop(mut self) -> Result<()> {
        match self.teardown.take() {
            Some(guard) => {
                tokio::task::spawn_blocking(move || guard.end()).await.context("the end of the cluster was given up")??
            }
            None => teardown::run(&self.state).await?,
        }
        self.processes.reap();
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.teardown.take());
        self.processes.reap();
    }
}

/// Ends the cluster in the directory `state`, whoever started it, and removes what is left of one that has ended. Says
/// whether there was anything.
pub async fn down(state: &Path) -> Result<bool> {
    let state = State::at(state)?;
    if state.standing()? == Standing::Free {
        return Ok(false);
    }
    teardown::run(&state).await?;
    Ok(true)
}

/// What runs of the cluster in `state`, in words.
pub async fn status(state: &Path) -> Result<String> {
    let state = State::at(state)?;
    let owner = match state.standing()? {
        Standing::Free => return Ok(format!("there is no cluster in {}", state.directory().display())),
        Standing::Remains => {
            return Ok(format!("a cluster in {} has ended without being taken down", state.directory().display()));
        }
        Standing::Held(owner) => owner,
    };
    let mut lines = vec![format!("cluster in {}", state.directory().display())];
    if let Owner::Process(process) = owner {
        lines.push(format!("ends with process {}", process.pid));
    }
    lines.push(format!("kubeconfig: {}", state.kubeconfig(ADMIN).display()));
    if let Some((network, nodes)) = state.network() {
        let registry = if state.process("registry").is_some() { network.registry() } else { "none".to_owned() };
        lines.push(format!("network: {network}, {nodes} nodes, this machine is {}, registry: {registry}", network.host()));
    }
    for (name, alive) in state.processes()? {
        let log = state.log(&name);
        let word = if alive { "runs".to_owned() } else { format!("HAS ENDED, see {}", log.display()) };
        lines.push(format!("  {name}: {word}"));
    }
    let kubectl = control_plane::kubectl(&state);
    lines.push(match kubectl.run(&["get", "nodes,pods", "--all-namespaces"]).await {
        Ok(text) if text.trim().is_empty() => "no nodes and no pods".into(),
        Ok(text) => text.trim_end().to_owned(),
        Err(error) => format!("the API server does not answer: {error:#}"),
    });
    Ok(lines.join("\n"))
}

fn node<'a>(nodes: &'a [Node<'a>], number: u8) -> Result<&'a Node<'a>> {
    let there = nodes.len();
    nodes.get(usize::from(number)).with_context(|| format!("there is no node {number}: the cluster has {there}, from 0"))
}

async fn copy(from: &Path, to: &Path) -> Result<()> {
    let output = tokio::process::Command::new("cp").arg("-a").arg(from).arg(to).output().await.context("cannot run cp")?;
    if !output.status.success() {
        bail!("cannot copy {}: {}", from.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

async fn bring_up(state: &State, processes: &mut Processes, options: &Options) -> Result<Kubectl> {
    control_plane::link_programs(state, &CONTROL_PLANE).await?;
    let Some((network, _)) = state.network() else {
        return control_plane::start(state, processes, Reach::ThisMachine, &[]).await;
    };
    control_plane::link_programs(state, &NODE).await?;
    network.create_bridge()?;
    let nodes = Node::all(state);
    let names: Vec<String> = nodes.iter().map(Node::name).collect();
    let kubectl = control_plane::start(state, processes, Reach::Bridge(network), &names).await?;
    node::allow_plain_http(state, &network.registry())?;
    for node in &nodes {
        node.start(processes).await?;
    }
    network.reach_services(0)?;
    dns::start(state, processes, &kubectl, network).await?;
    for image in &options.images {
        futures::future::try_join_all(nodes.iter().map(|node| node.load_image(image))).await?;
    }
    for node in &nodes {
        node.ready(processes, &kubectl).await?;
    }
    dns::ready(processes, network).await?;
    Ok(kubectl)
}

/// Copies the logs of a cluster that did not come up to where they outlive it.
fn keep_logs(state: &State) -> Result<PathBuf> {
    let kept = paths::cache()?.join("log").join("last-failed-start");
    if kept.exists() {
        fs::remove_dir_all(&kept).with_context(|| format!("cannot remove {}", kept.display()))?;
    }
    fs::create_dir_all(&kept).with_context(|| format!("cannot create {}", kept.display()))?;
    for entry in fs::read_dir(state.path("log")).context("cannot read the logs")? {
        let entry = entry.context("cannot read the logs")?;
        fs::copy(entry.path(), kept.join(entry.file_name())).context("cannot copy a log")?;
    }
    Ok(kept)
}
