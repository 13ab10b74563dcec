//! Secrets that objects name.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A Secret of the same namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')").message("this must be the name of a Secret: lower-case letters, digits, '-' and '.'"))]
    pub name: String,
}
