//! The globs of policies, engines and `model.files`: anchored, case-sensitive, two wildcards.

mod sources;

use std::{fmt, str::FromStr};

/// A pattern over `/`-separated text: `*` matches any run of characters within a segment, `**` as a whole segment matches
/// any number of whole segments (also none). Everything else is literal. The pattern covers the whole text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Glob {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Segment {
    AnySegments,
    /// The literal pieces between the `*`s of one segment.
    Pieces(Vec<String>),
}

/// A pattern that is not a glob of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern {pattern:?} {problem}")]
pub struct InvalidGlob {
    pattern: String,
    problem: &'static str,
}

impl Glob {
    /// The longest pattern accepted, in bytes.
    pub const MAX: usize = 512;
    /// The most `**` in a pattern: matching tries every split, so they are few.
    const MAX_ANY: usize = 2;

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<&str> = text.split('/').collect();
        matches_segments(&self.segments, &text)
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn matches_segments(pattern: &[Segment], text: &[&str]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((Segment::AnySegments, rest)) => {
            (0..=text.len()).any(|skipped| text.get(skipped..).is_some_and(|tail| matches_segments(rest, tail)))
        }
        Some((Segment::Pieces(pieces), rest)) => match text.split_first() {
            Some((segment, tail)) => matches_pieces(pieces, segment) && matches_segments(rest, tail),
            None => false,
        },
    }
}

/// Leftmost placement of each piece is enough, because what lies between pieces is unconstrained.
fn matches_pieces(pieces: &[String], segment: &str) -> bool {
    let (Some((first, middle)), Some(last)) = (pieces.split_first(), pieces.last()) else { return false };
    if middle.is_empty() {
        return first == segment;
    }
    let Some(mut rest) = segment.strip_prefix(first.as_str()).and_then(|rest| rest.strip_suffix(last.as_str())) else {
        return false;
    };
    let inner = middle.split_last().map_or(middle, |(_, inner)| inner);
    for piece in inner {
        match rest.find(piece.as_str()) {
            Some(at) => rest = rest.get(at + piece.len()..).unwrap_or(""),
            None => return false,
        }
    }
    true
}

impl FromStr for Glob {
    type Err = InvalidGlob;

    fn from_str(pattern: &str) -> Result<Self, InvalidGlob> {
        let invalid = |problem| InvalidGlob { pattern: pattern.chars().take(120).collect(), problem };
        if pattern.is_empty() {
            return Err(invalid("is empty"));
        }
        if pattern.len() > Self::MAX {
            return Err(invalid("is longer than 512 bytes"));
        }
        if pattern.chars().any(char::is_control) {
            return Err(invalid("holds a control character"));
        }
        if pattern.contains(['?', '[', ']', '{', '}', '!', '\\']) {
            return Err(invalid("uses a wildcard other than '*' and '**'"));
        }
        let segments = pattern
            .split('/')
            .map(|segment| match segment {
                "**" => Ok(Segment::AnySegments),
                mixed if mixed.contains("**") => Err(invalid("has '**' beside other characters: it stands for whole segments")),
                other => Ok(Segment::Pieces(other.split('*').map(str::to_owned).collect())),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if segments.iter().filter(|segment| **segment == Segment::AnySegments).count() > Self::MAX_ANY {
            return Err(invalid("has more than two '**'"));
        }
        Ok(Self { text: pattern.to_owned(), segments })
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        pattern.parse::<Glob>().unwrap().matches(text)
    }

    #[test]
    fn a_star_stays_within_its_segment() {
        assert!(matches("hf://acme/*", "hf://acme/chat"));
        assert!(!matches("hf://acme/*", "hf://acme/chat/extra"));
        assert!(!matches("hf://acme/*", "hf://acme-evil/chat"));
        assert!(matches("*.gguf", "model.gguf"));
        assert!(!matches("*.gguf", "sub/model.gguf"));
        assert!(matches("a*b*c", "a-b-b-c"));
        assert!(!matches("ab*bc", "abc"));
        assert!(matches("*", ""));
    }

    #[test]
    fn two_stars_stand_for_whole_segments() {
        assert!(matches("**/*.gguf", "model.gguf"));
        assert!(matches("**/*.gguf", "a/b/model.gguf"));
        assert!(matches("oci://registry.corp/models/**", "oci://registry.corp/models/lab/x"));
        assert!(!matches("oci://registry.corp/models/**", "oci://registry.corp/models-evil/x"));
    }

    #[test]
    fn matching_is_anchored_and_minds_case() {
        assert!(!matches("hf://acme/chat", "hf://acme/chatty"));
        assert!(!matches("hf://acme/chat", "xhf://acme/chat"));
        assert!(!matches("*.GGUF", "model.gguf"));
    }

    #[test]
    fn other_wildcards_are_refused_instead_of_taken_literally() {
        for bad in ["", "a?", "[ab]", "{a,b}", "a**", "**/**/**/x", "a\nb"] {
            assert!(bad.parse::<Glob>().is_err(), "{bad:?}");
        }
    }
}
