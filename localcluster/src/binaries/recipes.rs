//! Which programs there are, and how each is built.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// A Go module that requires, at exact versions, what is built from it.
#[derive(Debug)]
pub(super) struct Module {
    /// Path and contents of its files, relative to the module's root.
    pub files: &'static [(&'static str, &'static str)],
    /// The module whose version is that of the programs.
    pub versioned: &'static str,
}

macro_rules! module {
    ($name:literal, $versioned:literal $(, $extra:literal)*) => {
        Module {
            versioned: $versioned,
            files: &[
                ("go.mod", include_str!(concat!("../../go/", $name, "/go.mod"))),
                ("go.sum", include_str!(concat!("../../go/", $name, "/go.sum"))),
                $(($extra, include_str!(concat!("../../go/", $name, "/", $extra))),)*
            ],
        }
    };
}

static KUBERNETES: Module = module!("kubernetes", "k8s.io/kubernetes");
static ETCD: Module = module!("etcd", "go.etcd.io/etcd/server/v3");
static CONTAINERD: Module = module!("containerd", "github.com/containerd/containerd/v2");
static RUNC: Module = module!("runc", "github.com/opencontainers/runc");
static HELM: Module = module!("helm", "helm.sh/helm/v4");
static COREDNS: Module = module!("coredns", "github.com/coredns/coredns");
static REGISTRY: Module = module!("registry", "github.com/distribution/distribution/v3");
static PAUSE: Module = module!("pause", "", "main.go");

/// How one program is built.
#[derive(Debug)]
pub struct Recipe {
    /// The program's name, as it is called.
    pub name: &'static str,
    /// How long it takes on two cores when nothing is downloaded or compiled yet. Programs that share a module profit
    /// from those before them in the list.
    pub typical: Duration,
    pub(super) module: &'static Module,
    pub(super) package: &'static str,
    pub(super) cgo: bool,
    pub(super) tags: &'static str,
    /// Go variables that are set to the version.
    version_variables: &'static [&'static str],
}

const fn recipe(name: &'static str, module: &'static Module, package: &'static str, seconds: u64) -> Recipe {
    Recipe { name, typical: Duration::from_secs(seconds), module, package, cgo: false, tags: "", version_variables: &[] }
}

const fn kubernetes(name: &'static str, package: &'static str, seconds: u64) -> Recipe {
    // Without it clients see v0.0.0 and refuse or skip what needs a newer server.
    Recipe { version_variables: &["k8s.io/component-base/version.gitVersion"], ..recipe(name, &KUBERNETES, package, seconds) }
}

/// In the order in which they are built: a control plane comes up with the first five.
static RECIPES: [Recipe; 15] = [
    recipe("etcd", &ETCD, "go.etcd.io/etcd/server/v3", 45),
    kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", 190),
    kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl", 20),
    kubernetes("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", 45),
    kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler", 5),
    kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet", 15),
    kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy", 8),
    recipe("containerd", &CONTAINERD, "github.com/containerd/containerd/v2/cmd/containerd", 65),
    recipe("containerd-shim-runc-v2", &CONTAINERD, "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", 3),
    recipe("ctr", &CONTAINERD, "github.com/containerd/containerd/v2/cmd/ctr", 6),
    Recipe { cgo: true, tags: "seccomp", ..recipe("runc", &RUNC, "github.com/opencontainers/runc", 20) },
    recipe("coredns", &COREDNS, "github.com/coredns/coredns", 95),
    recipe("pause", &PAUSE, "localcluster/pause", 2),
    Recipe {
        version_variables: &["helm.sh/helm/v4/internal/version.version"],
        ..recipe("helm", &HELM, "helm.sh/helm/v4/cmd/helm", 135)
    },
    recipe("registry", &REGISTRY, "github.com/distribution/distribution/v3/cmd/registry", 85),
];

/// The programs of a control plane, and the client it is asked with.
pub(crate) const CONTROL_PLANE: [&str; 5] = ["etcd", "kube-apiserver", "kubectl", "kube-controller-manager", "kube-scheduler"];

/// The programs that a node needs beside those of the control plane.
pub(crate) const NODE: [&str; 8] =
    ["kubelet", "kube-proxy", "containerd", "containerd-shim-runc-v2", "ctr", "runc", "coredns", "pause"];

/// Every program that can be built.
pub fn all() -> &'static [Recipe] {
    &RECIPES
}

/// The recipe of the program `name`.
pub fn find(name: &str) -> Result<&'static Recipe> {
    RECIPES.iter().find(|recipe| recipe.name == name).with_context(|| {
        let known: Vec<_> = RECIPES.iter().map(|recipe| recipe.name).collect();
        format!("there is no program named {name:?}; there are: {}", known.join(", "))
    })
}

impl Recipe {
    /// The version that is built, as its module names it: `v1.36.3`; `v1` for a program of our own.
    pub fn version(&self) -> &'static str {
        let required = |line: &'static str| {
            let (path, version) = line.trim().trim_start_matches("require ").split_once(' ')?;
            (path == self.module.versioned).then(|| version.split(' ').next()).flatten()
        };
        let go_mod = self.module.files.iter().find(|(path, _)| *path == "go.mod");
        go_mod.and_then(|(_, text)| text.lines().find_map(required)).unwrap_or("v1")
    }

    /// The arguments of `go build` that make the result what it is.
    pub(super) fn build_arguments(&self) -> Vec<String> {
        let mut link = String::from("-s -w");
        for variable in self.version_variables {
            let _ = write!(link, " -X {variable}={}", self.version());
        }
        let mut arguments = ["build", "-mod=readonly", "-buildvcs=false", "-trimpath"].map(String::from).to_vec();
        if !self.tags.is_empty() {
            arguments.push(format!("-tags={}", self.tags));
        }
        arguments.push(format!("-ldflags={link}"));
        arguments
    }

    /// Where it is kept in the cache: changes with everything that goes into the build.
    pub(super) fn key(&self) -> String {
        let mut hash = Sha256::new();
        let files = self.module.files.iter().flat_map(|(path, text)| [*path, *text]);
        let cgo = if self.cgo { "cgo" } else { "" };
        for part in files.chain([self.package, cgo, &self.build_arguments().join("\n")]) {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        let mut digest = String::new();
        for byte in hash.finalize().iter().take(6) {
            let _ = write!(digest, "{byte:02x}");
        }
        format!("{}-{}-{digest}", self.name, self.version())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_program_has_the_version_its_module_requires() {
        for (name, version) in [
            ("kube-apiserver", "v1.36.3"),
            ("etcd", "v3.7.3"),
            ("containerd", "v2.4.2"),
            ("runc", "v1.5.2"),
            ("helm", "v4.3.1"),
            ("coredns", "v1.15.0"),
            ("registry", "v3.1.0"),
        ] {
            assert_eq!(find(name).unwrap().version(), version, "{name}");
        }
    }

    #[test]
    fn programs_of_one_module_are_kept_apart() {
        let keys: std::collections::BTreeSet<_> = all().iter().map(Recipe::key).collect();
        assert_eq!(keys.len(), all().len());
    }

    #[test]
    fn what_a_cluster_needs_can_be_built() {
        for name in CONTROL_PLANE.iter().chain(&NODE) {
            assert!(find(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn an_unknown_program_is_answered_with_the_known_ones() {
        let error = find("kubeapi").unwrap_err().to_string();
        assert!(error.contains("kube-apiserver"), "{error}");
    }
}
