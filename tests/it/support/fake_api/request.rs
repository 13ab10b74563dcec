//! Reads what is asked for out of a request.

use std::collections::BTreeMap;

use http::{HeaderMap, Method, Uri, header};
use serde_json::Value;

use super::{
    kinds::{self, Kind},
    refuse::Refusal,
};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub kind: &'static Kind,
    /// Empty: all namespaces, or none.
    pub namespace: String,
    /// Empty: all objects.
    pub name: String,
    /// `status`, `scale`; empty: the object.
    pub subresource: String,
    pub query: BTreeMap<String, String>,
    pub content_type: String,
    /// Whether only metadata is wanted.
    pub metadata_only: bool,
    pub body: Value,
    /// Who writes, when the query does not say.
    pub agent: String,
}

impl Asked {
    /// Reads a request.
    pub fn read(method: Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<Self, Refusal> {
        let unknown = || Refusal::new(404, "NotFound", format!("the server could not find the requested resource: {uri}"));
        let segments: Vec<&str> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let (group, version, rest) = match segments.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(unknown()),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, plural, rest @ ..] if *plural != "status" && *plural != "finalize" => {
                (*namespace, [&[*plural], rest].concat())
            }
            rest => ("", rest.to_vec()),
        };
        let (plural, name, subresource) = match rest.as_slice() {
            [plural] => (*plural, "", ""),
            [plural, name] => (*plural, *name, ""),
            [plural, name, subresource] => (*plural, *name, *subresource),
            _ => return Err(unknown()),
        };
        let kind = kinds::find(group, version, plural).ok_or_else(unknown)?;
        let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok()).unwrap_or_default();
        let body = match body {
            [] => Value::Null,
            // The body of an apply patch is YAML, which the client writes as JSON.
            body => serde_json::from_slice(body).map_err(|error| Refusal::bad(format!("the body cannot be read: {error}")))?,
        };
        let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        Ok(Self {
            method,
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
            query,
            content_type: text(header::CONTENT_TYPE).to_owned(),
            metadata_only: text(header::ACCEPT).contains("as=PartialObjectMetadata"),
            body,
            agent: text(header::USER_AGENT).split('/').next().unwrap_or_default().to_owned(),
        })
    }

    pub fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.parameter(name) == "true" || self.parameter(name) == "1"
    }

    pub fn is_watch(&self) -> bool {
        self.method == Method::GET && self.is_set("watch")
    }

    pub fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    /// Who owns the fields that this write sets.
    pub fn manager(&self) -> String {
        match self.parameter("fieldManager") {
            "" if self.agent.is_empty() => "unknown".to_owned(),
            "" => self.agent.clone(),
            manager => manager.to_owned(),
        }
    }

    /// `PATCH Pod orchard/pear status`, for messages.
    pub fn line(&self) -> String {
        let place = if self.namespace.is_empty() { self.name.clone() } else { format!("{}/{}", self.namespace, self.name) };
        format!("{} {} {place} {}", self.method, self.kind.kind, self.subresource).trim_end().to_owned()
    }
}
