use super::*;

/// The rules of a schema that cannot be evaluated here, with why: where they stand, and what they say.
fn not_understood(schema: &Value) -> Vec<String> {
    fn collect(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(map) => map.iter().for_each(|(key, part)| match part.as_array() {
                Some(rules) if key == "x-kubernetes-validations" => found.extend(rules.iter().filter_map(|rule| {
                    let rule = rule.get("rule").and_then(Value::as_str).unwrap_or_default();
                    cel::Expression::parse(rule).err().map(|error| format!("{rule}: {error}"))
                })),
                _ => collect(part, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let mut found = vec![];
    collect(schema, &mut found);
    found
}

fn said(text: &str) -> String {
    lint(&[(PathBuf::from("x.yaml"), yaml::documents(text).unwrap())]).text
}

#[test]
fn every_rule_of_every_definition_is_understood() {
    for (file, definition) in crds() {
        assert_eq!(not_understood(&definition), Vec::<String>::new(), "{file}: teach src/cli/lint/cel.rs what these need");
    }
}

#[test]
fn a_mistake_is_told_with_its_place_and_what_to_do() {
    let text = "apiVersion: v1\nkind: Namespace\n---\n# a model\napiVersion: bonafide.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: parrot}\nspec:\n  modle: {}\n  model:\n    source: hf://a/b\n  replicas: two\n  engine:\n    contextlength: 5\n    env:\n    - {name: TZ, value: on}\n  contextLength: 5\n  rollout: {strategy: surge}\n";
    assert_eq!(
        said(text),
        "x.yaml:9:3: error: ModelDeployment parrot: spec.modle: unknown field \"spec.modle\"; did you mean \"model\"?
x.yaml:12:3: error: ModelDeployment parrot: spec.replicas: Invalid value: \"string\": spec.replicas in body must be of type integer: \"string\"
x.yaml:14:5: error: ModelDeployment parrot: spec.engine.contextlength: unknown field \"spec.engine.contextlength\"; did you mean \"contextLength\"?
x.yaml:16:18: error: ModelDeployment parrot: spec.engine.env[0].value: Invalid value: \"true\": spec.engine.env[0].value in body must be of type string: \"boolean\"; put it between quotes
x.yaml:17:3: error: ModelDeployment parrot: spec.contextLength: unknown field \"spec.contextLength\"; there is spec.engine.contextLength
x.yaml:18:13: error: ModelDeployment parrot: spec.rollout.strategy: Unsupported value: \"surge\": supported values: \"Auto\", \"Surge\", \"OneByOne\", \"Canary\"; did you mean \"Surge\"?
1 object checked, 1 of other kinds passed over: 6 errors
"
    );
}

fn model(spec: &str) -> String {
    format!(
        "apiVersion: bonafide.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: parrot}}\nspec:\n  model: {{source: hf://a/b}}\n{spec}"
    )
}

#[test]
fn what_the_manager_would_say_is_said() {
    for (spec, says) in [
        ("  engine: {name: vlm}\n", "x.yaml:6:12: error: ModelDeployment parrot: spec.engine.name: UnknownEngine: "),
        (
            "  engine: {name: vllm, args: [--trust-remote-code]}\n  resources: {accelerator: {class: nvidia}}\n",
            "spec.engine.args[0]: ArgumentNotAllowed: ",
        ),
        ("  engine: {name: llama-cpp, env: [{name: LD_PRELOAD, value: x}]}\n", "EnvironmentNotAllowed: "),
        ("  engine: {name: vllm}\n", "AcceleratorNotSupported: "),
    ] {
        let said = said(&model(spec));
        assert!(said.contains(says) && said.contains(": 1 error\n"), "{spec}: {said}");
    }
    // Which engine it will be is not known: what one of them takes is no mistake.
    assert!(said(&model("  engine: {args: [--threads=2], contextLength: 5}\n")).ends_with("1 object checked: 0 errors\n"));
}

#[test]
fn an_engine_beside_a_model_is_known_to_it() {
    let engine = "---\napiVersion: bonafide.dev/v1alpha1\nkind: InferenceEngine\nmetadata: {name: own}\nspec: {version: '1', port: 8080, images: [{accelerator: none, image: a}], loads: [{format: gguf, files: ['*.gguf'], choose: One}], probes: {ready: /}}\n";
    let with = |spec: &str| said(&format!("{}{engine}", model(spec)));
    assert_eq!(with("  engine: {name: own}\n"), "2 objects checked: 0 errors\n");
    assert!(
        with("  engine: {name: own, contextLength: 5}\n")
            .contains("spec.engine.contextLength: InvalidSpec: it has no meaning for engine own")
    );
}

#[test]
fn a_revision_that_can_move_is_a_hint_and_a_pinned_one_is_none() {
    let with = |model: &str| {
        said(&format!(
            "apiVersion: bonafide.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: parrot}}\nspec:\n  model:\n    source: hf://a/b\n    {model}\n"
        ))
    };
    let said = with("revision: main");
    assert!(said.starts_with("x.yaml:7:5: hint: ") && said.contains("bonafide pin") && said.contains("0 errors"), "{said}");
    for pinned in [format!("revision: {}", "a1".repeat(20)), format!("revision: main\n    digest: sha256:{}", "ab".repeat(32))] {
        assert_eq!(with(&pinned), "1 object checked: 0 errors\n");
    }
}

#[test]
fn a_context_that_would_take_all_memory_of_a_node_is_a_hint_unless_something_limits_it() {
    let said = said(&model("  engine: {contextLength: 9999999}\n"));
    assert!(
        said.starts_with("x.yaml:6:12: hint: ModelDeployment parrot: spec.engine.contextLength: a context of 9999999 tokens"),
        "{said}"
    );
    assert!(said.contains("set spec.resources.memory") && said.ends_with(": 0 errors\n"), "{said}");
    for limited in [
        "  engine: {contextLength: 1048576}\n",
        "  engine: {contextLength: 9999999}\n  resources: {memory: 64Gi}\n",
        "  engine: {contextLength: 9999999}\n  resources: {accelerator: {class: nvidia}}\n",
    ] {
        assert_eq!(
            lint(&[(PathBuf::from("x.yaml"), yaml::documents(&model(limited)).unwrap())]).text,
            "1 object checked: 0 errors\n",
            "{limited}"
        );
    }
}

#[test]
fn policies_whose_keys_or_patterns_cannot_be_read_are_told() {
    let policy = |key: &str, include: &str| {
        said(&format!(
            "apiVersion: bonafide.dev/v1alpha1\nkind: ClusterModelPolicy\nmetadata: {{name: p}}\nspec:\n  signers:\n  - name: a\n    publicKey: {key}\n  rules:\n  - {{name: r, sources: {{include: [\"{include}\"]}}, signedBy: [{{name: x, anyOf: [a]}}]}}\n"
        ))
    };
    let said = policy("{pem: nonsense}", "hf://**");
    assert!(
        said.contains("x.yaml:5:3: error: ClusterModelPolicy p: spec.signers: InvalidKey: spec.signers[a].publicKey.pem: "),
        "{said}"
    );
    assert!(said.ends_with(": 1 error\n"), "a rule that names it is not wrong for that: {said}");
    assert_eq!(policy("{secretKeyRef: {name: keys, key: a.pem}}", "hf://**"), "1 object checked: 0 errors\n");
    assert!(policy("{secretKeyRef: {name: keys, key: a.pem}}", "hf://a***").contains("InvalidPattern"));
    let nothing = policy("{secretKeyRef: {name: keys, key: a.pem}}", "acme/*");
    assert!(
        nothing.contains("InvalidPattern: ") && nothing.contains("can match no source; write hf://acme/* if that is meant"),
        "{nothing}"
    );
}

#[test]
fn a_signature_that_cannot_be_read_is_told_and_one_that_can_is_not() {
    let with = |bundle: &str| {
        let digest = format!("sha256:{}", "ab".repeat(32));
        said(&format!(
            "apiVersion: bonafide.dev/v1alpha1\nkind: ModelSignature\nmetadata: {{name: ann}}\nspec:\n  digest: {digest}\n  bundle: |\n    {bundle}\n"
        ))
    };
    assert_eq!(with(include_str!("../../../tests/data/oms/p256.sig").trim_end()), "1 object checked: 0 errors\n");
    let dummy =
        r#"{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial": {}, "dsseEnvelope": {}}"#;
    for bundle in ["approved", dummy] {
        let said = with(bundle);
        assert!(said.starts_with("x.yaml:6:3: error: ModelSignature ann: spec.bundle: SignatureMalformed: it "), "{said}");
    }
}

#[test]
fn everything_that_is_wrong_with_a_policy_is_told_at_once() {
    let policy = |spec: &str| {
        said(&format!("apiVersion: bonafide.dev/v1alpha1\nkind: ClusterModelPolicy\nmetadata: {{name: p}}\nspec:\n{spec}"))
    };
    let said = policy(
        "  signers:\n  - {name: a, publicKey: {pem: nonsense}}\n  - {name: b, publicKey: {pem: nonsense}}\n  rules:\n  - {name: r, sources: {include: ['hf://a***', 'hf://b/*']}, signedBy: [{name: x, anyOf: [a, b], minimum: 2}]}\n  - {name: s, sources: {include: ['hf://b/*']}, signedBy: [{name: x, anyOf: [nobody]}]}\n",
    );
    for says in ["signers[a].publicKey.pem", "signers[b].publicKey.pem", "InvalidPattern", "there is no signer nobody"] {
        assert_eq!(said.matches(says).count(), 1, "{says}: {said}");
    }
    assert!(said.ends_with(": 4 errors\n"), "{said}");
    // Two keys that are not here may well be two.
    let two = policy(
        "  signers:\n  - {name: a, publicKey: {secretKeyRef: {name: keys, key: a}}}\n  - {name: b, publicKey: {secretKeyRef: {name: keys, key: b}}}\n  rules:\n  - {name: r, sources: {include: ['hf://b/*']}, signedBy: [{name: x, anyOf: [a, b], minimum: 2}]}\n",
    );
    assert_eq!(two, "1 object checked: 0 errors\n");
}

#[test]
fn a_length_of_time_without_its_unit_is_told_with_it() {
    let with = |rollout: &str| said(&model(&format!("  rollout: {rollout}\n")));
    assert!(
        with("{drain: 30}").contains("must be of type string: \"integer\"; write it with its unit: 30s"),
        "{}",
        with("{drain: 30}")
    );
    let said = with("{deadline: 1d}");
    assert!(said.contains("spec.rollout.deadline: Invalid value: \"1d\": must be a length of time: 90s, 5m, 1h30m"), "{said}");
}

#[test]
fn the_page_of_a_repository_is_answered_with_how_a_repository_is_written() {
    let said = said(&model("").replace("hf://a/b", "https://huggingface.co/acme/x"));
    assert!(said.contains("write hf://OWNER/NAME") && said.ends_with(": 1 error\n"), "{said}");
}

#[test]
fn kinds_and_versions_that_do_not_exist_are_told() {
    let of = |api: &str, kind: &str| said(&format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: p}}\n"));
    assert!(of("bonafide.dev/v1alpha1", "ModelDeploymnet").contains("x.yaml:2:1: error: ModelDeploymnet p: kind: no kind \"ModelDeploymnet\" in group \"bonafide.dev\"; did you mean \"ModelDeployment\"?"));
    assert!(
        of("bonafide.dev/v1", "ModelDeployment")
            .contains("no matches for kind \"ModelDeployment\" in version \"bonafide.dev/v1\"; write bonafide.dev/v1alpha1")
    );
    assert_eq!(of("other.dev/v1", "ModelDeployment"), "0 objects checked, 1 of other kinds passed over: 0 errors\n");
}

#[test]
fn the_items_of_a_list_are_objects() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret}\n- apiVersion: bonafide.dev/v1alpha1\n  kind: ModelDeployment\n  metadata: {}\n  spec: {model: {source: hf://a/b}}\n";
    let said = said(list);
    assert!(
        said.contains("x.yaml:7:3: error: ModelDeployment : metadata.name: Required value: name or generateName is required"),
        "{said}"
    );
    assert!(said.contains("1 object checked, 1 of other kinds passed over"), "{said}");
}
