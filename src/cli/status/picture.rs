//! What was read from a cluster, as a tree and as JSON. Pure: it knows neither a client nor a clock.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    draw::{Branch, Paint, Piece},
    leader::Leader,
    pods::{doing, restarts},
};
use crate::api::{ANNOTATION_REASON, LABEL_DEPLOYMENT, LABEL_REVISION};

/// What was read, as the API server gave it.
#[derive(Debug, Default)]
pub struct Seen {
    /// ModelDeployments.
    pub models: Vec<Value>,
    /// ControllerRevisions with our label.
    pub revisions: Vec<Value>,
    /// Deployments with our label.
    pub deployments: Vec<Value>,
    /// Pods with our label.
    pub pods: Vec<Value>,
    /// Whether a manager leads, when that may be seen.
    pub leader: Option<Leader>,
}

pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn label<'a>(object: &'a Value, key: &str) -> &'a str {
    object.pointer("/metadata/labels").and_then(|labels| labels.get(key)).and_then(Value::as_str).unwrap_or_default()
}

/// The condition of that type.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").find(|condition| text(condition, "/type") == kind)
}

/// Whether everything that was asked for is there, as of the spec that stands there now.
pub fn is_ready(model: &Value) -> bool {
    let observed = model.pointer("/status/observedGeneration");
    condition(model, "Ready").is_some_and(|ready| text(ready, "/status") == "True")
        && observed.is_some()
        && observed == model.pointer("/metadata/generation")
}

/// One revision of a ModelDeployment with its pods, those in trouble first.
struct Revision<'a> {
    name: &'a str,
    status: Option<&'a Value>,
    record: Option<&'a Value>,
    asked: Option<i64>,
    trouble: &'a str,
    /// Why the policies refuse it today, if they do.
    refused: Option<String>,
    pods: Vec<&'a Value>,
}

/// What a revision is, from its part of the status: a refusal by the policies comes before whether it is the one that is wanted.
pub fn phase(revision: &Value) -> &str {
    match text(revision, "/phase") {
        "Current" | "Old" if text(revision, "/trust") == "Refused" => "Refused",
        phase => phase,
    }
}

/// Why the policies refuse a revision, if they do: what is said of the wish, when that is about the same files.
fn refusal(model: &Value, revision: &Value) -> Option<String> {
    if text(revision, "/trust") != "Refused" {
        return None;
    }
    let (wished, own) = (text(model, "/status/model/artifact"), text(revision, "/artifact"));
    let trusted = condition(model, "Trusted").filter(|trusted| text(trusted, "/status") == "False");
    let said = trusted.filter(|_| wished.is_empty() || wished == own).map(|trusted| {
        let why = text(trusted, "/message").split(". ").next().unwrap_or_default();
        format!("{}: {why}", text(trusted, "/reason"))
    });
    Some(said.unwrap_or_else(|| "the policies of the namespace refuse this revision".to_owned()))
}

impl Seen {
    fn of<'a>(&'a self, objects: &'a [Value], model: &'a Value) -> impl Iterator<Item = &'a Value> {
        objects.iter().filter(move |object| {
            text(object, "/metadata/namespace") == text(model, "/metadata/namespace")
                && label(object, LABEL_DEPLOYMENT) == text(model, "/metadata/name")
        })
    }

    /// The revisions that have something to show, the newest first.
    fn revisions<'a>(&'a self, model: &'a Value) -> Vec<Revision<'a>> {
        let mut names: BTreeMap<&str, Revision<'a>> = BTreeMap::new();
        let shown = list(model, "/status/revisions").map(|status| (text(status, "/name"), Some(status)));
        let pods = self.of(&self.pods, model).map(|pod| (label(pod, LABEL_REVISION), None));
        for (name, status) in shown.chain(pods) {
            let empty = Revision { name, status: None, record: None, asked: None, trouble: "", refused: None, pods: vec![] };
            let revision = names.entry(name).or_insert(empty);
            revision.status = revision.status.or(status);
            revision.refused = revision.refused.take().or_else(|| refusal(model, status?));
        }
        for pod in self.of(&self.pods, model) {
            names.entry(label(pod, LABEL_REVISION)).and_modify(|revision| revision.pods.push(pod));
        }
        for record in self.of(&self.revisions, model) {
            names.entry(label(record, LABEL_REVISION)).and_modify(|revision| revision.record = Some(record));
        }
        for deployment in self.of(&self.deployments, model) {
            let failed = condition(deployment, "ReplicaFailure").filter(|failed| text(failed, "/status") == "True");
            names.entry(label(deployment, LABEL_REVISION)).and_modify(|revision| {
                revision.asked = deployment.pointer("/spec/replicas").and_then(Value::as_i64);
                revision.trouble = failed.map(|failed| text(failed, "/message")).unwrap_or_default();
            });
        }
        let mut revisions: Vec<Revision<'_>> = names.into_values().collect();
        let number = |revision: &Revision<'_>| revision.record.and_then(|record| record.get("revision")?.as_i64());
        revisions.sort_by_key(|revision| {
            std::cmp::Reverse((number(revision), text(revision.status.unwrap_or(&Value::Null), "/phase") == "Current"))
        });
        for revision in &mut revisions {
            let refused = revision.refused.as_deref();
            let rank = |pod: &Value| match doing(pod, refused).paint {
                Paint::Bad => 0,
                Paint::Busy => 1,
                Paint::Good => 2,
                _ => 3,
            };
            revision.pods.sort_by_key(|pod| (rank(pod), text(pod, "/metadata/name")));
        }
        revisions
    }

    /// The tree, cause first: of an object what stands in its way, then where it is from, then what runs.
    pub fn tree(&self, now: Timestamp, with_namespace: bool) -> Vec<Branch> {
        self.models.iter().map(|model| self.branch(model, now, with_namespace)).collect()
    }

    fn branch(&self, model: &Value, now: Timestamp, with_namespace: bool) -> Branch {
        let (name, state) = (text(model, "/metadata/name"), text(model, "/status/state"));
        let shown = if with_namespace { format!("{}/{name}", text(model, "/metadata/namespace")) } else { name.to_owned() };
        let paint = match state {
            "Ready" | "Idle" => Paint::Good,
            "Blocked" | "Degraded" => Paint::Bad,
            _ => Paint::Busy,
        };
        let mut line = vec![(Paint::Bold, shown)];
        line.push((paint, if state.is_empty() { "Pending" } else { state }.to_owned()));
        let trust = text(model, "/status/trust");
        let trust_paint = match trust {
            "Signed" | "Pinned" => Paint::Good,
            "Refused" | "Unsigned" => Paint::Bad,
            _ => Paint::Dim,
        };
        line.extend(
            [(trust_paint, trust), (Paint::Plain, text(model, "/status/ready")), (Paint::Dim, text(model, "/status/url"))]
                .into_iter()
                .filter(|(_, text)| !text.is_empty())
                .map(|(paint, text)| (paint, text.to_owned())),
        );
        let mut branch = Branch { line, notes: causes(model, now), below: vec![] };
        branch.notes.extend(origin(model));
        branch.below = self.revisions(model).iter().map(|revision| revision.branch(now)).collect();
        branch
    }

    /// The same for programs.
    pub fn json(&self, now: Timestamp) -> Value {
        let items = self.models.iter().map(|model| {
            let revisions = self.revisions(model);
            json!({
                "namespace": text(model, "/metadata/namespace"), "name": text(model, "/metadata/name"),
                "isReady": is_ready(model), "status": model.get("status"),
                "revisions": revisions.iter().map(|revision| revision.json(now)).collect::<Vec<_>>(),
            })
        });
        json!({ "items": items.collect::<Vec<_>>(), "manager": self.leader.as_ref().map(Leader::json) })
    }
}

/// What stands in the way: conditions that are not as they should be, each reason once, the most telling first.
fn causes(model: &Value, now: Timestamp) -> Vec<Piece> {
    let mut causes = vec![];
    if model.pointer("/status/observedGeneration").and_then(Value::as_i64).is_none_or(|observed| observed < 0) {
        let message = "No manager has looked at it yet. If it stays so: kubectl get pods -A -l app.kubernetes.io/name=bonafide";
        return vec![(Paint::Busy, message.to_owned())];
    }
    if model.pointer("/status/observedGeneration") != model.pointer("/metadata/generation") {
        causes.push((Paint::Busy, "The last change was not looked at yet; this speaks of the one before.".to_owned()));
    }
    let stalled = condition(model, "Stalled").is_some_and(|stalled| text(stalled, "/status") == "True");
    let mut told = vec![];
    for kind in ["Ready", "Trusted", "SourceResolved", "ContentVerified", "Available"] {
        let Some(found) = condition(model, kind) else { continue };
        let (reason, message) = (text(found, "/reason"), text(found, "/message"));
        let unprotected = kind == "Trusted" && message.contains("Assurance=");
        // That it is paused is said below, with what ends it.
        if (text(found, "/status") != "False" && !unprotected) || message.is_empty() || reason == "Paused" {
            continue;
        }
        // What stands above already is not said again, only what is added to it.
        let new = told.iter().fold(message, |message, before: &&str| {
            if before.contains(message) { "" } else { message.strip_prefix(*before).unwrap_or(message).trim_start() }
        });
        if new.is_empty() {
            continue;
        }
        told.push(message);
        // The time is that of the status: the reason may have come since, and nobody noted when.
        let since = age(text(found, "/lastTransitionTime"), now);
        let since = if since.is_empty() { since } else { format!(" ({kind}={} for {since})", text(found, "/status")) };
        let paint = if stalled || kind != "Ready" { Paint::Bad } else { Paint::Busy };
        causes.push((paint, format!("{reason}{since}: {new}")));
    }
    causes
}

/// Where it comes from, and who vouches for it.
fn origin(model: &Value) -> Vec<Piece> {
    let mut notes = vec![];
    let (source, revision) = (text(model, "/spec/model/source"), text(model, "/status/model/shortRevision"));
    let bytes = model.pointer("/status/model/bytes").and_then(Value::as_u64).unwrap_or_default();
    let mut line = source.to_owned();
    if !revision.is_empty() {
        let wanted = text(model, "/status/model/wantedRevision");
        line += &format!(" at {revision}");
        if !wanted.is_empty() && !wanted.starts_with(revision) {
            line += &format!(" ({wanted})");
        }
    }
    if bytes > 0 {
        line += &format!(", {}", crate::engine::human_size(bytes));
    }
    let signer = text(model, "/status/signer");
    if !signer.is_empty() {
        line += &format!(", signed by {signer}");
    }
    let engine = text(model, "/status/engine/name");
    if !engine.is_empty() {
        let accelerator = text(model, "/status/accelerator");
        let place = if matches!(accelerator, "" | "none") { "the CPU" } else { accelerator };
        line += &format!(", by {engine} on {place}");
    }
    notes.push((Paint::Dim, line));
    if text(model, "/spec/management") == "Paused" {
        notes.push((
            Paint::Busy,
            "Paused: changes wait, and what serves goes on serving. `bonafide rollout resume` lets them pass.".to_owned(),
        ));
    }
    notes
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

impl Revision<'_> {
    fn field(&self, name: &str) -> &str {
        self.status.map(|status| text(status, &format!("/{name}"))).unwrap_or_default()
    }

    fn number(&self) -> Option<i64> {
        self.record?.get("revision")?.as_i64()
    }

    fn branch(&self, now: Timestamp) -> Branch {
        let phase = or(self.status.map(phase).unwrap_or_default(), "Old");
        let paint = match phase {
            "Current" => Paint::Good,
            "Refused" | "Failed" => Paint::Bad,
            _ => Paint::Dim,
        };
        let number = self.number().map(|number| format!(" #{number}")).unwrap_or_default();
        let count = |name: &str| self.status.and_then(|status| status.get(name)?.as_i64()).unwrap_or_default();
        let of = self.asked.unwrap_or_else(|| count("replicas"));
        let mut line = vec![
            (Paint::Bold, format!("revision {}{number}", self.name)),
            (paint, phase.to_owned()),
            (Paint::Plain, format!("{}/{of}", count("readyReplicas"))),
        ];
        let image = self.field("image");
        if !image.is_empty() {
            line.push((Paint::Dim, image.to_owned()));
        }
        let mut notes = vec![];
        if !self.trouble.is_empty() {
            notes.push((Paint::Bad, format!("Pods cannot be created: {}", self.trouble)));
        }
        let annotation = |key: &str| self.record?.pointer("/metadata/annotations")?.get(key)?.as_str();
        if let Some(reason) = annotation(ANNOTATION_REASON) {
            notes.push((Paint::Dim, reason.to_owned()));
        }
        let below = self.pods.iter().map(|pod| pod_branch(pod, self.refused.as_deref(), now)).collect();
        Branch { line, notes, below }
    }

    fn json(&self, now: Timestamp) -> Value {
        let pods = self.pods.iter().map(|pod| {
            let doing = doing(pod, self.refused.as_deref());
            json!({
                "name": text(pod, "/metadata/name"), "node": text(pod, "/spec/nodeName"), "state": doing.state,
                "message": doing.note, "restarts": restarts(pod), "ageSeconds": seconds(text(pod, "/metadata/creationTimestamp"), now),
            })
        });
        json!({
            "name": self.name, "number": self.number(), "status": self.status, "asked": self.asked,
            "trouble": self.trouble, "pods": pods.collect::<Vec<_>>(),
        })
    }
}

fn pod_branch(pod: &Value, refused: Option<&str>, now: Timestamp) -> Branch {
    let doing = doing(pod, refused);
    let mut line = vec![(Paint::Plain, format!("pod {}", text(pod, "/metadata/name"))), (doing.paint, doing.state)];
    let mut more = vec![];
    let node = text(pod, "/spec/nodeName");
    if !node.is_empty() {
        more.push(format!("on {node}"));
    }
    let age = age(text(pod, "/metadata/creationTimestamp"), now);
    if !age.is_empty() {
        more.push(age);
    }
    let restarts = restarts(pod);
    if restarts > 0 {
        more.push(format!("{restarts} restart{}", if restarts == 1 { "" } else { "s" }));
    }
    if !more.is_empty() {
        line.push((Paint::Dim, more.join(", ")));
    }
    let notes = if doing.note.is_empty() { vec![] } else { vec![(doing.paint, doing.note)] };
    Branch { line, notes, below: vec![] }
}

fn seconds(since: &str, now: Timestamp) -> Option<i64> {
    let since: Timestamp = since.parse().ok()?;
    Some(now.as_second().saturating_sub(since.as_second()).max(0))
}

/// The time since then as kubectl writes it: `45s`, `12m`, `3h`, `9d`; empty when there is none.
pub fn age(since: &str, now: Timestamp) -> String {
    match seconds(since, now) {
        None => String::new(),
        Some(seconds @ 0..120) => format!("{seconds}s"),
        Some(seconds @ 120..7200) => format!("{}m", seconds / 60),
        Some(seconds @ 7200..172_800) => format!("{}h", seconds / 3600),
        Some(seconds) => format!("{}d", seconds / 86_400),
    }
}
