//! What the ControllerRevisions of a ModelDeployment tell. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    api::{ANNOTATION_REASON, ANNOTATION_SPEC, LABEL_REVISION},
    cli::{
        lint::is_commit,
        status::{age, phase, text},
    },
    controller::{ANSWERED, FAILED, REFUSED},
};

/// A revision as its record tells it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number; later ones are greater.
    pub number: i64,
    /// Its name.
    pub name: String,
    /// `Current`, `Old`, `Refused` or `Failed`.
    pub state: String,
    /// How many of its replicas answer, and how many there are.
    pub ready: (i64, i64),
    /// Whether a replica of it has answered, as far as that was noted.
    pub answered: bool,
    /// When it was made.
    pub created: String,
    /// The commit that it serves.
    pub commit: String,
    /// Its content digest.
    pub digest: String,
    /// The engine's image.
    pub image: String,
    /// What made it necessary.
    pub reason: String,
    /// The parts of the spec that it was made from, when the record has them.
    pub spec: Option<Map<String, Value>>,
}

/// The revisions of `model`, the newest first.
pub fn entries(model: &Value, records: &[Value]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = records.iter().map(|record| entry(model, record)).collect();
    entries.sort_by(|a, b| (b.number, &b.name).cmp(&(a.number, &a.name)));
    let reasons: Vec<String> = (0..entries.len()).map(|at| reason(&entries, at)).collect();
    entries.iter_mut().zip(reasons).for_each(|(entry, reason)| entry.reason = reason);
    entries
}

/// What made a revision necessary: what was noted or, of one that the first release made, what was frozen otherwise than before.
fn reason(entries: &[Entry], at: usize) -> String {
    let Some(entry) = entries.get(at) else { return String::new() };
    let Some(before) = entries.get(at + 1).filter(|_| entry.reason.is_empty()) else {
        let first = entry.reason.is_empty() && entry.number == 1;
        return if first { "It is the first revision.".to_owned() } else { entry.reason.clone() };
    };
    let parts = [
        ("commit", &before.commit, &entry.commit),
        ("digest", &before.digest, &entry.digest),
        ("image", &before.image, &entry.image),
    ];
    let changed = parts.into_iter().filter(|(_, old, new)| old != new);
    let changed: Vec<String> = changed.map(|(what, old, new)| format!("{what}: {old} became {new}")).collect();
    if changed.is_empty() { "It was not noted; model and image are those of before.".to_owned() } else { changed.join("; ") }
}

fn entry(model: &Value, record: &Value) -> Entry {
    let annotation =
        |key: &str| record.pointer("/metadata/annotations").and_then(|all| all.get(key)?.as_str()).unwrap_or_default().to_owned();
    let label = record.pointer("/metadata/labels").and_then(|all| all.get(LABEL_REVISION)?.as_str());
    let name = label.unwrap_or_else(|| text(record, "/data/name")).to_owned();
    let status = model.pointer("/status/revisions").and_then(Value::as_array).into_iter().flatten();
    let listed = status.filter(|revision| text(revision, "/name") == name).collect::<Vec<_>>();
    let count = |name: &str| listed.first().and_then(|revision| revision.get(name)?.as_i64()).unwrap_or_default();
    let ready = (count("readyReplicas"), count("replicas"));
    let state = match listed.first().map(|revision| phase(revision)) {
        Some(phase) => phase,
        None if !annotation(REFUSED).is_empty() => "Refused",
        None if !annotation(FAILED).is_empty() => "Failed",
        None => "Old",
    };
    Entry {
        number: record.get("revision").and_then(Value::as_i64).unwrap_or_default(),
        state: state.to_owned(),
        ready,
        answered: ready.0 > 0 || !annotation(ANSWERED).is_empty(),
        created: text(record, "/metadata/creationTimestamp").to_owned(),
        commit: text(record, "/data/commit").to_owned(),
        digest: text(record, "/data/digest").to_owned(),
        image: text(record, "/data/image").to_owned(),
        reason: annotation(ANNOTATION_REASON),
        spec: serde_json::from_str(&annotation(ANNOTATION_SPEC)).ok(),
        name,
    }
}

/// The history as a table.
pub fn table(entries: &[Entry], now: Timestamp) -> String {
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let short = |digest: &str| digest.strip_prefix("sha256:").map_or_else(|| dash(digest), |hex| hex.chars().take(12).collect());
    let mut rows = vec![["REVISION", "NAME", "STATE", "READY", "AGE", "DIGEST", "IMAGE", "REASON"].map(str::to_owned)];
    rows.extend(entries.iter().map(|entry| {
        [
            entry.number.to_string(),
            entry.name.clone(),
            dash(&entry.state),
            format!("{}/{}", entry.ready.0, entry.ready.1),
            dash(&age(&entry.created, now)),
            short(&entry.digest),
            dash(&entry.image),
            dash(&entry.reason),
        ]
    }));
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("{}\n", cells.join("  ").trim_end())
        })
        .collect()
}

/// The history for programs.
pub fn list(entries: &[Entry]) -> Value {
    let entry = |entry: &Entry| {
        json!({
            "revision": entry.number, "name": entry.name, "state": entry.state, "readyReplicas": entry.ready.0,
            "replicas": entry.ready.1, "created": entry.created,
            "commit": entry.commit, "digest": entry.digest, "image": entry.image, "reason": entry.reason, "spec": entry.spec,
        })
    };
    entries.iter().map(entry).collect()
}

/// The revision to go back to: the one that was asked for, or the last one before the current that did not fail.
///
/// # Errors
/// When there is none, or it does not tell what it was made from.
pub fn target<'a>(entries: &'a [Entry], wanted: Option<&str>) -> Result<&'a Entry, String> {
    let known = || entries.iter().map(|entry| entry.number.to_string()).collect::<Vec<_>>().join(", ");
    let found = match wanted {
        Some(wanted) => entries
            .iter()
            .find(|entry| entry.name == wanted || entry.number.to_string() == wanted)
            .ok_or_else(|| format!("there is no revision {wanted}; there are {}", known()))?,
        None => {
            // When there is no revision for what is asked for, the last one may be the one that serves.
            let newest = || usize::from(entries.first().is_some_and(|newest| !newest.answered));
            let first = entries.iter().position(|entry| entry.state == "Current").map_or_else(newest, |current| current + 1);
            let good = |entry: &&Entry| !matches!(entry.state.as_str(), "Refused" | "Failed") && entry.spec.is_some();
            let mut before = entries.iter().skip(first).filter(good);
            before.clone().find(|entry| entry.answered).or_else(|| before.next()).ok_or_else(|| match entries.len() {
                0 => "there is no revision yet".to_owned(),
                _ => format!("there is no revision before the current one to go back to; there are {}", known()),
            })?
        }
    };
    if found.spec.is_none() {
        return Err(format!(
            "revision {} was made by a version of Bonafide that did not note what it was made from: write its spec by hand",
            found.number
        ));
    }
    Ok(found)
}

/// The changes that bring `entry`, one of `entries`, back, and what is to be said of them; nothing when the spec is that already.
pub fn changes(model: &Value, entries: &[Entry], entry: &Entry) -> (Vec<Value>, Vec<String>) {
    let mut notes = vec![];
    let mut spec = entry.spec.clone().unwrap_or_default();
    if let Some(wanted) = spec.get_mut("model").and_then(Value::as_object_mut) {
        let named = wanted.get("revision").and_then(Value::as_str).unwrap_or_default().to_owned();
        let same_name = wanted.get("source").and_then(Value::as_str) == Some(text(model, "/status/model/source"))
            && named == text(model, "/status/model/wantedRevision");
        // A revision that is still there is used again as it was frozen; of several that were made of the same spec, its commit says
        // which one is meant.
        let alone = entries.iter().filter(|other| other.spec == entry.spec).all(|other| other.commit == entry.commit);
        let stands = alone || (same_name && entry.commit == text(model, "/status/model/revision"));
        if !stands && !is_commit(&named) && !entry.commit.is_empty() {
            let branch = if named.is_empty() { "the default branch".to_owned() } else { named };
            notes.push(format!("spec.model.revision is set to {}: {branch} may stand for other bytes now", entry.commit));
            wanted.insert("revision".to_owned(), Value::String(entry.commit.clone()));
        }
    }
    let mut changes = vec![];
    for part in ["model", "engine", "resources", "pod"] {
        let (path, live) = (format!("/spec/{part}"), model.pointer(&format!("/spec/{part}")));
        let empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
        match (spec.get(part).filter(|value| !empty(value)), live) {
            (Some(wanted), live) if live != Some(wanted) => {
                changes.push(json!({ "op": "add", "path": path, "value": wanted }));
            }
            (None, Some(live)) if !empty(live) => changes.push(json!({ "op": "remove", "path": path })),
            _ => {}
        }
    }
    changes.extend(drain(model, &spec));
    (changes, notes)
}

/// The change that brings back how long replicas may drain: of `spec.rollout`, the part that stands in pods.
fn drain(model: &Value, spec: &Map<String, Value>) -> Option<Value> {
    let of = |root: &Value, path: &str| root.pointer(path).filter(|value| !value.is_null()).cloned();
    let wanted = spec.get("rollout").and_then(|rollout| of(rollout, "/drain"));
    let live = of(model, "/spec/rollout/drain");
    match wanted {
        wanted if wanted == live => None,
        Some(drain) if of(model, "/spec/rollout").is_none() => {
            Some(json!({ "op": "add", "path": "/spec/rollout", "value": { "drain": drain } }))
        }
        Some(drain) => Some(json!({ "op": "add", "path": "/spec/rollout/drain", "value": drain })),
        None => Some(json!({ "op": "remove", "path": "/spec/rollout/drain" })),
    }
}

/// Who will write the object again from elsewhere, and how that is known.
pub fn keeper(model: &Value) -> Option<&'static str> {
    let has = |of: &str, start: &str| {
        let entries = model.pointer(&format!("/metadata/{of}")).and_then(Value::as_object);
        entries.into_iter().flatten().any(|(key, _)| key.starts_with(start))
    };
    let by = |names: &[&str]| {
        let managers = model.pointer("/metadata/managedFields").and_then(Value::as_array).into_iter().flatten();
        managers.filter_map(|entry| entry.get("manager")?.as_str()).any(|manager| names.contains(&manager))
    };
    if has("annotations", "argocd.argoproj.io/") || has("labels", "argocd.argoproj.io/") || by(&["argocd-controller"]) {
        Some("Argo CD")
    } else if has("labels", "kustomize.toolkit.fluxcd.io/")
        || has("labels", "helm.toolkit.fluxcd.io/")
        || by(&["kustomize-controller", "helm-controller"])
    {
        Some("Flux")
    } else if has("annotations", "meta.helm.sh/") {
        Some("Helm")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: i64, name: &str, commit: &str, spec: &Value) -> Value {
        json!({
            "revision": number,
            "metadata": {"creationTimestamp": "2026-11-22T11:00:00Z", "labels": {LABEL_REVISION: name},
                "annotations": {ANNOTATION_SPEC: spec.to_string(), ANNOTATION_REASON: format!("change {number}")}},
            "data": {"name": name, "commit": commit, "digest": format!("sha256:{number}"), "image": "llama.cpp:b1"},
        })
    }

    fn spec(engine: &Value) -> Value {
        json!({"model": {"source": "hf://a/b", "revision": "main"}, "engine": engine, "resources": {}, "pod": {}})
    }

    fn model() -> Value {
        json!({
            "metadata": {"name": "parrot"},
            "spec": {"model": {"source": "hf://a/b", "revision": "main"}, "engine": {"contextLength": 9}, "replicas": 3},
            "status": {"model": {"source": "hf://a/b", "wantedRevision": "main", "revision": "c1"},
                "revisions": [{"name": "three", "phase": "Current", "replicas": 1}, {"name": "two", "phase": "Failed"},
                    {"name": "one", "phase": "Old", "replicas": 2, "readyReplicas": 2}]},
        })
    }

    fn history() -> Vec<Entry> {
        let records = [
            record(1, "one", "c1", &spec(&json!({"contextLength": 1}))),
            record(3, "three", "c1", &spec(&json!({"contextLength": 9}))),
            record(2, "two", "c1", &spec(&json!({}))),
        ];
        entries(&model(), &records)
    }

    #[test]
    fn the_newest_stands_first_and_the_table_says_what_each_was() {
        let table = table(&history(), "2026-11-22T12:00:00Z".parse().unwrap());
        let expected = "\
REVISION  NAME   STATE    READY  AGE  DIGEST  IMAGE         REASON
3         three  Current  0/1    60m  3       llama.cpp:b1  change 3
2         two    Failed   0/0    60m  2       llama.cpp:b1  change 2
1         one    Old      2/2    60m  1       llama.cpp:b1  change 1
";
        assert_eq!(table, expected);
    }

    #[test]
    fn what_the_policies_refuse_and_what_serves_is_seen() {
        let mut blocked = model();
        blocked["status"]["revisions"] = json!([
            {"name": "three", "phase": "Old", "trust": "Refused", "replicas": 1, "readyReplicas": 0},
            {"name": "two", "phase": "Old", "trust": "Signed", "replicas": 2, "readyReplicas": 2}]);
        let records =
            [3, 2, 1].map(|number| record(number, ["one", "two", "three"][number as usize - 1], "c1", &spec(&json!({}))));
        let entries = entries(&blocked, &records);
        let seen: Vec<_> = entries.iter().map(|entry| (entry.state.as_str(), entry.ready)).collect();
        assert_eq!(seen, [("Refused", (0, 1)), ("Old", (2, 2)), ("Old", (0, 0))]);
        assert_eq!(target(&entries, None).unwrap().number, 2, "what serves, and not what is refused");
    }

    #[test]
    fn what_made_a_revision_of_the_first_release_necessary_is_read_from_what_it_froze() {
        let unnoted = |number: i64, commit: &str, image: &str| {
            let mut record = record(number, &number.to_string(), commit, &json!({}));
            record["metadata"]["annotations"] = json!({});
            (record["data"]["digest"], record["data"]["image"]) = (json!("sha256:7"), json!(image));
            record
        };
        let records = [unnoted(1, "c1", "a:1"), unnoted(2, "c2", "a:2"), unnoted(3, "c2", "a:2")];
        let reasons: Vec<String> = entries(&model(), &records).into_iter().map(|entry| entry.reason).collect();
        assert_eq!(
            reasons,
            [
                "It was not noted; model and image are those of before.",
                "commit: c1 became c2; image: a:1 became a:2",
                "It is the first revision."
            ]
        );
    }

    #[test]
    fn one_goes_back_to_the_last_that_did_not_fail_or_to_the_one_that_is_named() {
        let history = history();
        assert_eq!(target(&history, None).unwrap().number, 1);
        assert_eq!(target(&history, Some("2")).unwrap().name, "two");
        assert_eq!(target(&history, Some("one")).unwrap().number, 1);
        assert!(target(&history, Some("7")).unwrap_err().contains("3, 2, 1"));
        assert!(target(&history[..1], None).unwrap_err().contains("no revision before"));
        let mut old = history.clone();
        old[2].spec = None;
        assert!(target(&old, Some("1")).unwrap_err().contains("by hand"));
    }

    #[test]
    fn one_goes_back_to_the_last_that_has_answered_where_that_was_noted() {
        let entry = |number: i64, answered: bool| {
            let mut record = record(number, &number.to_string(), "c1", &spec(&json!({})));
            if answered {
                record["metadata"]["annotations"][ANSWERED] = json!("true");
            }
            record
        };
        // The third was replaced before it was given up, and nothing of it ever worked.
        let records = [entry(4, false), entry(3, false), entry(2, true), entry(1, true)];
        assert_eq!(target(&entries(&model(), &records), None).unwrap().number, 2);
        let records = [entry(3, false), entry(2, false), entry(1, false)];
        assert_eq!(target(&entries(&model(), &records), None).unwrap().number, 2, "nothing was noted");
        // What is asked for now never came to be, and the last revision serves.
        let mut blocked = model();
        blocked["status"]["revisions"] = json!([{"name": "2", "phase": "Old", "readyReplicas": 1}]);
        let records = [entry(2, false), entry(1, true)];
        assert_eq!(target(&entries(&blocked, &records), None).unwrap().number, 2);
    }

    #[test]
    fn only_what_differs_is_written_and_replicas_stay() {
        let history = history();
        let back = |to| changes(&model(), &history, target(&history, Some(to)).unwrap());
        let (changed, notes) = back("1");
        assert_eq!(changed, [json!({"op": "add", "path": "/spec/engine", "value": {"contextLength": 1}})]);
        assert!(notes.is_empty(), "{notes:?}");
        assert_eq!(back("2").0, [json!({"op": "remove", "path": "/spec/engine"})]);
        assert_eq!(back("3").0, Vec::<Value>::new());
    }

    #[test]
    fn of_two_that_were_made_of_the_same_spec_the_commit_says_which_one_is_meant() {
        let mut model = model();
        model["status"]["model"]["revision"] = json!("c2");
        let of = |number, name: &str, commit: &str| record(number, name, commit, &spec(&json!({"contextLength": 9})));
        let moved = entries(&model, &[of(1, "one", "c1"), of(2, "two", "c2"), of(3, "three", "c2")]);
        let (changed, notes) = changes(&model, &moved, target(&moved, Some("1")).unwrap());
        assert_eq!(changed[0]["value"]["revision"], "c1");
        assert!(notes[0].contains("c1") && notes[0].contains("main"), "{notes:?}");
        // Alone it is used again as it was frozen, also under a branch that stands for other bytes now, and from another source.
        let alone = history();
        model["status"]["model"]["source"] = json!("hf://c/d");
        let (changed, notes) = changes(&model, &alone, target(&alone, Some("1")).unwrap());
        assert_eq!((changed[0]["path"].as_str(), changed.len(), notes.len()), (Some("/spec/engine"), 1, 0));
    }

    #[test]
    fn whoever_writes_the_object_from_elsewhere_is_known() {
        let with = |metadata: Value| keeper(&json!({"metadata": metadata}));
        assert_eq!(with(json!({"annotations": {"argocd.argoproj.io/tracking-id": "x"}})), Some("Argo CD"));
        assert_eq!(with(json!({"managedFields": [{"manager": "argocd-controller"}]})), Some("Argo CD"));
        assert_eq!(with(json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}})), Some("Flux"));
        assert_eq!(with(json!({"annotations": {"meta.helm.sh/release-name": "x"}})), Some("Helm"));
        assert_eq!(with(json!({"managedFields": [{"manager": "kubectl"}], "labels": {"a": "b"}})), None);
    }

    #[test]
    fn how_long_it_drains_is_brought_back_too() {
        let change = |live: Value, then: Value| drain(&json!({ "spec": live }), then.as_object().unwrap());
        let seven = json!({ "rollout": { "drain": "7s" } });
        assert_eq!(change(seven.clone(), seven.clone()), None);
        assert_eq!(change(json!({}), json!({})), None);
        let whole = json!({ "op": "add", "path": "/spec/rollout", "value": { "drain": "7s" } });
        assert_eq!(change(json!({}), seven.clone()), Some(whole));
        let one = json!({ "op": "add", "path": "/spec/rollout/drain", "value": "7s" });
        assert_eq!(change(json!({ "rollout": { "strategy": "Canary" } }), seven.clone()), Some(one));
        assert_eq!(change(seven, json!({})), Some(json!({ "op": "remove", "path": "/spec/rollout/drain" })));
    }
}
