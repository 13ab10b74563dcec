//! Selectors of labels and fields.

use serde_json::Value;

use super::refuse::Refusal;

/// What a list or a watch is restricted to.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    labels: Vec<Demand>,
    fields: Vec<(String, String, bool)>,
}

#[derive(Debug, Clone)]
enum Demand {
    Is(String, Vec<String>),
    IsNot(String, Vec<String>),
    Exists(String),
    Lacks(String),
}

impl Selector {
    pub fn parse(labels: &str, fields: &str) -> Result<Self, Refusal> {
        let fields = fields.split(',').filter(|part| !part.is_empty()).map(|part| match part.split_once("!=") {
            Some((field, value)) => Ok((field.to_owned(), value.to_owned(), false)),
            None => match part.split_once('=') {
                Some((field, value)) => Ok((field.to_owned(), value.trim_start_matches('=').to_owned(), true)),
                None => Err(Refusal::bad(format!("invalid field selector {part}"))),
            },
        });
        Ok(Self { labels: demands(labels), fields: fields.collect::<Result<_, _>>()? })
    }

    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = |key: &str| labels.get(key).and_then(Value::as_str);
        let met = |demand: &Demand| match demand {
            Demand::Is(key, values) => label(key).is_some_and(|found| values.iter().any(|value| value == found)),
            Demand::IsNot(key, values) => label(key).is_none_or(|found| values.iter().all(|value| value != found)),
            Demand::Exists(key) => label(key).is_some(),
            Demand::Lacks(key) => label(key).is_none(),
        };
        let field = |path: &str| {
            let found = path.split('.').fold(object, |value, key| &value[key]);
            found.as_str().map_or_else(|| if found.is_null() { String::new() } else { found.to_string() }, str::to_owned)
        };
        self.labels.iter().all(met) && self.fields.iter().all(|(path, value, is)| (field(path) == *value) == *is)
    }
}

fn demands(selector: &str) -> Vec<Demand> {
    // Commas within brackets separate values.
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in selector.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            c => parts.last_mut().unwrap().push(c),
        }
    }
    let set = |values: &str| values.trim().trim_matches(['(', ')']).split(',').map(|value| value.trim().to_owned()).collect();
    let one = |value: &str| vec![value.trim().to_owned()];
    let demand = |part: &String| {
        let part = part.trim();
        if let Some((key, values)) = part.split_once(" notin ") {
            Demand::IsNot(key.trim().to_owned(), set(values))
        } else if let Some((key, values)) = part.split_once(" in ") {
            Demand::Is(key.trim().to_owned(), set(values))
        } else if let Some((key, value)) = part.split_once("!=") {
            Demand::IsNot(key.trim().to_owned(), one(value))
        } else if let Some((key, value)) = part.split_once('=') {
            Demand::Is(key.trim().to_owned(), one(value.trim_start_matches('=')))
        } else if let Some(key) = part.strip_prefix('!') {
            Demand::Lacks(key.trim().to_owned())
        } else {
            Demand::Exists(part.to_owned())
        }
    };
    parts.iter().filter(|part| !part.trim().is_empty()).map(demand).collect()
}
