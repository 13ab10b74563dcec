//! What tools that bring objects from Git see in ours. `cluster::gitops` asks the same of a real API server's objects.

use serde_json::{Value, json};

use crate::support::{
    argo::health,
    files,
    kstatus::{Kstatus, kstatus},
    text,
};

fn model(generation: i64, observed: Option<i64>, conditions: &[(&str, &str)]) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(kind, status)| json!({"type": kind, "status": status, "reason": "R", "message": format!("{kind} says")}))
        .collect();
    json!({"metadata": {"generation": generation}, "spec": {}, "status": {"observedGeneration": observed, "conditions": conditions}})
}

#[test]
fn argo_cd_and_kstatus_agree_about_every_state() {
    let done = [("Ready", "True"), ("Reconciling", "False"), ("Stalled", "False")];
    let busy = [("Ready", "False"), ("Reconciling", "True"), ("Stalled", "False")];
    let stuck = [("Ready", "False"), ("Reconciling", "False"), ("Stalled", "True")];
    for (object, expected, argo) in [
        (model(1, Some(1), &done), Kstatus::Current, "Healthy"),
        (model(1, Some(1), &busy), Kstatus::InProgress, "Progressing"),
        (model(1, Some(1), &stuck), Kstatus::Failed, "Degraded"),
        // What is said of an older wish says nothing of this one.
        (model(2, Some(1), &done), Kstatus::InProgress, "Progressing"),
        (model(2, Some(1), &stuck), Kstatus::InProgress, "Progressing"),
        // Nobody has looked at it yet.
        (model(1, Some(-1), &[]), Kstatus::InProgress, "Progressing"),
    ] {
        assert_eq!((kstatus(&object), health(&object).0.as_str()), (expected, argo), "{object}");
    }
    assert_eq!(health(&model(1, Some(1), &stuck)).1, "R: Ready says");
    let mut paused = model(1, Some(1), &busy);
    paused["spec"]["management"] = json!("Paused");
    assert_eq!(health(&paused).0, "Suspended");
    assert_eq!(health(&json!({"metadata": {}})).0, "Progressing");
}

/// A chart that looks something up or invents a secret renders something else each time, and from Git never the same.
#[test]
fn the_chart_renders_the_same_each_time_and_without_a_cluster() {
    let templates = files("charts/bonafide/templates");
    assert!(templates.len() > 5, "{templates:?}");
    for file in templates {
        let template = text(format!("charts/bonafide/templates/{file}"));
        for word in [
            "lookup ",
            "genCA",
            "genSelfSigned",
            "genSigned",
            "genPrivateKey",
            "rand",
            "derivePassword",
            "uuid",
            "now |",
            "now)",
            "htpasswd",
            "Capabilities.KubeVersion",
        ] {
            assert!(!template.contains(word), "{file} has {word:?}");
        }
        assert!(!template.contains("helm.sh/hook"), "{file} has a hook, which is run in another way by each tool");
    }
}
