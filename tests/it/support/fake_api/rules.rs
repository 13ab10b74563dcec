//! What the API server does for some kinds only.

use serde_json::{Value, json};

use super::{kinds::Kind, refuse::Refusal, schema::object_mut};

/// Writes out what is left out, for the kinds and fields that matter here.
pub fn defaults(kind: &Kind, object: &mut Value) {
    match kind.kind {
        "Deployment" => {
            let spec = object_mut(&mut object["spec"]);
            spec.entry("replicas").or_insert(json!(1));
            spec.entry("revisionHistoryLimit").or_insert(json!(10));
            spec.entry("progressDeadlineSeconds").or_insert(json!(600));
            spec.entry("strategy")
                .or_insert(json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}));
        }
        "Service" => {
            let spec = object_mut(&mut object["spec"]);
            for (field, value) in [
                ("type", json!("ClusterIP")),
                ("sessionAffinity", json!("None")),
                ("internalTrafficPolicy", json!("Cluster")),
                ("ipFamilyPolicy", json!("SingleStack")),
                ("ipFamilies", json!(["IPv4"])),
            ] {
                spec.entry(field).or_insert(value);
            }
        }
        "Namespace" => {
            let name = object["metadata"]["name"].clone();
            object_mut(&mut object["metadata"]["labels"]).insert("kubernetes.io/metadata.name".to_owned(), name);
        }
        "Pod" => {
            let spec = object_mut(&mut object["spec"]);
            for (field, value) in [
                ("restartPolicy", json!("Always")),
                ("terminationGracePeriodSeconds", json!(30)),
                ("dnsPolicy", json!("ClusterFirst")),
                ("securityContext", json!({})),
                ("schedulerName", json!("default-scheduler")),
                ("enableServiceLinks", json!(true)),
                ("priority", json!(0)),
                ("preemptionPolicy", json!("PreemptLowerPriority")),
            ] {
                spec.entry(field).or_insert(value);
            }
            let tolerations = spec.entry("tolerations").or_insert(json!([])).as_array_mut().unwrap();
            for taint in ["not-ready", "unreachable"] {
                let key = format!("node.kubernetes.io/{taint}");
                if !tolerations.iter().any(|toleration| toleration["key"] == key.as_str()) {
                    tolerations
                        .push(json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 }));
                }
            }
        }
        _ => {}
    }
}

/// Completes a new object: what nobody applied, and what starts with it.
pub fn completed(kind: &Kind, object: &mut Value, now: &Value) {
    match kind.kind {
        "Service" => {
            let spec = object_mut(&mut object["spec"]);
            spec.entry("clusterIP").or_insert(json!("10.0.0.10"));
            spec.entry("clusterIPs").or_insert(json!(["10.0.0.10"]));
            object["status"] = json!({ "loadBalancer": {} });
        }
        "Deployment" | "ReplicaSet" => object["status"] = json!({}),
        "Namespace" => {
            object["status"] = json!({ "phase": "Active" });
            object["spec"] = json!({ "finalizers": ["kubernetes"] });
        }
        "Pod" => {
            object["status"] = json!({ "phase": "Pending", "qosClass": "Burstable" });
            if object["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
                object["status"]["conditions"] = json!([{
                    "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "lastTransitionTime": now,
                    "message": "Scheduling is blocked due to non-empty scheduling gates",
                }]);
            }
        }
        _ => {}
    }
}

/// A write of the status changes nothing else, and a write of the rest not the status.
pub fn keep_apart(kind: &Kind, subresource: &str, live: &Value, object: &mut Value) {
    if !kind.status {
        return;
    }
    let keep = |object: &mut Value, field: &str| match live.get(field) {
        Some(value) => drop(object_mut(object).insert(field.to_owned(), value.clone())),
        None => drop(object_mut(object).remove(field)),
    };
    if subresource != "status" {
        return keep(object, "status");
    }
    for field in live.as_object().unwrap().keys().chain(object.clone().as_object().unwrap().keys()) {
        if field != "status" && field != "metadata" {
            keep(object, field);
        }
    }
    let managed = object["metadata"].get("managedFields").cloned();
    // Pods take labels and annotations with their status; our own kinds do not.
    let written = object["metadata"].clone();
    object["metadata"] = live["metadata"].clone();
    if kind.schema.is_none() {
        for field in ["labels", "annotations"] {
            if let Some(value) = written.get(field) {
                object["metadata"][field] = value.clone();
            }
        }
    }
    match managed {
        Some(managed) => object["metadata"]["managedFields"] = managed,
        None => drop(object_mut(&mut object["metadata"]).remove("managedFields")),
    }
}

/// Whether the change is one that the generation counts.
pub fn wants_new_generation(kind: &Kind, before: &Value, after: &Value) -> bool {
    if kind.schema.is_none() {
        let annotations = |object: &Value| object["metadata"]["annotations"].clone();
        let annotated = kind.kind == "Deployment" && annotations(before) != annotations(after);
        return annotated || before.get("spec") != after.get("spec");
    }
    let rest = |object: &Value| {
        let mut object = object.clone();
        object_mut(&mut object).retain(|field, _| field != "metadata" && (field != "status" || !kind.status));
        object
    };
    rest(before) != rest(after)
}

/// What may not be changed.
pub fn check_change(kind: &Kind, before: &Value, after: &Value) -> Result<(), Refusal> {
    let name = before["metadata"]["name"].as_str().unwrap_or_default();
    let immutable = |at: &str| {
        if before.pointer(at) == after.pointer(at) {
            Ok(())
        } else {
            let field = at.trim_start_matches('/').replace('/', ".");
            Err(Refusal::invalid(kind, name, &format!("{field}: Invalid value: field is immutable")))
        }
    };
    match kind.kind {
        "ControllerRevision" => immutable("/data"),
        "Deployment" => immutable("/spec/selector"),
        "Service" => immutable("/spec/clusterIP"),
        "Pod" => {
            let gates = |object: &Value| object["spec"]["schedulingGates"].as_array().cloned().unwrap_or_default();
            if gates(after).iter().any(|gate| !gates(before).contains(gate)) {
                return Err(Refusal::invalid(kind, name, "spec.schedulingGates: Forbidden: only deletion is allowed"));
            }
            let fixed = |object: &Value| {
                let mut spec = object["spec"].clone();
                for list in ["containers", "initContainers"] {
                    for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                        object_mut(container).remove("image");
                    }
                }
                let fields = object_mut(&mut spec);
                for field in ["schedulingGates", "tolerations", "activeDeadlineSeconds", "nodeName"] {
                    fields.remove(field);
                }
                spec
            };
            if fixed(before) == fixed(after) {
                return Ok(());
            }
            Err(Refusal::invalid(kind, name, "spec: Forbidden: pod updates may not change fields other than the image"))
        }
        _ => Ok(()),
    }
}

/// Seconds that a pod on a node is given to end; `None` for what goes at once.
pub fn grace(kind: &Kind, object: &Value, wanted: Option<i64>) -> Option<i64> {
    let on_a_node = object["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    if kind.kind != "Pod" || !on_a_node || wanted == Some(0) {
        return None;
    }
    Some(wanted.or_else(|| object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30))
}

/// `autoscaling/v1 Scale`
pub fn scale(kind: &Kind, object: &Value) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        metadata[field] = object["metadata"][field].clone();
    }
    let selector = if kind.schema.is_some() {
        object["status"]["selector"].clone()
    } else {
        let labels = object["spec"]["selector"]["matchLabels"].as_object().cloned().unwrap_or_default();
        let pairs: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        json!(pairs.join(","))
    };
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": { "replicas": object["spec"]["replicas"] },
        "status": { "replicas": object["status"]["replicas"].as_i64().unwrap_or(0), "selector": selector },
    })
}
