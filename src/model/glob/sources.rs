//! Whether a pattern of a policy can match a source at all: one that cannot would silently demand, or except, nothing.

use super::{Glob, Segment, matches_pieces};
use crate::model::Source;

/// What stands in one segment of a canonical source.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Always the same.
    Fixed(&'static str),
    Owner,
    Name,
    Host,
    Namespace,
    Claim,
    Path,
}

/// The segments of each kind of source, and what may follow any number of times.
const SHAPES: [(&[Place], Option<Place>); 3] = [
    (&[Place::Fixed("hf:"), Place::Fixed(""), Place::Owner, Place::Name], None),
    (&[Place::Fixed("https:"), Place::Fixed(""), Place::Host, Place::Path], Some(Place::Path)),
    (&[Place::Fixed("pvc:"), Place::Fixed(""), Place::Namespace, Place::Claim], Some(Place::Path)),
];

/// With more wildcards than this in one segment it is taken for granted that something fits.
const MAX_STARS: u32 = 4;

impl Glob {
    /// Whether some source may match. `false` is a proof that none does; what is only unlikely is `true`.
    pub fn could_match_a_source(&self) -> bool {
        let is_literal = self.segments.iter().all(|segment| matches!(segment, Segment::Pieces(pieces) if pieces.len() == 1));
        if is_literal {
            return self.text.parse::<Source>().is_ok();
        }
        SHAPES.iter().any(|(places, more)| could_match(&self.segments, places, *more))
    }
}

/// Whether the segments of a pattern could match these places, and after them any number of `more`.
fn could_match(pattern: &[Segment], places: &[Place], more: Option<Place>) -> bool {
    match pattern.split_first() {
        None => places.is_empty(),
        Some((Segment::AnySegments, rest)) => {
            (0..=places.len()).any(|skipped| places.get(skipped..).is_some_and(|tail| could_match(rest, tail, more)))
        }
        Some((Segment::Pieces(pieces), rest)) => match places.split_first() {
            Some((place, tail)) => place.could_be(pieces) && could_match(rest, tail, more),
            None => more.is_some_and(|place| place.could_be(pieces)) && could_match(rest, places, more),
        },
    }
}

impl Place {
    /// Whether something may stand here that one segment of a pattern matches, of which these are the literal pieces.
    fn could_be(self, pieces: &[String]) -> bool {
        match (self, pieces) {
            (Self::Fixed(text), pieces) => matches_pieces(pieces, text),
            (place, [literal]) => place.takes(literal),
            // What hosts may be called is more than a few tries can tell.
            (Self::Host, pieces) => {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | ':');
                pieces.iter().all(|piece| piece.chars().all(plain) && !piece.contains(".."))
            }
            (place, pieces) => place.takes_some(pieces),
        }
    }

    /// Whether something fits when each wildcard stands for nothing or for a letter: no rule asks for more.
    fn takes_some(self, pieces: &[String]) -> bool {
        let stars = u32::try_from(pieces.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let filled = |letters: u32| {
            let with = |(at, piece): (usize, &String)| {
                let letter = u32::try_from(at).is_ok_and(|at| at < stars && letters & (1 << at) != 0);
                format!("{piece}{}", if letter { "x" } else { "" })
            };
            pieces.iter().enumerate().map(with).collect::<String>()
        };
        stars > MAX_STARS || (0..1 << stars).any(|letters| self.takes(&filled(letters)))
    }

    /// Whether `text` may stand here, asked of the one parser that knows.
    fn takes(self, text: &str) -> bool {
        let whole = match self {
            Self::Fixed(fixed) => return fixed == text,
            Self::Owner => format!("hf://{text}/x"),
            Self::Name => format!("hf://x/{text}"),
            Self::Host => format!("https://{text}/x"),
            Self::Namespace => format!("pvc://{text}/x"),
            Self::Claim => format!("pvc://x/{text}"),
            Self::Path => format!("pvc://x/x/{text}"),
        };
        whole.parse::<Source>().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn could(pattern: &str) -> bool {
        pattern.parse::<Glob>().unwrap().could_match_a_source()
    }

    #[test]
    fn patterns_that_match_sources_are_let_through() {
        for (pattern, source) in [
            ("**", "hf://a/b"),
            ("*://**", "hf://a/b"),
            ("hf://**", "hf://a/b"),
            ("hf://*/*", "hf://a/b"),
            ("hf://acme/*", "hf://acme/x"),
            ("hf://acme/**", "hf://acme/x"),
            ("hf://acme/a-*", "hf://acme/a-1"),
            ("hf://acme/*-*-b", "hf://acme/a-c-b"),
            ("hf://*me/chat", "hf://acme/chat"),
            ("**/acme/*", "hf://acme/x"),
            ("**/b", "hf://a/b"),
            ("hf://acme/chat", "hf://acme/chat"),
            ("https://**", "https://a.test/b"),
            ("https://*.acme.test/**", "https://files.acme.test/b"),
            ("https://*.0.0.1/**", "https://127.0.0.1/b"),
            ("https://xn--*.test/**", "https://xn--bcher-kva.test/b"),
            ("https://files.acme.test:8443/**/bonafide.json", "https://files.acme.test:8443/bonafide.json"),
            ("pvc://*/weights/**", "pvc://chat/weights"),
            ("pvc://chat/**", "pvc://chat/weights/a/b"),
            ("pvc://chat/we*.a/**/v1", "pvc://chat/we.a/x/v1"),
        ] {
            assert!(could(pattern), "{pattern}");
            assert!(
                pattern.parse::<Glob>().unwrap().matches(&source.parse::<Source>().unwrap().to_string()),
                "{pattern} {source}"
            );
        }
    }

    #[test]
    fn patterns_that_no_source_can_match_are_told() {
        for pattern in [
            "*",
            "*/*",
            "acme/*",
            "acme/chat",
            "HF://acme/*",
            "hf:/acme/*",
            "hf://*",
            "hf://acme",
            "hf://acme/*/*",
            "hf://acme/my model*",
            "hf://ac me/*",
            "hf://acme/-*",
            "hf://acme/a--*",
            "hf://acme/*..*",
            "hf://acme/chat@main",
            "hf://acme/*@main",
            "hf://acme/",
            "http://a.test/**",
            "https://A.test/**",
            "https://*.A.test/**",
            "https://a.test:443/**",
            "https://user@a.test/**",
            "https://a.test",
            "https://a.test/*%20*",
            "https://huggingface.co/acme/chat",
            "pvc://*",
            "pvc://Chat/**",
            "pvc://chat/weights/* *",
            "oci://registry.test/**",
            "s3://bucket/**",
            "**/a b/*",
        ] {
            assert!(!could(pattern), "{pattern}");
        }
    }
}
