//! Which of a model's files are its weights: what a recall names, and what it must not, since other models share it.

use crate::{api::ArtifactFile, model::Glob};

/// What only weights are kept in, however few.
const WEIGHTS: [&str; 9] = ["safetensors", "gguf", "ggml", "onnx", "onnx_data", "nemo", "tflite", "engine", "ckpt"];
/// What weights are kept in, and small things too that many models have in common, such as the arguments of a training.
const PERHAPS: [&str; 8] = ["bin", "pt", "pth", "h5", "msgpack", "npz", "pkl", "data"];
/// Small things are smaller than this, in bytes.
const SMALL: i64 = 1 << 20;
/// What no model keeps its weights in, however long.
const NEVER: [&str; 21] = [
    "json", "jsonl", "txt", "md", "model", "jinja", "tiktoken", "yaml", "yml", "toml", "py", "sig", "pem", "png", "jpg", "jpeg",
    "svg", "gif", "pdf", "csv", "parquet",
];
/// Whatever else is as long as this holds weights.
const LARGE: i64 = 64 << 20;

/// Why a file is not listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftOut {
    /// It is no weights: other models have it too.
    Shared,
    /// It is empty, as files of anybody are.
    Empty,
    /// No pattern was given that it matches.
    NotAsked,
}

impl LeftOut {
    /// The same for people.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Shared => "no weights, so other models may have the same file",
            Self::Empty => "empty, as files of other models are",
            Self::NotAsked => "not matched by --files",
        }
    }
}

/// The files to deny, and those that are left out with the reason.
pub type Split<'a> = (Vec<&'a ArtifactFile>, Vec<(&'a ArtifactFile, LeftOut)>);

/// Splits: by the patterns, or without any by what the files are called and how long they are.
pub fn split<'a>(files: &'a [ArtifactFile], wanted: &[Glob]) -> Split<'a> {
    let (mut listed, mut left_out) = (vec![], vec![]);
    for file in files {
        match look(file, wanted) {
            None => listed.push(file),
            Some(why) => left_out.push((file, why)),
        }
    }
    (listed, left_out)
}

fn look(file: &ArtifactFile, wanted: &[Glob]) -> Option<LeftOut> {
    if file.size == 0 {
        return Some(LeftOut::Empty);
    }
    if !wanted.is_empty() {
        return (!wanted.iter().any(|glob| glob.matches(&file.path))).then_some(LeftOut::NotAsked);
    }
    (!is_weights(&file.path, file.size)).then_some(LeftOut::Shared)
}

fn is_weights(path: &str, size: i64) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default().to_lowercase();
    let extension = name.rsplit_once('.').map(|(_, extension)| extension).unwrap_or_default();
    match extension {
        known if WEIGHTS.contains(&known) => true,
        known if NEVER.contains(&known) => false,
        known if PERHAPS.contains(&known) => size >= SMALL,
        _ => size >= LARGE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_listed_and_what_other_models_share_is_not() {
        let gigabyte = 1_000_000_000;
        for (path, size) in [
            ("model-00001-of-00002.safetensors", gigabyte),
            ("adapter_model.safetensors", 9_000),
            ("Q4/model.GGUF", 20),
            ("pytorch_model.bin", gigabyte),
            ("consolidated.00.pth", gigabyte),
            ("onnx/model.onnx_data", 100),
            ("weights", gigabyte),
        ] {
            assert!(is_weights(path, size), "{path}");
        }
        for (path, size) in [
            ("config.json", 700),
            ("tokenizer.json", 17_000_000),
            ("tokenizer.model", 4_000_000),
            ("model.safetensors.index.json", 40_000),
            ("training_args.bin", 5_000),
            ("optimizer.pt", 5_000),
            ("README.md", gigabyte),
            ("LICENSE", 11_000),
            ("model.sig", 2_000),
            ("configuration_chat.py", 5_000),
        ] {
            assert!(!is_weights(path, size), "{path}");
        }
    }

    #[test]
    fn patterns_choose_instead_and_nothing_empty_is_ever_denied() {
        let file = |path: &str, size| ArtifactFile { path: path.into(), size, sha256: "ab".repeat(32) };
        let files = [file("model.gguf", 9), file("chat.jinja", 9), file("empty.gguf", 0)];
        let names = |patterns: &[&str]| {
            let globs: Vec<Glob> = patterns.iter().map(|text| text.parse().unwrap()).collect();
            let (listed, left_out) = split(&files, &globs);
            let listed: Vec<String> = listed.iter().map(|file| file.path.clone()).collect();
            (listed, left_out.into_iter().map(|(file, why)| (file.path.clone(), why)).collect::<Vec<_>>())
        };
        let (empty, shared, not) = (LeftOut::Empty, LeftOut::Shared, LeftOut::NotAsked);
        let left = |all: &[(&str, LeftOut)]| all.iter().map(|(path, why)| ((*path).to_owned(), *why)).collect::<Vec<_>>();
        assert_eq!(names(&[]), (vec!["model.gguf".into()], left(&[("chat.jinja", shared), ("empty.gguf", empty)])));
        assert_eq!(names(&["*.jinja"]), (vec!["chat.jinja".into()], left(&[("model.gguf", not), ("empty.gguf", empty)])));
        assert_eq!(names(&["**"]).0, ["model.gguf", "chat.jinja"]);
    }
}
