//! The probes of `charts/bonafide/tests/admission.yaml`: what the chart's roles and admission policies let through and refuse.

use std::{
    collections::BTreeMap,
    process::Stdio,
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::world::World;
use crate::support::text;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Probes {
    identities: BTreeMap<String, Identity>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    user: String,
    #[serde(default)]
    groups: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    name: String,
    #[serde(default, rename = "as")]
    identity: Option<String>,
    kubectl: Vec<String>,
    #[serde(default)]
    stdin: String,
    #[serde(default)]
    expect: Expect,
    says: Option<String>,
    prints: Option<String>,
    #[serde(default)]
    within: u64,
    save: Option<String>,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Expect {
    #[default]
    Allowed,
    Refused,
}

/// What a call of kubectl came to.
struct Outcome {
    allowed: bool,
    printed: String,
    complained: String,
}

impl Step {
    fn arguments(&self, identities: &BTreeMap<String, Identity>, saved: &BTreeMap<String, String>) -> Vec<String> {
        let mut arguments = Vec::new();
        if let Some(name) = &self.identity {
            let identity = identities.get(name).unwrap_or_else(|| panic!("{}: nobody is called {name}", self.name));
            arguments.push(format!("--as={}", identity.user));
            arguments.extend(identity.groups.iter().map(|group| format!("--as-group={group}")));
        }
        arguments.extend(self.kubectl.iter().map(|argument| filled(argument, saved)));
        arguments
    }

    fn is_met(&self, outcome: &Outcome) -> bool {
        let says = |text: &String| outcome.printed.contains(text) || outcome.complained.contains(text);
        let prints = |text: &String| if text.is_empty() { outcome.printed.is_empty() } else { outcome.printed.contains(text) };
        outcome.allowed == (self.expect == Expect::Allowed)
            && self.says.as_ref().is_none_or(says)
            && self.prints.as_ref().is_none_or(prints)
            && (self.save.is_none() || !outcome.printed.is_empty())
    }
}

fn filled(text: &str, saved: &BTreeMap<String, String>) -> String {
    saved.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
}

async fn kubectl(world: &World, arguments: &[String], input: &str) -> Outcome {
    let mut child = Command::new(world.cluster.state().join("bin/kubectl"))
        .args(arguments)
        .env("KUBECONFIG", world.cluster.kubeconfig())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    // One that does not read its input is no error.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Outcome { allowed: output.status.success(), printed: text(&output.stdout), complained: text(&output.stderr) }
}

/// Waits until the policies are enforced, which is a moment after they are there.
async fn enforced(world: &World) {
    world.kubectl(&["create", "rolebinding", "probe", "-n", "default", "--clusterrole=edit", "--user=probe"]).await.unwrap();
    let probe = ["create", "configmap", "bonafide-probe", "-n", "default", "--as=probe", "--dry-run=server"];
    let look = async || match world.kubectl(&probe).await {
        Err(refusal) if refusal.contains("are kept for what Bonafide runs") => Ok(()),
        other => Err(format!("{other:?}")),
    };
    world.eventually("a policy is enforced", look).await;
    // The API server takes them in together, once a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn roles_and_admission_policies_let_through_and_refuse_what_the_probes_say() {
    let probes: Probes = serde_saphyr::from_str(&text("charts/bonafide/tests/admission.yaml")).unwrap();
    let world = World::without_operator().await;
    enforced(&world).await;

    let (mut saved, mut failures) = (BTreeMap::new(), Vec::new());
    for step in &probes.steps {
        assert!(
            step.expect == Expect::Allowed || step.says.is_some() || step.prints.is_some(),
            "{}: it could be refused for any reason",
            step.name
        );
        let deadline = Instant::now() + Duration::from_secs(step.within);
        let arguments = step.arguments(&probes.identities, &saved);
        let outcome = loop {
            let outcome = kubectl(&world, &arguments, &filled(&step.stdin, &saved)).await;
            if step.is_met(&outcome) || Instant::now() >= deadline {
                break outcome;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        };
        if !step.is_met(&outcome) {
            failures.push(format!(
                "{}\n  kubectl {}\n  allowed: {}\n  {}\n  {}",
                step.name,
                arguments.join(" "),
                outcome.allowed,
                outcome.printed,
                outcome.complained
            ));
        }
        saved.extend(step.save.clone().map(|name| (name, outcome.printed)));
    }
    assert!(failures.is_empty(), "{} of {} probes failed:\n{}", failures.len(), probes.steps.len(), failures.join("\n"));
}
