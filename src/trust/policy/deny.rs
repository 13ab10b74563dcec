//! What a policy denies, whoever signed it: bytes, or an origin.

use std::collections::BTreeSet;

use super::rule::glob;
use crate::{
    api::{self, Problem, Reason},
    model::{Digest, Glob, Manifest, Source},
};

/// Something of which nothing is served.
#[derive(Debug, Clone)]
pub(in crate::trust) struct Deny {
    pub name: String,
    pub reason: String,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    Files(BTreeSet<Digest>),
    /// Of the hub's names, upper and lower case are the same: a denial that another spelling evades would be none.
    Origin {
        pattern: Glob,
        folded: Glob,
        revision: Option<String>,
    },
}

/// What of a model is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::trust) enum Banned<'a> {
    /// A file.
    File(&'a crate::model::File),
    /// Where it comes from.
    Source,
    /// This revision of it.
    Revision,
}

impl Deny {
    pub(super) fn compile(deny: &api::Deny) -> Result<Self, Problem> {
        let at = format!("spec.deny[{}]", deny.name);
        let invalid = |message: String| Err(Problem::new(Reason::InvalidSpec, message));
        let what = match (&deny.source, &deny.revision) {
            (None, Some(_)) => return invalid(format!("{at}.revision is given without a source whose revision it is.")),
            (None, None) if deny.file_digests.is_empty() => {
                return invalid(format!("{at} has neither fileDigests nor source: the entry would deny nothing."));
            }
            (None, None) => What::Files(super::digests(&deny.file_digests, &format!("{at}.fileDigests"))?),
            (Some(_), _) if !deny.file_digests.is_empty() => {
                return invalid(format!("{at} has both fileDigests and source: make two entries of it."));
            }
            (Some(source), revision) => {
                let pattern = glob(source, &format!("{at}.source"))?;
                let revision = revision.as_ref().map(|revision| revision.strip_prefix("sha256:").unwrap_or(revision));
                if let Some(revision) = revision.filter(|revision| !is_immutable(revision)) {
                    let shown: String = revision.chars().take(120).collect();
                    return invalid(format!(
                        "{at}.revision is {shown:?}, which no revision can be: it must be the whole commit, or the whole digest of a manifest, 40 or 64 hexadecimal digits. A branch names another commit tomorrow; status.model.revision says what it stands for."
                    ));
                }
                let folded = glob(&source.to_ascii_lowercase(), &format!("{at}.source"))?;
                What::Origin { pattern, folded, revision: revision.map(str::to_owned) }
            }
        };
        Ok(Self { name: deny.name.clone(), reason: deny.reason.clone(), what })
    }

    /// What of a model is denied, if anything is.
    pub fn bans<'a>(&self, source: &Source, revision: &str, manifest: &'a Manifest) -> Option<Banned<'a>> {
        match &self.what {
            What::Files(digests) => manifest.files().iter().find(|file| digests.contains(&file.sha256)).map(Banned::File),
            What::Origin { revision: Some(denied), .. } => {
                (self.is_of(source) && denied.eq_ignore_ascii_case(revision)).then_some(Banned::Revision)
            }
            What::Origin { revision: None, .. } => self.is_of(source).then_some(Banned::Source),
        }
    }

    /// Whether everything that comes from `source` is denied.
    pub fn bans_all_of(&self, source: &Source) -> bool {
        matches!(self.what, What::Origin { revision: None, .. }) && self.is_of(source)
    }

    fn is_of(&self, source: &Source) -> bool {
        let What::Origin { pattern, folded, .. } = &self.what else { return false };
        let text = source.to_string();
        pattern.matches(&text) || (matches!(source, Source::Hub { .. }) && folded.matches(&text.to_ascii_lowercase()))
    }
}

fn is_immutable(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
