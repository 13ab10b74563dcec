//! `tests/golden/render`: a ModelDeployment and the record of its model in, every child out, byte for byte.
//! `UPDATE_GOLDEN=1 cargo test --test it golden` writes what comes out.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{documents, files, path, recorded, restricted, text};

/// The cases: name, what goes in, what comes out of the real program.
fn cases() -> Vec<(String, Vec<Value>, String)> {
    let names = files("tests/golden/render").into_iter().filter_map(|file| Some(file.strip_suffix(".in.yaml")?.to_owned()));
    let cases: Vec<_> = names
        .map(|name| {
            let input = format!("tests/golden/render/{name}.in.yaml");
            (name, documents(&text(&input)), render(&input))
        })
        .collect();
    assert!(cases.len() >= 8, "only {} cases in tests/golden/render", cases.len());
    cases
}

fn render(input: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bonafide"))
        .args(["render", "--image", "registry.acme.test/operator:7", "-f"])
        .arg(path(input))
        .output()
        .unwrap();
    assert!(output.status.success(), "{input}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<&Value> = objects.iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found[0]
}

#[test]
fn a_deployment_becomes_the_children_that_are_recorded() {
    for (name, _, output) in cases() {
        recorded(format!("tests/golden/render/{name}.out.yaml"), &output);
        assert_eq!(
            output,
            render(&format!("tests/golden/render/{name}.in.yaml")),
            "{name}: the second time something else comes out"
        );
    }
}

#[test]
fn every_pod_template_keeps_the_restricted_profile() {
    for (name, _, output) in cases() {
        let objects = documents(&output);
        restricted::check(&of_kind(&objects, "Deployment")["spec"]["template"]["spec"])
            .unwrap_or_else(|breach| panic!("{name}: {breach}"));
        let user = of_kind(&objects, "Deployment").pointer("/spec/template/spec/securityContext/runAsUser").is_some();
        assert_eq!(user, name != "assigned", "{name}: only who says so leaves the user to the cluster");
    }
}

#[test]
fn names_are_short_enough_to_be_labels_and_the_longest_deployment_still_fits() {
    for (name, input, output) in cases() {
        let deployment = of_kind(&input, "ModelDeployment")["metadata"]["name"].as_str().unwrap().to_owned();
        for object in documents(&output) {
            let child = object["metadata"]["name"].as_str().unwrap();
            assert!(child.len() <= 63, "{name}: {child}");
            // The rule of the resource lets names have 40 characters; a pod's name adds a hash of ten and five of its own.
            if object["kind"] == "Deployment" {
                assert_eq!(child.len(), "bonafide-".len() + deployment.len() + "-01234567".len(), "{name}: {child}");
                assert!(child.len() + 40 - deployment.len() <= 58, "{name}: {child}");
            }
        }
    }
}

#[test]
fn children_belong_to_their_deployment_and_find_each_other() {
    for (name, input, output) in cases() {
        let owner = &of_kind(&input, "ModelDeployment")["metadata"];
        let objects = documents(&output);
        let deployment = of_kind(&objects, "Deployment");
        let pod = &deployment["spec"]["template"];
        for object in &objects {
            let at = format!("{name}: {}", object["kind"]);
            let reference = &object["metadata"]["ownerReferences"][0];
            assert_eq!((&reference["uid"], &reference["controller"]), (&owner["uid"], &json!(true)), "{at}");
            assert_eq!(object["metadata"]["namespace"], owner["namespace"], "{at}");
            assert_eq!(object["metadata"]["labels"]["bonafide.dev/deployment"], owner["name"], "{at}");
            let annotations = object["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
            let ours = object["kind"] == "ControllerRevision" && annotations.keys().all(|key| key.starts_with("bonafide.dev/"));
            assert!(annotations.is_empty() || ours, "{at}: annotations of the parent are not the children's");
        }
        let selects =
            |selector: &Value| selector.as_object().unwrap().iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value);
        assert!(selects(&deployment["spec"]["selector"]["matchLabels"]), "{name}: the Deployment does not select its pods");
        assert!(selects(&of_kind(&objects, "Service")["spec"]["selector"]), "{name}: the Service does not select the pods");
        let budget = &of_kind(&objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"];
        assert!(selects(budget), "{name}: the PodDisruptionBudget does not select the pods");
        let config = pod["spec"]["volumes"].as_array().unwrap().iter().find(|volume| volume["name"] == "config").unwrap();
        assert_eq!(config["configMap"]["name"], of_kind(&objects, "ConfigMap")["metadata"]["name"], "{name}");
        assert_eq!(&of_kind(&objects, "ControllerRevision")["data"]["template"], pod, "{name}: what is frozen is not what runs");
        assert_eq!(pod["spec"]["schedulingGates"], json!([{ "name": "bonafide.dev/verdict" }]), "{name}");
        assert_eq!(pod["spec"]["readinessGates"], json!([{ "conditionType": "bonafide.dev/Vouched" }]), "{name}");
    }
}

#[test]
fn what_is_fetched_is_exactly_what_was_recorded() {
    for (name, input, output) in cases() {
        let artifact = of_kind(&input, "ModelArtifact");
        let objects = documents(&output);
        let manifest: Value =
            serde_json::from_str(of_kind(&objects, "ConfigMap")["data"]["manifest.json"].as_str().unwrap()).unwrap();
        let recorded: Vec<Value> = artifact["spec"]["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| json!([file["path"], file["size"], format!("sha256:{}", file["sha256"].as_str().unwrap())]))
            .collect();
        let fetched: Vec<Value> =
            manifest.as_array().unwrap().iter().map(|file| json!([file["path"], file["size"], file["sha256"]])).collect();
        assert_eq!(fetched, recorded, "{name}");
        let args = of_kind(&objects, "Deployment").pointer("/spec/template/spec/initContainers/0/args").unwrap();
        for expected in [
            format!("--digest={}", artifact["spec"]["digest"].as_str().unwrap()),
            format!("--revision={}", artifact["spec"]["revision"].as_str().unwrap()),
        ] {
            assert!(args.as_array().unwrap().contains(&json!(expected)), "{name}: {args} lacks {expected}");
        }
    }
}

#[test]
fn the_number_of_replicas_the_labels_of_the_object_the_pin_and_the_strategy_make_no_other_revision() {
    let input = "tests/golden/render/llama-cpp-cpu.in.yaml";
    let directory = tempfile::tempdir().unwrap();
    let name = |change: &dyn Fn(&mut Value)| {
        let mut objects = documents(&text(input));
        change(objects.iter_mut().find(|object| object["kind"] == "ModelDeployment").unwrap());
        let file = directory.path().join("in.yaml");
        std::fs::write(&file, objects.iter().map(|object| format!("---\n{object}\n")).collect::<String>()).unwrap();
        of_kind(&documents(&render(file.to_str().unwrap())), "Deployment")["metadata"]["name"].clone()
    };
    let before = name(&|_| {});
    assert_eq!(name(&|object| object["spec"]["replicas"] = json!(5)), before);
    assert_eq!(name(&|object| object["metadata"]["labels"] = json!({"team": "birds"})), before);
    assert_eq!(name(&|object| object["spec"]["model"]["digest"] = json!(format!("sha256:{}", "0".repeat(64)))), before);
    assert_eq!(name(&|object| object["spec"]["rollout"] = json!({"strategy": "Surge", "deadline": "5m"})), before);
    assert_ne!(name(&|object| object["spec"]["rollout"] = json!({"drain": "5m"})), before);
    assert_ne!(name(&|object| object["spec"]["engine"] = json!({"contextLength": 2048})), before);
    assert_ne!(name(&|object| object["spec"]["model"]["servedNames"] = json!(["other"])), before);
}
