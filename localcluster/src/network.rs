//! The addresses and names of a cluster with nodes, and the bridge between this machine and the nodes.
//!
//! ```text
//!   this machine 198.19.S.1 ─┬─ bridge ─┬─ 198.19.S.10 node0 ── bridge ── pods 198.18.8·S.0/24
//!   API server, DNS, registry           └─ 198.19.S.11 node1 ── bridge ── pods 198.18.8·S+1.0/24
//!                                                        └── Services 198.18.128+16·S.0/20
//! ```
//!
//! S is the cluster's slot: several clusters are there at the same time, and none reaches another's pods but through this
//! machine. This machine reaches pods through their node and Services through one that runs. Pods reach this machine, and
//! nothing beyond it.

use std::fmt;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How many clusters with nodes a machine can hold at a time.
pub const SLOTS: u8 = 8;

/// How many nodes a cluster can have.
pub const NODES: u8 = 8;

/// The port the API server of a cluster with nodes listens on, at [`Network::host`].
pub(crate) const API_PORT: u16 = 6443;

/// The port of the registry.
const REGISTRY_PORT: u16 = 5000;

/// The range of Services of a cluster without nodes, where nothing is ever sent to one.
pub(crate) const SERVICES: &str = "198.18.128.0/17";

/// The address of its Service `kubernetes`.
pub(crate) const SERVICES_API: Ipv4Addr = Ipv4Addr::new(198, 18, 128, 1);

/// The part of the machine's addresses and names that one cluster with nodes has. All addresses are of 198.18.0.0/15
/// (RFC 2544), which is routed nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    slot: u8,
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "bonafide-{}", self.slot)
    }
}

impl Network {
    /// All there can be.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS).map(|slot| Self { slot })
    }

    /// The one that is named so.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let slot = name.strip_prefix("bonafide-")?.parse().ok()?;
        (slot < SLOTS).then_some(Self { slot })
    }

    /// The name of the file that says who has it. The first has the name from the time when it was the only one, so that
    /// an older localcluster on the same machine respects it.
    pub(crate) fn claim(self) -> String {
        if self.slot == 0 { "node".to_owned() } else { format!("node{}", self.slot) }
    }

    /// This machine, as the nodes and their pods see it: the API server and DNS are here, and what tests serve.
    pub fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(198, 19, self.slot, 1)
    }

    /// Where the nodes pull over plain HTTP from without further ado.
    pub fn registry(self) -> String {
        format!("{}:{REGISTRY_PORT}", self.host())
    }

    /// A node's own address.
    pub(crate) fn node(self, node: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 19, self.slot, 10 + node)
    }

    /// The range of pods on a node.
    pub(crate) fn pods(self, node: u8) -> String {
        format!("198.18.{}.0/24", self.slot * NODES + node)
    }

    /// The range of pods on all nodes.
    pub(crate) fn all_pods(self) -> String {
        format!("198.18.{}.0/21", self.slot * NODES)
    }

    /// The range of Services.
    pub(crate) fn services(self) -> String {
        format!("198.18.{}.0/20", 128 + 16 * self.slot)
    }

    /// The address of the Service `kubernetes`: the first of the range.
    pub(crate) fn services_api(self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, 128 + 16 * self.slot, 1)
    }

    /// Whether something that is not of this program has the addresses.
    pub(crate) fn is_foreign(self) -> bool {
        TcpListener::bind((self.host(), 0)).is_ok() && !Path::new("/sys/class/net").join(self.to_string()).exists()
    }

    /// The link that joins a node to the bridge.
    fn uplink(self, node: u8) -> String {
        format!("{self}-{node}")
    }

    /// Makes this machine's side: the bridge, with [`Network::host`] as its address. The teardown removes it.
    pub(crate) fn create_bridge(self) -> Result<()> {
        // What a teardown could not know of, because somebody removed the state directory by hand.
        remove_link(&self.to_string());
        let host = self.host();
        ip(
            &[],
            &[format!("link add {self} type bridge"), format!("addr add {host}/24 dev {self}"), format!("link set {self} up")],
        )
    }

    /// Joins the network of the process `process` to the bridge, as node `node` of `nodes`.
    pub(crate) fn connect(self, process: u32, node: u8, nodes: u8) -> Result<()> {
        let (uplink, host, address) = (self.uplink(node), self.host(), self.node(node));
        // The kernel takes its time with the network of a node that was stopped.
        remove_link(&uplink);
        ip(
            &[],
            &[
                format!("link add {uplink} type veth peer name eth0 netns {process}"),
                format!("link set {uplink} master {self} up"),
            ],
        )?;
        let mut inside_lines = vec![
            format!("addr add {address}/24 dev eth0"),
            "link set eth0 up".into(),
            "link set lo up".into(),
            format!("route add default via {host}"),
        ];
        let others = (0..nodes).filter(|other| *other != node);
        inside_lines.extend(others.map(|other| format!("route add {} via {}", self.pods(other), self.node(other))));
        ip(&inside(process), &inside_lines)?;
        ip(&[], &[format!("route replace {} via {address}", self.pods(node))])?;
        self.reach_services(node)?;
        let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward";
        // Pods of one node talk over a bridge: its frames must pass netfilter, or answers of Services come back untranslated.
        let bridge = "cd /proc/sys/net/bridge 2>/dev/null || modprobe br_netfilter && cd /proc/sys/net/bridge && echo 1 >bridge-nf-call-iptables";
        for script in [forward, bridge] {
            run(&inside(process), &["sh", "-c", script], "")?;
        }
        Ok(())
    }

    /// Lets this machine reach Services through `node`.
    pub(crate) fn reach_services(self, node: u8) -> Result<()> {
        ip(&[], &[format!("route replace {} via {}", self.services(), self.node(node))])
    }

    /// Cuts a node off from everything beside it, or lets it back.
    pub(crate) fn link(self, node: u8, up: bool) -> Result<()> {
        ip(&[], &[format!("link set {} {}", self.uplink(node), if up { "up" } else { "down" })])
    }
}

/// Whether `address` (`HOST:PORT`) is that of a registry that this program starts.
pub fn is_registry(address: &str) -> bool {
    Network::all().any(|network| network.registry() == address)
}

fn remove_link(name: &str) {
    let _ = Command::new("ip").args(["link", "del", name]).stderr(Stdio::null()).status();
}

fn inside(node: u32) -> Vec<String> {
    ["nsenter", "--target", &node.to_string(), "--net", "--"].map(String::from).to_vec()
}

/// Runs lines of `ip`, after the words of `prefix`.
fn ip(prefix: &[String], lines: &[String]) -> Result<()> {
    run(prefix, &["ip", "-batch", "-"], &format!("{}\n", lines.join("\n")))
}

fn run(prefix: &[String], words: &[&str], input: &str) -> Result<()> {
    let mut words = prefix.iter().map(String::as_str).chain(words.iter().copied());
    let program = words.next().context("no program was named")?;
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(|| format!("cannot write to {program}"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {program}"))?;
    if !output.status.success() {
        bail!(
            "the node's network cannot be set up: {}: {}",
            input.trim().replace('\n', "; "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_clusters_share_a_name_or_an_address_and_each_is_found_by_its_name() {
        let mut seen = HashSet::new();
        for network in Network::all() {
            assert_eq!(Network::parse(&network.to_string()), Some(network));
            let ranges =
                [network.host().to_string(), network.services(), network.all_pods(), network.to_string(), network.claim()];
            assert!(ranges.into_iter().all(|range| seen.insert(range)));
            for node in 0..NODES {
                assert!(seen.insert(network.node(node).to_string()));
                assert!(seen.insert(format!("{} of one node", network.pods(node))));
                assert!(network.uplink(node).len() < 16, "the kernel takes no longer name of a link");
            }
        }
        assert_eq!(Network::parse("bonafide-8"), None);
        assert!(is_registry("198.19.7.1:5000") && !is_registry("198.19.7.1:5001"));
    }
}
