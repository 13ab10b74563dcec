//! A request as the hub sees it, and as it is remembered.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use axum::http::{HeaderMap, Method, Uri, header};

/// One request and what became of it.
#[derive(Debug, Clone)]
pub struct Logged {
    /// The port it came to.
    pub port: u16,
    /// `GET`, `HEAD`, …
    pub method: Method,
    /// The path, as sent.
    pub path: String,
    /// The query, as sent.
    pub query: String,
    /// All headers, as sent.
    pub headers: HeaderMap,
    /// The status of the answer.
    pub status: u16,
    /// The bytes of a file that were sent.
    sent: Arc<AtomicU64>,
}

impl Logged {
    pub(super) fn new(port: u16, asked: &Asked, status: u16, sent: Arc<AtomicU64>) -> Self {
        let Asked { method, path, query, headers, .. } = asked;
        Self { port, method: method.clone(), path: path.clone(), query: query.clone(), headers: headers.clone(), status, sent }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The bytes of a file that were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }
}

/// The parts of a request that matter.
pub(super) struct Asked {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    /// The path's segments, percent-decoded.
    pub segments: Vec<String>,
}

impl Asked {
    pub fn new(method: Method, uri: &Uri, headers: HeaderMap) -> Self {
        let path = uri.path().to_owned();
        let segments = path.split('/').skip(1).map(decode).collect();
        Self { method, query: uri.query().unwrap_or_default().to_owned(), path, headers, segments }
    }

    /// The value of a parameter of the query, percent-decoded.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then(|| decode(value))
        })
    }

    pub fn flag(&self, name: &str) -> bool {
        self.parameter(name).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1"))
    }

    pub fn header(&self, name: &header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The token, when one was sent.
    pub fn token(&self) -> Option<&str> {
        Some(self.header(&header::AUTHORIZATION)?.strip_prefix("Bearer ").unwrap_or(""))
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut ahead = rest.clone();
            let pair = [ahead.next(), ahead.next()].into_iter().flatten().collect::<Vec<u8>>();
            let value = std::str::from_utf8(&pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
            if let (2, Some(value)) = (pair.len(), value) {
                rest = ahead;
                bytes.push(value);
                continue;
            }
        }
        bytes.push(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The same text, fit for a path or a query.
pub(super) fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_and_parameters_are_decoded_one_by_one() {
        let uri = "/api/models/a/b/revision/refs%2Fpr%2F1?cursor=a%3Db&recursive=True&x".parse().unwrap();
        let asked = Asked::new(Method::GET, &uri, HeaderMap::new());
        assert_eq!(asked.segments.last().unwrap(), "refs/pr/1");
        assert_eq!(asked.parameter("cursor").unwrap(), "a=b");
        assert!(asked.flag("recursive") && !asked.flag("x"));
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode(&encode("a/ü b%")), "a/ü b%");
    }
}
