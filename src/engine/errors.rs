//! What an engine's messages mean when it cannot go on: patterns over the lines of its log, as data.
//!
//! Patterns are written by people, some of them strangers: matching takes time linear in the log whatever they say, and what a
//! pattern may compile to is bounded.

use regex::bytes::{Regex, RegexBuilder};

use crate::api::{EngineError, Reason};

/// The most bytes that a pattern may compile to.
const MAX_COMPILED: usize = 1 << 17;
/// The most characters of a line that are said.
const MAX_SAID: usize = 300;

/// The patterns of an engine, compiled.
#[derive(Debug, Clone, Default)]
pub struct Errors(Vec<Pattern>);

#[derive(Debug, Clone)]
struct Pattern {
    regex: Regex,
    reason: Reason,
    say: Vec<Piece>,
}

/// A piece of what is said.
#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Group(String),
}

/// What a log was found to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The reason.
    pub reason: Reason,
    /// What it means and what helps.
    pub said: String,
}

impl Errors {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// The index of the first entry that cannot be used, its field, and what is wrong with it.
    pub fn compile(errors: &[EngineError]) -> Result<Self, (usize, &'static str, String)> {
        let pattern = |(index, error): (usize, &EngineError)| {
            let regex =
                RegexBuilder::new(&error.pattern).unicode(false).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build();
            let regex = regex.map_err(|problem| (index, "match", broken(&problem)))?;
            let reason = Reason::of_pods().find(|reason| reason.as_str() == error.reason).ok_or_else(|| {
                let known = "must be one of the reasons that docs/reasons.md lists for pods, such as EngineFailed";
                (index, "reason", known.to_owned())
            })?;
            let say = pieces(&error.say).map_err(|problem| (index, "say", problem))?;
            for piece in &say {
                if let Piece::Group(name) = piece
                    && !regex.capture_names().flatten().any(|group| group == name)
                {
                    return Err((index, "say", format!("uses ${{{name}}}, and match has no group (?<{name}>…)")));
                }
            }
            Ok(Pattern { regex, reason, say })
        };
        errors.iter().enumerate().map(pattern).collect::<Result<_, _>>().map(Self)
    }

    /// What the first pattern that matches a line of the log says; `None` when none does.
    pub fn explain(&self, log: &[u8]) -> Option<Explained> {
        self.0.iter().find_map(|pattern| {
            let found = log.split(|byte| *byte == b'\n').find_map(|line| pattern.regex.captures(line))?;
            let said = pattern.say.iter().map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Group(name) => found.name(name).map(|group| readable(group.as_bytes())).unwrap_or_default(),
            });
            Some(Explained { reason: pattern.reason, said: said.collect() })
        })
    }
}

/// Two are the same when they were made of the same patterns.
impl PartialEq for Errors {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(a, b)| a.regex.as_str() == b.regex.as_str() && a.reason == b.reason)
    }
}

fn broken(problem: &regex::Error) -> String {
    match problem {
        regex::Error::CompiledTooBig(_) => "compiles to too much: use fewer and smaller repetitions".to_owned(),
        // The library draws the pattern over several lines; the last one says what is wrong.
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
            format!("is no regular expression: {last}")
        }
    }
}

fn pieces(say: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = say;
    while let Some((text, group)) = rest.split_once("${") {
        let (name, after) = group.split_once('}').ok_or("has a '${' without '}'")?;
        pieces.extend([Piece::Text(text.to_owned()), Piece::Group(name.to_owned())]);
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// Bytes of a log as people can read them: one line, without control characters, not too long.
pub fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut said: String = text.trim().chars().filter(|c| !c.is_control()).take(MAX_SAID).collect();
    if text.trim().chars().nth(MAX_SAID).is_some() {
        said.push('…');
    }
    said
}

#[cfg(test)]
mod tests;
