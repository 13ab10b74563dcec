//! What a replica of an engine is: image, command line, environment, and what it asks of its node.

use std::collections::BTreeMap;

use crate::api::{AcceleratorClass, EnvVar, Problem, Reason, Toleration, Writable};

use super::{
    accelerator, allow,
    definition::Engine,
    select::Selection,
    template::{Values, escape, fill_all},
    text::quoted,
};

/// The directory that is memory: a [`Writable`] of this path becomes [`Rendered::shm`].
const SHARED_MEMORY: &str = "/dev/shm";

/// What a deployment says about how its engine runs.
#[derive(Debug, Clone, Copy)]
pub struct RenderInput<'a> {
    /// The names by which requests ask for the model.
    pub served_names: &'a [String],
    /// The longest context in tokens; the engine's own default when absent.
    pub context_length: Option<i64>,
    /// The class of accelerators, and how many a replica gets; the count has no meaning for the CPU.
    pub accelerator: (AcceleratorClass, i32),
    /// `spec.engine.args`.
    pub user_args: &'a [String],
    /// `spec.engine.env`.
    pub user_env: &'a [EnvVar],
    /// The directory where the model is mounted, without a slash at its end.
    pub model_path: &'a str,
}

/// How one replica runs. Command, arguments and variables are escaped for the kubelet and go into a pod as they are.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rendered {
    /// The engine's image.
    pub image: String,
    /// The program; the image's entry point when empty.
    pub command: Vec<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its variables, sorted by name, with those of `writable`.
    pub env: Vec<EnvVar>,
    /// The port on which it answers the OpenAI API.
    pub port: i32,
    /// The path that answers 200 when it is ready.
    pub ready_path: String,
    /// How long loading may take, in seconds.
    pub start_timeout_seconds: i32,
    /// The path of its metrics, if it has any.
    pub metrics_path: Option<String>,
    /// Gauges among them that are all zero when it has no work.
    pub idle_when_zero: Vec<String>,
    /// The directories it writes to, beside a read-only root.
    pub writable: Vec<Writable>,
    /// Extended resources by name, and how many of each.
    pub resources: BTreeMap<String, String>,
    /// What lets it onto nodes that are kept for accelerators.
    pub tolerations: Vec<Toleration>,
    /// Whether it needs a memory-backed `/dev/shm`.
    pub shm: bool,
}

/// How `engine` serves `selection`.
///
/// # Errors
/// `AcceleratorNotSupported` when there is no image for the class, `ArgumentNotAllowed` and `EnvironmentNotAllowed` for what
/// users may not set, `InvalidSpec` for values that no engine could work with.
pub fn render(engine: &Engine, selection: &Selection, input: &RenderInput<'_>) -> Result<Rendered, Problem> {
    let spec = engine.spec();
    let (class, count) = input.accelerator;
    let image = engine.image(class).ok_or_else(|| no_image(engine, class))?;
    check(engine, input)?;
    let vendor = accelerator::of(class);
    let model_file = format!("{}/{}", input.model_path, selection.entry);
    let values = Values {
        model_path: input.model_path,
        model_file: &model_file,
        served_names: input.served_names,
        port: spec.port,
        context_length: input.context_length,
        accelerators: vendor.map(|_| count),
    };
    let mut args = fill_all(&engine.args, &values);
    args.extend(allow::args(engine, input.user_args)?);
    Ok(Rendered {
        image: image.to_owned(),
        command: fill_all(&engine.command, &values),
        args,
        env: env(engine, &values, input.user_env)?,
        port: spec.port,
        ready_path: spec.probes.ready.clone(),
        start_timeout_seconds: spec.probes.start_timeout_seconds,
        metrics_path: spec.metrics.as_ref().map(|metrics| metrics.path.clone()),
        idle_when_zero: spec.drain.as_ref().map(|drain| drain.idle_when_zero.clone()).unwrap_or_default(),
        writable: spec.writable.iter().filter(|writable| writable.path != SHARED_MEMORY).cloned().collect(),
        resources: vendor.map(|vendor| (vendor.resource.to_owned(), count.to_string())).into_iter().collect(),
        tolerations: vendor.map(accelerator::Vendor::toleration).into_iter().collect(),
        shm: spec.writable.iter().any(|writable| writable.path == SHARED_MEMORY),
    })
}

/// What the engine has against a deployment whatever its files are: what can be said before the source is asked.
pub fn refuses(engine: &Engine, input: &RenderInput<'_>) -> Option<Problem> {
    let selection = Selection { format: String::new(), files: vec![], entry: "model".parse().ok()? };
    render(engine, &selection, input).err()
}

fn no_image(engine: &Engine, class: AcceleratorClass) -> Problem {
    let wanted = match class {
        AcceleratorClass::None => "the CPU (spec.resources.accelerator is absent or of class none)".to_owned(),
        class => format!("spec.resources.accelerator.class {}", class.as_str()),
    };
    let message = format!(
        "Engine {} has no image for {wanted}; it has images for {}. Set spec.resources.accelerator.class to one of these, choose another spec.engine.name, or add an image to the InferenceEngine.",
        engine.name(),
        engine.classes()
    );
    Problem::new(Reason::AcceleratorNotSupported, message)
}

fn check(engine: &Engine, input: &RenderInput<'_>) -> Result<(), Problem> {
    let wrong = |message: String| Err(Problem::new(Reason::InvalidSpec, message));
    for (index, name) in input.served_names.iter().enumerate() {
        // The same rule as the schema's: a name may not be readable as a flag, nor as two names.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | ':' | '@' | '-');
        if !name.chars().all(plain) || !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
            let name = quoted(name, 80);
            return wrong(format!(
                "spec.model.servedNames[{index}] is {name}: a name has letters, digits, '_', '.', '/', ':', '@' and '-', and begins with a letter, a digit or '_'."
            ));
        }
    }
    if input.context_length.is_some_and(|tokens| tokens < 1) {
        return wrong("spec.engine.contextLength must be at least 1.".to_owned());
    }
    let (class, count) = input.accelerator;
    if accelerator::of(class).is_some() && count < 1 {
        return wrong(format!(
            "spec.resources.accelerator.count is {count}: with class {} it must be at least 1.",
            class.as_str()
        ));
    }
    for (index, writable) in engine.spec().writable.iter().enumerate() {
        if within(&writable.path, input.model_path) || within(input.model_path, &writable.path) {
            let message = format!(
                "InferenceEngine {}: spec.writable[{index}].path {} overlaps {}, where the model is mounted: weights could be replaced there. Use another directory.",
                engine.name(),
                quoted(&writable.path, 80),
                input.model_path
            );
            return wrong(message);
        }
    }
    Ok(())
}

/// Whether `path` is `directory` or below it.
fn within(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn env(engine: &Engine, values: &Values<'_>, user: &[EnvVar]) -> Result<Vec<EnvVar>, Problem> {
    let own = engine.env.iter().filter_map(|(name, value)| {
        let value = value.fill(values)?.join(",");
        Some(EnvVar { name: name.clone(), value })
    });
    let directories = engine.spec().writable.iter().filter_map(|writable| {
        let name = writable.env.clone()?;
        Some(EnvVar { name, value: escape(&writable.path) })
    });
    let mut env: Vec<EnvVar> = own.chain(directories).chain(allow::env(engine, user)?).collect();
    env.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(env)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Catalogue;

    const INPUT: RenderInput<'static> = RenderInput {
        served_names: &[],
        context_length: None,
        accelerator: (AcceleratorClass::Nvidia, 1),
        user_args: &[],
        user_env: &[],
        model_path: "/models",
    };

    fn selection() -> Selection {
        Selection { format: "gguf".into(), files: vec!["a.gguf".parse().unwrap()], entry: "a.gguf".parse().unwrap() }
    }

    fn problem(engine: &str, input: &RenderInput<'_>) -> Problem {
        render(Catalogue::builtin().get(engine).unwrap(), &selection(), input).unwrap_err()
    }

    #[test]
    fn a_class_without_an_image_says_which_classes_have_one() {
        let problem = problem("vllm", &RenderInput { accelerator: (AcceleratorClass::None, 0), ..INPUT });
        assert_eq!(problem.reason, Reason::AcceleratorNotSupported);
        assert!(
            problem.message.contains("spec.resources.accelerator.class") && problem.message.contains("nvidia, amd"),
            "{}",
            problem.message
        );
    }

    #[test]
    fn names_that_could_be_flags_or_several_names_are_refused() {
        for bad in ["--model", "a,b", "", "a b", "a\n", "ü", "$(HOME)"] {
            let names = ["good".to_owned(), bad.to_owned()];
            let problem = problem("llama-cpp", &RenderInput { served_names: &names, ..INPUT });
            assert!(problem.message.starts_with("spec.model.servedNames[1]"), "{bad:?}: {}", problem.message);
        }
    }

    #[test]
    fn numbers_that_no_engine_could_use_are_refused() {
        let problem_of = |input: RenderInput<'_>| problem("llama-cpp", &input).message;
        assert!(problem_of(RenderInput { context_length: Some(0), ..INPUT }).starts_with("spec.engine.contextLength"));
        let none = RenderInput { accelerator: (AcceleratorClass::Nvidia, 0), ..INPUT };
        assert!(problem_of(none).starts_with("spec.resources.accelerator.count"));
    }

    #[test]
    fn no_engine_may_write_where_the_model_is() {
        for path in ["/models", "/models/cache", "/srv"] {
            let mut spec = Catalogue::builtin().get("llama-cpp").unwrap().spec().clone();
            spec.writable = vec![Writable { env: None, path: path.into() }];
            let engine = Engine::parse("careless", spec).unwrap();
            let model_path = if path == "/srv" { "/srv/models" } else { "/models" };
            let problem = render(&engine, &selection(), &RenderInput { model_path, ..INPUT }).unwrap_err();
            assert!(problem.message.contains("spec.writable[0].path"), "{}", problem.message);
            assert!(render(&engine, &selection(), &RenderInput { model_path: "/modelsx", ..INPUT }).is_ok());
        }
    }

    #[test]
    fn on_the_cpu_there_is_no_count_of_accelerators() {
        let catalogue = Catalogue::builtin();
        let rendered = render(
            catalogue.get("llama-cpp").unwrap(),
            &selection(),
            &RenderInput { accelerator: (AcceleratorClass::None, 7), ..INPUT },
        );
        let rendered = rendered.unwrap();
        assert!(rendered.resources.is_empty() && rendered.tolerations.is_empty());
        assert!(!rendered.args.contains(&"7".to_owned()));
    }
}
