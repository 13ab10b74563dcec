//! `bonafide engines`: what is built in.

use std::process::ExitCode;

use serde_json::json;

use super::{Output, fail};
use crate::engine::Catalogue;

/// What `engines` takes.
#[derive(Debug, clap::Args)]
pub struct EnginesArgs {
    /// Print the InferenceEngine object of this engine, ready to be changed and applied
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// How the list is printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Lists the engines, or prints one.
pub fn run(args: &EnginesArgs) -> ExitCode {
    let catalogue = Catalogue::builtin();
    if let Some(name) = &args.name {
        return match catalogue.get(name) {
            Ok(engine) => {
                let object = json!({ "apiVersion": "bonafide.dev/v1alpha1", "kind": "InferenceEngine", "metadata": { "name": name }, "spec": engine.spec() });
                match serde_saphyr::to_string(&object) {
                    Ok(text) => print!("{text}"),
                    Err(error) => return fail(1, error),
                }
                ExitCode::SUCCESS
            }
            Err(problem) => fail(1, problem.message),
        };
    }
    if args.output == Output::Json {
        let engines: Vec<_> = catalogue.engines().map(|engine| json!({ "name": engine.name(), "spec": engine.spec() })).collect();
        println!("{}", json!(engines));
        return ExitCode::SUCCESS;
    }
    println!("{:<12} {:<10} {:<9} {:<14} ACCELERATORS", "NAME", "VERSION", "PRIORITY", "LOADS");
    for engine in catalogue.engines() {
        let spec = engine.spec();
        let loads: Vec<_> = spec.loads.iter().map(|loads| loads.format.as_str()).collect();
        let classes: Vec<_> = spec.images.iter().map(|image| image.accelerator.as_str()).collect();
        println!("{:<12} {:<10} {:<9} {:<14} {}", engine.name(), spec.version, spec.priority, loads.join(","), classes.join(","));
    }
    println!("\n`bonafide engines NAME` prints one as an InferenceEngine; apply an object of the same name to change it.");
    ExitCode::SUCCESS
}
