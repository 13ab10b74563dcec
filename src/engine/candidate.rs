//! The models among a repository's files, where each file is a model of its own: single ones, and those split into parts.

use std::collections::BTreeMap;

use crate::{
    api::{Problem, Reason},
    model::CleanPath,
};

use super::text::{human_size, listed, short_path};

/// One model of several in a repository: a file, or the parts that one was split into.
pub(super) struct Candidate<'a> {
    /// The path without the numbering of parts.
    pub name: String,
    parts: Vec<&'a CleanPath>,
    size: u64,
    /// How many parts there have to be.
    expected: usize,
}

impl Candidate<'_> {
    /// What a user writes to choose it: its path, or a glob over its parts.
    pub(super) fn glob(&self) -> String {
        let path = if self.expected == 1 {
            self.name.clone()
        } else {
            let (stem, ending) = self.name.rsplit_once('.').unwrap_or((&self.name, ""));
            format!("{stem}-*-of-{:05}.{ending}", self.expected)
        };
        // A name may hold what globs cannot say; a star stands for it.
        path.replace(['?', '[', ']', '{', '}', '!'], "*").replace("**", "*")
    }

    pub(super) fn describe(&self) -> String {
        let parts = if self.expected == 1 { String::new() } else { format!(" in {} parts", self.expected) };
        format!("{} ({}{parts})", short_path(&self.name), human_size(self.size))
    }

    pub(super) fn complete(&self) -> Result<Vec<CleanPath>, Problem> {
        if self.parts.len() == self.expected {
            return Ok(self.parts.iter().map(|path| (*path).clone()).collect());
        }
        let (stem, ending) = self.name.rsplit_once('.').unwrap_or((&self.name, ""));
        let missing = (1..=self.expected)
            .map(|part| format!("{stem}-{part:05}-of-{:05}.{ending}", self.expected))
            .filter(|name| !self.parts.iter().any(|path| path.as_str() == name));
        let message = format!(
            "{} is split into {} parts, and {} of them are there: {} missing. Add what is missing to the source or to spec.model.files.",
            short_path(&self.name),
            self.expected,
            self.parts.len(),
            listed(missing.take(32).map(|name| short_path(&name)), 400)
        );
        Err(Problem::new(Reason::NoFiles, message))
    }
}

/// The path without its part number, the part and how many there are: `x-00002-of-00003.gguf` is part 2 of 3 of `x.gguf`.
fn split(path: &str) -> Option<(String, usize, usize)> {
    let (stem, ending) = path.rsplit_once('.')?;
    let (stem, count) = stem.rsplit_once("-of-")?;
    let (stem, part) = stem.rsplit_once('-')?;
    let number =
        |digits: &str| (digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten();
    let (part, count): (usize, usize) = (number(part)?, number(count)?);
    (1..=count).contains(&part).then(|| (format!("{stem}.{ending}"), part, count))
}

/// The models among some weights, sorted by name.
pub(super) fn candidates<'a>(weights: &[&'a (CleanPath, u64)]) -> Vec<Candidate<'a>> {
    let mut candidates: BTreeMap<(String, usize), Candidate<'a>> = BTreeMap::new();
    for (path, size) in weights {
        let (name, expected) = split(path.as_str()).map_or((path.as_str().to_owned(), 1), |(name, _, count)| (name, count));
        let candidate = candidates.entry((name.clone(), expected)).or_insert_with(|| Candidate {
            name,
            parts: Vec::new(),
            size: 0,
            expected,
        });
        candidate.parts.push(path);
        candidate.size = candidate.size.saturating_add(*size);
    }
    for candidate in candidates.values_mut() {
        candidate.parts.sort();
        candidate.parts.dedup();
    }
    candidates.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_looks_like_a_part_is_a_model_of_its_own() {
        for path in ["a-1-of-2.gguf", "a-00003-of-00002.gguf", "a-00000-of-00002.gguf", "a-00001-of-+0002.gguf", "-of-.gguf"] {
            assert_eq!(split(path), None, "{path}");
        }
        assert_eq!(split("d/a-00001-of-00002.gguf"), Some(("d/a.gguf".to_owned(), 1, 2)));
    }
}
