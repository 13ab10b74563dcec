//! Label selectors, with the meaning that Kubernetes gives them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// A label selector that is known to be one. All of its requirements must hold; without any, everything is selected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

/// A selector that Kubernetes would not accept either: the field inside the selector, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidSelector {
    field: String,
    problem: String,
}

impl Selector {
    /// Reads a selector. One with an unknown operator, or with a key that no label can have, is an error: it would silently
    /// select nothing.
    pub fn compile(selector: &LabelSelector) -> Result<Self, InvalidSelector> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            let field = || format!("matchLabels[{}]", shown(key));
            check_key(key).and_then(|()| check_value(value)).map_err(|problem| InvalidSelector { field: field(), problem })?;
            requirements.push(Requirement { key: key.clone(), test: Test::In(vec![value.clone()]) });
        }
        for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
            let requirement = requirement(expression)
                .map_err(|problem| InvalidSelector { field: format!("matchExpressions[{index}]"), problem })?;
            requirements.push(requirement);
        }
        Ok(Self(requirements))
    }

    /// Whether it selects something with these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|Requirement { key, test }| {
            let value = labels.get(key);
            match test {
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Test::Exists => value.is_some(),
                Test::DoesNotExist => value.is_none(),
            }
        })
    }
}

fn requirement(expression: &LabelSelectorRequirement) -> Result<Requirement, String> {
    check_key(&expression.key)?;
    let values = expression.values.clone().unwrap_or_default();
    for value in &values {
        check_value(value)?;
    }
    let test = match (expression.operator.as_str(), values.is_empty()) {
        ("In", false) => Test::In(values),
        ("NotIn", false) => Test::NotIn(values),
        ("Exists", true) => Test::Exists,
        ("DoesNotExist", true) => Test::DoesNotExist,
        (operator @ ("In" | "NotIn"), true) => return Err(format!("has operator {operator} and no values")),
        (operator @ ("Exists" | "DoesNotExist"), false) => return Err(format!("has operator {operator}, which takes no values")),
        (other, _) => return Err(format!("has operator {}; known are In, NotIn, Exists and DoesNotExist", shown(other))),
    };
    Ok(Requirement { key: expression.key.clone(), test })
}

/// Whether a label can have that key: a name, perhaps after a domain and '/'.
pub fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_subdomain = |prefix: &str| {
        prefix.len() <= 253
            && prefix.split('.').all(|part| {
                bounded_by_alphanumeric(part) && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            })
    };
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_label_text(name)
}

/// Whether a label can have that value.
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_label_text(value)
}

fn check_key(key: &str) -> Result<(), String> {
    if is_label_key(key) { Ok(()) } else { Err(format!("has key {}, which no label can have", shown(key))) }
}

fn check_value(value: &str) -> Result<(), String> {
    if is_label_value(value) { Ok(()) } else { Err(format!("has value {}, which no label can have", shown(value))) }
}

fn is_label_text(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= 63 && bounded_by_alphanumeric(text) && text.chars().all(plain)
}

fn bounded_by_alphanumeric(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(alphanumeric) && text.ends_with(alphanumeric)
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}
