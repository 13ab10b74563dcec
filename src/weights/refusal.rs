//! What a hub means when it refuses: statuses, `X-Error-Code`, `X-Error-Message`, `Retry-After`.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use jiff::Timestamp;

use super::{error::SourceError, hosts::Site, http::Token, sources::Sources};
use crate::{
    api::Reason,
    model::{CleanPath, Source},
};

/// The longest time that a source's `Retry-After` is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What was asked for, in the words of messages.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The model.
    pub source: &'a Source,
    /// The branch, tag or commit; nothing for the default branch.
    pub revision: Option<&'a str>,
    /// The file.
    pub path: Option<&'a CleanPath>,
}

impl Asked<'_> {
    /// Fails when the revision could not be the name of anything.
    pub fn check_revision(&self) -> Result<(), SourceError> {
        let Some(revision) = self.revision else { return Ok(()) };
        // Git's own rules, as far as they matter in a URL.
        let bad = revision.is_empty()
            || revision.len() > 255
            || revision.split('/').any(|part| matches!(part, "" | "." | ".."))
            || revision.chars().any(|c| c.is_control() || matches!(c, ' ' | '\\' | '?' | '*' | '[' | '~' | '^' | ':'));
        if bad {
            return Err(SourceError::never(
                Reason::RevisionNotFound,
                format!(
                    "spec.model.revision {:?} cannot be the name of a branch, a tag or a commit. Write main, a tag or 40 hexadecimal digits.",
                    clip(revision)
                ),
            ));
        }
        Ok(())
    }
}

/// A refusal as it came.
pub struct Refusal<'a> {
    /// The status, not a success.
    pub status: StatusCode,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// Who refuses: the host that answered in the end.
    pub site: &'a Site,
    /// Whether it saw a token.
    pub token: Token,
}

impl Refusal<'_> {
    /// The error that people see.
    ///
    /// The hub answers 401 for a repository that does not exist when nobody is logged in, so as not to say which private ones
    /// exist; and 404 when somebody is.
    pub fn explain(&self, asked: Asked<'_>, sources: &Sources, now: Timestamp) -> SourceError {
        let Self { status, site, .. } = self;
        let Asked { source, revision, path } = asked;
        let web = matches!(source, Source::Web { .. });
        let code = self.header("x-error-code").filter(|_| !web).unwrap_or_default();
        let said = self.said();
        let storage = sources.endpoint(source).site() != *site;
        match (status.as_u16(), code.as_str()) {
            (_, "GatedRepo") => self.gated(asked, sources),
            (_, "RevisionNotFound") => no_revision(source, revision, site),
            (_, "EntryNotFound") => no_entry(asked, site),
            (429, _) => SourceError::later(
                Reason::SourceUnavailable,
                format!("{site} limits how often it may be asked (429){said}. It is tried again by itself{}.", self.wait(now)),
                self.retry_after(now),
            ),
            (408 | 500..=599, _) => SourceError::later(
                Reason::SourceUnavailable,
                format!("{site} has a problem of its own ({status}){said}. It is tried again by itself{}.", self.wait(now)),
                self.retry_after(now),
            ),
            // A link to a storage server lives for minutes, and the hub makes a new one when asked.
            (401 | 403 | 404 | 410, _) if storage => SourceError::later(
                Reason::SourceUnavailable,
                format!(
                    "{site}, where {source} keeps its files, refuses the link that was made for it ({status}){said}. It is tried again by itself."
                ),
                None,
            ),
            _ if web => self.of_a_server(asked),
            (401, _) if self.token == Token::Sent && code != "RepoNotFound" => SourceError::later(
                Reason::AccessDenied,
                format!(
                    "{site} does not know the token of spec.model.secretRef (401){said}. It is mistyped, expired or revoked: put a new one \
                     into the Secret."
                ),
                None,
            ),
            (_, "RepoNotFound") | (401, _) => no_repository(source, site, self.token),
            (403, _) => SourceError::later(
                Reason::AccessDenied,
                format!("{site} forbids reading {source} (403){said}. Ask its owner for access, or use another token."),
                None,
            ),
            (404 | 410, _) => match (path, revision) {
                (Some(_), _) => no_entry(asked, site),
                (None, Some(_)) => no_revision(source, revision, site),
                (None, None) => no_repository(source, site, self.token),
            },
            _ => SourceError::invalid(format!(
                "{site} answers {status} to a request for {source}{said}, which a hub does not do. Check the endpoint and the mirrors in the \
                 administrator's table of sources."
            )),
        }
    }

    fn gated(&self, asked: Asked<'_>, sources: &Sources) -> SourceError {
        let Asked { source, .. } = asked;
        let page = sources.page(source);
        let next = match self.token {
            Token::None => {
                "and name a Secret of type bonafide.dev/source with a token of that account in spec.model.secretRef".to_owned()
            }
            Token::Withheld => format!(
                "and add {} to 'hosts' in the Secret of spec.model.secretRef: its token was not sent, because that host is not named there",
                sources.endpoint(source).site()
            ),
            Token::Sent => "with the account that the token of spec.model.secretRef belongs to, and check that the token may read gated repositories".to_owned(),
        };
        SourceError::later(
            Reason::GatedRepo,
            format!("{source} is given only to those who accepted its licence{}. Accept it at {page} {next}.", self.said()),
            None,
        )
    }

    fn header(&self, name: &str) -> Option<String> {
        let value = self.headers.get(name)?.to_str().ok()?;
        Some(value.chars().filter(|c| !c.is_control()).take(200).collect())
    }

    /// What the hub itself says, if anything, to follow what we say.
    pub(super) fn said(&self) -> String {
        let message = self.header("x-error-message").unwrap_or_default();
        let message = message.trim().trim_end_matches('.');
        if message.is_empty() { String::new() } else { format!(": {message}") }
    }

    fn wait(&self, now: Timestamp) -> String {
        self.retry_after(now).map(|after| format!(" in {} s", after.as_secs())).unwrap_or_default()
    }

    /// `Retry-After` in seconds or as a date (RFC 9110), or the reset of `RateLimit`, bounded to an hour.
    fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        let seconds = |text: &str| text.trim().parse().ok().map(Duration::from_secs);
        let date = |text: &str| {
            let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
            Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
        };
        let header = |name: &str| self.headers.get(name).and_then(|value| value.to_str().ok());
        let after = header(RETRY_AFTER.as_str()).and_then(|text| seconds(text).or_else(|| date(text)));
        let reset = || header("ratelimit")?.split(';').find_map(|part| seconds(part.trim().strip_prefix("t=")?));
        after.or_else(reset).map(|after| after.min(MAX_RETRY_AFTER))
    }
}

fn no_repository(source: &Source, site: &Site, token: Token) -> SourceError {
    let next = match token {
        Token::None => {
            "or is private. Check the spelling; if it is private, name a Secret of type bonafide.dev/source with a token in \
             spec.model.secretRef"
                .to_owned()
        }
        Token::Withheld => format!(
            "or is private. The token of spec.model.secretRef was not sent, because the Secret's key 'hosts' does not name {site}: add it \
             if that host may see the token"
        ),
        Token::Sent => {
            "or the token of spec.model.secretRef may not see it. Check the spelling, and what the token may read".to_owned()
        }
    };
    SourceError::later(Reason::RepositoryNotFound, format!("{source} does not exist at {site}, {next}."), None)
}

fn no_revision(source: &Source, revision: Option<&str>, site: &Site) -> SourceError {
    let message = match revision {
        Some(revision) => format!(
            "{source} has no branch, tag or commit {:?} at {site}. Check spec.model.revision; a commit is gone when its branch was rewritten.",
            clip(revision)
        ),
        None => format!("{source} has no default branch at {site}: it is empty. Name a revision in spec.model.revision."),
    };
    SourceError::later(Reason::RevisionNotFound, message, None)
}

fn no_entry(asked: Asked<'_>, site: &Site) -> SourceError {
    let Asked { source, revision, path } = asked;
    let path = path.map_or("the file", CleanPath::as_str);
    SourceError::invalid(format!(
        "{path}: {site} lists it in {source}@{} and then says that it does not exist. This is a mistake of that server; tell those who run it.",
        revision.unwrap_or("its default branch")
    ))
}

/// The first 80 characters.
pub fn clip(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::error::Retry, *};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn explain(status: u16, headers: &[(&'static str, &'static str)], token: Token) -> SourceError {
        explain_at("huggingface.co", status, headers, token)
    }

    fn explain_at(host: &str, status: u16, headers: &[(&'static str, &'static str)], token: Token) -> SourceError {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let site = Site { host: host.to_owned(), port: 443, address: None };
        let refusal = Refusal { status: StatusCode::from_u16(status).unwrap(), headers: &headers, site: &site, token };
        let source = "hf://acme/chat".parse().unwrap();
        refusal.explain(Asked { source: &source, revision: Some("v1"), path: None }, &Sources::default(), NOW)
    }

    #[test]
    fn each_refusal_of_the_hub_has_its_reason() {
        let code = |code| [("x-error-code", code)];
        let invalid = [("x-error-message", "Invalid credentials in Authorization header")];
        for (status, headers, token, reason) in [
            (401, &code("RepoNotFound")[..], Token::None, Reason::RepositoryNotFound),
            (401, &[], Token::None, Reason::RepositoryNotFound),
            (401, &[], Token::Withheld, Reason::RepositoryNotFound),
            (404, &code("RepoNotFound"), Token::Sent, Reason::RepositoryNotFound),
            (401, &code("RepoNotFound"), Token::Sent, Reason::RepositoryNotFound),
            (401, &invalid, Token::Sent, Reason::AccessDenied),
            (401, &[], Token::Sent, Reason::AccessDenied),
            (403, &[], Token::Sent, Reason::AccessDenied),
            (404, &code("RevisionNotFound"), Token::None, Reason::RevisionNotFound),
            (404, &[], Token::None, Reason::RevisionNotFound),
            (410, &[], Token::None, Reason::RevisionNotFound),
            (401, &code("GatedRepo"), Token::None, Reason::GatedRepo),
            (403, &code("GatedRepo"), Token::Sent, Reason::GatedRepo),
            (404, &code("EntryNotFound"), Token::None, Reason::SourceInvalid),
            (500, &[], Token::None, Reason::SourceUnavailable),
            (503, &[], Token::None, Reason::SourceUnavailable),
            (429, &[], Token::None, Reason::SourceUnavailable),
            (408, &[], Token::None, Reason::SourceUnavailable),
            (418, &[], Token::None, Reason::SourceInvalid),
        ] {
            assert_eq!(explain(status, headers, token).problem.reason, reason, "{status} {headers:?} {token:?}");
        }
        assert_eq!(explain_at("cdn.example", 403, &[], Token::Sent).problem.reason, Reason::SourceUnavailable);
    }

    #[test]
    fn a_file_that_is_not_there_is_no_missing_revision_and_a_server_of_files_has_no_codes_of_a_hub() {
        let headers =
            [(http::HeaderName::from_static("x-error-code"), "RevisionNotFound".parse().unwrap())].into_iter().collect();
        let none = HeaderMap::new();
        let said = |source: &str, host: &str, headers: &HeaderMap, path: Option<&str>| {
            let (source, path) = (source.parse().unwrap(), path.map(|path| path.parse().unwrap()));
            let site = Site { host: host.to_owned(), port: 443, address: None };
            let refusal = Refusal { status: StatusCode::NOT_FOUND, headers, site: &site, token: Token::None };
            let asked = Asked { source: &source, revision: Some("v1"), path: path.as_ref() };
            refusal.explain(asked, &Sources::default(), NOW).problem
        };
        let problem = said("hf://acme/chat", "huggingface.co", &none, Some("a/b.gguf"));
        assert_eq!(problem.reason, Reason::SourceInvalid);
        assert!(problem.message.starts_with("a/b.gguf: huggingface.co lists it"), "{problem}");
        let server = "https://files.test/chat/bonafide.json";
        assert_eq!(said(server, "files.test", &headers, None).reason, Reason::RepositoryNotFound);
        assert_eq!(said(server, "files.test", &headers, Some("b.gguf")).reason, Reason::SourceInvalid);
        for status in [401, 403] {
            let site = Site { host: "files.test".to_owned(), port: 443, address: None };
            let status = StatusCode::from_u16(status).unwrap();
            let refusal = Refusal { status, headers: &none, site: &site, token: Token::Sent };
            let source = server.parse().unwrap();
            let asked = Asked { source: &source, revision: None, path: None };
            assert_eq!(refusal.explain(asked, &Sources::default(), NOW).problem.reason, Reason::AccessDenied, "{status}");
        }
    }

    #[test]
    fn messages_say_what_to_do_next() {
        assert!(
            explain(403, &[("x-error-code", "GatedRepo")], Token::Sent)
                .problem
                .message
                .contains("https://huggingface.co/acme/chat")
        );
        assert!(explain(401, &[], Token::Withheld).problem.message.contains("'hosts' does not name huggingface.co"));
        assert!(explain(404, &[("x-error-code", "RevisionNotFound")], Token::None).problem.message.contains("\"v1\""));
        let said = explain(503, &[("x-error-message", "maintenance.")], Token::None).problem.message;
        assert!(said.contains("503 Service Unavailable): maintenance."), "{said}");
    }

    #[test]
    fn the_time_to_wait_is_read_in_every_form_and_bounded() {
        let after = |name, value| explain(429, &[(name, value)], Token::None).retry;
        let seconds = |seconds| Retry::After(Some(Duration::from_secs(seconds)));
        assert_eq!(after("retry-after", "7"), seconds(7));
        assert_eq!(after("retry-after", "Thu, 01 Jan 1970 00:01:30 GMT"), seconds(90));
        assert_eq!(after("retry-after", "Wed, 31 Dec 1969 00:00:00 GMT"), seconds(0));
        assert_eq!(after("retry-after", "99999999"), seconds(3600));
        assert_eq!(after("retry-after", "soon"), Retry::After(None));
        assert_eq!(after("ratelimit", "\"api\";r=0;t=55"), seconds(55));
    }

    #[test]
    fn what_cannot_name_a_revision_is_never_put_into_a_url() {
        let source = "hf://a/b".parse().unwrap();
        let check = |revision| Asked { source: &source, revision: Some(revision), path: None }.check_revision();
        for good in ["main", "v1.0", "refs/pr/1", "feature/x-y", "12fd25f77366fa6b3b4b768ec3050bf629380bac"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/../b", "a//b", "/a", "a b", "a\nb", "a?b", "a\\b", &"x".repeat(256)] {
            assert_eq!(check(bad).unwrap_err().problem.reason, Reason::RevisionNotFound, "{bad:?}");
        }
    }
}
