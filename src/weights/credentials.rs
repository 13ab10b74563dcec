//! A token or a password for a source, and the hosts that may see it.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use url::Url;

use super::{
    hosts::{HostPattern, Site},
    sources::Sources,
};
use crate::api::{Problem, Reason, SECRET_TYPE};

/// A token, or a user name with its password, and the hosts that may see it, from a Secret of type `bonafide.dev/source`.
///
/// It can be sent, and nothing else: there is no way to print it.
#[derive(Clone)]
pub struct Credentials {
    authorization: HeaderValue,
    hosts: Vec<HostPattern>,
}

impl Credentials {
    /// The longest token and the longest list of hosts accepted, in bytes.
    const MAX: usize = 16 * 1024;

    /// The keys that are read.
    pub const KEYS: [&str; 4] = ["token", "username", "password", "hosts"];

    /// Reads the keys `token`, or `username` and `password`, and `hosts` (names separated by commas, spaces or line ends, each
    /// perhaps with a port).
    ///
    /// Fails with [`Reason::SecretInvalid`], saying which key is missing or that the type is another one. Nothing of the
    /// token is ever in the error.
    pub fn from_secret(type_: &str, data: &BTreeMap<String, Vec<u8>>) -> Result<Self, Problem> {
        let invalid = |message: String| Problem::new(Reason::SecretInvalid, message);
        if type_ != SECRET_TYPE {
            let found = if type_.is_empty() { "Opaque" } else { type_ };
            return Err(invalid(format!(
                "it has type {found}, and only one of type {SECRET_TYPE} is read: a Secret that was not made for a source is \
                 never sent to one. Create it again with type: {SECRET_TYPE} and the keys hosts and token, or hosts, username and password."
            )));
        }
        let text = |key: &str, meaning: &str| {
            let value = data
                .get(key)
                .map(|value| value.trim_ascii())
                .filter(|value| !value.is_empty())
                .ok_or_else(|| invalid(format!("The Secret has no key '{key}', or it is empty. Add it: {meaning}.")))?;
            let text = std::str::from_utf8(value).ok().filter(|text| text.len() <= Self::MAX);
            text.ok_or_else(|| {
                invalid(format!("The Secret's key '{key}' is longer than 16 KiB or no text. It has to be {meaning}."))
            })
        };
        let authorization = match (data.contains_key("token"), data.contains_key("username") || data.contains_key("password")) {
            (true, true) => {
                return Err(invalid(
                    "The Secret has a key 'token' and a key 'username' or 'password': which one is meant? Leave one of them out."
                        .to_owned(),
                ));
            }
            (false, true) => {
                let (user, password) = (text("username", "the user's name")?, text("password", "the user's password")?);
                if user.contains(':') || user.chars().chain(password.chars()).any(char::is_control) {
                    let message =
                        "The Secret's key 'username' holds a ':', or one of 'username' and 'password' a control character.";
                    return Err(invalid(message.to_owned()));
                }
                format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
            }
            _ => {
                let token = text("token", "the access token, unless it has 'username' and 'password'")?;
                if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(invalid(
                        "The Secret's key 'token' holds a space, a line end or another character that no token has. Copy it again.".to_owned(),
                    ));
                }
                format!("Bearer {token}")
            }
        };
        let hosts = text("hosts", "the hosts that may see the token, for example huggingface.co")?;
        let hosts = hosts
            .split(|c: char| c == ',' || c.is_ascii_whitespace())
            .filter(|host| !host.is_empty())
            .enumerate()
            // The entry itself is not repeated: people mix up the two keys.
            .map(|(at, host)| match host.parse::<HostPattern>() {
                Ok(host) if host.is_exact() => Ok(host),
                Ok(_) => Err(invalid(format!(
                    "Entry {} of the Secret's key 'hosts' stands for several hosts. Name each of them.",
                    at + 1
                ))),
                Err(_) => Err(invalid(format!(
                    "Entry {} of the Secret's key 'hosts' names no host: write NAME or NAME:PORT, without a scheme or a path.",
                    at + 1
                ))),
            })
            .collect::<Result<Vec<_>, _>>()?;
        if hosts.is_empty() {
            return Err(invalid(
                "The Secret's key 'hosts' names no host. Write those that may see the token, for example huggingface.co."
                    .to_owned(),
            ));
        }
        let mut authorization = HeaderValue::try_from(authorization)
            .map_err(|_| invalid("The Secret holds a character that cannot be sent in a request.".to_owned()))?;
        authorization.set_sensitive(true);
        Ok(Self { authorization, hosts })
    }

    /// The header to send to `url`, when that host may see the token: named by the Secret, and reached with TLS or named by
    /// the administrator's table.
    pub(super) fn header_for(&self, url: &Url, sources: &Sources) -> Option<&HeaderValue> {
        let site = Site::of(url)?;
        let named = self.hosts.iter().any(|host| host.matches(&site));
        let sheltered = url.scheme() == "https" || sources.names(&site);
        (named && sheltered).then_some(&self.authorization)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(token: &str, hosts: &str) -> BTreeMap<String, Vec<u8>> {
        [("token".to_owned(), token.into()), ("hosts".to_owned(), hosts.into())].into()
    }

    fn sees(credentials: &Credentials, table: &str, url: &str) -> bool {
        credentials.header_for(&Url::parse(url).unwrap(), &Sources::parse(table).unwrap()).is_some()
    }

    #[test]
    fn only_the_named_hosts_see_the_token() {
        let credentials =
            Credentials::from_secret(SECRET_TYPE, &secret("hf_abc\n", "huggingface.co, Hub.corp:8443\n[::1]:80")).unwrap();
        for url in ["https://huggingface.co/x", "https://huggingface.co:444/x", "https://hub.corp:8443/x"] {
            assert!(sees(&credentials, "{}", url), "{url}");
        }
        for url in
            ["https://cdn.huggingface.co/x", "https://hub.corp/x", "https://huggingface.co.evil/x", "https://hub.corp:8444"]
        {
            assert!(!sees(&credentials, "{}", url), "{url}");
        }
    }

    #[test]
    fn a_user_and_a_password_are_sent_as_http_wants_them() {
        let data = |user: &str, password: &str| -> BTreeMap<String, Vec<u8>> {
            let entries = [("username", user), ("password", password), ("hosts", "files.corp")];
            entries.map(|(key, value)| (key.to_owned(), value.into())).into()
        };
        let table = Sources::default();
        let read = |data| Credentials::from_secret(SECRET_TYPE, &data);
        let header = |credentials: &Credentials, url| credentials.header_for(&Url::parse(url).unwrap(), &table).cloned();
        let credentials = read(data("aladdin", "open sesame\n")).unwrap();
        let sent = header(&credentials, "https://files.corp/x").unwrap();
        assert_eq!(sent, "Basic YWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(sent.is_sensitive() && !format!("{sent:?}").contains("YWxh"), "nobody logs it by mistake");
        assert_eq!(header(&credentials, "https://other.corp/x"), None);
        let mut both = data("a", "b");
        both.insert("token".to_owned(), b"t".to_vec());
        for (data, said) in [
            (data("a:b", "verysecret"), "':'"),
            (data("a", ""), "'password'"),
            (both, "which one"),
            (data("a", "very\u{7}secret"), "control character"),
        ] {
            let problem = read(data).err().unwrap();
            assert_eq!(problem.reason, Reason::SecretInvalid);
            assert!(problem.message.contains(said) && !problem.message.contains("verysecret"), "{said}: {}", problem.message);
        }
    }

    #[test]
    fn the_token_travels_without_tls_only_to_a_host_of_the_table() {
        let credentials = Credentials::from_secret(SECRET_TYPE, &secret("t", "hub.corp")).unwrap();
        assert!(!sees(&credentials, "{}", "http://hub.corp/x"));
        assert!(sees(&credentials, "{hf: {endpoint: 'http://hub.corp'}}", "http://hub.corp/x"));
        assert!(!sees(&credentials, "{hf: {endpoint: 'http://hub.corp'}}", "http://hub.corp:81/x"));
        assert!(sees(&credentials, "{allowedHosts: [hub.corp]}", "http://hub.corp:81/x"));
    }

    #[test]
    fn a_secret_that_cannot_be_used_is_refused_and_says_why_without_the_token() {
        let token = "hf_verysecret";
        let cases = [
            ("Opaque", secret(token, "a"), "type Opaque"),
            ("", secret(token, "a"), "type Opaque"),
            (SECRET_TYPE, [("token".to_owned(), token.into())].into(), "no key 'hosts'"),
            (SECRET_TYPE, [("hosts".to_owned(), b"a".to_vec())].into(), "no key 'token'"),
            (SECRET_TYPE, secret(" \n", "a"), "no key 'token'"),
            (SECRET_TYPE, secret(&token.repeat(2000), "a"), "longer than 16 KiB"),
            (SECRET_TYPE, secret(token, " , "), "names no host"),
            (SECRET_TYPE, secret(token, "*.corp"), "Entry 1"),
            (SECRET_TYPE, secret(token, "https://hub.corp"), "names no host"),
            (SECRET_TYPE, secret(&format!("{token} two"), "a"), "no token has"),
            (SECRET_TYPE, secret(&format!("{token}\r\nX: y"), "a"), "no token has"),
        ];
        for (type_, data, said) in cases {
            let problem = Credentials::from_secret(type_, &data).err().unwrap();
            assert_eq!(problem.reason, Reason::SecretInvalid);
            assert!(problem.message.contains(said), "{said}: {}", problem.message);
            assert!(!problem.message.contains(token), "{}", problem.message);
        }
    }
}
