//! Which files of a repository are served, and which of them the engine opens. Nothing is guessed.

use crate::{
    api::{Choose, Problem, Reason},
    model::{CleanPath, Glob},
};

use super::{
    candidate::{Candidate, candidates},
    definition::{Engine, Format, matches_any},
    format::Seen,
    text::{listed, short_path},
};

/// What is served of a repository.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Selection {
    /// The format of the weights, as the engine calls it.
    pub format: String,
    /// Every file that is served, sorted by the bytes of its path: weights, and what the engine reads beside them.
    pub files: Vec<CleanPath>,
    /// The file that the engine opens: the weights, or the first of their parts.
    pub entry: CleanPath,
}

/// The globs of `spec.model.files`.
///
/// # Errors
/// `InvalidSpec`, with the index of the glob.
pub fn wanted(files: &[String]) -> Result<Vec<Glob>, Problem> {
    let glob = |(index, text): (usize, &String)| {
        text.parse().map_err(|problem| Problem::new(Reason::InvalidSpec, format!("spec.model.files[{index}]: {problem}.")))
    };
    files.iter().enumerate().map(glob).collect()
}

/// Chooses among a repository's `files` (path and size in bytes) what `engine` needs.
///
/// Without `wanted`: the weights of the first format that the engine prefers and the repository has, and the files that the
/// engine reads beside them. With `wanted`: exactly what these globs match, which must hold weights that the engine loads.
///
/// # Errors
/// `NoFiles` and `UnsupportedFormat` say what there is instead, `AmbiguousFiles` names the candidates with their sizes and how
/// to choose one.
pub fn select(engine: &Engine, files: &[(CleanPath, u64)], wanted: &[Glob]) -> Result<Selection, Problem> {
    let offered = offered(files, wanted)?;
    let chosen = engine.formats.iter().find(|format| offered.iter().any(|(path, _)| format.loads(path)));
    let Some(format) = chosen else { return Err(nothing_to_load(engine, files, &offered, wanted)) };
    let weights: Vec<&(CleanPath, u64)> = offered.iter().copied().filter(|(path, _)| format.loads(path)).collect();
    let parts = match format.choose {
        Choose::All => weights.iter().map(|(path, _)| path.clone()).collect(),
        Choose::One => one(engine, format, &weights, wanted)?,
    };
    let entry = parts.iter().min().cloned().ok_or_else(|| nothing_to_load(engine, files, &offered, wanted))?;
    let mut served: Vec<CleanPath> = if wanted.is_empty() {
        let beside = offered.iter().filter(|(path, _)| matches_any(&format.with, path) && !engine.loads(path));
        parts.into_iter().chain(beside.map(|(path, _)| path.clone())).collect()
    } else {
        offered.iter().map(|(path, _)| path.clone()).collect()
    };
    served.sort();
    served.dedup();
    Ok(Selection { format: format.name.clone(), files: served, entry })
}

/// The files that may be served: all, or those that were asked for.
pub(super) fn offered<'a>(files: &'a [(CleanPath, u64)], wanted: &[Glob]) -> Result<Vec<&'a (CleanPath, u64)>, Problem> {
    for (index, glob) in wanted.iter().enumerate() {
        if !files.iter().any(|(path, _)| glob.matches(path.as_str())) {
            let message = format!(
                "spec.model.files[{index}] ({glob}) matches none of the source's {} files: {}. Correct it or take it out.",
                files.len(),
                listed(files.iter().map(|(path, _)| short_path(path.as_str())), 500)
            );
            return Err(Problem::new(Reason::NoFiles, message));
        }
    }
    Ok(files.iter().filter(|(path, _)| wanted.is_empty() || matches_any(wanted, path)).collect())
}

fn nothing_to_load(engine: &Engine, files: &[(CleanPath, u64)], offered: &[&(CleanPath, u64)], wanted: &[Glob]) -> Problem {
    let (name, formats) = (engine.name(), engine.format_names());
    let place = if wanted.is_empty() { "the source has" } else { "spec.model.files selects" };
    let left_out = files.iter().any(|(path, _)| engine.loads(path));
    if !wanted.is_empty() && left_out {
        let message = format!(
            "spec.model.files selects no weights that engine {name} loads ({formats}), though the source has some: {}. Add them to spec.model.files.",
            listed(files.iter().filter(|(path, _)| engine.loads(path)).map(|(path, _)| short_path(path.as_str())), 500)
        );
        return Problem::new(Reason::NoFiles, message);
    }
    let seen = Seen::among(offered.iter().map(|(path, _)| path));
    if seen.is_empty() {
        let there = if offered.is_empty() {
            "no files at all".to_owned()
        } else {
            listed(offered.iter().map(|(path, _)| short_path(path.as_str())), 500)
        };
        let message = format!(
            "There are no weights to load: {place} {there}. Engine {name} loads {formats}. Check spec.model.source and spec.model.revision."
        );
        return Problem::new(Reason::NoFiles, message);
    }
    let message = format!(
        "Engine {name} loads {formats}, and {place} nothing of that kind that it would serve as a model, only {}. Use a repository that has {formats}, or set spec.engine.name to an engine that loads what is there.",
        seen.describe()
    );
    Problem::new(Reason::UnsupportedFormat, message)
}

/// The files of the one model among `weights` that is served.
fn one(engine: &Engine, format: &Format, weights: &[&(CleanPath, u64)], wanted: &[Glob]) -> Result<Vec<CleanPath>, Problem> {
    let candidates = candidates(weights);
    if let [only] = candidates.as_slice() {
        return only.complete();
    }
    // Preferences are the engine's; once users say what they want, they say it completely.
    let preferences = if wanted.is_empty() { format.prefer.as_slice() } else { &[] };
    let preferred = preferences.iter().find_map(|glob| {
        let matching: Vec<&Candidate<'_>> = candidates.iter().filter(|candidate| glob.matches(&candidate.name)).collect();
        (!matching.is_empty()).then_some(matching)
    });
    let among = match preferred.as_deref() {
        Some([only]) => return only.complete(),
        Some(several) => several.to_vec(),
        None => candidates.iter().collect(),
    };
    Err(ambiguous(engine, format, &among, wanted))
}

fn ambiguous(engine: &Engine, format: &Format, among: &[&Candidate<'_>], wanted: &[Glob]) -> Problem {
    let place = if wanted.is_empty() { "The source has" } else { "spec.model.files selects" };
    let example = among.first().map_or_else(String::new, |candidate| candidate.glob());
    let message = format!(
        "{place} {} {} models, and engine {} serves one of them: set spec.model.files to the one that is wanted, for example files: [{example:?}]. There are {}.",
        among.len(),
        format.name,
        engine.name(),
        listed(among.iter().map(|candidate| candidate.describe()), 480)
    );
    Problem::new(Reason::AmbiguousFiles, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Catalogue;

    fn files(paths: &[&str]) -> Vec<(CleanPath, u64)> {
        paths.iter().enumerate().map(|(index, path)| (path.parse().unwrap(), 1_000_000 * (index as u64 + 1))).collect()
    }

    fn globs(texts: &[&str]) -> Vec<Glob> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn serve(engine: &str, paths: &[&str], wanted: &[&str]) -> Result<(Vec<String>, String), Problem> {
        let catalogue = Catalogue::builtin();
        let selection = select(catalogue.get(engine).unwrap(), &files(paths), &globs(wanted))?;
        Ok((selection.files.iter().map(ToString::to_string).collect(), selection.entry.to_string()))
    }

    fn refusal(engine: &str, paths: &[&str], wanted: &[&str]) -> Problem {
        serve(engine, paths, wanted).unwrap_err()
    }

    #[test]
    fn the_only_model_is_served_alone() {
        let served = serve("llama-cpp", &["README.md", "mmproj-F16.gguf", "model-IQ3.gguf", "imatrix.gguf"], &[]).unwrap();
        assert_eq!(served, (vec!["model-IQ3.gguf".to_owned()], "model-IQ3.gguf".to_owned()));
    }

    #[test]
    fn of_many_quantisations_the_preferred_one_is_served() {
        let paths = ["m-Q8_0.gguf", "m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf", "m-Q2_K.gguf"];
        let (served, entry) = serve("llama-cpp", &paths, &[]).unwrap();
        assert_eq!(served, ["m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf"]);
        assert_eq!(entry, "m-Q4_K_M-00001-of-00002.gguf");
    }

    #[test]
    fn a_preference_that_fits_two_models_chooses_neither_and_no_other() {
        let problem = refusal("llama-cpp", &["7b-Q4_K_M.gguf", "13b-Q4_K_M.gguf", "7b-Q8_0.gguf"], &[]);
        assert_eq!(problem.reason, Reason::AmbiguousFiles);
        assert!(problem.message.contains("13b-Q4_K_M.gguf (2.0 MB), 7b-Q4_K_M.gguf (1.0 MB)"), "{}", problem.message);
        assert!(!problem.message.contains("Q8_0"), "{}", problem.message);
    }

    #[test]
    fn an_ambiguity_shows_what_to_paste_and_pasting_it_helps() {
        let paths = ["a-IQ1.gguf", "b-IQ2-00001-of-00002.gguf", "b-IQ2-00002-of-00002.gguf"];
        let problem = refusal("llama-cpp", &paths, &[]);
        assert!(problem.message.contains(r#"files: ["a-IQ1.gguf"]"#), "{}", problem.message);
        assert!(problem.message.contains("b-IQ2.gguf (5.0 MB in 2 parts)"), "{}", problem.message);
        let candidates = candidates(&files(&paths).iter().collect::<Vec<_>>()).iter().map(Candidate::glob).collect::<Vec<_>>();
        assert_eq!(candidates, ["a-IQ1.gguf", "b-IQ2-*-of-00002.gguf"]);
        for glob in &candidates {
            assert!(serve("llama-cpp", &paths, &[glob]).is_ok(), "{glob}");
        }
    }

    #[test]
    fn the_list_of_an_ambiguity_is_bounded() {
        let names: Vec<String> = (0..4000).map(|index| format!("{index}-{}.gguf", "long".repeat(50))).collect();
        let problem = refusal("llama-cpp", &names.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
        assert!(problem.message.len() < Problem::MAX_MESSAGE, "{}", problem.message.len());
        assert!(problem.message.ends_with(" more."), "{}", problem.message);
    }

    #[test]
    fn a_split_model_with_a_missing_part_is_refused() {
        let problem = refusal("llama-cpp", &["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"], &[]);
        assert_eq!(problem.reason, Reason::NoFiles);
        assert!(problem.message.contains("m-00002-of-00003.gguf missing"), "{}", problem.message);
        let problem = refusal("llama-cpp", &["m-00001-of-99999.gguf"], &[]);
        assert!(problem.message.len() < Problem::MAX_MESSAGE);
    }

    #[test]
    fn tensors_are_served_with_what_belongs_to_them_and_without_code_or_pickles() {
        let paths = [
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "modeling_custom.py",
            "original/model.safetensors",
            "pytorch_model.bin",
            "tokenizer.json",
            "chat_template.jinja",
            "training_args.bin",
            "adapter_model.safetensors",
            "adapter_config.json",
            "params.json",
            "tokenizer.pkl",
        ];
        let (served, entry) = serve("vllm", &paths, &[]).unwrap();
        let expected = [
            "chat_template.jinja",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json",
        ];
        assert_eq!(served, expected);
        assert_eq!(entry, "model-00001-of-00002.safetensors");
    }

    #[test]
    fn what_users_want_is_exactly_what_is_served() {
        let paths = ["m-Q4_K_M.gguf", "m-Q2_K.gguf", "README.md", "mmproj.gguf"];
        let (served, entry) = serve("llama-cpp", &paths, &["*Q2_K.gguf", "README.md"]).unwrap();
        assert_eq!((served, entry.as_str()), (vec!["README.md".to_owned(), "m-Q2_K.gguf".to_owned()], "m-Q2_K.gguf"));
        assert_eq!(refusal("llama-cpp", &paths, &["m-*.gguf"]).reason, Reason::AmbiguousFiles);
    }

    #[test]
    fn a_wanted_glob_that_matches_nothing_is_named() {
        let problem = refusal("llama-cpp", &["m.gguf"], &["m.gguf", "READMEE.md"]);
        assert_eq!(problem.reason, Reason::NoFiles);
        assert!(problem.message.starts_with("spec.model.files[1] (READMEE.md) matches none"), "{}", problem.message);
    }

    #[test]
    fn wanted_files_without_weights_are_refused() {
        let problem = refusal("llama-cpp", &["m.gguf", "README.md"], &["README.md"]);
        assert_eq!(problem.reason, Reason::NoFiles);
        assert!(problem.message.contains("though the source has some: m.gguf"), "{}", problem.message);
    }

    #[test]
    fn a_source_without_loadable_weights_says_what_it_has_and_why_that_is_not_loaded() {
        let problem =
            refusal("vllm", &["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "config.json"], &[]);
        assert_eq!(problem.reason, Reason::UnsupportedFormat);
        assert!(
            problem.message.contains("2 PyTorch pickle files (PyTorch pickle: loading such a file can run code"),
            "{}",
            problem.message
        );
        let problem = refusal("vllm", &["README.md"], &[]);
        assert_eq!(problem.reason, Reason::NoFiles);
        assert!(problem.message.contains("the source has README.md"), "{}", problem.message);
        assert_eq!(refusal("vllm", &[], &[]).reason, Reason::NoFiles);
    }

    #[test]
    fn a_glob_of_the_deployment_that_is_none_is_named() {
        let problem = wanted(&["*.gguf".to_owned(), "a?".to_owned()]).unwrap_err();
        assert_eq!(problem.reason, Reason::InvalidSpec);
        assert!(problem.message.starts_with("spec.model.files[1]: pattern"), "{}", problem.message);
    }
}
