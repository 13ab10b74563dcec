//! The addresses of a cluster with a node, and the bridge between this machine and the node.
//!
//! ```text
//!   this machine 198.19.0.1 ── bridge ── 198.19.0.10 node ── bridge ── pods 198.18.0.0/24
//!   API server, DNS, registry                        └── Services 198.18.128.0/17
//! ```
//!
//! This machine reaches pods and Services through the node. Pods reach this machine, and nothing beyond it.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The name of the bridge, of the node's control group, and of what else is there once per machine.
pub(crate) const NODE: &str = "bonafide-node0";

/// This machine, as the node and its pods see it: the API server and DNS are here, and what tests serve.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);

/// Where the node pulls over plain HTTP from without further ado.
pub const REGISTRY: &str = "198.19.0.1:5000";

/// The node's own address.
pub(crate) const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 10);

/// The port the API server of a cluster with a node listens on, at [`HOST`].
pub(crate) const API_PORT: u16 = 6443;

/// The range of pods on the node. It and the others are of 198.18.0.0/15 (RFC 2544), which is routed nowhere.
pub(crate) const PODS: &str = "198.18.0.0/24";

/// The range of Services.
pub(crate) const SERVICES: &str = "198.18.128.0/17";

/// The address of the Service `kubernetes`: the first of the range.
pub(crate) const SERVICES_API: Ipv4Addr = Ipv4Addr::new(198, 18, 128, 1);

/// The link that joins the node to the bridge.
const UPLINK: &str = "bonafide-up0";

/// Makes this machine's side: the bridge, with [`HOST`] as its address. The teardown removes it.
pub(crate) fn create_bridge() -> Result<()> {
    // What a teardown could not know of, because somebody removed the state directory by hand.
    let _ = Command::new("ip").args(["link", "del", NODE]).stderr(Stdio::null()).status();
    ip(&[], &[format!("link add {NODE} type bridge"), format!("addr add {HOST}/24 dev {NODE}"), format!("link set {NODE} up")])
}

/// Joins the network of the process `node` to the bridge.
pub(crate) fn connect(node: u32) -> Result<()> {
    ip(
        &[],
        &[format!("link add {UPLINK} type veth peer name eth0 netns {node}"), format!("link set {UPLINK} master {NODE} up")],
    )?;
    ip(
        &inside(node),
        &[
            format!("addr add {NODE_ADDRESS}/24 dev eth0"),
            "link set eth0 up".into(),
            "link set lo up".into(),
            format!("route add default via {HOST}"),
        ],
    )?;
    ip(&[], &[format!("route add {SERVICES} via {NODE_ADDRESS}"), format!("route add {PODS} via {NODE_ADDRESS}")])?;
    let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward";
    // Pods of one node talk over a bridge: its frames must pass netfilter, or answers of Services come back untranslated.
    let bridge = "cd /proc/sys/net/bridge 2>/dev/null || modprobe br_netfilter && cd /proc/sys/net/bridge && echo 1 >bridge-nf-call-iptables";
    for script in [forward, bridge] {
        run(&inside(node), &["sh", "-c", script], "")?;
    }
    Ok(())
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
