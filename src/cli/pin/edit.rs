//! Writes a revision and a digest into YAML, and touches nothing else: comments, order and layout stay.
//!
//! Only plain layouts are edited. What comes of it is read again, and has to be the same but for the two fields; else nothing
//! is written and the author is told what to write.

use serde_json::{Value, json};

use crate::cli::{
    lint::is_commit,
    yaml::{self, Kind, Node, Place},
};

/// What a model is to be fixed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The immutable revision.
    pub revision: String,
    /// The content digest.
    pub digest: String,
}

/// The text with the pins in it; each is for the document of that index.
///
/// # Errors
/// What cannot be edited, with its line and what to write by hand.
pub fn edit(text: &str, pins: &[(usize, Pin)]) -> Result<String, String> {
    let documents = yaml::documents(text)?;
    let mut edited = text.to_owned();
    // From the end, so that earlier places stay where they are.
    for (index, pin) in pins.iter().rev() {
        let document = documents.get(*index).ok_or("a document is missing")?;
        let at = document.get("spec").and_then(|(_, spec)| spec.get("model")).map_or(document.place, |(key, _)| key);
        one(&mut edited, document, pin).map_err(|why| by_hand(at.line, &why, pin))?;
        let mut expected: Vec<Value> = documents.iter().map(Node::value).collect();
        for (index, pin) in pins.iter().filter(|(other, _)| other >= index) {
            let model = expected.get_mut(*index).and_then(|document| document.pointer_mut("/spec/model")?.as_object_mut());
            model
                .ok_or("a model is missing")?
                .extend([("revision".to_owned(), json!(pin.revision)), ("digest".to_owned(), json!(pin.digest))]);
        }
        let found = yaml::documents(&edited).map(|found| found.iter().map(Node::value).collect::<Vec<_>>());
        if found.as_ref() != Ok(&expected) {
            return Err(by_hand(at.line, "its layout is not one that is edited without changing something else", pin));
        }
    }
    Ok(edited)
}

fn by_hand(line: usize, why: &str, pin: &Pin) -> String {
    format!("line {line}: {why}. Write into this spec.model by hand: revision: {}, digest: {}", pin.revision, pin.digest)
}

fn one(text: &mut String, document: &Node, pin: &Pin) -> Result<(), String> {
    let (_, spec) = document.get("spec").ok_or("there is no spec")?;
    let (model_key, model) = spec.get("model").ok_or("there is no spec.model")?;
    let Kind::Map(entries) = &model.kind else { return Err("spec.model is no mapping".to_owned()) };
    let between = text.get(model_key.byte..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    let after = between.split_once(':').map_or("", |(_, after)| after).trim_start();
    if after.starts_with(['{', '*', '&', '!', '?']) {
        return Err(format!("spec.model stands in braces, or is an anchor or an alias ({})", shortened(after)));
    }
    let (source, source_value) = model.get("source").ok_or("spec.model has no source")?;
    let is_own =
        |place: Place| line_before(text, place).trim().is_empty() && place.column == source.column && place.line > model_key.line;
    if !is_own(source) {
        return Err("spec.model.source does not stand on a line of its own".to_owned());
    }
    let indent = line_before(text, source).to_owned();
    // A key that a merge brought in stands elsewhere: one that is written here takes its place.
    let own =
        |name: &str| entries.iter().find(|(key, place, _)| key == name && is_own(*place)).map(|(_, place, node)| (*place, node));
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };

    let mut edits: Vec<(std::ops::Range<usize>, String)> = vec![];
    let mut anchor = (source, source_value);
    let mut added = String::new();
    match own("revision") {
        Some((key, node)) => {
            let range = scalar(text, node).ok_or("spec.model.revision is written in a way that is not edited")?;
            let before = node.value();
            let before = before.as_str().unwrap_or_default();
            let rest = text.get(range.end..).and_then(|rest| rest.lines().next()).unwrap_or_default().trim();
            // What it was called helps whoever moves it on.
            let note = if rest.is_empty() && before != pin.revision && !is_commit(before) {
                format!(" # {before}")
            } else {
                String::new()
            };
            if before != pin.revision {
                edits.push((range, format!("{}{note}", quoted(&pin.revision))));
            }
            anchor = (key, node);
        }
        None => added.push_str(&format!("{newline}{indent}revision: {}", quoted(&pin.revision))),
    }
    match own("digest") {
        Some((_, node)) => {
            let range = scalar(text, node).ok_or("spec.model.digest is written in a way that is not edited")?;
            if node.value() != json!(pin.digest) {
                edits.push((range, pin.digest.clone()));
            }
        }
        None => added.push_str(&format!("{newline}{indent}digest: {}", pin.digest)),
    }
    if !added.is_empty() {
        let end = scalar(text, anchor.1).ok_or("the value of spec.model is written in a way that is not edited")?.end;
        let end = end + text.get(end..).map_or(0, |rest| rest.find(['\r', '\n']).unwrap_or(rest.len()));
        edits.push((end..end, added));
    }
    edits.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    for (range, new) in edits {
        text.replace_range(range, &new);
    }
    Ok(())
}

/// A commit of digits alone would be read as a number.
fn quoted(revision: &str) -> String {
    let number = revision.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'e' | b'E' | b'.' | b'_'));
    if number { format!("\"{revision}\"") } else { revision.to_owned() }
}

/// What stands before a place on its line.
fn line_before(text: &str, place: Place) -> &str {
    let before = text.get(..place.byte).unwrap_or_default();
    before.rsplit(['\n', '\r']).next().unwrap_or_default()
}

/// The bytes of a value that stands on one line, plain or between quotes.
fn scalar(text: &str, node: &Node) -> Option<std::ops::Range<usize>> {
    let start = node.place.byte;
    let line = text.get(start..)?.lines().next()?;
    let length = match line.chars().next()? {
        quote @ ('"' | '\'') => {
            let inner = line.get(1..)?.find(quote)?;
            // An escaped quote makes it longer than it looks: such values are left alone.
            (!line.get(1..=inner)?.contains('\\')).then_some(inner + 2)?
        }
        '|' | '>' | '*' | '&' | '!' | '{' | '[' | '?' => return None,
        _ => line.find(" #").or_else(|| line.find("\t#")).map_or(line, |end| line.get(..end).unwrap_or(line)).trim_end().len(),
    };
    let found = line.get(..length)?;
    let value = node.value();
    let is_whole = found.trim_matches(['"', '\'']) == value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    is_whole.then_some(start..start + length)
}

fn shortened(text: &str) -> String {
    text.chars().take(30).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "12fd25f77366fa6b3b4b768ec3050bf629380bac";
    const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn pin() -> Pin {
        Pin { revision: COMMIT.to_owned(), digest: DIGEST.to_owned() }
    }

    fn pinned(text: &str) -> String {
        edit(text, &[(0, pin())]).unwrap_or_else(|error| panic!("{text}\n{error}"))
    }

    #[test]
    fn the_fields_are_added_below_the_source_and_nothing_else_changes() {
        let before = "# top\nspec:\n  model: # the model\n    # from the hub\n    source: hf://a/b   # ours\n\n    servedNames: [a]\n  replicas: 1\n";
        let after = before.replace("# ours\n", &format!("# ours\n    revision: {COMMIT}\n    digest: {DIGEST}\n"));
        assert_eq!(pinned(before), after);
        assert_eq!(pinned(&after), after, "what is pinned stays as it is");
    }

    #[test]
    fn a_branch_gives_way_to_the_commit_and_stays_as_a_comment() {
        for (before, after) in [
            ("revision: main", format!("revision: {COMMIT} # main\n      digest: {DIGEST}")),
            ("revision: \"main\" # latest", format!("revision: {COMMIT} # latest\n      digest: {DIGEST}")),
            ("revision: 'v1'", format!("revision: {COMMIT} # v1\n      digest: {DIGEST}")),
            ("digest: sha256:old\n      revision: main", format!("digest: {DIGEST}\n      revision: {COMMIT} # main")),
        ] {
            let text = |middle: &str| format!("spec:\n    model:\n      {middle}\n      source: hf://a/b\n");
            assert_eq!(pinned(&text(before)), text(&after));
        }
    }

    #[test]
    fn of_several_documents_only_the_right_one_changes() {
        let text = "a: 1\n---\nspec:\n  model:\n    source: hf://a/b\n---\n# last\nspec:\n  model:\n    source: hf://c/d";
        let other = Pin { revision: "v2".to_owned(), digest: DIGEST.to_owned() };
        let expected = format!(
            "a: 1\n---\nspec:\n  model:\n    source: hf://a/b\n    revision: {COMMIT}\n    digest: {DIGEST}\n---\n# last\nspec:\n  model:\n    source: hf://c/d\n    revision: v2\n    digest: {DIGEST}"
        );
        assert_eq!(edit(text, &[(1, pin()), (2, other)]).unwrap(), expected);
    }

    #[test]
    fn line_ends_stay_what_they_are() {
        let text = "spec:\r\n  model:\r\n    source: hf://a/b\r\n    revision: main\r\n";
        let expected =
            format!("spec:\r\n  model:\r\n    source: hf://a/b\r\n    revision: {COMMIT} # main\r\n    digest: {DIGEST}\r\n");
        assert_eq!(pinned(text), expected);
    }

    #[test]
    fn what_a_merge_brings_in_is_written_over_where_it_is_used() {
        let text = "x: &x\n  revision: main\nspec:\n  model:\n    <<: *x\n    source: hf://a/b\n";
        assert_eq!(pinned(text), format!("{text}    revision: {COMMIT}\n    digest: {DIGEST}\n"));
    }

    #[test]
    fn a_commit_of_digits_stays_a_text() {
        let digits = Pin { revision: "1".repeat(40), digest: DIGEST.to_owned() };
        let edited = edit("spec:\n  model:\n    source: hf://a/b\n", &[(0, digits)]).unwrap();
        assert!(edited.contains(&format!("revision: \"{}\"", "1".repeat(40))), "{edited}");
    }

    #[test]
    fn odd_layouts_are_left_alone_and_the_author_is_told_what_to_write() {
        for text in [
            "spec: {model: {source: hf://a/b}}\n",
            "spec:\n  model: {source: hf://a/b}\n",
            "spec:\n  model:\n    {source: hf://a/b}\n",
            "{\"spec\": {\"model\": {\"source\": \"hf://a/b\"}}}\n",
            "m: &m\n  source: hf://a/b\nspec:\n  model: *m\n",
            "spec:\n  model: &m\n    source: hf://a/b\nx: *m\n",
            "m: &m\n  source: hf://a/b\nspec:\n  model:\n    <<: *m\n",
            "spec:\n  model:\n    source: hf://a/b\n    revision: |\n      main\n",
            "spec:\n  model:\n    source: hf://a/b\n    revision: &r main\n  x: *r\n",
            "spec:\n  model:\n    ? source\n    : hf://a/b\n",
        ] {
            let error = edit(text, &[(0, pin())]).expect_err(text);
            assert!(error.contains(COMMIT) && error.contains(DIGEST) && error.starts_with("line "), "{text}: {error}");
        }
    }
}
