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
    let report = lint(&[(PathBuf::from("x.yaml"), yaml::documents(text).unwrap())]);
    format!("{}{}\n", report.text, report.summary())
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
        assert_eq!(self::said(&model(limited)), "1 object checked: 0 errors\n", "{limited}");
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
fn an_authority_that_is_not_here_is_no_mistake() {
    let by_certificate = |whom: &str| {
        said(&format!(
            "apiVersion: bonafide.dev/v1alpha1\nkind: ClusterModelPolicy\nmetadata: {{name: p}}\nspec:\n  signers:\n  - name: a\n    certificate: {{ca: {{secretKeyRef: {{name: ca, key: ca.pem}}}}, {whom}}}\n  rules:\n  - {{name: r, sources: {{include: [\"hf://**\"]}}, signedBy: [{{name: x, anyOf: [a]}}]}}\n"
        ))
    };
    assert_eq!(by_certificate("subject: {exact: 'CN=a'}"), "1 object checked: 0 errors\n", "the authority is not here");
    assert!(
        by_certificate("subject: {exact: a}").contains("InvalidPattern: spec.signers[a].certificate.subject: "),
        "{}",
        by_certificate("subject: {exact: a}")
    );
}

#[test]
fn a_trusted_root_that_is_not_here_is_no_mistake() {
    let keyless = |whom: &str| {
        said(&format!(
            "apiVersion: bonafide.dev/v1alpha1\nkind: ClusterModelPolicy\nmetadata: {{name: p}}\nspec:\n  signers:\n  - name: a\n    keyless: {{{whom}}}\n  - name: b\n    keyless: {{issuer: https://b, identity: {{exact: b}}, trustedRoot: {{secretKeyRef: {{name: s, key: root.json}}}}}}\n  rules:\n  - {{name: r, sources: {{include: [\"hf://**\"]}}, signedBy: [{{name: x, anyOf: [a, b], minimum: 2}}]}}\n"
        ))
    };
    let root = "trustedRoot: {secretKeyRef: {name: s, key: root.json}}";
    let right = keyless(&format!("issuer: https://a, identity: {{exact: a@b}}, {root}"));
    assert_eq!(right, "1 object checked: 0 errors\n", "the instance is not here");
    assert_eq!(keyless("issuer: https://a, identity: {exact: a@b}"), "1 object checked: 0 errors\n");
    let issuer = keyless(&format!("issuer: a, identity: {{exact: a@b}}, {root}"));
    assert!(issuer.contains("InvalidPattern: spec.signers[a].keyless.issuer: "), "{issuer}");
    let pattern = keyless(&format!("issuer: https://a, identity: {{regex: .*}}, {root}"));
    assert!(pattern.contains("InvalidPattern: spec.signers[a].keyless.identity: "), "{pattern}");
    let inline = keyless("issuer: https://a, identity: {exact: a@b}, trustedRoot: {json: x}");
    assert!(inline.contains("InvalidKey: spec.signers[a].keyless.trustedRoot.json: "), "{inline}");
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
fn an_approval_of_another_content_than_it_is_delivered_for_is_told() {
    use crate::{
        model::Digest,
        trust::{PrivateKey, Signer},
    };
    let key = PrivateKey::from_pem(include_str!("../../../tests/data/oms/keys/sec1-p384.key")).unwrap();
    let bundle = Signer::by_key(key).approves(Digest::of("this"), None, jiff::Timestamp::UNIX_EPOCH);
    let with = |digest: Digest| {
        said(&format!(
            "apiVersion: bonafide.dev/v1alpha1\nkind: ModelSignature\nmetadata: {{name: ann}}\nspec:\n  digest: {digest}\n  bundle: |\n    {bundle}\n"
        ))
    };
    assert_eq!(with(Digest::of("this")), "1 object checked: 0 errors\n");
    let said = with(Digest::of("that"));
    let start = "x.yaml:6:3: error: ModelSignature ann: spec.bundle: DigestMismatch: it approves ";
    assert!(said.starts_with(start) && said.contains(&format!("bonafide approve {}", Digest::of("that"))), "{said}");
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

#[test]
fn what_is_null_is_not_there_and_whole_numbers_may_have_a_point() {
    for spec in [
        "  replicas: null\n",
        "  engine: null\n",
        "  engine: {args: null, env: }\n",
        "  resources: {memory: ~, accelerator: null}\n  pod: {labels: {a: null}}\n",
        "  replicas: 2.0\n  engine: {contextLength: 1e3}\n",
    ] {
        assert_eq!(said(&model(spec)), "1 object checked: 0 errors\n", "{spec}");
    }
    for (spec, says) in [("  engine: {args: [null]}\n", "spec.engine.args[0]"), ("  replicas: 2.5\n", "must be of type integer")]
    {
        assert!(said(&model(spec)).contains(says), "{spec}");
    }
    let none = said("apiVersion: bonafide.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: p}\nspec: {model: null}\n");
    assert!(none.contains("spec.model: Required value"), "{none}");
}

#[test]
fn labels_that_no_object_can_have_are_told_with_their_place() {
    let with = |metadata: &str| said(&model("").replace("{name: parrot}", &format!("{{name: parrot, {metadata}}}")));
    for (metadata, says) in [
        (
            "labels: {a/b/c: d}",
            "x.yaml:3:35: error: ModelDeployment parrot: metadata.labels.a/b/c: Invalid value: \"a/b/c\": it must",
        ),
        ("labels: {a: bad value!}", "metadata.labels.a: Invalid value: \"bad value!\": a label has at most 63"),
        ("labels: {-a: b}", "Invalid value: \"-a\""),
        ("annotations: {a b: c}", "metadata.annotations.a b: Invalid value: \"a b\""),
    ] {
        let said = with(metadata);
        assert!(said.contains(says) && said.ends_with(": 1 error\n"), "{metadata}: {said}");
    }
    for right in ["labels: {example.com/Team_1: '', b: 1.a-b}", "annotations: {Example.com/x: any thing!}", "labels: null"] {
        assert_eq!(with(right), "1 object checked: 0 errors\n", "{right}");
    }
}

#[test]
fn a_name_that_the_api_server_makes_is_as_good_as_one_that_is_written() {
    assert_eq!(said(&model("").replace("{name: parrot}", "{generateName: parrot-}")), "1 object checked: 0 errors\n");
    let long = said(&model("").replace("{name: parrot}", &format!("{{generateName: {}}}", "a".repeat(36))));
    assert!(long.contains("metadata.name must have at most 40"), "{long}");
}

#[test]
fn two_objects_of_one_name_are_told_with_both_places() {
    let of = |namespace: &str| model("").replace("{name: parrot}", &format!("{{name: parrot, namespace: {namespace}}}"));
    let twice = said(&format!("{}---\n{}", of("birds"), of("birds")));
    assert_eq!(
        twice,
        "x.yaml:9:12: error: ModelDeployment parrot: metadata.name: Duplicate value: \"parrot\": x.yaml:1 is another ModelDeployment of that name; rename one of the two, or remove the one that is not needed
2 objects checked: 1 error
"
    );
    let policy = |namespace: &str| of(namespace).replace("ModelDeployment", "ClusterModelPolicy");
    let apart = said(&format!("{}---\n{}---\n{}", of("birds"), of("sea"), policy("birds")));
    assert!(!apart.contains("Duplicate value"), "{apart}");
    let wide = said(&format!("{}---\n{}", policy("birds"), policy("sea")));
    assert!(wide.contains("x.yaml:1 is another ClusterModelPolicy of that name"), "policies have no namespace: {wide}");
}

#[test]
fn a_name_that_two_claim_is_told_of_the_second() {
    let claims = |name: &str, namespace: &str, served: &str| {
        format!(
            "---\napiVersion: bonafide.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  model: {{source: hf://a/b, servedNames: [{served}]}}\n"
        )
    };
    let twice = said(&format!("{}{}", claims("a", "birds", "x, chat"), claims("b", "birds", "chat")));
    assert_eq!(
        twice,
        "x.yaml:12:43: error: ModelDeployment b: spec.model.servedNames[0]: NameTaken: ModelDeployment a of namespace birds claims chat too (x.yaml:2); give one of them another name with spec.model.servedNames, or remove a
2 objects checked: 1 error
"
    );
    for apart in [claims("b", "sea", "chat"), claims("b", "birds", "talk")] {
        let apart = said(&format!("{}{apart}", claims("a", "birds", "chat")));
        assert_eq!(apart, "2 objects checked: 0 errors\n");
    }
}
