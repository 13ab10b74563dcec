//! Who goes, when a revision is to have fewer pods: who serves nobody first; who answers is unrouted, finishes its work, and then
//! goes.

use std::time::Duration;

use jiff::Timestamp;

use super::{COST, Class, Pod, Rank, Seen, left, number};

/// Who goes, and how.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Going {
    /// The replicas that may be asked for now.
    pub replicas: i32,
    /// Pods that answer and are to be unrouted.
    pub to_drain: Vec<String>,
    /// Pods that were unrouted and are wanted again.
    pub taken_back: Vec<String>,
    /// Whether some are finishing their work.
    pub looked_at: bool,
}

/// Who goes, so that `wanted` are left; at most `spare` of those who answer are unrouted now.
pub fn of(revision: &Seen, wanted: i32, spare: i32, drain: Duration, now: Timestamp) -> Going {
    let asked = revision.asked.unwrap_or(0);
    let mut pods: Vec<&Pod> = revision.pods.iter().collect();
    pods.sort_by(|a, b| (a.class, &a.name).cmp(&(b.class, &b.name)));
    let surplus = usize::try_from(number(pods.len()).saturating_sub(wanted)).unwrap_or(0);
    let (victims, stay) = pods.split_at_checked(surplus).unwrap_or((&pods, &[]));
    let of = |pods: &[&Pod], class: Class| -> Vec<String> {
        pods.iter().filter(|pod| pod.class == class).map(|pod| pod.name.clone()).collect()
    };
    let over = |pod: &Pod| {
        pod.class < Class::Draining
            || (pod.class == Class::Draining && (pod.idle || left(pod.draining_since, drain, now).is_zero()))
    };
    // A ReplicaSet has an order of its own. So many may go that it takes nobody but those who are to go and are ready for it; of
    // several that it may choose from, the worst choice is counted on.
    let mut to_drain = of(victims, Class::Answering);
    to_drain.truncate(usize::try_from(spare).unwrap_or(0));
    // Who is unrouted in this step is not ready any more when the replicas are lowered in it.
    let rank = |pod: &Pod| match to_drain.contains(&pod.name) {
        true => (pod.rank.0, pod.rank.1, false, COST),
        false => pod.rank,
    };
    let mut in_its_order: Vec<(Rank, bool)> = victims.iter().map(|pod| (rank(pod), over(pod))).collect();
    // When even one who stays serves nobody, nobody is harmed by whichever it takes.
    in_its_order.extend(stay.iter().map(|pod| (pod.rank, pod.class < Class::Draining)));
    in_its_order.sort_unstable();
    let may_go = number(in_its_order.iter().take_while(|(_, may_go)| *may_go).count());
    let replicas = if asked <= wanted { wanted } else { wanted.max(asked.min(number(pods.len()).saturating_sub(may_go))) };
    let draining = of(victims, Class::Draining);
    // Also a pod that has lost its engine meanwhile: its marks would stay on it; and one that cannot be spared after all.
    let spared = |pod: &&&Pod| pod.class == Class::Answering && !to_drain.contains(&pod.name);
    let marked = stay.iter().chain(victims.iter().filter(spared)).filter(|pod| pod.draining_since.is_some());
    let marked = marked.map(|pod| pod.name.clone());
    Going { replicas, taken_back: marked.collect(), to_drain, looked_at: !draining.is_empty() }
}
