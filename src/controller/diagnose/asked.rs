//! What a pod template asks of a cluster, read from the frozen revision.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::looked::{Taint, TakingSpec, number};
use crate::{
    api::{LABEL_DEPLOYMENT, Toleration},
    controller::plan::CONTAINER_ENGINE,
};

/// What a pod template asks for.
#[derive(Debug, Default, Clone)]
pub struct Asked {
    /// By resource, as the scheduler counts.
    pub requests: BTreeMap<String, f64>,
    /// Labels that the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not keep it away.
    pub tolerations: Vec<Toleration>,
    /// The image of each container.
    pub images: BTreeMap<String, String>,
    /// The claims that it mounts.
    pub claims: Vec<String>,
    /// Whether it has to be on the node of the others, since its weights lie in a claim that one node at a time can mount.
    pub together: bool,
    /// The path of the engine's probe.
    pub ready_path: String,
    /// How long the engine may load before it is started again, in seconds.
    pub start_timeout: i64,
    /// The bytes of memory that the engine may use.
    pub memory_limit: Option<f64>,
    /// The tokens of context that the engine is told to have room for, where it is told.
    pub context: Option<u64>,
    /// The bytes of the model.
    pub bytes: u64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_selector: BTreeMap<String, String>,
    tolerations: Vec<Toleration>,
    #[serde(flatten)]
    taking: TakingSpec,
}

impl Asked {
    /// Reads a pod template; what cannot be read is as if it was not asked for.
    pub fn of(template: &Value, bytes: u64) -> Self {
        let spec = template.get("spec").cloned().unwrap_or_default();
        let list = |name: &str| spec.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let containers: Vec<Value> = [list("initContainers"), list("containers")].concat();
        let text = |value: &Value, at: &str| value.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let engine =
            containers.iter().find(|container| text(container, "/name") == CONTAINER_ENGINE).cloned().unwrap_or_default();
        let probe = |at: &str| engine.pointer(&format!("/startupProbe/{at}")).and_then(Value::as_i64).unwrap_or(1);
        let claims = list("volumes");
        let claims = claims.iter().map(|volume| text(volume, "/persistentVolumeClaim/claimName"));
        let required = "/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution";
        let required = spec.pointer(required).and_then(Value::as_array);
        let own = template.pointer("/metadata/labels").and_then(|labels| labels.get(LABEL_DEPLOYMENT));
        let together = required.is_some_and(|terms| {
            terms.iter().any(|term| {
                let selects = term.pointer("/labelSelector/matchLabels").and_then(|labels| labels.get(LABEL_DEPLOYMENT));
                selects.is_some() && selects == own && text(term, "/topologyKey") == "kubernetes.io/hostname"
            })
        });
        let read: Spec = serde_json::from_value(spec).unwrap_or_default();
        Self {
            requests: read.taking.requests(),
            node_selector: read.node_selector,
            tolerations: read.tolerations,
            images: containers.iter().map(|container| (text(container, "/name"), text(container, "/image"))).collect(),
            claims: claims.filter(|name| !name.is_empty()).collect(),
            together,
            ready_path: text(&engine, "/readinessProbe/httpGet/path"),
            start_timeout: probe("periodSeconds").saturating_mul(probe("failureThreshold")),
            memory_limit: engine.pointer("/resources/limits/memory").and_then(number),
            context: context(&engine),
            bytes,
        }
    }

    /// Whether a taint keeps the pod away.
    pub fn is_kept_away_by(&self, taint: &Taint) -> bool {
        if taint.effect == "PreferNoSchedule" {
            return false;
        }
        !self.tolerations.iter().any(|toleration| {
            let key = toleration.key.as_deref().unwrap_or_default();
            let exists = toleration.operator.as_deref() == Some("Exists");
            let effect = toleration.effect.as_deref().unwrap_or_default();
            (effect.is_empty() || effect == taint.effect)
                && (key == taint.key || (key.is_empty() && exists))
                && (exists || toleration.value.as_deref().unwrap_or_default() == taint.value)
        })
    }
}

/// What stands behind the option of the context's length in the built-in engines' command lines.
fn context(engine: &Value) -> Option<u64> {
    let args: Vec<&str> = engine.get("args")?.as_array()?.iter().filter_map(Value::as_str).collect();
    let option = |arg: &&str| matches!(*arg, "--ctx-size" | "--max-model-len");
    args.iter().position(option).and_then(|at| args.get(at + 1)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_template_is_read_as_the_scheduler_counts_it() {
        let asked = Asked::of(
            &json!({ "spec": {
                "nodeSelector": { "gpu": "big" },
                "tolerations": [{ "key": "nvidia.com/gpu", "operator": "Exists" }],
                "initContainers": [{ "name": "fetch", "image": "f:1", "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } } }],
                "containers": [{ "name": "engine", "image": "e:1",
                    "resources": { "requests": { "ephemeral-storage": "98M", "nvidia.com/gpu": 4 }, "limits": { "memory": "2G" } },
                    "startupProbe": { "periodSeconds": 2, "failureThreshold": 900 }, "readinessProbe": { "httpGet": { "path": "/health" } } }],
                "volumes": [{ "name": "weights", "persistentVolumeClaim": { "claimName": "models" } }, { "name": "x", "emptyDir": {} }],
            } }),
            7,
        );
        let requests: Vec<(&str, f64)> = asked.requests.iter().map(|(name, number)| (name.as_str(), *number)).collect();
        assert_eq!(
            requests,
            [("cpu", 0.1), ("ephemeral-storage", 98e6), ("memory", 67_108_864.0), ("nvidia.com/gpu", 4.0), ("pods", 1.0)]
        );
        assert_eq!((asked.start_timeout, asked.memory_limit, asked.ready_path.as_str()), (1800, Some(2e9), "/health"));
        assert_eq!((asked.claims.as_slice(), asked.images["engine"].as_str()), (["models".to_owned()].as_slice(), "e:1"));
        let taint = |key: &str, effect: &str| Taint { key: key.into(), value: "present".into(), effect: effect.into() };
        assert!(!asked.is_kept_away_by(&taint("nvidia.com/gpu", "NoSchedule")));
        assert!(asked.is_kept_away_by(&taint("team", "NoSchedule")));
        assert!(!asked.is_kept_away_by(&taint("team", "PreferNoSchedule")));
    }
}
