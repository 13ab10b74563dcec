//! Volumes beside ours.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One more volume in the engine's container, only below /mnt and /data.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.emptyDir), has(self.configMap), has(self.secret), has(self.persistentVolumeClaim)].filter(x, x).size() == 1").message("an extra volume is exactly one of emptyDir, configMap, secret and persistentVolumeClaim"))]
#[x_kube(validation = Rule::new("self.mountPath.matches('^/(mnt|data)(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$')").message("mountPath must be below /mnt or /data, without '.', '..' and spaces: no other path is sure to hold nothing of the engine or of ours"))]
#[x_kube(validation = Rule::new("!has(self.readOnly) || self.readOnly || has(self.emptyDir) || has(self.persistentVolumeClaim)").message("a configMap and a secret can only be read: leave readOnly out"))]
pub struct ExtraVolume {
    /// Its name.
    #[schemars(length(min = 1, max = 50), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Where the engine finds it.
    #[schemars(length(min = 2, max = 256))]
    pub mount_path: String,
    /// Whether it can only be read. Default: true, and false for an emptyDir.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// An empty directory that goes with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
    /// A ConfigMap of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapVolume>,
    /// A Secret of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolume>,
    /// A claim of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimVolume>,
}

/// An empty directory.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.medium) || has(self.sizeLimit)").message("an emptyDir in memory needs a sizeLimit, which counts against the container's memory"))]
pub struct EmptyDir {
    /// `Memory`. Absent: the node's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub medium: Option<Medium>,
    /// The most that it may hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = "^[1-9][0-9]{0,11}(k|M|G|T|Ki|Mi|Gi|Ti)?$"))]
    pub size_limit: Option<String>,
}

/// Where an empty directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Medium {
    Memory,
}

/// A ConfigMap.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigMapVolume {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A Secret.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretVolume {
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// A PersistentVolumeClaim.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimVolume {
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
}
