//! What files are by their names: for messages, and for nothing that decides what is loaded.

use std::collections::BTreeMap;

use crate::model::CleanPath;

use super::text::listed;

/// A format in which weights are published.
struct Known {
    /// Endings of file names, in lower case.
    endings: &'static [&'static str],
    name: &'static str,
    /// Why engines should not load it, if they should not.
    danger: Option<&'static str>,
}

const PICKLE: Option<&str> = Some("loading such a file can run code that it contains");

const FORMATS: [Known; 8] = [
    Known { endings: &[".gguf"], name: "gguf", danger: None },
    Known { endings: &[".safetensors"], name: "safetensors", danger: None },
    Known { endings: &[".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"], name: "PyTorch pickle", danger: PICKLE },
    Known { endings: &[".onnx"], name: "ONNX", danger: None },
    Known { endings: &[".h5", ".keras", ".tflite"], name: "TensorFlow", danger: None },
    Known { endings: &[".msgpack"], name: "Flax", danger: None },
    Known { endings: &[".npz", ".npy"], name: "NumPy", danger: None },
    Known { endings: &[".engine", ".plan"], name: "TensorRT", danger: None },
];

/// The weights among some files, counted by format.
pub(super) struct Seen(BTreeMap<&'static str, usize>);

impl Seen {
    pub(super) fn among<'a>(paths: impl IntoIterator<Item = &'a CleanPath>) -> Self {
        let mut counts = BTreeMap::new();
        for path in paths {
            let name = path.file_name().to_ascii_lowercase();
            if let Some(known) = FORMATS.iter().find(|known| known.endings.iter().any(|ending| name.ends_with(ending))) {
                *counts.entry(known.name).or_insert(0) += 1;
            }
        }
        Self(counts)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `3 gguf files, 1 safetensors file`, and why some of them are not loaded.
    pub(super) fn describe(&self) -> String {
        let counts = self.0.iter().map(|(name, count)| format!("{count} {name} {}", if *count == 1 { "file" } else { "files" }));
        let dangers: Vec<String> = FORMATS
            .iter()
            .filter(|known| self.0.contains_key(known.name))
            .filter_map(|known| known.danger.map(|danger| format!("{}: {danger}", known.name)))
            .collect();
        let list = listed(counts, 300);
        if dangers.is_empty() { list } else { format!("{list} ({})", dangers.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pickles_are_named_together_with_their_danger() {
        let files = ["pytorch_model.bin", "model.GGUF", "README.md"].map(|path| path.parse().unwrap());
        assert_eq!(
            Seen::among(&files).describe(),
            "1 PyTorch pickle file, 1 gguf file (PyTorch pickle: loading such a file can run code that it contains)"
        );
        assert!(Seen::among(&["README.md".parse().unwrap()]).is_empty());
    }
}
