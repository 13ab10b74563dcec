//! The restricted profile of Pod Security, field by field, and what this house asks for beyond it.

use serde_json::{Value, json};

/// The first breach of the profile in the spec of a pod.
pub fn check(pod: &Value) -> Result<(), String> {
    for (at, wanted) in [
        ("/securityContext/runAsNonRoot", json!(true)),
        ("/securityContext/seccompProfile/type", json!("RuntimeDefault")),
        ("/automountServiceAccountToken", json!(false)),
        ("/enableServiceLinks", json!(false)),
    ] {
        expect(pod, at, &wanted)?;
    }
    for at in ["/hostNetwork", "/hostPID", "/hostIPC", "/securityContext/sysctls"] {
        expect(pod, at, &Value::Null)?;
    }
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let allowed =
            ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
        let kinds: Vec<&String> = volume.as_object().unwrap().keys().filter(|key| *key != "name").collect();
        if kinds.len() != 1 || !allowed.contains(&kinds[0].as_str()) {
            return Err(format!("volume {volume} is not of an allowed kind"));
        }
    }
    let containers = ["initContainers", "containers"].iter().flat_map(|list| pod[list].as_array().into_iter().flatten());
    for container in containers {
        let name = &container["name"];
        for (at, wanted) in [
            ("/securityContext/allowPrivilegeEscalation", json!(false)),
            ("/securityContext/capabilities", json!({"drop": ["ALL"]})),
            ("/securityContext/readOnlyRootFilesystem", json!(true)),
            ("/securityContext/privileged", Value::Null),
            ("/securityContext/runAsUser", Value::Null),
            ("/securityContext/procMount", Value::Null),
        ] {
            expect(container, at, &wanted).map_err(|breach| format!("container {name}: {breach}"))?;
        }
        for port in container["ports"].as_array().into_iter().flatten() {
            expect(port, "/hostPort", &Value::Null)?;
        }
    }
    // A pod that names no user gets one of the cluster's, and runAsNonRoot keeps that from being root.
    match pod.pointer("/securityContext/runAsUser") {
        None => Ok(()),
        Some(user) if user.as_i64().is_some_and(|user| user > 0) => Ok(()),
        other => Err(format!("/securityContext/runAsUser is {other:?}")),
    }
}

fn expect(value: &Value, at: &str, wanted: &Value) -> Result<(), String> {
    let found = value.pointer(at).unwrap_or(&Value::Null);
    if found == wanted { Ok(()) } else { Err(format!("{at} is {found}, not {wanted}")) }
}
