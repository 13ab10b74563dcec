//! Vouching: is this live pod the one that we wrote, and nothing more?

use serde_json::{Value, json};

use super::diff::{Rules, difference};

/// What Kubernetes itself adds to the spec of a pod between its template and its life.
const INJECTED: &[&str] = &[
    "/spec/nodeName",
    "/spec/priority",
    "/spec/priorityClassName",
    "/spec/preemptionPolicy",
    // The image pull secrets of the ServiceAccount, when the template names none.
    "/spec/imagePullSecrets",
    // A LimitRange's defaults, where the template sets none.
    "/spec/containers/*/resources/requests",
    "/spec/containers/*/resources/limits",
    "/spec/containers/*/resources/requests/cpu",
    "/spec/containers/*/resources/requests/memory",
    "/spec/containers/*/resources/limits/cpu",
    "/spec/containers/*/resources/limits/memory",
    "/spec/containers/*/resources/limits/ephemeral-storage",
    "/spec/initContainers/*/resources/limits",
    "/spec/initContainers/*/resources/requests/ephemeral-storage",
];

/// Why the live `pod` is not the one that `template` describes; `None` when it is.
///
/// `trusted_mutators` are names of containers that the cluster's administrator lets others add (a service mesh's sidecar).
pub fn objection(template: &Value, pod: &Value, trusted_mutators: &[String]) -> Option<String> {
    let wanted = json!({ "metadata": { "labels": template.pointer("/metadata/labels") }, "spec": template.get("spec") });
    let mut wanted = wanted;
    let mut found = json!({ "metadata": { "labels": pod.pointer("/metadata/labels") }, "spec": pod.get("spec") });
    // The gate is lifted by us; before and after, the pod is the same.
    remove(&mut wanted, "schedulingGates");
    remove(&mut found, "schedulingGates");
    keep_own_tolerations(&wanted, &mut found);
    if !trusted_mutators.is_empty() {
        forget_trusted(&wanted, &mut found, trusted_mutators);
    }
    difference(&wanted, &found, Rules { exact: &["/spec"], injected: INJECTED })
}

fn remove(pod: &mut Value, key: &str) {
    if let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove(key);
    }
}

/// Admission adds tolerations for conditions of nodes (`node.kubernetes.io/not-ready`) to the ones we wrote.
fn keep_own_tolerations(wanted: &Value, found: &mut Value) {
    let own = wanted.pointer("/spec/tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(spec) = found.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let of_nodes = |toleration: &Value| {
        let key = toleration.get("key").and_then(Value::as_str).unwrap_or_default();
        key.starts_with("node.kubernetes.io/") && !own.contains(toleration)
    };
    if let Some(tolerations) = spec.get_mut("tolerations").and_then(Value::as_array_mut) {
        tolerations.retain(|toleration| !of_nodes(toleration));
    }
}

/// Forgets containers with trusted names, and volumes that we did not write: ours are compared whole, so none of them can
/// mount one.
fn forget_trusted(wanted: &Value, found: &mut Value, trusted: &[String]) {
    let names = |list: &str| -> Vec<String> {
        let entries = wanted.pointer(&format!("/spec/{list}")).and_then(Value::as_array).cloned().unwrap_or_default();
        entries.iter().filter_map(|entry| entry.get("name").and_then(Value::as_str).map(str::to_owned)).collect()
    };
    for list in ["containers", "initContainers", "volumes"] {
        let own = names(list);
        let Some(entries) = found.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut) else { continue };
        entries.retain(|entry| {
            let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
            own.iter().any(|own| own == name) || (list != "volumes" && !trusted.iter().any(|trusted| trusted == name))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> Value {
        json!({
            "metadata": { "labels": { "bonafide.dev/deployment": "chat" } },
            "spec": {
                "schedulingGates": [{ "name": "bonafide.dev/verdict" }],
                "containers": [{ "name": "engine", "image": "engine:1", "resources": { "requests": { "ephemeral-storage": "1" } } }],
                "tolerations": [{ "key": "nvidia.com/gpu", "operator": "Exists" }],
            },
        })
    }

    fn live() -> Value {
        let mut pod = template();
        pod["metadata"]["labels"]["pod-template-hash"] = json!("abc");
        pod["spec"]["nodeName"] = json!("node0");
        pod["spec"]["priority"] = json!(0);
        pod["spec"].as_object_mut().unwrap().remove("schedulingGates");
        let added = json!({ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300 });
        pod["spec"]["tolerations"].as_array_mut().unwrap().push(added);
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("100m");
        pod
    }

    fn objection_after(change: impl FnOnce(&mut Value)) -> Option<String> {
        let mut pod = live();
        change(&mut pod);
        objection(&template(), &pod, &[])
    }

    #[test]
    fn what_kubernetes_itself_adds_is_no_objection() {
        assert_eq!(objection_after(|_| {}), None);
    }

    #[test]
    fn whatever_else_is_added_or_changed_is_one() {
        type Change = Box<dyn FnOnce(&mut Value)>;
        let cases: Vec<(&str, Change)> = vec![
            ("container", Box::new(|pod| pod["spec"]["containers"].as_array_mut().unwrap().push(json!({ "name": "evil" })))),
            ("init container", Box::new(|pod| pod["spec"]["initContainers"] = json!([{ "name": "evil" }]))),
            ("ephemeral", Box::new(|pod| pod["spec"]["ephemeralContainers"] = json!([{ "name": "evil" }]))),
            ("variable", Box::new(|pod| pod["spec"]["containers"][0]["env"] = json!([{ "name": "LD_PRELOAD", "value": "/x" }]))),
            ("volume", Box::new(|pod| pod["spec"]["volumes"] = json!([{ "name": "evil", "hostPath": { "path": "/" } }]))),
            ("image", Box::new(|pod| pod["spec"]["containers"][0]["image"] = json!("evil:1"))),
            ("host", Box::new(|pod| pod["spec"]["hostPID"] = json!(true))),
            (
                "toleration",
                Box::new(|pod| pod["spec"]["tolerations"].as_array_mut().unwrap().push(json!({ "operator": "Exists" }))),
            ),
            ("label", Box::new(|pod| pod["metadata"]["labels"]["bonafide.dev/deployment"] = json!("other"))),
        ];
        for (name, change) in cases {
            assert!(objection_after(change).is_some(), "{name}");
        }
    }

    #[test]
    fn only_a_container_that_the_administrator_trusts_may_be_added() {
        let mut pod = live();
        pod["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({ "name": "istio-proxy", "volumeMounts": [{ "name": "certs" }] }));
        pod["spec"]["volumes"] = json!([{ "name": "certs", "emptyDir": {} }]);
        assert!(objection(&template(), &pod, &[]).is_some());
        assert_eq!(objection(&template(), &pod, &["istio-proxy".into()]), None);
        assert!(objection(&template(), &pod, &["linkerd-proxy".into()]).is_some());
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "certs", "mountPath": "/x" }]);
        assert!(objection(&template(), &pod, &["istio-proxy".into()]).is_some());
    }
}
