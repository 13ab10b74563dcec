//! `bonafide engines`: what is built in.

use std::process::ExitCode;

use serde_json::json;

use super::{Output, fail, print};
use crate::engine::{Catalogue, Engine};

/// What `engines` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "It needs no cluster: an InferenceEngine there of the same name takes the place of a built-in one.

Exit codes: 0 done; 1 there is no engine of that name.

Examples:
  bonafide engines
  bonafide engines vllm > vllm.yaml                # change it, and kubectl apply -f vllm.yaml
  bonafide engines --output json | jq -r '.[].spec.images[].image'")]
pub struct EnginesArgs {
    /// Print the InferenceEngine object of this engine, ready to be changed and applied
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Lists the engines, or prints one.
pub fn run(args: &EnginesArgs) -> ExitCode {
    let catalogue = Catalogue::builtin();
    let object = |engine: &Engine| {
        json!({
            "apiVersion": "bonafide.dev/v1alpha1", "kind": "InferenceEngine",
            "metadata": { "name": engine.name() }, "spec": engine.spec(),
        })
    };
    match (&args.name, args.output) {
        (None, Output::Text) => print(&table(&catalogue)),
        (None, Output::Json) => print(&format!("{}\n", json!(catalogue.engines().map(object).collect::<Vec<_>>()))),
        (Some(name), output) => match (catalogue.get(name), output) {
            (Ok(engine), Output::Json) => print(&format!("{}\n", object(engine))),
            (Ok(engine), Output::Text) => match serde_saphyr::to_string(&object(engine)) {
                Ok(text) => print(&text),
                Err(error) => fail(1, error),
            },
            (Err(_), _) => fail(1, unknown(name, &catalogue)),
        },
    }
}

/// Nobody wrote a field here, so none is named.
fn unknown(name: &str, catalogue: &Catalogue) -> String {
    let known: Vec<&str> = catalogue.engines().map(Engine::name).collect();
    format!("no engine {name:?} is built in, only {}; a cluster may have it: kubectl get inferenceengines", known.join(", "))
}

fn table(catalogue: &Catalogue) -> String {
    let row = |name: &str, version: &str, priority: &str, loads: &str, accelerators: &str| {
        format!("{name:<12} {version:<10} {priority:<9} {loads:<14} {accelerators}\n")
    };
    let mut table = row("NAME", "VERSION", "PRIORITY", "LOADS", "ACCELERATORS");
    for engine in catalogue.engines() {
        let spec = engine.spec();
        let loads: Vec<_> = spec.loads.iter().map(|loads| loads.format.as_str()).collect();
        let classes: Vec<_> = spec.images.iter().map(|image| image.accelerator.as_str()).collect();
        table += &row(engine.name(), &spec.version, &spec.priority.to_string(), &loads.join(","), &classes.join(","));
    }
    table + "\n`bonafide engines NAME` prints one as an InferenceEngine; apply an object of the same name to change it.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_is_not_built_in_is_looked_for_where_it_may_be() {
        let said = unknown("nope", &Catalogue::builtin());
        let expected =
            "no engine \"nope\" is built in, only llama-cpp, vllm; a cluster may have it: kubectl get inferenceengines";
        assert_eq!(said, expected);
    }
}
