//! An object and the schema of its definition: what an API server would refuse, in its words, and what to do.

use serde_json::{Map, Value, json};

use super::{Finding, cel::Expression};
use crate::{
    api::Duration,
    cli::yaml::{Step, whole_or_fraction, written},
    trust::{is_label_key, is_label_value},
};

/// What the keys of labels and annotations have to be.
const KEY: &str = "it must have at most 63 letters, digits, '-', '_' and '.', begin and end with a letter or digit, and may have a domain \
                   and '/' before it: example.com/team";
/// What the values of labels have to be.
const VALUE: &str = "a label has at most 63 letters, digits, '-', '_' and '.', and begins and ends with a letter or digit";

/// What `object` breaks of `schema`, rules included. The schema is the definition's; of the metadata it says nothing.
pub fn check(schema: &Value, object: &Value) -> Vec<Finding> {
    let schema = whole(schema);
    let mut check = Check { root: &schema, findings: vec![] };
    let mut object = settled(&schema, object);
    check.value(&schema, &object, &mut vec![]);
    let labels = |of: &str| object.pointer(of).and_then(Value::as_object).into_iter().flatten();
    for (name, value) in labels("/metadata/labels") {
        let path = [key("metadata"), key("labels"), key(name)];
        if !is_label_key(name) {
            check.say(&path, format!("Invalid value: {name:?}: {KEY}"), None);
        }
        if let Some(value) = value.as_str().filter(|value| !is_label_value(value)) {
            check.say(&path, format!("Invalid value: {value:?}: {VALUE}"), None);
        }
    }
    for (name, _) in labels("/metadata/annotations").filter(|(name, _)| !is_label_key(&name.to_lowercase())) {
        check.say(&[key("metadata"), key("annotations"), key(name)], format!("Invalid value: {name:?}: {KEY}"), None);
    }
    match object.pointer("/metadata/generateName").and_then(Value::as_str).map(str::to_owned) {
        _ if object.pointer("/metadata/name").is_some() => {}
        // What an API server adds is as good as these letters.
        Some(stem) => {
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("name".to_owned(), json!(format!("{stem}xxxxx")));
            }
        }
        None => check.say(&[key("metadata"), key("name")], "Required value: name or generateName is required", None),
    }
    let sound = check.findings.is_empty();
    check.rules(&schema, &object, &mut vec![], sound);
    check.findings
}

/// As an API server takes an object that keeps `schema`: what is null is not there, and defaults are.
pub fn taken(schema: &Value, object: &Value) -> Value {
    settled(&whole(schema), object)
}

/// The schema of a definition, with what every object has.
fn whole(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        let text = json!({ "type": "string" });
        properties.extend([
            ("apiVersion".to_owned(), text.clone()),
            ("kind".to_owned(), text),
            ("metadata".to_owned(), metadata()),
        ]);
    }
    schema
}

/// What every object has, as far as a person writes it.
fn metadata() -> Value {
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let anything = json!({ "x-kubernetes-preserve-unknown-fields": true });
    let mut properties = Map::new();
    for name in
        ["name", "generateName", "namespace", "uid", "resourceVersion", "selfLink", "creationTimestamp", "deletionTimestamp"]
    {
        properties.insert(name.to_owned(), json!({ "type": "string" }));
    }
    for name in ["labels", "annotations"] {
        properties.insert(name.to_owned(), texts.clone());
    }
    for name in ["finalizers", "ownerReferences", "managedFields", "generation", "deletionGracePeriodSeconds"] {
        properties.insert(name.to_owned(), anything.clone());
    }
    json!({ "type": "object", "properties": properties })
}

/// As an API server sees it before it looks for mistakes: a null is as if nothing stood there, 2.0 is 2, and defaults are filled in.
fn settled(schema: &Value, value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let of = |name: &str| properties.and_then(|known| known.get(name)).or_else(|| schema.get("additionalProperties"));
            let mut settled: Map<String, Value> = map
                .iter()
                .filter(|(name, value)| !(value.is_null() && of(name).is_some()))
                .map(|(name, value)| (name.clone(), of(name).map_or_else(|| value.clone(), |part| self::settled(part, value))))
                .collect();
            for (name, part) in properties.into_iter().flatten() {
                if let Some(default) = part.get("default")
                    && !settled.contains_key(name)
                {
                    settled.insert(name.clone(), self::settled(part, default));
                }
            }
            Value::Object(settled)
        }
        Value::Array(items) => {
            items.iter().map(|item| schema.get("items").map_or_else(|| item.clone(), |part| settled(part, item))).collect()
        }
        Value::Number(number) if number.is_f64() && schema.get("type").is_some_and(|wanted| wanted == "integer") => {
            number.as_f64().map_or_else(|| value.clone(), whole_or_fraction)
        }
        other => other.clone(),
    }
}

fn key(name: &str) -> Step {
    Step::Key(name.to_owned())
}

/// How an API server names the type of a value.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

struct Check<'a> {
    root: &'a Value,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn say(&mut self, path: &[Step], message: impl Into<String>, next: Option<String>) {
        self.findings.push(Finding { path: path.to_vec(), message: message.into(), next });
    }

    fn invalid(&mut self, path: &[Step], value: &Value, why: &str) {
        let shown = match value {
            Value::Object(_) | Value::Array(_) => format!("{:?}", type_of(value)),
            value => value.to_string(),
        };
        self.say(path, format!("Invalid value: {shown}: {} {why}", in_body(path)), None);
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &mut Vec<Step>) {
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let count = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        if let Some(wanted) = schema.get("type").and_then(Value::as_str) {
            let found = type_of(value);
            if found != wanted && !(wanted == "number" && found == "integer") {
                let shown = if value.is_string() || value.is_null() { found.to_owned() } else { value.to_string() };
                let next = match found {
                    _ if wanted != "string" => None,
                    "object" | "array" | "null" => None,
                    "integer" if is_duration(schema) => Some(format!("write it with its unit: {value}s")),
                    _ => Some("put it between quotes".to_owned()),
                };
                let message = format!("Invalid value: {shown:?}: {} must be of type {wanted}: {found:?}", in_body(path));
                return self.say(path, message, next);
            }
        }
        if let Some(values) = schema.get("enum").and_then(Value::as_array)
            && !values.contains(value)
        {
            let all = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let near = value.as_str().and_then(|value| nearest(value, values.iter().filter_map(Value::as_str)));
            let next = near.map(|near| format!("did you mean {near:?}?"));
            self.say(path, format!("Unsupported value: {value}: supported values: {all}"), next);
        }
        match value {
            Value::String(text) => {
                let length = text.chars().count();
                if count("maxLength").is_some_and(|most| length > most) {
                    let most = count("maxLength").unwrap_or_default();
                    self.say(path, format!("Too long: may not be more than {most} bytes"), Some(format!("it has {length}")));
                }
                if let Some(least) = count("minLength").filter(|least| length < *least) {
                    self.invalid(path, value, &format!("should be at least {least} chars long"));
                }
                if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
                    && !regex::Regex::new(pattern).is_ok_and(|known| known.is_match(text))
                {
                    self.invalid(path, value, &format!("should match '{pattern}'"));
                }
                if schema.get("format").is_some_and(|format| format == "date-time") && text.parse::<jiff::Timestamp>().is_err() {
                    self.invalid(path, value, "must be of type date-time");
                }
            }
            Value::Number(found) => {
                let found = found.as_f64().unwrap_or_default();
                if let Some(least) = number("minimum").filter(|least| found < *least) {
                    self.invalid(path, value, &format!("should be greater than or equal to {least}"));
                }
                if let Some(most) = number("maximum").filter(|most| found > *most) {
                    self.invalid(path, value, &format!("should be less than or equal to {most}"));
                }
                if schema.get("format").is_some_and(|format| format == "int32") && found.abs() > f64::from(i32::MAX) {
                    self.invalid(path, value, "must be of type int32");
                }
            }
            Value::Array(items) => self.list(schema, items, path),
            Value::Object(map) => self.map(schema, map, path),
            _ => {}
        }
    }

    fn list(&mut self, schema: &Value, items: &[Value], path: &mut Vec<Step>) {
        let count = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        if let Some(most) = count("maxItems").filter(|most| items.len() > *most) {
            self.say(path, format!("Too many: {}: must have at most {most} items", items.len()), None);
        }
        if let Some(least) = count("minItems").filter(|least| items.len() < *least) {
            self.invalid(path, &json!(items), &format!("should have at least {least} items"));
        }
        let identity: Box<dyn Fn(&Value) -> Value> = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => Box::new(Value::clone),
            Some("map") => {
                let keys: Vec<String> = schema
                    .get("x-kubernetes-list-map-keys")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|key| key.as_str().map(str::to_owned))
                    .collect();
                Box::new(move |item| keys.iter().map(|key| (key.clone(), item.get(key).cloned().unwrap_or_default())).collect())
            }
            _ => Box::new(|_| Value::Null),
        };
        let mut seen = vec![];
        for (index, item) in items.iter().enumerate() {
            path.push(Step::Index(index));
            let identity = identity(item);
            if !identity.is_null() && seen.contains(&identity) {
                self.say(path, format!("Duplicate value: {identity}"), None);
            }
            seen.push(identity);
            self.value(schema.get("items").unwrap_or(&Value::Null), item, path);
            path.pop();
        }
    }

    fn map(&mut self, schema: &Value, map: &Map<String, Value>, path: &mut Vec<Step>) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let rest = schema.get("additionalProperties").filter(|rest| rest.is_object());
        let keeps_all = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) || schema.is_null();
        if let Some(most) = schema.get("maxProperties").and_then(Value::as_u64).filter(|most| map.len() as u64 > *most) {
            self.say(path, format!("Too many: {}: must have at most {most} items", map.len()), None);
        }
        for (name, value) in map {
            path.push(key(name));
            match properties.and_then(|properties| properties.get(name)).or(rest) {
                Some(part) => self.value(part, value, path),
                None if keeps_all => {}
                None => {
                    let next = self.instead(properties, name, path);
                    self.say(path, format!("unknown field {:?}", written(path)), Some(next));
                }
            }
            path.pop();
        }
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(name) {
                path.push(key(name));
                let meaning = properties.and_then(|properties| properties.get(name)?.get("description")?.as_str());
                let next = meaning.and_then(|meaning| meaning.lines().next()).map(|meaning| format!("add it: {meaning}"));
                self.say(path, "Required value", next);
                path.pop();
            }
        }
    }

    /// What was perhaps meant by a field that does not exist.
    fn instead(&self, known: Option<&Map<String, Value>>, name: &str, path: &[Step]) -> String {
        if let Some(near) = nearest(name, known.into_iter().flatten().map(|(name, _)| name.as_str())) {
            return format!("did you mean {near:?}?");
        }
        let mut places = vec![];
        find(self.root, name, &mut vec![], &mut places);
        if let [place] = places.as_slice() {
            return format!("there is {place}");
        }
        let parent = path.split_last().map(|(_, parent)| written(parent)).unwrap_or_default();
        let known: Vec<&str> = known.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let of = if parent.is_empty() { "the object".to_owned() } else { parent };
        format!("{of} has {}", known.join(", "))
    }

    /// The rules in CEL. Of an object that is not sound only what is plainly broken is told.
    fn rules(&mut self, schema: &Value, value: &Value, path: &mut Vec<Step>, sound: bool) {
        for rule in schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
            let text = rule.get("rule").and_then(Value::as_str).unwrap_or_default();
            // It compares with what was there before, and nothing was.
            if text.contains("oldSelf") {
                continue;
            }
            let message = rule.get("message").and_then(Value::as_str).unwrap_or(text);
            match Expression::parse(text).and_then(|expression| expression.holds(value)) {
                Ok(true) => {}
                Ok(false) => {
                    let shown = if value.is_object() || value.is_array() { json!(type_of(value)) } else { value.clone() };
                    self.say(path, format!("Invalid value: {shown}: {message}"), None);
                }
                Err(error) if sound => self.say(path, format!("the rule {message:?} cannot be evaluated: {error}"), None),
                Err(_) => {}
            }
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let part = schema.get("properties").and_then(|properties| properties.get(name));
                    if let Some(part) = part.or_else(|| schema.get("additionalProperties")) {
                        path.push(key(name));
                        self.rules(part, value, path, sound);
                        path.pop();
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(Step::Index(index));
                    self.rules(schema.get("items").unwrap_or(&Value::Null), item, path, sound);
                    path.pop();
                }
            }
            _ => {}
        }
    }
}

/// Whether a length of time is wanted.
fn is_duration(schema: &Value) -> bool {
    let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
    rules.into_iter().flatten().any(|rule| rule.get("message").is_some_and(|message| message == Duration::MEANS))
}

fn in_body(path: &[Step]) -> String {
    format!("{} in body", written(path))
}

/// Where fields called `name` stand in what a person writes.
fn find(schema: &Value, name: &str, path: &mut Vec<Step>, found: &mut Vec<String>) {
    for (property, part) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if path.is_empty() && property != "spec" {
            continue;
        }
        path.push(key(property));
        if property == name {
            found.push(written(path));
        }
        find(part, name, path, found);
        path.pop();
    }
}

/// The word that was probably meant: the same but for case and dashes, or with few letters changed.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |word: &str| word.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let wanted = plain(word);
    let most = ((wanted.len() + 1) / 3).clamp(1, 3);
    let candidates = known.map(|known| (distance(&wanted, &plain(known)), known));
    candidates.filter(|(distance, _)| *distance <= most).min().map(|(_, known)| known)
}

/// How many letters have to be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (above, y) in row.windows(2).zip(&b) {
            let &[diagonal, up] = above else { continue };
            let left = next.last().copied().unwrap_or_default();
            next.push((diagonal + usize::from(x != *y)).min(up + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
