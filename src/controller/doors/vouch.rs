//! Vouching: is this live pod the one that we wrote, and nothing more?

use serde_json::{Value, json};

use crate::controller::objects::diff::{Rules, difference};

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
    // The gate is lifted by us, and others by whom they are of (Kueue's); before and after, the pod is the same.
    remove(&mut wanted, "schedulingGates");
    remove(&mut found, "schedulingGates");
    if let Some(mounted) = mounts_of_ours(&wanted, &found) {
        return Some(mounted);
    }
    keep_own_tolerations(&wanted, &mut found);
    forget_class(&wanted, &mut found);
    forget_assigned(&wanted, &mut found);
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

fn entries<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    pod.get("spec").and_then(|spec| spec.get(list)).and_then(Value::as_array).into_iter().flatten()
}

fn name(entry: &Value) -> &str {
    entry.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// A container that is not ours and mounts a volume that is: it could change what was verified, whoever trusts it.
fn mounts_of_ours(wanted: &Value, found: &Value) -> Option<String> {
    let ours: Vec<&str> = entries(wanted, "volumes").map(name).collect();
    ["containers", "initContainers", "ephemeralContainers"].into_iter().find_map(|list| {
        let own: Vec<&str> = entries(wanted, list).map(name).collect();
        entries(found, list).filter(|container| !own.contains(&name(container))).find_map(|container| {
            let mut mounts = container.get("volumeMounts").and_then(Value::as_array).into_iter().flatten();
            let volume = mounts.find(|mount| ours.contains(&name(mount)))?;
            Some(format!("/spec/{list}: the added '{}' mounts the volume '{}'", name(container), name(volume)))
        })
    })
}

/// Admission adds tolerations to the ones we wrote: for conditions of nodes (`node.kubernetes.io/not-ready`), and for nodes
/// that are kept for the extended resources that the pod asks for.
fn keep_own_tolerations(wanted: &Value, found: &mut Value) {
    let own = wanted.pointer("/spec/tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let asked: Vec<String> = entries(wanted, "containers")
        .filter_map(|container| container.pointer("/resources/limits").and_then(Value::as_object))
        .flat_map(|limits| limits.keys().filter(|name| name.contains('/')).cloned())
        .collect();
    let Some(spec) = found.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let of_admission = |toleration: &Value| {
        let key = toleration.get("key").and_then(Value::as_str).unwrap_or_default();
        (key.starts_with("node.kubernetes.io/") || asked.iter().any(|asked| asked == key)) && !own.contains(toleration)
    };
    if let Some(tolerations) = spec.get_mut("tolerations").and_then(Value::as_array_mut) {
        tolerations.retain(|toleration| !of_admission(toleration));
    }
}

/// A RuntimeClass that we name, and Kueue where we name a queue, choose nodes and say what the sandbox costs. That says where
/// a pod runs, and never what.
fn forget_class(wanted: &Value, found: &mut Value) {
    let class = wanted.pointer("/spec/runtimeClassName").is_some();
    let queue = wanted.pointer("/metadata/labels/kueue.x-k8s.io~1queue-name").is_some();
    let Some(spec) = found.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if class {
        spec.remove("overhead");
    }
    if !class && !queue {
        return;
    }
    let own = wanted.pointer("/spec/tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(tolerations) = spec.get_mut("tolerations").and_then(Value::as_array_mut) {
        tolerations.retain(|toleration| own.contains(toleration));
    }
    let own = wanted.pointer("/spec/nodeSelector").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(labels) = spec.get_mut("nodeSelector").and_then(Value::as_object_mut) {
        labels.retain(|key, _| own.contains_key(key));
    }
}

/// What OpenShift writes for the namespace of a pod: the level of SELinux, and the user and groups where we name none. That
/// the user is not root is ours to say, and stays.
fn forget_assigned(wanted: &Value, found: &mut Value) {
    let assigned = wanted.pointer("/spec/securityContext").is_some_and(|security| security.get("runAsUser").is_none());
    let forget = |security: Option<&mut Value>, keys: &[&str]| {
        let Some(security) = security.and_then(Value::as_object_mut) else { return };
        let level = |options: &Value| options.as_object().is_some_and(|options| options.keys().all(|key| key == "level"));
        if security.get("seLinuxOptions").is_some_and(level) {
            security.remove("seLinuxOptions");
        }
        if assigned {
            keys.iter().for_each(|key| drop(security.remove(*key)));
        }
    };
    forget(found.pointer_mut("/spec/securityContext"), &["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"]);
    for list in ["containers", "initContainers"] {
        let containers = found.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            forget(container.get_mut("securityContext"), &["runAsUser", "runAsGroup"]);
        }
    }
}

/// Forgets containers with trusted names, and volumes that we did not write: ours are compared whole, so none of them can
/// mount one.
fn forget_trusted(wanted: &Value, found: &mut Value, trusted: &[String]) {
    for list in ["containers", "initContainers", "volumes"] {
        let own: Vec<&str> = entries(wanted, list).map(name).collect();
        let Some(entries) = found.pointer_mut(&format!("/spec/{list}")).and_then(Value::as_array_mut) else { continue };
        entries.retain(|entry| {
            let name = name(entry);
            own.contains(&name) || (list != "volumes" && !trusted.iter().any(|trusted| trusted == name))
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

    #[test]
    fn whoever_is_trusted_may_not_mount_what_we_verified() {
        let mut template = template();
        template["spec"]["volumes"] = json!([{ "name": "weights", "emptyDir": {} }]);
        let mut pod = template.clone();
        pod["spec"]["initContainers"] = json!([{ "name": "istio-proxy", "restartPolicy": "Always", "volumeMounts": [] }]);
        assert_eq!(objection(&template, &pod, &["istio-proxy".into()]), None);
        pod["spec"]["initContainers"][0]["volumeMounts"] = json!([{ "name": "weights", "mountPath": "/x" }]);
        let found = objection(&template, &pod, &["istio-proxy".into()]).unwrap();
        assert_eq!(found, "/spec/initContainers: the added 'istio-proxy' mounts the volume 'weights'");
    }

    #[test]
    fn openshift_may_assign_a_user_only_where_we_name_none() {
        let assigned = |pod: &mut Value| {
            pod["spec"]["securityContext"]["fsGroup"] = json!(1_000_680_000);
            pod["spec"]["securityContext"]["seLinuxOptions"] = json!({ "level": "s0:c26,c15" });
            pod["spec"]["containers"][0]["securityContext"] = json!({ "runAsUser": 1_000_680_000 });
        };
        let mut wanted = template();
        wanted["spec"]["securityContext"] = json!({ "runAsNonRoot": true });
        let mut pod = wanted.clone();
        assigned(&mut pod);
        assert_eq!(objection(&wanted, &pod, &[]), None);
        pod["spec"]["securityContext"]["runAsNonRoot"] = json!(false);
        assert!(objection(&wanted, &pod, &[]).is_some(), "root");
        let mut pod = wanted.clone();
        pod["spec"]["securityContext"]["seLinuxOptions"] = json!({ "level": "s0", "type": "spc_t" });
        assert!(objection(&wanted, &pod, &[]).is_some(), "no confinement");

        wanted["spec"]["securityContext"]["runAsUser"] = json!(65532);
        let mut pod = wanted.clone();
        pod["spec"]["securityContext"]["seLinuxOptions"] = json!({ "level": "s0:c26,c15" });
        assert_eq!(objection(&wanted, &pod, &[]), None, "nonroot-v2 assigns a level and nothing else");
        assigned(&mut pod);
        assert!(objection(&wanted, &pod, &[]).is_some(), "another user than the one that we name");
    }

    #[test]
    fn a_runtime_class_and_a_queue_say_where_a_pod_runs_only_when_we_name_them() {
        let place = |pod: &mut Value| {
            pod["spec"]["nodeSelector"] = json!({ "sandbox": "gvisor" });
            pod["spec"]["tolerations"].as_array_mut().unwrap().push(json!({ "key": "sandbox", "operator": "Exists" }));
        };
        let mut plain = template();
        place(&mut plain);
        assert!(objection(&template(), &plain, &[]).is_some());

        let mut wanted = template();
        wanted["spec"]["runtimeClassName"] = json!("gvisor");
        let mut pod = wanted.clone();
        pod["spec"]["overhead"] = json!({ "memory": "64Mi" });
        place(&mut pod);
        assert_eq!(objection(&wanted, &pod, &[]), None);
        pod["spec"]["runtimeClassName"] = json!("other");
        assert!(objection(&wanted, &pod, &[]).is_some());

        let mut wanted = template();
        wanted["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = json!("birds");
        let mut pod = wanted.clone();
        pod["spec"]["schedulingGates"] = json!([{ "name": "kueue.x-k8s.io/admission" }]);
        place(&mut pod);
        assert_eq!(objection(&wanted, &pod, &[]), None);
        pod["spec"]["overhead"] = json!({ "memory": "64Mi" });
        assert!(objection(&wanted, &pod, &[]).is_some());
    }

    #[test]
    fn a_toleration_for_what_is_asked_for_is_no_objection() {
        let mut wanted = template();
        wanted["spec"]["containers"][0]["resources"]["limits"] = json!({ "rdma/hca": "1" });
        let mut pod = wanted.clone();
        let added = json!({ "key": "rdma/hca", "operator": "Exists", "effect": "NoSchedule" });
        pod["spec"]["tolerations"].as_array_mut().unwrap().push(added.clone());
        assert_eq!(objection(&wanted, &pod, &[]), None);
        let mut pod = template();
        pod["spec"]["tolerations"].as_array_mut().unwrap().push(added);
        assert!(objection(&template(), &pod, &[]).is_some());
    }
}
