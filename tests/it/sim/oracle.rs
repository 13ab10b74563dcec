//! What may never happen, looked at with every write.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::shelf::Shelf;
use crate::support::{
    fake_api::{
        FakeApi, kinds,
        store::{Change, State},
    },
    signer::Person,
};

const GATE: &str = "bonafide.dev/verdict";
const VOUCHED: &str = "bonafide.dev/Vouched";
/// What is begun under one policy may land under the next, when the next was made in between.
const BETWEEN: Duration = Duration::from_secs(1);

/// Watches.
#[derive(Clone)]
pub struct Oracle(Arc<Mutex<Seen>>);

struct Seen {
    began: Instant,
    shelf: Shelf,
    /// Policies as they stood, since when.
    policies: Vec<(Instant, Vec<Arc<Value>>)>,
    /// How long a request may be under way.
    under_way: Duration,
    /// So many pods of each deployment have to be routed to.
    floors: HashMap<String, usize>,
    /// Pods that were ever vouched for, by UID.
    vouched: HashSet<String>,
    /// Revisions that were removed: of each name there is but one content.
    removed: HashMap<(String, String), Arc<Value>>,
    violations: Vec<String>,
    story: Vec<String>,
    writes: u64,
}

impl Oracle {
    /// Watches everything that is written from now on.
    pub fn watch(api: &FakeApi, shelf: &Shelf) -> Self {
        let now = Instant::now();
        let seen = Seen {
            began: now,
            shelf: shelf.clone(),
            policies: vec![(now, vec![])],
            under_way: BETWEEN,
            floors: HashMap::new(),
            vouched: HashSet::new(),
            removed: HashMap::new(),
            violations: vec![],
            story: vec![],
            writes: 0,
        };
        let oracle = Self(Arc::new(Mutex::new(seen)));
        let eyes = oracle.clone();
        api.witness(Box::new(move |change, state| eyes.seen().see(change, state)));
        oracle
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap()
    }

    /// Requests may be under way for so long.
    pub fn slow(&self, by: Duration) {
        self.seen().under_way = BETWEEN + by;
    }

    /// From now on so many pods of a deployment have to be routed to.
    pub fn floor(&self, deployment: &str, pods: usize) {
        self.seen().floors.insert(deployment.to_owned(), pods);
    }

    /// How long it has watched.
    pub fn age(&self) -> Duration {
        self.seen().began.elapsed()
    }

    /// How often managers wrote, Leases apart.
    pub fn writes(&self) -> u64 {
        self.seen().writes
    }

    /// Notes that something happened that may not.
    pub fn wrong(&self, what: &str) {
        self.seen().wrong(what.to_owned());
    }

    /// Everything that was written, by all.
    pub fn whole_story(&self) -> Vec<String> {
        self.seen().story.clone()
    }

    /// What was written last, by all.
    pub fn story(&self) -> String {
        let seen = self.seen();
        seen.story.iter().skip(seen.story.len().saturating_sub(60)).fold(String::new(), |mut story, line| {
            let _ = writeln!(story, "{line}");
            story
        })
    }

    /// Panics if something happened that may not.
    pub fn verdict(&self) {
        let violations = self.seen().violations.clone();
        if !violations.is_empty() && !std::thread::panicking() {
            panic!("{}\n{}", violations.join("\n"), self.story());
        }
    }
}

impl Seen {
    fn see(&mut self, change: &Change, state: &State) {
        let object = change.object();
        let name = text(&object["metadata"]["name"]);
        let ours = change.who.starts_with("bonafide");
        let what = match (&change.before, &change.after) {
            (None, _) => "creates",
            (_, None) => "removes",
            _ => "changes",
        };
        let at = self.began.elapsed().as_secs_f64();
        if change.kind.kind != "Lease" {
            // The name of an Event ends with the machine's time.
            let name = if change.kind.kind == "Event" { name.split('.').next().unwrap() } else { &name };
            self.story.push(format!("{at:10.3} {} {what} {} {name}", change.who, change.kind.kind));
            self.writes += u64::from(ours);
            if ours && let Some(lease) = state.get(kinds::of("Lease"), super::world::SYSTEM, super::manager::LEASE) {
                let holder = &lease["spec"]["holderIdentity"];
                if *holder != *change.who {
                    self.wrong(format!("{} {what} {name}, but {holder} leads", change.who));
                }
            }
        }
        match change.kind.kind {
            "ClusterModelPolicy" => {
                let policies = state.all(change.kind, "").cloned().collect();
                self.policies.push((change.at, policies));
            }
            "ControllerRevision" => {
                if let (Some(before), None) = (&change.before, &change.after) {
                    self.removed.insert((text(&before["metadata"]["namespace"]), name), before.clone());
                }
            }
            "Pod" => {
                self.routes(change, state);
                if let (Some(before), Some(after), true) = (&change.before, &change.after, ours) {
                    self.doors(before, after, state, &name);
                }
            }
            _ => {}
        }
    }

    fn wrong(&mut self, what: String) {
        let at = self.began.elapsed().as_secs_f64();
        self.story.push(format!("{at:10.3} !!! {what}"));
        self.violations.push(format!("{at:.3}: {what}"));
    }

    /// The gate and the vouching of a pod, as a manager changes them.
    fn doors(&mut self, before: &Value, after: &Value, state: &State, name: &str) {
        let lifted = gated(before) && !gated(after);
        let vouched = !is(before, VOUCHED) && is(after, VOUCHED);
        if !lifted && !vouched {
            return;
        }
        let what = if lifted { "the gate was lifted" } else { "it was vouched for" };
        // Whose revision was removed a moment ago goes with it; until then it is what was judged.
        let (place, revision) = revision_of(after);
        let live = state.get(kinds::of("ControllerRevision"), &place, &revision).cloned();
        let Some(revision) = live.or_else(|| self.removed.get(&(place, revision)).cloned()) else {
            return self.wrong(format!("{what}, but no revision made it: {name}"));
        };
        let namespace = state.get(kinds::of("Namespace"), "", &text(&after["metadata"]["namespace"])).cloned();
        let labels = namespace.map(|namespace| namespace["metadata"]["labels"].clone()).unwrap_or_default();
        let signers = self.shelf.signers(&text(&revision["data"]["commit"]));
        let recently = Instant::now() - self.under_way.min(self.began.elapsed());
        let standing = |index: usize| self.policies.get(index + 1).is_none_or(|(until, _)| *until >= recently);
        // What runs may be started again where a policy says so.
        let again = vouched && !self.vouched.insert(text(&after["metadata"]["uid"]));
        let goes_on = |policy: &Value| again && policy["spec"]["onRecall"] == "KeepRunning";
        let allowed = (0..self.policies.len())
            .filter(|index| standing(*index))
            .any(|index| self.policies[index].1.iter().all(|policy| accepts(policy, &labels, &signers) || goes_on(policy)));
        if !allowed {
            self.wrong(format!("{what}, but a policy refuses it: {name}"));
        }
        if let Some(difference) = other_than(&revision["data"]["template"], after) {
            self.wrong(format!("{what}, but it is not what was written ({difference}): {name}"));
        }
        let refused =
            |container: &Value| ["state", "lastState"].iter().any(|state| container[*state]["terminated"]["exitCode"] == 65);
        if vouched && after["status"]["initContainerStatuses"].as_array().is_some_and(|all| all.iter().any(refused)) {
            self.wrong(format!("{what}, but its bytes are not what was judged: {name}"));
        }
    }

    /// Where a Service sends requests.
    fn routes(&mut self, change: &Change, state: &State) {
        // Who was vouched for before is routed to until the kubelet hears of it.
        if let Some(after) = &change.after
            && super::world::routed(after)
            && !change.before.as_ref().is_some_and(|before| super::world::routed(before))
            && !is(after, VOUCHED)
        {
            self.wrong(format!("requests go to a pod that nobody vouches for: {}", after["metadata"]["name"]));
        }
        let deployment = text(&change.object()["metadata"]["labels"]["bonafide.dev/deployment"]);
        if let Some(floor) = self.floors.get(&deployment).copied() {
            let of_it = |pod: &&Arc<Value>| pod["metadata"]["labels"]["bonafide.dev/deployment"] == deployment.as_str();
            let routed = state.all(change.kind, "").filter(of_it).filter(|pod| super::world::routed(pod)).count();
            if routed < floor {
                self.wrong(format!("{deployment} has {routed} pods that answer instead of {floor}"));
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn gated(pod: &Value) -> bool {
    pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| gates.iter().any(|gate| gate["name"] == GATE))
}

fn is(pod: &Value, condition: &str) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == condition && one["status"] == "True"))
}

/// Namespace and name of the revision that a pod says it is of.
fn revision_of(pod: &Value) -> (String, String) {
    let labels = &pod["metadata"]["labels"];
    let name = format!("bonafide-{}-{}", text(&labels["bonafide.dev/deployment"]), text(&labels["bonafide.dev/revision"]));
    (text(&pod["metadata"]["namespace"]), name)
}

/// Whether a policy lets a model with these signers be served, worked out apart from the product.
fn accepts(policy: &Value, labels: &Value, signers: &[u8]) -> bool {
    let spec = &policy["spec"];
    let wanted = spec["namespaceSelector"]["matchLabels"].as_object().cloned().unwrap_or_default();
    if wanted.iter().any(|(key, value)| labels.get(key) != Some(value))
        || spec["mode"].as_str().is_some_and(|mode| mode != "Enforce")
    {
        return true;
    }
    let pems: Vec<String> = signers.iter().map(|number| Person::new(*number).pem()).collect();
    let holds = |name: &Value| {
        let known = spec["signers"].as_array().into_iter().flatten().find(|signer| signer["name"] == *name);
        known.is_some_and(|signer| pems.iter().any(|pem| signer["publicKey"]["pem"] == pem.as_str()))
    };
    // What is denied is not worked out here: such a policy accepts what is signed.
    if spec["deny"].is_array() && spec["unmatched"] == "Accept" && spec["rules"].is_null() {
        return true;
    }
    let rules = spec["rules"].as_array().into_iter().flatten();
    let entries: Vec<&Value> = rules.flat_map(|rule| rule["signedBy"].as_array().into_iter().flatten()).collect();
    if entries.is_empty() {
        return spec["unmatched"] == "Accept";
    }
    entries.iter().all(|entry| entry["anyOf"].as_array().unwrap().iter().any(holds))
}

/// Where a pod is something else than its template.
fn other_than(template: &Value, pod: &Value) -> Option<String> {
    const ADDED: [&str; 7] =
        ["nodeName", "priority", "preemptionPolicy", "tolerations", "schedulingGates", "hostname", "priorityClassName"];
    let (wanted, found) = (template["spec"].as_object()?, pod["spec"].as_object()?);
    let other = |key: &&String| !ADDED.contains(&key.as_str()) && wanted.get(*key) != found.get(*key);
    wanted.keys().chain(found.keys()).find(other).cloned()
}
