//! What policies want to be looked at where the bytes of a model are, beside their digests.

use serde::{Deserialize, Serialize};

use super::{
    Manifest,
    code::{self, RemoteCode},
    format::Format,
};

/// What is looked at before anything is mounted. A look that is not known here is refused: it would be passed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Checks {
    /// Whether weights are what their names say: [`Format::check`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub formats: bool,
    /// Whether configuration names code, and which is let through; none: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_code: Option<RemoteCode>,
}

impl Checks {
    /// The file beside a manifest that says what is to be looked at.
    pub const FILE: &str = "checks.json";
    /// What this version can look at, by name.
    pub const KNOWN: [&str; 2] = ["formats", "remoteCode"];

    /// The same, as far as `manifest` has anything to look at.
    pub fn within(self, manifest: &Manifest) -> Self {
        let any = |is: fn(&str) -> bool| manifest.files().iter().any(|file| is(file.path.as_str()));
        Self {
            formats: self.formats && any(|path| Format::of(path).is_some()),
            remote_code: self.remote_code.filter(|_| any(code::may_name_code)),
        }
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether whoever took these looked at all that is `wanted`.
    pub fn cover(self, wanted: Self) -> bool {
        let code = wanted.remote_code.is_none_or(|wanted| self.remote_code.is_some_and(|taken| taken <= wanted));
        code && (self.formats || !wanted.formats)
    }

    /// The same without what those who know only `known` cannot look at, unless somebody asked for it in so many words: code in
    /// configuration is denied where a policy says nothing.
    pub fn for_those_who_know(mut self, known: &[String]) -> Self {
        if !known.iter().any(|known| known == "remoteCode") {
            self.remote_code = None;
        }
        self
    }

    /// Whether whoever can look at what `known` names can look at all of it.
    pub fn are_known_to(self, known: &[String]) -> bool {
        let knows = |name: &str| known.iter().any(|known| known == name);
        (!self.formats || knows("formats")) && (self.remote_code.is_none() || knows("remoteCode"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Digest, File};

    #[test]
    fn only_what_is_there_is_looked_at_and_only_by_who_can() {
        let manifest =
            |path: &str| Manifest::new(vec![File { path: path.parse().unwrap(), size: 1, sha256: Digest::of("x") }]).unwrap();
        let all = Checks { formats: true, remote_code: Some(RemoteCode::Deny) };
        assert_eq!(all.within(&manifest("model.gguf")), Checks { formats: true, remote_code: None });
        assert_eq!(all.within(&manifest("config.json")), Checks { formats: false, remote_code: Some(RemoteCode::Deny) });
        assert!(all.within(&manifest("README.md")).is_empty());
        let known = Checks::KNOWN.map(str::to_owned);
        assert!(all.are_known_to(&known) && !all.are_known_to(&known[..1]) && !all.are_known_to(&known[1..]));
        assert!(Checks::default().are_known_to(&[]));
        assert_eq!(all.for_those_who_know(&[]), Checks { formats: true, remote_code: None });
        assert_eq!(all.for_those_who_know(&known), all);
    }

    #[test]
    fn a_stricter_look_covers_a_milder_one() {
        let code = |allowed| Checks { formats: false, remote_code: Some(allowed) };
        assert!(code(RemoteCode::Deny).cover(code(RemoteCode::AllowIfSigned)));
        assert!(!code(RemoteCode::AllowIfSigned).cover(code(RemoteCode::Deny)));
        assert!(code(RemoteCode::Deny).cover(Checks::default()) && !Checks::default().cover(code(RemoteCode::AllowIfSigned)));
        assert!(!Checks::default().cover(Checks { formats: true, remote_code: None }));
    }

    #[test]
    fn they_are_written_short_and_an_unknown_one_is_refused() {
        let all = Checks { formats: true, remote_code: Some(RemoteCode::AllowIfSigned) };
        assert_eq!(serde_json::to_string(&all).unwrap(), r#"{"formats":true,"remoteCode":"AllowIfSigned"}"#);
        assert_eq!(serde_json::from_str::<Checks>(r#"{"formats":true}"#).unwrap(), Checks { formats: true, remote_code: None });
        assert!(serde_json::from_str::<Checks>(r#"{"smell":true}"#).is_err());
    }
}
