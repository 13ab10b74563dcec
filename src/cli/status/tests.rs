//! `tests/golden/status`: objects in, what a person sees out. `UPDATE_GOLDEN=1 cargo test golden` writes the second anew.

use std::{fs, path::Path};

use super::*;

/// The objects were read at this time.
const NOW: &str = "2026-11-22T12:00:00Z";

fn seen(text: &str) -> Seen {
    let mut seen = Seen::default();
    for object in serde_saphyr::from_multiple::<Value>(text).unwrap().into_iter().filter(|object| !object.is_null()) {
        match object["kind"].as_str().unwrap() {
            "ModelDeployment" => seen.models.push(object),
            "ControllerRevision" => seen.revisions.push(object),
            "Deployment" => seen.deployments.push(object),
            "Pod" => seen.pods.push(object),
            other => panic!("a {other} is not read"),
        }
    }
    seen
}

fn files() -> Vec<std::path::PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/status");
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_str().unwrap().ends_with(".in.yaml"));
    files.sort();
    files
}

#[test]
fn golden_pictures_are_what_people_see() {
    let files = files();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let seen = seen(&fs::read_to_string(&file).unwrap());
        let found = draw(&seen.tree(NOW.parse().unwrap(), true), Style { width: Some(100), colour: false });
        let out = file.to_str().unwrap().replace(".in.yaml", ".out.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&out, &found).unwrap();
        }
        assert_eq!(found, fs::read_to_string(&out).unwrap(), "{out}");
        assert!(
            found.lines().all(|line| line.chars().count() <= 100 || line.contains("revision ") || line.contains("pod ")),
            "{out}"
        );
    }
}

#[test]
fn every_pod_and_every_revision_of_a_picture_is_in_its_json() {
    for file in files() {
        let seen = seen(&fs::read_to_string(&file).unwrap());
        let json = seen.json(NOW.parse().unwrap()).to_string();
        let shown = |pod: &&Value| text(pod, "/metadata/namespace") == text(&seen.models[0], "/metadata/namespace");
        for pod in seen.pods.iter().filter(shown) {
            assert!(json.contains(text(pod, "/metadata/name")), "{}: {pod}", file.display());
        }
        assert_eq!(json.matches("\"isReady\":").count(), seen.models.len());
    }
}

#[test]
fn each_picture_of_a_watch_says_when_it_was_drawn() {
    let now = "2026-11-22T12:00:07.9Z".parse().unwrap();
    let with = |width, again| watched("parrot\n", Style { width, colour: false }, again, now);
    assert_eq!(with(None, false), "12:00:07 UTC\nparrot\n");
    assert_eq!(with(None, true), "\n12:00:07 UTC\nparrot\n");
    assert_eq!(with(Some(80), true), "\x1b[2J\x1b[H12:00:07 UTC\nparrot\n");
}

#[test]
fn a_change_that_nobody_looked_at_is_not_ready() {
    let model = |generation: i64, observed: i64, ready: &str| {
        serde_json::json!({"metadata": {"generation": generation},
            "status": {"observedGeneration": observed, "conditions": [{"type": "Ready", "status": ready}]}})
    };
    assert!(is_ready(&model(2, 2, "True")));
    assert!(!is_ready(&model(3, 2, "True")));
    assert!(!is_ready(&model(2, 2, "False")));
    assert!(!is_ready(&serde_json::json!({"metadata": {"generation": 1}})));
}

#[test]
fn ages_are_written_as_kubectl_does() {
    let at = |since: &str| age(since, NOW.parse().unwrap());
    assert_eq!(
        [
            "2026-11-22T11:59:15Z",
            "2026-11-22T11:48:00Z",
            "2026-11-22T09:00:00Z",
            "2026-11-13T12:00:00Z",
            "",
            "2027-01-01T00:00:00Z"
        ]
        .map(at),
        ["45s", "12m", "3h", "9d", "", "0s"]
    );
}
