//! DNS of the cluster: CoreDNS, beside the API server.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::UdpSocket;

use crate::kubectl::Kubectl;
use crate::network::Network;
use crate::process::{Processes, Surroundings};
use crate::state::State;

/// How long it may take until it knows the cluster's Services.
const WITHIN: Duration = Duration::from_secs(60);

const COREDNS: &str = "coredns";

/// Starts DNS at [`Network::host`]. It answers for `cluster.local` and, as pods reach nothing beyond this machine, says of every
/// other name that there is none. Nothing is cached: a Service is there once it is there.
pub(crate) async fn start(state: &State, processes: &mut Processes, kubectl: &Kubectl, network: Network) -> Result<()> {
    let host = network.host();
    kubectl.apply(ACCESS).await.context("cannot let DNS read the cluster's Services")?;
    let configuration = format!(
        "cluster.local:53 {{\n  bind {host}\n  errors\n  kubernetes {{\n    kubeconfig {}\n    pods insecure\n  }}\n}}\n\
         .:53 {{\n  bind {host}\n  errors\n  template ANY ANY {{\n    rcode NXDOMAIN\n  }}\n}}\n",
        state.kubeconfig("dns").display()
    );
    let path = state.path("Corefile");
    fs::write(&path, configuration).with_context(|| format!("cannot write {}", path.display()))?;
    let arguments = ["-conf".to_owned(), path.display().to_string()];
    processes.start(COREDNS, &Surroundings::default(), &state.program(COREDNS), &arguments)?;
    Ok(())
}

/// Waits until DNS knows the API server's Service.
pub(crate) async fn ready(processes: &mut Processes, network: Network) -> Result<()> {
    let answers = async || resolves(network, "kubernetes.default.svc.cluster.local").await.unwrap_or(false);
    processes.wait_for("DNS", COREDNS, WITHIN, answers).await
}

/// Whether DNS at [`Network::host`] has an IPv4 address for `name`.
async fn resolves(network: Network, name: &str) -> Result<bool> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect((network.host(), 53)).await?;
    socket.send(&question(name)?).await?;
    let mut answer = [0_u8; 512];
    let received = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut answer)).await??;
    // Bytes 6 and 7 of the header count the answers (RFC 1035, section 4.1.1).
    Ok(answer.get(..received).and_then(|answer| answer.get(6..8)).is_some_and(|count| count != [0, 0]))
}

/// A query for the address of `name` (RFC 1035, section 4.1).
fn question(name: &str) -> Result<Vec<u8>> {
    let mut query = vec![0x4c, 0x43, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).context("a label of a DNS name is too long")?);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    Ok(query)
}

const ACCESS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "localcluster:dns"}
rules:
- {apiGroups: [""], resources: [namespaces, pods, services], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: "localcluster:dns"}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "localcluster:dns"}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "localcluster:dns"}]
"#;
