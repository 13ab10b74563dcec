//! `bonafide explain`, against a hub on this machine, with policies of files. `cluster::commands` asks a cluster's.

use std::{fs, process::Command};

use localcluster::hub::{Handle, Hub, Options};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::signer::Person;

const FILES: &[(&str, &str)] = &[("parrot.gguf", "the weights of a parrot"), ("LICENSE", "birds only")];
const MODEL: &str = "apiVersion: bonafide.dev/v1alpha1
kind: ModelDeployment
metadata: {name: parrot, namespace: aviary}
spec: {model: {source: \"hf://feathers/Parrot-GGUF\"}}
---
apiVersion: v1
kind: Namespace
metadata: {name: aviary, labels: {tier: birds}}
";
const POLICY: &str = "apiVersion: bonafide.dev/v1alpha1
kind: ClusterModelPolicy
metadata: {name: keepers}
spec:
  namespaceSelector: {matchLabels: {tier: birds}}
  formats: [gguf]
  signers: [{name: keeper, publicKey: {secretKeyRef: {name: keys, key: keeper.pem}}}]
  rules: [{name: birds, sources: {include: [\"hf://feathers/*\"]}, signedBy: [{name: keeper, anyOf: [keeper]}]}]
";

struct Stand {
    scratch: TempDir,
    hub: Handle,
}

impl Stand {
    async fn new(signature: Option<String>) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("hub");
        let dir = root.join("feathers/Parrot-GGUF");
        fs::create_dir_all(&dir).unwrap();
        for (name, content) in FILES {
            fs::write(dir.join(name), content).unwrap();
        }
        if let Some(signature) = signature {
            fs::write(dir.join("model.sig"), signature).unwrap();
        }
        let hub = Hub::start(Options::new(&root)).await.unwrap();
        Self { scratch, hub }
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.scratch.path().join(name), content).unwrap();
    }

    /// Exit code, standard output and error.
    async fn explain(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bonafide"));
        command.arg("explain").args(arguments).args(["--endpoint", self.hub.url().as_str()]).current_dir(self.scratch.path());
        command.env_remove("HF_TOKEN").env_remove("KUBECONFIG");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

fn secret() -> String {
    let pem: Vec<String> = Person::new(1).pem().lines().map(|line| format!("    {line}")).collect();
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: keys, namespace: bonafide-system}}\nstringData:\n  keeper.pem: |\n{}\n",
        pem.join("\n")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_model_would_be_served_and_every_policy_says_why() {
    let stand = Stand::new(Some(Person::new(1).signs(FILES))).await;
    stand.write("model.yaml", MODEL);
    fs::create_dir(stand.scratch.path().join("policies")).unwrap();
    stand.write("policies/policy.yaml", POLICY);
    stand.write("policies/secret.yaml", &secret());
    let (code, said, wrong) = stand.explain(&["-f", "model.yaml", "-f", "policies"]).await;
    assert_eq!(code, Some(0), "{said}{wrong}");
    for line in [
        "aviary/parrot: would be served, TRUST Signed",
        "Signed: Signed by keeper, as keepers demands.",
        "ClusterModelPolicy keepers: Trusted, signed by keeper",
        "Looked at before it is mounted: that weights are of the format that their names say.",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let (_, said, _) = stand.explain(&["-f", "model.yaml", "-f", "policies", "-o", "json"]).await;
    let json: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&json["models"][0]["served"], &json["models"][0]["trust"]), (&Value::Bool(true), &Value::from("Signed")));
    let digest = json["models"][0]["digest"].as_str().unwrap();
    // Nobody asks for anything in another namespace.
    stand.write("other.yaml", &MODEL.replace("namespace: aviary", "namespace: meadow"));
    let (code, said, _) = stand.explain(&["-f", "other.yaml", "-f", "policies"]).await;
    assert!(code == Some(0) && said.contains("TRUST Unknown") && said.contains(digest), "{said}");
    let (code, said, _) = stand.explain(&["-f", "other.yaml", "-f", "policies", "--policy-default", "Deny"]).await;
    assert!(code == Some(1) && said.contains("would NOT be served") && said.contains("DefaultDeny"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_refused_says_why_and_what_to_do() {
    let stand = Stand::new(None).await;
    stand.write("model.yaml", MODEL);
    stand.write("policy.yaml", POLICY);
    stand.write("secret.yaml", &secret());
    let (code, said, _) = stand.explain(&["-f", "model.yaml", "-f", "policy.yaml", "-f", "secret.yaml"]).await;
    assert!(
        code == Some(1) && said.contains("Unsigned: hf://feathers/Parrot-GGUF@") && said.contains("has no signature"),
        "{said}"
    );
    // Delivered apart, it counts.
    let digest = said.split("content ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let bundle = serde_json::to_string(&Person::new(1).signs(FILES)).unwrap();
    let signature = format!(
        "apiVersion: bonafide.dev/v1alpha1\nkind: ModelSignature\nmetadata: {{name: s, namespace: aviary}}\nspec: {{digest: \"{digest}\", bundle: {bundle}}}\n"
    );
    stand.write("signature.yaml", &signature);
    let all = ["-f", "model.yaml", "-f", "policy.yaml", "-f", "secret.yaml", "-f", "signature.yaml"];
    let (code, said, _) = stand.explain(&all).await;
    assert!(code == Some(0) && said.contains("TRUST Signed"), "{said}");
    // Of a key that is not here nobody can say anything.
    let (code, said, _) = stand.explain(&["-f", "model.yaml", "-f", "policy.yaml"]).await;
    assert!(code == Some(1) && said.contains("PolicyNotAccepted") && said.contains("give a file with the Secret"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_is_no_answer() {
    let stand = Stand::new(None).await;
    stand.write("model.yaml", &MODEL.replace("Parrot-GGUF", "Nobody"));
    stand.write("claim.yaml", &MODEL.replace("hf://feathers/Parrot-GGUF", "pvc://models/parrot"));
    stand.write("none.yaml", &secret());
    for (file, says) in
        [("model.yaml", "RepositoryNotFound"), ("claim.yaml", "in the cluster only"), ("none.yaml", "no ModelDeployment")]
    {
        let (code, said, wrong) = stand.explain(&["-f", file]).await;
        assert!(code == Some(2) && wrong.contains(says), "{file}: {said}{wrong}");
    }
}
