//! `tests/golden/engine`: a deployment and the files of its source in, what runs out. `UPDATE_GOLDEN=1 cargo test golden`
//! writes the second anew.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use crate::{
    api::{AcceleratorClass, InferenceEngine, ModelDeploymentSpec, Problem},
    model::{CleanPath, Source},
};

use super::{Catalogue, Engine, RenderInput, Rendered, Selection, render, select, wanted};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What the case is about, for people.
    #[allow(dead_code, reason = "for people")]
    about: String,
    spec: ModelDeploymentSpec,
    /// Path and size of every file of the source.
    files: BTreeMap<CleanPath, u64>,
    #[serde(default)]
    engines: Vec<InferenceEngine>,
}

fn run(case: Case) -> Result<(String, Selection, Rendered), Problem> {
    let catalogue = Catalogue::builtin().with_objects(case.engines);
    let files: Vec<(CleanPath, u64)> = case.files.into_iter().collect();
    let spec = case.spec;
    let wanted = wanted(&spec.model.files)?;
    let accelerator = spec.resources.accelerator.as_ref();
    let class = accelerator.map_or(AcceleratorClass::None, |accelerator| accelerator.class);
    let count = accelerator.and_then(|accelerator| accelerator.count).unwrap_or(1);
    let engine = catalogue.choose(spec.engine.name.as_deref(), None, &files, &wanted, class)?;
    let selection = select(engine, &files, &wanted)?;
    let mut served_names = spec.model.served_names;
    if served_names.is_empty() {
        served_names.push(spec.model.source.parse::<Source>().unwrap().base_name().to_owned());
    }
    let input = RenderInput {
        served_names: &served_names,
        context_length: spec.engine.context_length,
        accelerator: (class, count),
        user_args: &spec.engine.args,
        user_env: &spec.engine.env,
        model_path: "/models",
    };
    let rendered = render(engine, &selection, &input)?;
    Ok((engine.name().to_owned(), selection, rendered))
}

fn outcome(case: Case) -> Value {
    match run(case) {
        Ok((engine, selection, rendered)) => json!({ "engine": engine, "selection": selection, "rendered": rendered }),
        Err(problem) => json!({ "problem": { "reason": problem.reason.as_str(), "message": problem.message } }),
    }
}

#[test]
fn golden_deployments_run_as_recorded() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/engine");
    let mut cases = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let input = entry.unwrap().path();
        let Some(name) = input.file_name().and_then(|name| name.to_str()?.strip_suffix(".in.yaml")) else { continue };
        let case = serde_saphyr::from_str(&fs::read_to_string(&input).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = serde_saphyr::to_string(&outcome(case)).unwrap();
        let output = directory.join(format!("{name}.out.yaml"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&output, &found).unwrap();
        }
        let expected = fs::read_to_string(&output).unwrap_or_else(|error| panic!("{}: {error}", output.display()));
        assert_eq!(found, expected, "{name} changed; when that is wanted, run with UPDATE_GOLDEN=1 and read the difference");
        cases += 1;
    }
    assert!(cases >= 10, "only {cases} cases in {}", directory.display());
}

#[test]
fn the_example_of_the_manual_is_a_working_engine() {
    let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/engines.md")).unwrap();
    let block = |language: &str| {
        let (_, rest) = manual.split_once(&format!("```{language}\n")).unwrap();
        rest.split_once("\n```").unwrap().0.to_owned()
    };
    let object: InferenceEngine = serde_saphyr::from_str(&block("yaml")).unwrap();
    let engine = Engine::parse(object.metadata.name.as_deref().unwrap(), object.spec).unwrap();
    let files = [("tiny.gguf".parse().unwrap(), 98_362_432), ("README.md".parse().unwrap(), 100)];
    let selection = select(&engine, &files, &[]).unwrap();
    let input = RenderInput {
        served_names: &["tiny".to_owned()],
        context_length: None,
        accelerator: (AcceleratorClass::None, 0),
        user_args: &["--threads=4".to_owned(), "--verbose".to_owned()],
        user_env: &[],
        model_path: "/models",
    };
    let rendered = render(&engine, &selection, &input).unwrap();
    assert_eq!([rendered.command, rendered.args].concat().join(" "), block("text"));
}
