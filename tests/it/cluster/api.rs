//! The definitions as a real API server understands them.

use http::Request;
use kube::Client;
use serde_json::{Value, json};

use super::{
    place::{NAME, Place, condition, text},
    world::World,
};
use crate::support::{self, documents, files, rules::Table};

/// Creates or replaces an object without keeping it; fields that nobody knows are refused.
async fn try_write(client: &Client, method: &str, url: &str, object: &Value) -> Result<Value, String> {
    let request = Request::builder()
        .method(method)
        .uri(format!("{url}?dryRun=All&fieldValidation=Strict"))
        .header("content-type", "application/json")
        .body(object.to_string().into_bytes())
        .unwrap();
    client.request::<Value>(request).await.map_err(|error| error.to_string())
}

/// Where objects of a definition are created, in a namespace when they are in one.
fn url(definition: &Value, namespace: &str) -> String {
    let spec = &definition["spec"];
    let scope = if spec["scope"] == "Namespaced" { format!("namespaces/{namespace}/") } else { String::new() };
    format!("/apis/{}/v1alpha1/{scope}{}", text(&spec["group"]), text(&spec["names"]["plural"]))
}

#[tokio::test]
async fn an_api_server_accepts_and_refuses_what_the_tables_say() {
    let world = World::shared();
    let place = Place::new(world).await;
    for (definition, table) in Table::all() {
        let url = url(&definition, &place.name);
        let mut name = String::new();
        for case in table.rules.iter().chain(&table.schema) {
            let mut base = table.base.clone();
            if case.update && name.is_empty() {
                let created =
                    place.create(&text(&base["kind"]), &text(&base["metadata"]["name"]), json!({"spec": base["spec"]})).await;
                base["metadata"] = created["metadata"].clone();
                name = text(&created["metadata"]["name"]);
            }
            let (method, url) = if case.update { ("PUT", format!("{url}/{name}")) } else { ("POST", url.clone()) };
            for patch in &case.accept {
                let answer = try_write(&place.client, method, &url, &support::merge(&base, patch)).await;
                assert!(answer.is_ok(), "{} with {patch}: {answer:?}", base["kind"]);
            }
            for patch in &case.refuse {
                let answer = try_write(&place.client, method, &url, &support::merge(&base, patch)).await;
                let refusal = answer.expect_err(&format!("{} with {patch} is accepted", base["kind"]));
                let at = case.at.split("[]").all(|part| refusal.contains(part));
                assert!(refusal.contains(&case.says) && at, "{} with {patch}: {refusal}", base["kind"]);
            }
        }
    }
}

#[tokio::test]
async fn what_decides_about_security_has_a_default_that_everybody_sees() {
    let place = Place::new(World::shared()).await;
    let policy = json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterModelPolicy", "metadata": {"name": "defaults"}, "spec": {}});
    let found = try_write(&place.client, "POST", "/apis/bonafide.dev/v1alpha1/clustermodelpolicies", &policy).await.unwrap();
    assert_eq!(
        found["spec"],
        json!({"mode": "Enforce", "unmatched": "Refuse", "unsignedFiles": "Exclude", "minimumAssurance": "Copied", "onRecall": "BlockNew", "remoteCode": "Deny", "completeTree": false, "namespaceSelector": {}})
    );
    let model = json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": NAME}, "spec": {"model": {"source": "hf://a/b"}}});
    let url = format!("/apis/bonafide.dev/v1alpha1/namespaces/{}/modeldeployments", place.name);
    assert_eq!(
        try_write(&place.client, "POST", &url, &model).await.unwrap()["spec"],
        json!({"model": {"source": "hf://a/b"}, "replicas": 1})
    );
}

#[tokio::test]
async fn a_null_does_not_slip_past_a_default() {
    let place = Place::new(World::shared()).await;
    let policy = json!({"apiVersion": "bonafide.dev/v1alpha1", "kind": "ClusterModelPolicy", "metadata": {"name": "nulls"},
        "spec": {"mode": null, "unmatched": null, "unsignedFiles": null, "minimumAssurance": null, "onRecall": null, "remoteCode": null, "completeTree": null, "namespaceSelector": null}});
    let found = try_write(&place.client, "POST", "/apis/bonafide.dev/v1alpha1/clustermodelpolicies", &policy).await.unwrap();
    assert_eq!(
        found["spec"],
        json!({"mode": "Enforce", "unmatched": "Refuse", "unsignedFiles": "Exclude", "minimumAssurance": "Copied", "onRecall": "BlockNew", "remoteCode": "Deny", "completeTree": false, "namespaceSelector": {}})
    );
}

#[tokio::test]
async fn every_example_is_accepted() {
    let place = Place::new(World::shared()).await;
    let definitions = bonafide::api::crds();
    let manual = support::text("docs/engines.md");
    let shown = manual.split("```yaml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned());
    let examples = files("examples")
        .into_iter()
        .filter(|file| file.ends_with(".yaml"))
        .map(|file| support::text(format!("examples/{file}")));
    let built_in = files("engines").into_iter().map(|file| support::text(format!("engines/{file}")));
    let mut seen = 0;
    for mut object in shown.chain(examples).chain(built_in).flat_map(|text| documents(&text)) {
        let Some((_, definition)) =
            definitions.iter().find(|(_, definition)| definition["spec"]["names"]["kind"] == object["kind"])
        else {
            continue;
        };
        object["metadata"].as_object_mut().unwrap().remove("namespace");
        let answer = try_write(&place.client, "POST", &url(definition, &place.name), &object).await;
        assert!(answer.is_ok(), "{} {}: {answer:?}", object["kind"], object["metadata"]["name"]);
        seen += 1;
    }
    assert!(seen >= 3, "only {seen}");
}

/// Nothing that is rendered is defaulted or changed by an API server: else it would look like a change by somebody else, and
/// be written again and again. And its pods may run in a namespace with the restricted profile.
#[tokio::test]
async fn what_is_rendered_is_stored_as_it_is_and_passes_the_restricted_profile() {
    let place = Place::new(World::shared()).await;
    place
        .change("Namespace", &place.name, json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}))
        .await;
    place.create("ServiceAccount", "keeper", json!({})).await;
    place.until("ServiceAccount", "default", "exists", |_| true).await;
    super::pods::classes(&place).await;
    for file in files("tests/golden/render").iter().filter(|file| file.ends_with(".out.yaml")) {
        for mut object in documents(&support::text(format!("tests/golden/render/{file}"))) {
            let kind = text(&object["kind"]);
            object["metadata"]["namespace"] = json!(place.name);
            let plural = format!("{}s", kind.to_lowercase());
            let group =
                if object["apiVersion"] == "v1" { "api/v1".to_owned() } else { format!("apis/{}", text(&object["apiVersion"])) };
            let url = format!("/{group}/namespaces/{}/{plural}", place.name);
            let stored =
                try_write(&place.client, "POST", &url, &object).await.unwrap_or_else(|error| panic!("{file}: {kind}: {error}"));
            for at in [
                "/data",
                "/revision",
                "/spec/template/spec",
                "/spec/template/metadata/labels",
                "/spec/selector",
                "/spec/ports",
                "/spec/strategy",
            ] {
                assert_eq!(stored.pointer(at), object.pointer(at), "{file}: {kind}: {at}");
            }
            if kind == "Deployment" {
                let template = &object["spec"]["template"];
                let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
                let pod = support::merge(&pod, &json!({"metadata": {"name": "bonafide-probe"}}));
                let url = format!("/api/v1/namespaces/{}/pods", place.name);
                let found = try_write(&place.client, "POST", &url, &pod).await;
                assert!(found.is_ok(), "{file}: {found:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_deployment_is_scaled_as_an_autoscaler_does() {
    let place = Place::new(World::shared()).await;
    place.deploy(NAME).await;
    place.let_in(NAME, 1).await;
    let scaled = place.world.kubectl(&["scale", "mdep", NAME, "--replicas=2", "-n", &place.name]).await.unwrap();
    assert!(scaled.contains("scaled"), "{scaled}");
    let pods = place.let_in(NAME, 2).await;
    place.until("ModelDeployment", NAME, "has two replicas", |object| object["status"]["replicas"] == 2).await;
    let url = format!("/apis/bonafide.dev/v1alpha1/namespaces/{}/modeldeployments/{NAME}/scale", place.name);
    let scale: Value = place.client.request(Request::get(url).body(vec![]).unwrap()).await.unwrap();
    assert_eq!((&scale["spec"]["replicas"], &scale["status"]["replicas"]), (&json!(2), &json!(2)));
    let selector = text(&scale["status"]["selector"]);
    let selected = place.world.kubectl(&["get", "pods", "-n", &place.name, "-l", &selector, "-o", "name"]).await.unwrap();
    assert_eq!(selected.lines().count(), pods.len(), "{selector} selects {selected}");
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let place = Place::new(World::shared()).await;
    place.deploy(NAME).await;
    let before = place.condition(NAME, "Ready", "False", "Unschedulable").await;
    let after = place.change("ModelDeployment", NAME, json!({"status": {"trust": "Signed"}})).await;
    assert_eq!(after["status"]["trust"], before["status"]["trust"], "a write of the object changed its status");
    let url = format!("/apis/bonafide.dev/v1alpha1/namespaces/{}/modeldeployments/{NAME}/status", place.name);
    let patch = json!({"spec": {"replicas": 7}}).to_string().into_bytes();
    let request = Request::patch(url).header("content-type", "application/merge-patch+json").body(patch).unwrap();
    let after: Value = place.client.request(request).await.unwrap();
    assert_eq!(after["spec"]["replicas"], 1, "a write of the status changed the object");
}

#[tokio::test]
async fn kubectl_shows_what_a_person_wants_to_know_first() {
    let place = Place::new(World::shared()).await;
    place.deploy(NAME).await;
    let object = place.condition(NAME, "Ready", "False", "Unschedulable").await;
    let table = place.world.kubectl(&["get", "mdep", "-n", &place.name]).await.unwrap();
    let columns: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(columns, ["NAME", "TRUST", "STATE", "READY", "REVISION", "AGE", "WHY"]);
    let row = table.lines().nth(1).unwrap();
    for cell in
        [NAME, "Unknown", "Waiting", "0/1", &text(&object["status"]["model"]["shortRevision"]), "There is no node in the cluster"]
    {
        assert!(row.contains(cell), "{cell} is not in: {row}");
    }
    let waited =
        place.world.kubectl(&["wait", "mdep", NAME, "--for=condition=SourceResolved", "--timeout=5s", "-n", &place.name]).await;
    assert!(waited.is_ok(), "{waited:?}");
    assert!(condition(&object, "Ready").unwrap()["observedGeneration"] == object["metadata"]["generation"]);
    let explained = place.world.kubectl(&["explain", "modeldeployment.spec.model.source"]).await.unwrap();
    assert!(explained.contains("hf://OWNER/NAME"), "{explained}");
}
