//! One conversation with an API server, written down without what differs from one server to the next.

use std::{collections::BTreeMap, time::Duration};

use http::Request;
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Step;

/// How long an answer may have what it is to lack, and a server say that it is not ready.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Transcript {
    client: Client,
    namespace: String,
    /// Answers that later questions refer to.
    kept: BTreeMap<String, Value>,
    /// The last version of each object.
    versions: BTreeMap<String, String>,
    /// What was answered.
    pub lines: Vec<String>,
}

impl Transcript {
    pub fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace, kept: BTreeMap::new(), versions: BTreeMap::new(), lines: vec![] }
    }

    /// Asks, and writes down the answer.
    pub async fn ask(&mut self, step: &Step) {
        let (verb, path) = step.r#do.split_once(' ').unwrap();
        let mut path = self.filled(path);
        if verb.starts_with("WATCH") {
            path.push_str("&watch=true&timeoutSeconds=4");
        }
        let patience = Instant::now() + PATIENCE;
        let line = loop {
            let line = self.answer(step, verb, &path).await;
            match line {
                Some(line) => break line,
                None if Instant::now() > patience => break format!("it still has {}", step.until),
                None => sleep(Duration::from_millis(100)).await,
            }
        };
        self.lines.push(line);
    }

    /// Asks once; nothing when the answer still has what it is to lack, or is to come later: one that has just started says so.
    async fn answer(&mut self, step: &Step, verb: &str, path: &str) -> Option<String> {
        let (method, content) = match verb {
            "APPLY" => ("PATCH", "application/apply-patch+yaml"),
            "MERGE" => ("PATCH", "application/merge-patch+json"),
            "JSON" => ("PATCH", "application/json-patch+json"),
            "STRATEGIC" => ("PATCH", "application/strategic-merge-patch+json"),
            "META" | "METALIST" | "WATCH" | "WATCHMETA" => ("GET", ""),
            verb => (verb, "application/json"),
        };
        let mut request = Request::builder().method(method).uri(path).header("user-agent", "conformance");
        if !content.is_empty() {
            request = request.header("content-type", content);
        }
        request = match verb {
            "METALIST" => request.header("accept", "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
            "META" | "WATCHMETA" => request.header("accept", "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
            _ => request,
        };
        let body = if step.body.is_null() { vec![] } else { self.filled(&step.body.to_string()).into_bytes() };
        let answer = self.client.send(request.body(Body::from(body)).unwrap()).await.unwrap();
        let code = answer.status().as_u16();
        if code == 429 {
            return None;
        }
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let line = if verb.starts_with("WATCH") {
            let events = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let event = |line: &[u8]| {
                let event: Value = serde_json::from_slice(line).unwrap();
                let object = &event["object"];
                if object["kind"] == "Status" {
                    return format!("{} {} {}", event["type"], object["code"], object["reason"]).replace('"', "");
                }
                format!("{} {} {} {}", event["type"], object["kind"], object["metadata"]["name"], object["data"]).replace('"', "")
            };
            events.map(event).collect::<Vec<_>>().join("; ")
        } else {
            let object: Value = serde_json::from_slice(&body).unwrap_or_default();
            // What is not there has metadata that says nothing.
            if !step.until.is_empty() && code == 200 && object.pointer(&step.until).is_some() {
                return None;
            }
            if !step.r#as.is_empty() {
                self.kept.insert(step.r#as.clone(), object.clone());
            }
            self.said(&object, &step.see)
        };
        Some(format!("{code} {line}").trim_end().to_owned())
    }

    /// A text with the parts of earlier answers, and with the namespace.
    fn filled(&self, text: &str) -> String {
        let mut text = text.replace("NS", &self.namespace);
        for (name, object) in &self.kept {
            for (part, at) in [("uid", "uid"), ("version", "resourceVersion"), ("next", "continue")] {
                let value = object["metadata"][at].as_str().unwrap_or_default();
                text = text.replace(&format!("${name}.{part}"), value);
            }
        }
        text
    }

    fn said(&mut self, object: &Value, see: &[String]) -> String {
        let mut parts = vec![];
        if object["kind"] == "Status" && object["status"] == "Failure" {
            parts.push(object["reason"].as_str().unwrap_or_default().to_owned());
        }
        let metadata = &object["metadata"];
        if let (Some(uid), Some(version)) = (metadata["uid"].as_str(), version(object)) {
            let before = self.versions.insert(uid.to_owned(), version.clone());
            let same = before.as_ref() == Some(&version);
            parts.push(if same { "same version" } else { "new version" }.to_owned());
        }
        for at in see {
            let value = match at.as_str() {
                "names" => {
                    let items = object["items"].as_array().cloned().unwrap_or_default();
                    items.iter().map(|item| item["metadata"]["name"].clone()).collect()
                }
                "pages" => json!([metadata["continue"].is_string(), metadata["remainingItemCount"]]),
                "conditions" => {
                    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
                    conditions.iter().map(|one| json!([one["type"], one["status"], one["reason"]])).collect()
                }
                pointer => object.pointer(pointer).cloned().unwrap_or_default(),
            };
            parts.push(format!("{at} {}", self.plain(value)));
        }
        parts.join(" | ")
    }

    /// A value without times and without the namespace.
    fn plain(&self, mut value: Value) -> String {
        fn untimed(value: &mut Value) {
            match value {
                Value::Object(map) => {
                    map.remove("time");
                    // Whether a whole map is owned beside its entries changes nothing.
                    map.remove(".");
                    map.values_mut().for_each(untimed);
                }
                Value::Array(items) => {
                    // The order of owners is nobody's promise.
                    items.iter_mut().for_each(untimed);
                    if items.iter().all(|item| item["fieldsV1"].is_object()) {
                        items.sort_by_key(|item| format!("{} {}", item["manager"], item["operation"]));
                    }
                }
                _ => {}
            }
        }
        untimed(&mut value);
        value.to_string().replace(&self.namespace, "NS")
    }
}

/// What tells one version of an object from the next. A Deployment has a controller of its own, which writes to it at its own
/// times: what that one writes makes no other version.
fn version(object: &Value) -> Option<String> {
    let version = object["metadata"]["resourceVersion"].as_str()?;
    if object["kind"] != "Deployment" {
        return Some(version.to_owned());
    }
    let mut kept = object.clone();
    let parts = kept.as_object_mut()?;
    parts.remove("status");
    let metadata = parts["metadata"].as_object_mut()?;
    metadata.remove("resourceVersion");
    if let Some(Value::Array(managers)) = metadata.get_mut("managedFields") {
        managers.retain(|one| one["manager"] != "kube-controller-manager");
    }
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove("deployment.kubernetes.io/revision");
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    Some(kept.to_string())
}
