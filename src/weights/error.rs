//! What went wrong at a source, and whether it makes sense to ask again.

use std::time::Duration;

use super::http::{Cause, Unanswered};
use crate::api::{Problem, Reason};

/// What went wrong at a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct SourceError {
    /// What people are told.
    pub problem: Problem,
    /// Whether and when to ask again.
    pub retry: Retry,
}

/// Whether and when it makes sense to ask a source again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not before the object, its Secret or the administrator's table changes.
    Never,
    /// After this time, if the source named one, else when the caller's own backoff says so. What people have to do first,
    /// such as accepting a licence on a web page, happens outside of the cluster, so asking again slowly is right.
    After(Option<Duration>),
}

impl SourceError {
    /// It stays as it is until something of ours changes.
    pub fn never(reason: Reason, message: impl Into<String>) -> Self {
        Self { problem: Problem::new(reason, message), retry: Retry::Never }
    }

    /// It may be otherwise later.
    pub fn later(reason: Reason, message: impl Into<String>, after: Option<Duration>) -> Self {
        Self { problem: Problem::new(reason, message), retry: Retry::After(after) }
    }

    /// The source said something that it must not say.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::later(Reason::SourceInvalid, message, None)
    }

    /// Whether the same request may soon succeed without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        self.problem.reason == Reason::SourceUnavailable
    }
}

impl From<Unanswered> for SourceError {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Private(site, address) => Self::never(
                Reason::HostNotAllowed,
                format!(
                    "{site} has the address {address}, which is not on the public Internet, and the administrator's table of sources does \
                     not name it. Nothing was sent there. If models may come from there, the administrator adds {} to \
                     sources.allowedHosts.",
                    site.host
                ),
            ),
            Unanswered::Downgrade(from, to) => Self::never(
                Reason::HostNotAllowed,
                format!(
                    "{from} redirects from an encrypted connection to a plain one, at {to}. It was not followed. If that host may be \
                     reached without TLS, the administrator adds {} to sources.allowedHosts.",
                    to.host
                ),
            ),
            Unanswered::BadRedirect(site, why) => Self::invalid(format!(
                "{site} answers with {why}. This is a mistake of that server, or of a proxy before it; tell those who run it."
            )),
            Unanswered::Transport(site, cause) => {
                let next = match &cause {
                    Cause::Tls(_) => {
                        "If it has a certificate of your own authority, the administrator adds that authority to sources.hf.caBundle."
                    }
                    Cause::Name(_) => {
                        "Check the host's name in spec.model.source, or in the administrator's table of sources where a mirror stands for it, and the DNS."
                    }
                    _ => {
                        "Check that it is the host that is meant and that it is up, and that network policies and firewalls let connections through."
                    }
                };
                Self::later(
                    Reason::SourceUnavailable,
                    format!("{site} cannot be reached: {cause}. It is tried again by itself. {next}"),
                    None,
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::hosts::Site;

    #[test]
    fn of_a_name_that_nobody_knows_the_source_is_doubted_first() {
        let site = Site::of(&"https://files.acme.exmaple/x".parse().unwrap()).unwrap();
        let error = SourceError::from(Unanswered::Transport(site, Cause::Name("no such name".to_owned())));
        let (_, next) = error.problem.message.split_once(" It is tried again by itself. ").unwrap();
        assert!(next.starts_with("Check the host's name in spec.model.source"), "{next}");
        assert!(error.problem.message.contains("files.acme.exmaple"), "{error}");
    }
}
