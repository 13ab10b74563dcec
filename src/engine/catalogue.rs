//! The engines there are, and which of them runs a model.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use crate::{
    api::{AcceleratorClass, InferenceEngine, Problem, Reason},
    model::{CleanPath, Glob},
};

use super::{
    definition::Engine,
    format::Seen,
    select::offered,
    text::{listed, quoted},
};

/// The engines that come with the program: file name and content.
const BUILTIN: [(&str, &str); 2] =
    [("llama-cpp", include_str!("../../engines/llama-cpp.yaml")), ("vllm", include_str!("../../engines/vllm.yaml"))];

/// The engines that can be asked for, by name. An engine that is not understood stays in it together with the reason, so that
/// it is neither used nor silently replaced by another one.
#[derive(Debug, Clone)]
pub struct Catalogue(BTreeMap<String, Result<Engine, Problem>>);

impl Catalogue {
    /// The engines that come with the program.
    pub fn builtin() -> Self {
        let read = |text| {
            let object: InferenceEngine =
                serde_saphyr::from_str(text).map_err(|error| Problem::new(Reason::InternalError, error.to_string()))?;
            Engine::parse(&object.name_any(), object.spec)
        };
        Self(BUILTIN.iter().map(|(name, text)| ((*name).to_owned(), read(text))).collect())
    }

    /// The same with the cluster's objects: one of the same name takes the place of an engine that came with the program.
    pub fn with_objects(mut self, objects: impl IntoIterator<Item = InferenceEngine>) -> Self {
        for object in objects {
            let name = object.name_any();
            let engine = Engine::parse(&name, object.spec);
            self.0.insert(name, engine);
        }
        self
    }

    /// The engine called `name`.
    ///
    /// # Errors
    /// `UnknownEngine` lists those there are; an engine that is not understood answers with its own problem.
    pub fn get(&self, name: &str) -> Result<&Engine, Problem> {
        match self.0.get(name) {
            Some(Ok(engine)) => Ok(engine),
            Some(Err(problem)) => Err(problem.clone()),
            None => {
                let message = format!(
                    "spec.engine.name is {}, and there is no such engine. There are {}. Name one of them, create an InferenceEngine of that name, or leave spec.engine.name out.",
                    quoted(name, 63),
                    listed(self.names(), 500)
                );
                Err(Problem::new(Reason::UnknownEngine, message))
            }
        }
    }

    /// The names of all engines, also of those that cannot be used, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The engines that can be used, sorted by name.
    pub fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.0.values().filter_map(|engine| engine.as_ref().ok())
    }

    /// The engines that cannot be used, and why.
    pub fn problems(&self) -> impl Iterator<Item = (&str, &Problem)> {
        self.0.iter().filter_map(|(name, engine)| engine.as_ref().err().map(|problem| (name.as_str(), problem)))
    }

    /// The engine that runs a model: the one that is named; else the one that was chosen before (`kept`), as long as it still
    /// can; else, of those that load some of `files` (of the `wanted` ones, if any) and have an image for `class`, the one of
    /// highest priority, and of equals the first by name.
    ///
    /// # Errors
    /// `UnknownEngine` when the named or the kept one does not exist, its own problem when it is not understood, `NoFiles`
    /// when there are no weights, `UnsupportedFormat` when no engine loads them, `NoEngine` when none of those that do has an
    /// image for `class`.
    pub fn choose(
        &self,
        name: Option<&str>,
        kept: Option<&str>,
        files: &[(CleanPath, u64)],
        wanted: &[Glob],
        class: AcceleratorClass,
    ) -> Result<&Engine, Problem> {
        if let Some(name) = name {
            return self.get(name);
        }
        let offered = offered(files, wanted)?;
        let able = |engine: &&Engine| offered.iter().any(|(path, _)| engine.loads(path));
        let has_image = |engine: &&Engine| engine.image(class).is_some();
        if let Some(kept) = kept {
            let engine = self.get(kept).map_err(|problem| match problem.reason {
                Reason::UnknownEngine => Problem::new(
                    Reason::UnknownEngine,
                    format!(
                        "Engine {kept} was chosen for this model and no longer exists. Create the InferenceEngine {kept} again, or set spec.engine.name to one of {}.",
                        listed(self.names(), 500)
                    ),
                ),
                _ => problem,
            })?;
            if able(&engine) && has_image(&engine) {
                return Ok(engine);
            }
        }
        // The last of equals wins in max_by_key, and the first by name should.
        let best = self
            .engines()
            .filter(able)
            .filter(has_image)
            .max_by_key(|engine| (engine.spec().priority, std::cmp::Reverse(engine.name())));
        best.ok_or_else(|| self.none(&offered, class))
    }

    fn none(&self, offered: &[&(CleanPath, u64)], class: AcceleratorClass) -> Problem {
        let seen = Seen::among(offered.iter().map(|(path, _)| path));
        let unusable = match self.problems().next() {
            Some((name, problem)) => format!(" Engine {name} cannot be used: {}", problem.message),
            None => String::new(),
        };
        let able: Vec<&Engine> = self.engines().filter(|engine| offered.iter().any(|(path, _)| engine.loads(path))).collect();
        if !able.is_empty() {
            let engines = able.iter().map(|engine| format!("{} (images for {})", engine.name(), engine.classes()));
            let wants = match class {
                AcceleratorClass::None => "spec.resources.accelerator is absent or of class none, which means the CPU".to_owned(),
                class => format!("spec.resources.accelerator.class is {}", class.as_str()),
            };
            let message = format!(
                "No engine for this model runs on the accelerator that is asked for: {wants}. Its weights would be loaded by {}. Set spec.resources.accelerator.class to a class that an engine has an image for, or create an InferenceEngine with an image for this one.{unusable}",
                listed(engines, 300)
            );
            return Problem::new(Reason::NoEngine, message);
        }
        let loads = listed(self.engines().map(|engine| format!("{} loads {}", engine.name(), engine.format_names())), 300);
        if seen.is_empty() {
            let paths = if offered.is_empty() {
                "nothing".to_owned()
            } else {
                listed(offered.iter().map(|(path, _)| path.as_str()), 300)
            };
            let message = format!(
                "There are no weights to load: the source has {paths}; {loads}. Check spec.model.source, spec.model.revision and spec.model.files.{unusable}"
            );
            return Problem::new(Reason::NoFiles, message);
        }
        let message = format!(
            "No engine loads what is there: {}; {loads}. Use a repository that has one of these formats, or create an InferenceEngine that loads this one.{unusable}",
            seen.describe()
        );
        Problem::new(Reason::UnsupportedFormat, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: AcceleratorClass = AcceleratorClass::None;
    const NVIDIA: AcceleratorClass = AcceleratorClass::Nvidia;

    fn files(paths: &[&str]) -> Vec<(CleanPath, u64)> {
        paths.iter().map(|path| (path.parse().unwrap(), 1)).collect()
    }

    fn object(name: &str, priority: i32, glob: &str) -> InferenceEngine {
        let spec = serde_json::from_value(serde_json::json!({
            "version": "1", "priority": priority, "port": 9000, "images": [{"accelerator": "none", "image": "registry.example/e:1"}],
            "loads": [{"format": "gguf", "files": [glob], "choose": "One"}], "probes": {"ready": "/ok"},
        }));
        InferenceEngine::new(name, spec.unwrap())
    }

    fn chosen(
        catalogue: &Catalogue,
        name: Option<&str>,
        kept: Option<&str>,
        paths: &[&str],
        class: AcceleratorClass,
    ) -> Result<String, Reason> {
        catalogue
            .choose(name, kept, &files(paths), &[], class)
            .map(|engine| engine.name().to_owned())
            .map_err(|problem| problem.reason)
    }

    #[test]
    fn the_engines_that_come_with_the_program_are_understood_completely() {
        let catalogue = Catalogue::builtin();
        assert_eq!(catalogue.problems().collect::<Vec<_>>(), []);
        for (name, text) in BUILTIN {
            let engine = catalogue.get(name).unwrap();
            assert_eq!(engine.name(), name, "the file is named after the engine");
            // A field that nobody reads would be missing after writing it again.
            let written: serde_json::Value = serde_saphyr::from_str(text).unwrap();
            let read = serde_json::to_value(engine.spec()).unwrap();
            for (field, value) in written["spec"].as_object().unwrap() {
                assert_eq!(&read[field], value, "{name}: spec.{field}");
            }
        }
    }

    #[test]
    fn the_format_and_the_accelerator_decide_when_nobody_names_an_engine() {
        let catalogue = Catalogue::builtin();
        assert_eq!(chosen(&catalogue, None, None, &["m.gguf"], NONE).as_deref(), Ok("llama-cpp"));
        assert_eq!(chosen(&catalogue, None, None, &["model.safetensors"], NVIDIA).as_deref(), Ok("vllm"));
        assert_eq!(chosen(&catalogue, None, None, &["model.safetensors", "m.gguf"], NVIDIA).as_deref(), Ok("vllm"));
        assert_eq!(chosen(&catalogue, None, None, &["model.safetensors", "m.gguf"], NONE).as_deref(), Ok("llama-cpp"));
        let both = files(&["model.safetensors", "m.gguf"]);
        let wanted = ["*.gguf".parse().unwrap()];
        assert_eq!(catalogue.choose(None, None, &both, &wanted, NVIDIA).map(Engine::name), Ok("llama-cpp"));
    }

    #[test]
    fn a_named_engine_is_taken_and_an_unknown_name_lists_those_there_are() {
        let catalogue = Catalogue::builtin();
        assert_eq!(chosen(&catalogue, Some("vllm"), Some("llama-cpp"), &["m.gguf"], NONE).as_deref(), Ok("vllm"));
        let problem = catalogue.choose(Some("vlm"), None, &files(&["m.gguf"]), &[], NONE).unwrap_err();
        assert_eq!(problem.reason, Reason::UnknownEngine);
        assert!(
            problem.message.starts_with("spec.engine.name is \"vlm\"") && problem.message.contains("llama-cpp, vllm"),
            "{}",
            problem.message
        );
    }

    #[test]
    fn an_engine_that_was_chosen_is_kept_as_long_as_it_can() {
        let catalogue = Catalogue::builtin().with_objects([object("newer", 900, "*.gguf")]);
        assert_eq!(chosen(&catalogue, None, None, &["m.gguf"], NONE).as_deref(), Ok("newer"));
        assert_eq!(chosen(&catalogue, None, Some("llama-cpp"), &["m.gguf"], NONE).as_deref(), Ok("llama-cpp"));
        assert_eq!(chosen(&catalogue, None, Some("llama-cpp"), &["model.safetensors"], NVIDIA).as_deref(), Ok("vllm"));
        assert_eq!(chosen(&catalogue, None, Some("gone"), &["m.gguf"], NONE), Err(Reason::UnknownEngine));
    }

    #[test]
    fn of_equal_priorities_the_first_name_wins() {
        let catalogue = Catalogue::builtin().with_objects([object("b", 900, "*.gguf"), object("a", 900, "*.gguf")]);
        assert_eq!(chosen(&catalogue, None, None, &["m.gguf"], NONE).as_deref(), Ok("a"));
    }

    #[test]
    fn an_object_takes_the_place_of_an_engine_of_its_name_also_when_it_is_broken() {
        let catalogue = Catalogue::builtin().with_objects([object("llama-cpp", 1, "*.gguf")]);
        assert_eq!(catalogue.get("llama-cpp").unwrap().spec().port, 9000);
        let broken = Catalogue::builtin().with_objects([object("llama-cpp", 1, "a?")]);
        let problem = broken.choose(None, None, &files(&["m.gguf"]), &[], NONE).unwrap_err();
        assert_eq!(problem.reason, Reason::UnsupportedFormat);
        assert!(
            problem.message.contains("Engine llama-cpp cannot be used: InferenceEngine llama-cpp: spec.loads[0].files[0]"),
            "{}",
            problem.message
        );
        assert_eq!(broken.get("llama-cpp").unwrap_err().reason, Reason::InvalidSpec);
        assert_eq!(chosen(&broken, None, Some("llama-cpp"), &["m.gguf"], NONE), Err(Reason::InvalidSpec));
    }

    #[test]
    fn when_no_engine_fits_the_message_says_which_would_and_where() {
        let catalogue = Catalogue::builtin();
        let problem = catalogue.choose(None, None, &files(&["model.safetensors"]), &[], NONE).unwrap_err();
        assert_eq!(problem.reason, Reason::NoEngine);
        assert!(
            problem.message.contains("vllm (images for nvidia, amd)")
                && problem.message.contains("spec.resources.accelerator.class"),
            "{}",
            problem.message
        );
        let problem = catalogue.choose(None, None, &files(&["pytorch_model.bin"]), &[], NVIDIA).unwrap_err();
        assert_eq!(problem.reason, Reason::UnsupportedFormat);
        assert!(problem.message.contains("llama-cpp loads gguf, vllm loads safetensors"), "{}", problem.message);
        assert_eq!(chosen(&catalogue, None, None, &["README.md"], NVIDIA), Err(Reason::NoFiles));
        assert_eq!(chosen(&catalogue, None, None, &[], NVIDIA), Err(Reason::NoFiles));
    }
}
