//! Is what stands in the cluster what we wrote? Answered with the first place where it is not.

use serde_json::Value;

/// How strictly two trees are compared.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Paths (`/spec/template`) below which nothing may stand that we did not write.
    pub exact: &'a [&'a str],
    /// Keys that may stand there all the same, because Kubernetes itself puts them there: a path in which `*` is any segment.
    pub injected: &'a [&'a str],
}

/// The first difference between `wanted` and `found`, as a sentence; `None` when `found` is what was wanted.
///
/// Outside the exact paths `found` may have more keys: they belong to others. Lists are always compared whole.
pub fn difference(wanted: &Value, found: &Value, rules: Rules<'_>) -> Option<String> {
    compare(wanted, found, "", rules)
}

fn compare(wanted: &Value, found: &Value, path: &str, rules: Rules<'_>) -> Option<String> {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            let missing_or_other = wanted.iter().find_map(|(key, value)| {
                let path = format!("{path}/{key}");
                match found.get(key) {
                    Some(found) => compare(value, found, &path, rules),
                    None if is_nothing(value) => None,
                    None => Some(format!("{path} is missing")),
                }
            });
            missing_or_other.or_else(|| {
                let exact = rules.exact.iter().any(|exact| path == *exact || path.starts_with(&format!("{exact}/")));
                let foreign = |(key, value): &(&String, &Value)| {
                    exact
                        && !wanted.contains_key(*key)
                        && !is_nothing(value)
                        && !rules.injected.iter().any(|at| matches(at, &format!("{path}/{key}")))
                };
                found.iter().find(foreign).map(|(key, _)| format!("{path}/{key} was added"))
            })
        }
        (Value::Array(wanted), Value::Array(found)) => {
            if wanted.len() != found.len() {
                return Some(format!("{path} has {} entries instead of {}{}", found.len(), wanted.len(), surplus(wanted, found)));
            }
            let pairs = wanted.iter().zip(found).enumerate();
            pairs.into_iter().find_map(|(at, (wanted, found))| compare(wanted, found, &format!("{path}/{at}"), rules))
        }
        (wanted, found) if wanted == found || same_quantity(wanted, found) => None,
        _ => Some(format!("{path} is {} instead of {}", brief(found), brief(wanted))),
    }
}

/// Absent, null and empty say the same to the API server.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// The API server writes quantities its own way: a number of 1 is `"1"`.
fn same_quantity(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::Number(number), Value::String(text)) | (Value::String(text), Value::Number(number)) => {
            number.to_string() == *text
        }
        _ => false,
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

/// The name of the first entry too many, when entries have names.
fn surplus(wanted: &[Value], found: &[Value]) -> String {
    let name = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
    let known: Vec<_> = wanted.iter().filter_map(name).collect();
    found
        .iter()
        .filter_map(name)
        .find(|name| !known.contains(name))
        .map(|name| format!(" ('{name}' was added)"))
        .unwrap_or_default()
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 80 { format!("{}…", text.chars().take(80).collect::<String>()) } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RULES: Rules<'_> = Rules { exact: &["/spec/template"], injected: &["/spec/template/*/nodeName"] };

    #[test]
    fn what_others_add_outside_our_part_is_left_alone() {
        let wanted = json!({"metadata": {"labels": {"a": "1"}}});
        assert_eq!(difference(&wanted, &json!({"metadata": {"labels": {"a": "1", "theirs": "2"}}}), RULES), None);
        assert!(difference(&wanted, &json!({"metadata": {"labels": {"a": "2"}}}), RULES).unwrap().contains("/metadata/labels/a"));
    }

    #[test]
    fn inside_our_part_every_addition_is_found_and_named() {
        let wanted = json!({"spec": {"template": {"spec": {"containers": [{"name": "engine", "args": ["x"]}]}}}});
        let with = |change: &dyn Fn(&mut Value)| {
            let mut found = wanted.clone();
            change(&mut found);
            difference(&wanted, &found, RULES)
        };
        assert_eq!(with(&|_| {}), None);
        let found = with(&|v| v["spec"]["template"]["spec"]["hostNetwork"] = json!(true)).unwrap();
        assert_eq!(found, "/spec/template/spec/hostNetwork was added");
        let found =
            with(&|v| v["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().push(json!({"name": "evil"}))).unwrap();
        assert!(found.contains("'evil' was added"), "{found}");
        let found = with(&|v| v["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{"name": "LD_PRELOAD"}])).unwrap();
        assert!(found.contains("/env was added"), "{found}");
        assert_eq!(with(&|v| v["spec"]["template"]["spec"]["nodeName"] = json!("node0")), None);
    }

    #[test]
    fn a_number_and_its_quantity_are_the_same_and_empty_is_absent() {
        assert_eq!(difference(&json!({"a": 1, "b": {}}), &json!({"a": "1"}), RULES), None);
        assert!(difference(&json!({"a": 1}), &json!({"a": "2"}), RULES).is_some());
    }
}
