//! Why no node takes a pod: what is short and by how much, whether a node is on its way, or whether none could ever do.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{
    Case,
    asked::Asked,
    looked::{Claim, Looked, Node, SlimEvent},
    quantity,
};
use crate::{
    api::{Problem, Reason},
    engine::readable,
};

/// The access mode of a claim that one pod in the whole cluster may have; the scheduler names it when another one has it.
pub const ONE_POD: &str = "ReadWriteOncePod";
/// How many nodes are named.
const NAMED: usize = 3;
/// An autoscaler that could bring a node has said so within this time.
const AUTOSCALER: SignedDuration = SignedDuration::from_secs(60);
/// What the events of autoscalers are called: those that bring a node, and those that do not.
const COMES: [&str; 2] = ["TriggeredScaleUp", "Nominated"];
const COMES_NOT: [&str; 2] = ["NotTriggerScaleUp", "FailedScheduling"];

/// Why the scheduler found no node; `said` is what it says.
pub fn unschedulable(case: &Case<'_>, said: &str) -> Problem {
    let looked = case.looked;
    if let Some(problem) = volumes(case.asked, looked, said) {
        return problem;
    }
    let (reason, mut message) = match case.nodes {
        _ if case.asked.together && said.contains("pod affinity rules") => (Reason::Unschedulable, together(case.asked, said)),
        None => (Reason::Unschedulable, format!("No node can take the pod: {}", sentence(said))),
        Some([]) => {
            let wants = wants(case.asked).unwrap_or_else(|| "the pod".to_owned());
            (Reason::Unschedulable, format!("There is no node in the cluster. Add one that has {wants}."))
        }
        Some(nodes) => fit(case.asked, nodes, said),
    };
    match looked.and_then(newest) {
        Some((true, event)) => {
            let said = sentence(&event.note);
            return Problem::new(Reason::WaitingForNode, format!("No node has room, and one that has is on its way: {said}"));
        }
        Some((false, event)) => message.push_str(&format!(" No node will come by itself: {}", sentence(&event.note))),
        None => {}
    }
    Problem::new(reason, message)
}

/// What an autoscaler said last, and whether that is good.
fn newest(looked: &Looked) -> Option<(bool, &SlimEvent)> {
    let is = |event: &SlimEvent, reasons: &[&str]| reasons.contains(&event.reason.as_str());
    let of_autoscaler =
        |event: &&SlimEvent| (is(event, &COMES) || is(event, &COMES_NOT)) && !event.reporting_controller.ends_with("scheduler");
    let event = looked.events.iter().find(of_autoscaler)?;
    Some((is(event, &COMES), event))
}

/// Whether nobody brings a node for a pod that none of those there are could ever take: an autoscaler has said so, or none has said
/// anything for longer than it takes one to look. `since` is when the scheduler gave up on the pod.
pub fn is_final(case: &Case<'_>, since: Option<Timestamp>, now: Timestamp) -> bool {
    match case.looked.and_then(newest) {
        Some((true, _)) => false,
        // After a node that did not come, an autoscaler waits for some minutes and tries again.
        Some((false, event)) => !event.note.contains("in backoff"),
        None => since.is_some_and(|since| now.duration_since(since) > AUTOSCALER),
    }
}

fn volumes(asked: &Asked, looked: Option<&Looked>, said: &str) -> Option<Problem> {
    let unbound = looked.and_then(|looked| looked.unbound.first());
    let about = said.to_ascii_lowercase();
    if unbound.is_none() && !about.contains("persistentvolumeclaim") && !about.contains("volume node affinity") {
        return None;
    }
    let message = match unbound {
        Some(Claim { name, why: None }) => {
            format!("There is no PersistentVolumeClaim {name} in the namespace. Create it, or name another one.")
        }
        Some(Claim { name, why: Some(why) }) if why.is_empty() => {
            format!("PersistentVolumeClaim {name} is not bound to a volume yet. If that lasts, see kubectl describe pvc {name}.")
        }
        Some(Claim { name, why: Some(why) }) => {
            format!("PersistentVolumeClaim {name} is not bound to a volume: {}", sentence(why))
        }
        None if said.contains(ONE_POD) => format!(
            "The claim {} is {ONE_POD}, and another pod has it. A second replica and the first one of a new revision never get it: use a claim \
             that is ReadWriteOnce or ReadWriteMany, or set spec.replicas to 0 until the other pod is gone.",
            asked.claims.join(", ")
        ),
        None => format!("No node can take the pod because of its volume {}: {}", asked.claims.join(", "), sentence(said)),
    };
    Some(Problem::new(Reason::VolumeFailed, message))
}

/// Why a pod cannot be on the node of the others.
fn together(asked: &Asked, said: &str) -> String {
    let why = match asked.claims.as_slice() {
        [] => "as spec.pod.affinity says".to_owned(),
        claims => format!(
            "because one node at a time can mount the claim {}. Use one that is ReadWriteMany, or ask for no more replicas than that node has room for",
            claims.join(", ")
        ),
    };
    format!("All replicas have to be on one node, {why}: {}", sentence(said))
}

/// What speaks against a node.
enum Against {
    /// It lacks a label.
    Label(String),
    /// It has a taint.
    Taint(String),
    /// It could never have that much of a resource.
    TooSmall(String),
    /// It is not in order now: not ready, cordoned, under pressure.
    Now(String),
    /// Not enough is free: by resource, what is.
    Short(Vec<(String, f64)>),
    /// Nothing that is seen here.
    Nothing,
}

fn against(asked: &Asked, node: &Node) -> Against {
    if let Some((key, value)) = asked.node_selector.iter().find(|(key, value)| node.labels.get(*key) != Some(*value)) {
        return Against::Label(format!("{key}={value}"));
    }
    let mut now = None;
    for taint in node.taints.iter().filter(|taint| asked.is_kept_away_by(taint)) {
        match taint.key.strip_prefix("node.kubernetes.io/") {
            Some("unschedulable") => now = Some("is cordoned".to_owned()),
            Some("unreachable" | "not-ready") => now = Some("is not ready".to_owned()),
            Some(other) => now = Some(format!("has {other}")),
            None => {
                let value = if taint.value.is_empty() { String::new() } else { format!("={}", taint.value) };
                return Against::Taint(format!("{}{value}:{}", taint.key, taint.effect));
            }
        }
    }
    let has = |numbers: &BTreeMap<String, f64>, name: &str| numbers.get(name).copied().unwrap_or_default();
    // What is asked for beside CPU and memory is what nodes differ in.
    let small = asked.requests.iter().filter(|(name, wanted)| has(&node.allocatable, name) < **wanted);
    if let Some((name, _)) = small.max_by_key(|(name, _)| weight(name)) {
        return Against::TooSmall(name.clone());
    }
    if let Some(now) = now {
        return Against::Now(now);
    }
    let free = |name: &str| has(&node.allocatable, name) - has(&node.used, name);
    let mut short: Vec<(String, f64)> = asked
        .requests
        .iter()
        .filter(|(name, wanted)| free(name) < **wanted)
        .map(|(name, _)| (name.clone(), free(name)))
        .collect();
    short.sort_by_key(|(name, _)| std::cmp::Reverse(weight(name)));
    if short.is_empty() { Against::Nothing } else { Against::Short(short) }
}

/// How telling a resource is: accelerators first.
fn weight(resource: &str) -> u8 {
    match resource {
        "pods" => 0,
        "cpu" => 1,
        "memory" => 2,
        "ephemeral-storage" => 3,
        _ => 4,
    }
}

/// Which nodes came near, when none has room now; what no node has, when none ever could.
fn fit(asked: &Asked, nodes: &[Node], said: &str) -> (Reason, String) {
    let judged: Vec<(&Node, Against)> = nodes.iter().map(|node| (node, against(asked, node))).collect();
    let possible = judged.iter().any(|(_, against)| matches!(against, Against::Now(_) | Against::Short(_) | Against::Nothing));
    if !possible {
        return (Reason::NoNodeFits, never(asked, &judged));
    }
    let mut near: Vec<(&Node, &str, f64, usize)> = judged
        .iter()
        .filter_map(|(node, against)| match against {
            Against::Short(short) => short.first().map(|(name, free)| (*node, name.as_str(), *free, short.len())),
            _ => None,
        })
        .collect();
    // The nearest lacks the fewest things, and of the first of them the least.
    near.sort_by(|a, b| {
        let lack =
            |(_, name, free, _): &(&Node, &str, f64, usize)| 1.0 - free / asked.requests.get(*name).copied().unwrap_or(1.0);
        a.3.cmp(&b.3).then(lack(a).total_cmp(&lack(b))).then(a.0.name.cmp(&b.0.name))
    });
    let unfit = |judged: &[(&Node, Against)]| {
        judged
            .iter()
            .filter_map(|(node, against)| match against {
                Against::Now(why) => Some(format!("{} {why}", node.name)),
                _ => None,
            })
            .take(NAMED)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let Some((nearest, resource, free, _)) = near.first().copied() else {
        let unfit = unfit(&judged);
        let why = if unfit.is_empty() { sentence(said) } else { format!("{unfit}.") };
        return (Reason::Unschedulable, format!("No node can take the pod now: {why}"));
    };
    let wanted = asked.requests.get(resource).copied().unwrap_or_default();
    let have = |(node, name, free, _): &(&Node, &str, f64, usize)| {
        let free = free.max(0.0);
        let amount = if free <= 0.0 { "none".to_owned() } else { quantity::amount(name, free) };
        if *name == resource {
            format!("{} has {amount} free", node.name)
        } else {
            format!("{} has {} free", node.name, if free <= 0.0 { format!("no {name}") } else { quantity::of(name, free) })
        }
    };
    let mut named: Vec<String> = near.iter().take(NAMED).map(have).collect();
    let others = near.len().saturating_sub(NAMED);
    if others > 0 {
        named.push(format!("{others} more have less"));
    }
    named.extend(Some(unfit(&judged)).filter(|unfit| !unfit.is_empty()));
    let missing = quantity::of(resource, wanted - free.max(0.0));
    let less =
        if weight(resource) > 3 { ", or ask for fewer with spec.resources.accelerator.count" } else { ", or ask for less" };
    let wants = quantity::of(resource, wanted);
    (
        Reason::Unschedulable,
        format!("No node has {wants} free: {}. Free {missing} on {}, add a node{less}.", named.join(", "), nearest.name),
    )
}

/// What no node has.
fn never(asked: &Asked, judged: &[(&Node, Against)]) -> String {
    let mut small: BTreeMap<&str, (f64, &str)> = BTreeMap::new();
    let (mut labels, mut taints): (BTreeMap<&str, usize>, BTreeMap<&str, usize>) = Default::default();
    for (node, against) in judged {
        match against {
            Against::Label(label) => *labels.entry(label).or_default() += 1,
            Against::Taint(taint) => *taints.entry(taint).or_default() += 1,
            Against::TooSmall(name) => {
                let has = node.allocatable.get(name).copied().unwrap_or_default();
                let most = small.entry(name).or_insert((has, &node.name));
                if has > most.0 {
                    *most = (has, &node.name);
                }
            }
            _ => {}
        }
    }
    let counted = |(what, count): (&&str, &usize)| format!("{what} ({})", nodes(*count));
    let mut why: Vec<String> = small
        .iter()
        .map(|(name, (most, node))| {
            let wanted = quantity::of(name, asked.requests.get(*name).copied().unwrap_or_default());
            if *most <= 0.0 {
                format!("{wanted} are asked for, and no node that it may run on has any")
            } else {
                format!("{wanted} are asked for, and the largest, {node}, has {}", quantity::amount(name, *most))
            }
        })
        .collect();
    if !labels.is_empty() {
        let lacking = |(what, count): (&&str, &usize)| format!("{what} ({} without it)", nodes(*count));
        why.push(format!(
            "spec.pod.nodeSelector wants the label {}",
            labels.iter().take(NAMED).map(lacking).collect::<Vec<_>>().join(" and ")
        ));
    }
    if !taints.is_empty() {
        why.push(format!(
            "spec.pod.tolerations does not tolerate the taint {}",
            taints.iter().take(NAMED).map(counted).collect::<Vec<_>>().join(" and ")
        ));
    }
    format!(
        "None of the cluster's {} could ever take the pod: {}. Add a node that fits, or change what is asked for.",
        nodes(judged.len()),
        why.join("; ")
    )
}

fn nodes(count: usize) -> String {
    if count == 1 { "1 node".to_owned() } else { format!("{count} nodes") }
}

/// What a node has to have, for people.
fn wants(asked: &Asked) -> Option<String> {
    let telling = asked.requests.iter().filter(|(name, _)| weight(name) >= 3).max_by_key(|(name, _)| weight(name));
    telling.map(|(name, number)| quantity::of(name, *number))
}

/// Somebody else's words as a sentence of ours.
pub fn sentence(words: &str) -> String {
    let words = readable(words.as_bytes());
    let words = words.trim_end_matches('.');
    if words.is_empty() { "nobody says why.".to_owned() } else { format!("{words}.") }
}

#[cfg(test)]
mod tests;
