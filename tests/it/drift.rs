//! What is written down twice says the same twice.

use bonafide::{
    api::{self, Reason, State},
    controller::served_names,
    engine::Engine,
    model::Source,
    runtime::metrics::{Metrics, Outcome, Phase, ReasonLabel, Write},
};
use serde_json::Value;

use crate::support::{documents, files, path, recorded, rules::schema, text};

/// Definitions above this size are refused by `kubectl apply`, which keeps a copy in an annotation; far below it, `kubectl
/// explain` is still read by people.
const LARGEST: usize = 60 * 1024;

#[test]
fn the_definitions_are_what_the_types_say_here_and_in_the_chart() {
    let definitions = api::crds();
    let names: Vec<&str> = definitions.iter().map(|(file, _)| *file).collect();
    for directory in ["crds", "charts/bonafide/files/crds"] {
        for (file, definition) in &definitions {
            recorded(format!("{directory}/{file}"), &api::render_crd(definition).unwrap());
        }
        let mut there = files(directory);
        there.retain(|file| !names.contains(&file.as_str()));
        assert!(there.is_empty(), "{directory} has files that belong to no definition: {there:?}");
    }
}

#[test]
fn the_manual_of_reasons_is_what_the_program_says() {
    let mut manual = String::from(
        "# Why a model is as it is

Every condition, Event and metric of Bonafide has one of these reasons. The message beside it says what exactly, with numbers and
the next step; here stands what each means and what helps. Written by `make generate` from `src/api/reason.rs`.
",
    );
    for (group, reasons) in Reason::ALL {
        let helps = reasons.iter().any(|reason| reason.is_trouble());
        manual.push_str(&format!("\n## {}\n\n", group.trim_end_matches('.')));
        manual.push_str(if helps {
            "| reason | what it means | what helps |\n|---|---|---|\n"
        } else {
            "| reason | what it means |\n|---|---|\n"
        });
        for reason in *reasons {
            assert_eq!(reason.is_trouble(), !reason.helps().is_empty(), "{reason}: say what helps, behind => in reason.rs");
            let helps = if helps { format!(" {} |", reason.helps()) } else { String::new() };
            manual.push_str(&format!("| `{reason}` | {} |{helps}\n", reason.meaning()));
        }
    }
    recorded("docs/reasons.md", &manual);
}

#[test]
fn definitions_are_small_and_nothing_in_them_is_nullable() {
    for (file, definition) in api::crds() {
        let size = api::render_crd(&definition).unwrap().len();
        assert!(size < LARGEST, "{file} has {size} bytes, at most {LARGEST} are wanted");
        every(&definition, "", &mut |at, value| assert!(!at.ends_with("/nullable") || !value.is_boolean(), "{file}: {at}"));
    }
}

#[test]
fn every_list_says_how_it_is_merged_and_is_bounded() {
    for (file, definition) in api::crds() {
        let spec = &schema(&definition)["properties"]["spec"];
        every(spec, "", &mut |at, value| {
            if value["type"] == "array" && value["items"].is_object() && !at.contains("namespaceSelector") {
                assert!(value["maxItems"].is_u64(), "{file}: spec{at} has no maxItems");
            }
        });
    }
}

#[test]
fn every_example_can_be_read() {
    let mut read = 0;
    for file in files("examples").into_iter().filter(|file| file.ends_with(".yaml")) {
        for object in documents(&text(format!("examples/{file}"))) {
            let at = format!("examples/{file}: {}", object["metadata"]["name"]);
            read += usize::from(crate::cel::accepts(&object).unwrap_or_else(|problem| panic!("{at}: {problem}")));
        }
    }
    assert!(read > 0 || !path("examples").exists(), "there is no object of ours in examples/");
}

#[test]
fn the_manual_has_every_metric() {
    let manual = text("docs/status.md");
    let metrics = Metrics::default();
    // What has never happened is not exposed.
    drop(metrics.reconciles.get_or_create(&Outcome { outcome: "done" }));
    drop(metrics.writes.get_or_create(&Write { kind: "Pod", verb: "patch" }));
    drop(metrics.reasons.get_or_create(&ReasonLabel { reason: "Ready" }));
    drop(metrics.cold_starts.get_or_create(&Phase { phase: "fetch".to_owned() }));
    let exposed = metrics.encode().unwrap();
    let types: Vec<&str> = exposed.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(types.len() >= 6, "{exposed}");
    for line in types {
        let (name, kind) = line.split_once(' ').unwrap();
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(manual.contains(&format!("`{name}`")), "docs/status.md does not have {name}");
    }
}

#[test]
fn the_manual_says_of_every_state_when_it_is() {
    let manual = text("docs/status.md");
    let told: Vec<&str> = manual.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    let rows: Vec<&str> = told.into_iter().filter(|name| !name.contains('_')).collect();
    assert_eq!(rows, State::ALL.map(State::as_str), "the rows of the table in docs/status.md");
}

#[test]
fn no_message_says_that_nothing_is_served_while_replicas_from_before_may_serve() {
    let mut directories = vec![path("src")];
    let mut read = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                directories.push(entry);
                continue;
            }
            let text = std::fs::read_to_string(&entry).unwrap();
            let wrong = ["Nothing was served.", "Nothing of it is served.", "Nothing of the model was served."];
            let found: Vec<&str> = wrong.into_iter().filter(|wrong| text.contains(wrong)).collect();
            assert!(
                found.is_empty(),
                "{}: {found:?}; say that nothing new is served, or that no new replica serves it",
                entry.display()
            );
            read += 1;
        }
    }
    assert!(read > 100, "{read} files");
}

#[test]
fn no_example_takes_the_place_of_another_and_all_go_into_one_namespace_together() {
    let mut known = std::collections::BTreeMap::new();
    for file in files("examples").into_iter().filter(|file| file.ends_with(".yaml")) {
        for object in documents(&text(format!("examples/{file}"))) {
            let own = format!("{} {}", object["kind"], object["metadata"]["name"]);
            let served = if object["kind"] == "ModelDeployment" {
                let model: api::ModelDeployment = serde_json::from_value(object.clone()).unwrap();
                let source = Source::in_namespace(&model.spec.model.source, "chat").unwrap();
                served_names(&model, &source)
            } else {
                vec![]
            };
            for name in served.into_iter().map(|name| format!("the served name {name}")).chain([own]) {
                if let Some(other) = known.insert(name.clone(), file.clone()) {
                    panic!("examples/{file} and examples/{other} have both {name}: who applies one loses the other");
                }
            }
            assert_eq!(object["metadata"].get("namespace"), None, "examples/{file}: who applies it may not have that namespace");
        }
    }
    assert!(known.len() > 20, "{known:?}");
}

#[test]
fn the_engine_of_the_manual_is_accepted() {
    let manual = text("docs/engines.md");
    let blocks = manual.split("```yaml\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    let engines: Vec<Value> = blocks.flat_map(documents).filter(|object| object["kind"] == "InferenceEngine").collect();
    assert!(!engines.is_empty(), "docs/engines.md shows no complete InferenceEngine");
    for engine in engines {
        assert_eq!(crate::cel::accepts(&engine), Ok(true));
    }
}

#[test]
fn the_built_in_engines_would_be_accepted_as_objects() {
    for file in files("engines") {
        for object in documents(&text(format!("engines/{file}"))) {
            assert_eq!(crate::cel::accepts(&object), Ok(true), "engines/{file}");
            let engine: api::InferenceEngine = serde_json::from_value(object).unwrap();
            Engine::parse(engine.metadata.name.as_deref().unwrap(), engine.spec)
                .unwrap_or_else(|problem| panic!("engines/{file}: {problem}"));
        }
    }
}

/// Calls `see` for every value of a tree, with its JSON pointer.
fn every(value: &Value, at: &str, see: &mut impl FnMut(&str, &Value)) {
    see(at, value);
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| every(value, &format!("{at}/{key}"), see)),
        Value::Array(items) => items.iter().enumerate().for_each(|(index, value)| every(value, &format!("{at}/{index}"), see)),
        _ => {}
    }
}
