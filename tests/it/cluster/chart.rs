//! The chart, by the real Helm: what it renders, what it refuses, and what it leaves when it goes.

use serde_json::{Value, json};

use super::{
    place::{NAME, Place, condition, gated, text},
    world::{SYSTEM, World, helm},
};
use crate::support::{self, documents, path, recorded, restricted};

const RELEASE: &str = "bonafide";

fn chart() -> String {
    path("charts/bonafide").to_str().unwrap().to_owned()
}

async fn template(release: &str, settings: &[&str]) -> Result<Vec<Value>, String> {
    let chart = chart();
    let mut arguments = vec!["template", release, &chart, "--namespace", "operators"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set-json", setting]));
    helm(None, &arguments).await.map(|text| documents(&text))
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// manager.yaml, as the program reads it.
fn config(objects: &[Value]) -> bonafide::controller::Config {
    let map = of_kind(objects, "ConfigMap")[0];
    serde_saphyr::from_str(map["data"]["manager.yaml"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn helm_finds_nothing_to_complain_about() {
    let said = helm(None, &["lint", "--strict", &chart()]).await.unwrap();
    assert!(said.contains("0 chart(s) failed"), "{said}");
}

#[tokio::test]
async fn what_the_chart_renders_is_what_was_recorded() {
    for name in ["small", "full"] {
        let values = path(format!("charts/bonafide/tests/values-{name}.yaml"));
        let arguments = ["template", RELEASE, &chart(), "--namespace", SYSTEM, "--values", values.to_str().unwrap()];
        recorded(format!("charts/bonafide/tests/golden-{name}.yaml"), &helm(None, &arguments).await.unwrap());
    }
}

/// Values that Helm refuses, and a part of what it says.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    name: String,
    values: Value,
    says: String,
}

#[tokio::test]
async fn every_mistake_in_the_values_is_refused_in_words_that_name_it() {
    let cases: Vec<Refused> = serde_saphyr::from_str(&support::text("charts/bonafide/tests/refused.yaml")).unwrap();
    assert!(cases.len() > 10);
    let file = tempfile::NamedTempFile::new().unwrap();
    for Refused { name, values, says } in cases {
        std::fs::write(file.path(), values.to_string()).unwrap();
        let arguments = ["template", RELEASE, &chart(), "--values", file.path().to_str().unwrap()];
        let refusal = helm(None, &arguments).await.expect_err(&name);
        assert!(refusal.contains(&says), "{name}: {refusal}");
    }
}

#[tokio::test]
async fn with_every_set_of_values_the_program_reads_its_configuration() {
    let pem = "-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----\\n";
    let bundle = format!(r#"sources.hf.caBundle={{"pem":"{pem}"}}"#);
    let digest = format!(r#"image.digest="sha256:{}""#, "a".repeat(64));
    let sets: &[&[&str]] = &[
        &[],
        &[r#"policy.default="Deny""#, "protect.admissionPolicies=false", "crds.enabled=false"],
        &[
            r#"sources.mirrors=[{"from":"hf://acme/","to":"https://mirror.corp/hub"}]"#,
            r#"sources.allowedHosts=["*.corp","10.0.0.1:8443"]"#,
        ],
        &[&bundle, r#"trustedMutators=["istio-proxy"]"#],
        &[r#"sources.hf.caBundle={"configMap":"corp-ca","key":"root.pem"}"#, &digest],
        &[
            "metrics.podMonitor.enabled=true",
            "manager.replicas=1",
            r#"manager.user="Assigned""#,
            r#"manager.tolerations=[{"operator":"Exists"}]"#,
            r#"imagePullSecrets=["corp"]"#,
        ],
    ];
    for set in sets {
        let objects = template(RELEASE, set).await.unwrap();
        let config = config(&objects);
        bonafide::controller::read_sources(&without_file(&config.sources)).unwrap_or_else(|error| panic!("{set:?}: {error}"));
        assert_eq!(
            of_kind(&objects, "ValidatingAdmissionPolicy").len(),
            of_kind(&objects, "ValidatingAdmissionPolicyBinding").len()
        );
        assert_eq!(
            of_kind(&objects, "CustomResourceDefinition").len(),
            if set.contains(&"crds.enabled=false") { 0 } else { bonafide::api::crds().len() },
            "{set:?}"
        );
        let deployment = of_kind(&objects, "Deployment")[0];
        let security = &deployment["spec"]["template"]["spec"]["securityContext"];
        assert_eq!(security["runAsNonRoot"], true, "{set:?}");
        assert_eq!(security["runAsUser"].is_null(), set.contains(&r#"manager.user="Assigned""#), "{set:?}");
        assert_eq!(
            deployment["spec"]["template"]["spec"]["containers"][0]["image"],
            json!(config.image),
            "models are fetched with another image"
        );
    }
}

/// A file that only the pod has.
fn without_file(sources: &Value) -> Value {
    let mut sources = sources.clone();
    sources["hf"].as_object_mut().unwrap().remove("caBundleFile");
    sources
}

#[tokio::test]
async fn the_operators_own_pod_keeps_the_restricted_profile() {
    let objects = template(RELEASE, &[]).await.unwrap();
    let mut pod = of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"].clone();
    // It talks to the API server.
    assert_eq!(pod["automountServiceAccountToken"], true);
    pod["automountServiceAccountToken"] = json!(false);
    restricted::check(&pod).unwrap();
    for object in &objects {
        let labels = object["metadata"]["labels"].to_string();
        assert!(!labels.contains("bonafide.dev/"), "{}: these labels are kept for models: {labels}", object["kind"]);
    }
}

#[tokio::test]
async fn a_release_of_another_name_is_who_the_policies_mean() {
    let objects = template("models", &[]).await.unwrap();
    let account = text(&of_kind(&objects, "ServiceAccount")[0]["metadata"]["name"]);
    assert_eq!(account, "models-bonafide");
    assert_eq!(of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"]["serviceAccountName"], json!(account));
    let user = format!("system:serviceaccount:operators:{account}");
    for policy in of_kind(&objects, "ValidatingAdmissionPolicy") {
        assert!(policy.to_string().contains(&user), "{}", policy["metadata"]["name"]);
    }
    for binding in ["ClusterRoleBinding", "RoleBinding"] {
        let subject = &of_kind(&objects, binding)[0]["subjects"][0];
        assert_eq!((&subject["name"], &subject["namespace"]), (&json!(account), &json!("operators")), "{binding}");
    }
}

#[tokio::test]
async fn values_that_nobody_knows_or_that_cannot_work_are_refused() {
    for (setting, says) in [
        ("replicas=2", "replicas"),
        ("manager.replica=2", "replica"),
        ("manager.replicas=0", "replicas"),
        (r#"policy.default="allow""#, "default"),
        (r#"image.digest="latest""#, "digest"),
        (r#"sources.hf.endpoint="https://user:secret@hub.corp""#, "endpoint"),
        (r#"sources.hf.endpoint="ftp://hub.corp""#, "endpoint"),
        (r#"sources.hf.caBundle={"configMap":"a","pem":"-----BEGIN CERTIFICATE-----"}"#, "caBundle"),
        (r#"sources.mirrors=[{"from":"hf://acme","to":"https://mirror.corp"}]"#, "from"),
        (r#"sources.allowedHosts=["http://x"]"#, "allowedHosts"),
        (r#"protect.admissionPolicies="yes""#, "admissionPolicies"),
        (r#"trustedMutators=["Istio"]"#, "trustedMutators"),
    ] {
        let refusal = template(RELEASE, &[setting]).await.expect_err(setting);
        assert!(
            refusal.contains("don't meet the specifications of the schema") && refusal.contains(says),
            "{setting}: {refusal}"
        );
    }
}

#[tokio::test]
async fn an_upgrade_and_an_end_of_the_chart_leave_models_and_their_definitions() {
    let world = World::without_operator().await;
    let mut operator = world.another_operator("before").await;
    let place = Place::new(&world).await;
    place.deploy(NAME).await;
    let pod = place.let_in(NAME, 1).await.remove(0);
    place.deploy("restarted").await;
    let restarted = place.let_in("restarted", 1).await.remove(0);
    let protected = place.condition(NAME, "Ready", "False", "Unschedulable").await;
    assert!(!protected.to_string().contains("Unprotected"), "{protected}");
    let definitions = async || world.kubectl(&["get", "crd", "-o", "name"]).await.unwrap();
    let before = (definitions().await, place.versions(NAME).await);
    assert_eq!(before.0.matches(".bonafide.dev").count(), bonafide::api::crds().len(), "{}", before.0);

    let endpoint = format!("sources.hf.endpoint={}", world.hub.url());
    let upgrade = [
        "upgrade",
        RELEASE,
        &chart(),
        "-n",
        SYSTEM,
        "--set",
        &endpoint,
        "--set",
        "policy.default=Deny",
        "--set",
        "protect.admissionPolicies=false",
    ];
    world.helm(&upgrade).await.unwrap();
    assert_eq!(definitions().await, before.0);
    assert_eq!(world.kubectl(&["get", "validatingadmissionpolicies", "-o", "name"]).await.unwrap(), "");
    let config = world.kubectl(&["get", "configmap", RELEASE, "-n", SYSTEM, "-o", "jsonpath={.data}"]).await.unwrap();
    assert!(config.contains("default: Deny"), "{config}");

    operator.signal("TERM");
    operator.ended().await;
    let notes = world.helm(&["get", "notes", RELEASE, "-n", SYSTEM]).await.unwrap();
    assert!(notes.contains("running ones keep serving, new pods stay gated"), "{notes}");
    world.helm(&["uninstall", RELEASE, "-n", SYSTEM]).await.unwrap();
    assert_eq!(definitions().await, before.0, "the definitions went, and every model with them");
    assert!(place.get("ModelDeployment", NAME).await.is_some());
    assert_eq!(place.versions(NAME).await, before.1, "something changed the children");
    assert_eq!(
        world
            .kubectl(&["get", "clusterroles,clusterrolebindings", "-l", "app.kubernetes.io/name=bonafide", "-o", "name"])
            .await
            .unwrap(),
        ""
    );

    // A pod that is made meanwhile waits: nobody says yes.
    place.delete("Pod", &text(&restarted["metadata"]["name"])).await;
    let new = async || match place.of("Pod", "restarted").await {
        pods if pods.len() == 1 && pods[0]["metadata"]["uid"] != restarted["metadata"]["uid"] => Ok(()),
        pods => Err(format!("{} pods", pods.len())),
    };
    world.eventually("another pod takes the place of the one that went", new).await;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(gated(&place.of("Pod", "restarted").await[0]));

    // Installed again, as another version and with another table of sources: pods stay as they are.
    let other =
        ["--set", "image.tag=another", "--set", "sources.allowedHosts={*.corp}", "--set", "protect.admissionPolicies=false"];
    world.helm(&[&["install", RELEASE, &chart(), "-n", SYSTEM, "--set", &endpoint][..], &other].concat()).await.unwrap();
    let _operator = world.another_operator("after").await;
    place.let_in("restarted", 1).await;
    place.deploy("later").await;
    let later = place.let_in("later", 1).await.remove(0);
    assert!(text(&later["spec"]["initContainers"][0]["image"]).ends_with(":another"), "{later}");
    let config = text(&place.child("ConfigMap", NAME).await["metadata"]["name"]);
    place.until("ConfigMap", &config, "has the table", |map| map["data"]["sources.json"].to_string().contains("*.corp")).await;
    let mut after = place.versions(NAME).await;
    after.insert(format!("ConfigMap {config}"), before.1[&format!("ConfigMap {config}")].clone());
    assert_eq!(after, before.1, "another version of the operator changed more than the table of sources");
    assert_eq!(place.let_in(NAME, 1).await[0]["metadata"]["uid"], pod["metadata"]["uid"]);
    // Without the admission policies less is promised, and that is said.
    let said = async || match place.get("ModelDeployment", "later").await.unwrap() {
        object if condition(&object, "Trusted").is_some_and(|c| c["message"].to_string().contains("Assurance=Unprotected")) => {
            Ok(())
        }
        object => Err(object["status"].to_string()),
    };
    world.eventually("the status says that nothing protects the pods", said).await;
}
