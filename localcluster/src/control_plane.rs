//! etcd, the API server, the controllers and the scheduler, as processes of this machine.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::binaries;
use crate::kubectl::Kubectl;
use crate::network::{API_PORT, Network, SERVICES, SERVICES_API};
use crate::pki::{self, ADMIN, Pki};
use crate::process::{Processes, Surroundings, last_lines};
use crate::state::State;

/// How long the API server may take until it is ready. It takes three seconds on two idle cores.
pub(crate) const READY_WITHIN: Duration = Duration::from_secs(120);

/// The ports of API servers on 127.0.0.1: below what Linux gives to clients.
const PORTS: Range<u16> = 20_000..32_000;

/// How often another port is tried when somebody takes the chosen one first.
const PORT_TRIES: usize = 5;

/// Where the API server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// On a free port of 127.0.0.1.
    ThisMachine,
    /// On the bridge, where the nodes and their pods reach it too.
    Bridge(Network),
}

impl Reach {
    fn address(self) -> IpAddr {
        match self {
            Self::ThisMachine => Ipv4Addr::LOCALHOST.into(),
            Self::Bridge(network) => network.host().into(),
        }
    }

    /// The range of Services, and the first address of it.
    fn services(self) -> (String, IpAddr) {
        match self {
            Self::ThisMachine => (SERVICES.to_owned(), SERVICES_API.into()),
            Self::Bridge(network) => (network.services(), network.services_api().into()),
        }
    }

    fn port(self) -> Result<u16> {
        if matches!(self, Self::Bridge(_)) {
            return Ok(API_PORT);
        }
        // Not one that the kernel gives to clients: whoever knocks while the API server is away could be given just that
        // port, be connected with itself, and keep the API server from coming back.
        let start = RandomState::new().hash_one(std::process::id()) % u64::from(PORTS.end - PORTS.start);
        let start = PORTS.start + u16::try_from(start).unwrap_or_default();
        let mut ports = (start..PORTS.end).chain(PORTS.start..start);
        ports.find(|port| TcpListener::bind((self.address(), *port)).is_ok()).context("there is no free port on 127.0.0.1")
    }
}

/// Brings a control plane up, to where pods can be created in the namespace `default`.
pub(crate) async fn start(state: &State, processes: &mut Processes, reach: Reach, nodes: &[String]) -> Result<Kubectl> {
    let names =
        ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
    let pki = pki::create(state, &names, &[reach.address(), reach.services().1], nodes)?;
    let plane = ControlPlane { state, pki, reach, kubectl: kubectl(state) };
    plane.start_etcd(processes)?;
    plane.start_api_server(processes).await?;
    plane.start_controllers(processes).await?;
    Ok(plane.kubectl)
}

/// `kubectl` as the administrator of the cluster in `state`.
pub(crate) fn kubectl(state: &State) -> Kubectl {
    Kubectl::new(&state.program("kubectl"), &state.kubeconfig(ADMIN))
}

struct ControlPlane<'a> {
    state: &'a State,
    pki: Pki,
    reach: Reach,
    kubectl: Kubectl,
}

impl ControlPlane<'_> {
    fn socket(&self, name: &str) -> String {
        format!("unix://{}", self.state.path(name).display())
    }

    /// etcd listens on sockets in the state directory, so that it needs no port and nobody else reaches it.
    fn start_etcd(&self, processes: &mut Processes) -> Result<()> {
        let (client, peer) = (self.socket("etcd.sock"), self.socket("etcd-peer.sock"));
        let arguments = [
            format!("--data-dir={}", self.state.path("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // What it holds ends with the cluster, so it need not survive a power cut.
            "--unsafe-no-fsync".into(),
        ];
        processes.start(ETCD, &Surroundings::default(), &self.state.program(ETCD), &arguments)?;
        Ok(())
    }

    async fn start_api_server(&self, processes: &mut Processes) -> Result<()> {
        let mut tries = 1;
        loop {
            let port = self.reach.port()?;
            match self.try_api_server(processes, port).await {
                Err(_) if tries < PORT_TRIES && self.port_was_taken() => {
                    processes.forget(API_SERVER);
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    fn port_was_taken(&self) -> bool {
        self.reach == Reach::ThisMachine && last_lines(&self.state.log(API_SERVER), 50).contains("address already in use")
    }

    async fn try_api_server(&self, processes: &mut Processes, port: u16) -> Result<()> {
        let (pki, address) = (&self.pki, self.reach.address());
        let path = |path: &PathBuf| path.display().to_string();
        pki.write_kubeconfigs(self.state, &format!("https://{address}:{port}"))?;
        let mut arguments = vec![
            format!("--etcd-servers={}", self.socket("etcd.sock")),
            format!("--bind-address={address}"),
            format!("--advertise-address={address}"),
            format!("--secure-port={port}"),
            format!("--tls-cert-file={}", path(&pki.server)),
            format!("--tls-private-key-file={}", path(&pki.server_key)),
            format!("--client-ca-file={}", path(&pki.ca)),
            format!("--token-auth-file={}", path(&pki.tokens)),
            format!("--service-account-key-file={}", path(&pki.service_accounts)),
            format!("--service-account-signing-key-file={}", path(&pki.service_accounts_key)),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
            format!("--service-cluster-ip-range={}", self.reach.services().0),
            "--authorization-mode=Node,RBAC".into(),
            // As kubeadm does.
            "--enable-admission-plugins=NodeRestriction".into(),
            "--allow-privileged=true".into(),
            // Nobody resolves the name of the node.
            "--kubelet-preferred-address-types=InternalIP".into(),
        ];
        if self.reach == Reach::ThisMachine {
            // A loopback address cannot be an endpoint of the Service `kubernetes`, and no pod is there to use it.
            arguments.push("--endpoint-reconciler-type=none".into());
        }
        processes.start(API_SERVER, &Surroundings::default(), &self.state.program(API_SERVER), &arguments)?;
        let listening = SocketAddr::new(address, port);
        let ready = async || TcpStream::connect(listening).is_ok() && self.kubectl.succeeds(&["get", "--raw=/readyz"]).await;
        processes.wait_for("the API server's readiness", API_SERVER, READY_WITHIN, ready).await
    }

    async fn start_controllers(&self, processes: &mut Processes) -> Result<()> {
        let pki = &self.pki;
        let kubeconfig = |user| format!("--kubeconfig={}", self.state.kubeconfig(user).display());
        // Both serve health and metrics only; without a port, several control planes do not meet.
        let no_port = || "--secure-port=0".to_owned();
        let alone = || "--leader-elect=false".to_owned();
        let mut controllers = vec![
            kubeconfig("controller-manager"),
            alone(),
            no_port(),
            "--use-service-account-credentials=true".into(),
            format!("--service-account-private-key-file={}", pki.service_accounts_key.display()),
            format!("--root-ca-file={}", pki.ca.display()),
            format!("--cluster-signing-cert-file={}", pki.ca.display()),
            format!("--cluster-signing-key-file={}", pki.ca_key.display()),
            // The usual limits make it wait for seconds on its own requests while it starts.
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
            format!("--service-cluster-ip-range={}", self.reach.services().0),
        ];
        if matches!(self.reach, Reach::Bridge(_)) {
            // A node is lost when it has missed four times to say that it is there.
            controllers.push("--node-monitor-grace-period=20s".into());
        }
        let scheduler = [kubeconfig("scheduler"), alone(), no_port()];
        let outside = Surroundings::default();
        processes.start(CONTROLLERS, &outside, &self.state.program(CONTROLLERS), &controllers)?;
        processes.start(SCHEDULER, &outside, &self.state.program(SCHEDULER), &scheduler)?;
        // Without its ServiceAccount, the namespace takes no pod.
        let account = async || self.kubectl.succeeds(&["get", "serviceaccount", "default", "--namespace=default"]).await;
        processes.wait_for("the first work of the controllers", CONTROLLERS, READY_WITHIN, account).await
    }
}

pub(crate) const ETCD: &str = "etcd";
pub(crate) const API_SERVER: &str = "kube-apiserver";
const CONTROLLERS: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";

/// All of them, in the order in which they start.
pub(crate) const PROCESSES: [&str; 4] = [ETCD, API_SERVER, CONTROLLERS, SCHEDULER];

/// Makes the cluster's programs callable by their names, from its directory `bin`.
pub(crate) async fn link_programs(state: &State, names: &[&str]) -> Result<()> {
    for name in names {
        let (program, link) = (binaries::path(name).await?, state.program(name));
        std::os::unix::fs::symlink(&program, &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    Ok(())
}
