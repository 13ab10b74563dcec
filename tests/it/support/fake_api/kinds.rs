//! The kinds that the fake knows: those that we touch, and those of our own definitions.

use std::sync::LazyLock;

use serde_json::Value;

/// One kind.
#[derive(Debug, PartialEq)]
pub struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    /// Whether its status is written apart.
    pub status: bool,
    /// Whether it has a generation, which its spec's changes count.
    pub generation: bool,
    /// The schema of our own definitions.
    pub schema: Option<Value>,
}

impl Kind {
    /// `apps/v1`, `v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `deployments.apps`, as messages say it.
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}

static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let row = |group, version, plural, kind, namespaced, status, generation| Kind {
        group,
        version,
        plural,
        kind,
        namespaced,
        status,
        generation,
        schema: None,
    };
    let mut kinds = vec![
        row("", "v1", "pods", "Pod", true, true, true),
        row("", "v1", "configmaps", "ConfigMap", true, false, false),
        row("", "v1", "services", "Service", true, true, false),
        row("", "v1", "secrets", "Secret", true, false, false),
        row("", "v1", "namespaces", "Namespace", false, true, false),
        row("", "v1", "nodes", "Node", false, true, false),
        row("", "v1", "resourcequotas", "ResourceQuota", true, true, false),
        row("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", true, true, false),
        row("", "v1", "events", "Event", true, false, false),
        row("events.k8s.io", "v1", "events", "Event", true, false, false),
        row("apps", "v1", "deployments", "Deployment", true, true, true),
        row("apps", "v1", "replicasets", "ReplicaSet", true, true, true),
        row("apps", "v1", "controllerrevisions", "ControllerRevision", true, false, false),
        row("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", true, true, true),
        row("coordination.k8s.io", "v1", "leases", "Lease", true, false, false),
        row("storage.k8s.io", "v1", "storageclasses", "StorageClass", false, false, false),
        row("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", false, true, true),
        row("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", false, true, true),
        row(
            "admissionregistration.k8s.io",
            "v1",
            "validatingadmissionpolicybindings",
            "ValidatingAdmissionPolicyBinding",
            false,
            false,
            true,
        ),
    ];
    let text = |value: &Value| -> &'static str { value.as_str().unwrap().to_owned().leak() };
    for (_, definition) in bonafide::api::crds() {
        let spec = &definition["spec"];
        let version = &spec["versions"][0];
        kinds.push(Kind {
            group: text(&spec["group"]),
            version: text(&version["name"]),
            plural: text(&spec["names"]["plural"]),
            kind: text(&spec["names"]["kind"]),
            namespaced: spec["scope"] == "Namespaced",
            status: version["subresources"]["status"].is_object(),
            generation: true,
            schema: Some(version["schema"]["openAPIV3Schema"].clone()),
        });
    }
    kinds
});

/// The kind that a URL names.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.group == group && kind.version == version && kind.plural == plural)
}

/// The kind of that name. Of the two Events, the newer one.
pub fn of(name: &str) -> &'static Kind {
    KINDS.iter().rfind(|kind| kind.kind == name).unwrap_or_else(|| panic!("the fake does not know the kind {name}"))
}
