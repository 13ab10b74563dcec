//! The init container that fetches and verifies the weights.

use serde_json::{Value, json};

use super::{CONTAINER_FETCH, HELPER_DIRECTORY, PodInput, RevisionInput, place, security};

/// Where it tells how far it is.
pub const PROGRESS_PORT: u16 = 8081;

/// The container.
pub(super) fn fetch(input: &PodInput<'_>) -> Value {
    let RevisionInput { spec, artifact, digest, fetch_image, pull_policy, .. } = *input.of;
    let mut args = vec![
        "fetch".to_owned(),
        format!("--source={}", artifact.source),
        format!("--revision={}", artifact.revision),
        format!("--digest={digest}"),
        "--manifest=/var/lib/bonafide/config/manifest.json".to_owned(),
        "--sources=/var/lib/bonafide/config/sources.json".to_owned(),
        "--into=/var/lib/bonafide/weights".to_owned(),
        format!("--bring={HELPER_DIRECTORY}"),
        format!("--listen=[::]:{PROGRESS_PORT}"),
    ];
    let mut mounts = place::of_fetch(input.of);
    mounts.extend([
        json!({ "name": "config", "mountPath": "/var/lib/bonafide/config", "readOnly": true }),
        json!({ "name": "bin", "mountPath": HELPER_DIRECTORY }),
    ]);
    if spec.model.secret_ref.is_some() {
        args.push("--credentials=/var/lib/bonafide/credentials".to_owned());
        mounts.push(json!({ "name": "credentials", "mountPath": "/var/lib/bonafide/credentials", "readOnly": true }));
    }
    json!({
        "name": CONTAINER_FETCH,
        "image": fetch_image,
        "imagePullPolicy": pull_policy,
        "args": args,
        "ports": [{ "name": "progress", "containerPort": PROGRESS_PORT, "protocol": "TCP" }],
        "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
        "securityContext": security(),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts,
    })
}
