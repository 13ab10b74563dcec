use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::trust::Selector;

fn compile(selector: Value) -> Result<Selector, String> {
    Selector::compile(&serde_json::from_value(selector).unwrap()).map_err(|error| error.to_string())
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn each_operator_selects_what_kubernetes_says() {
    let tier = |value: &str| labels(&[("tier", value), ("other", "x")]);
    let none = labels(&[]);
    let expression =
        |operator: &str, values: Value| json!({"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]});
    for (selector, prod, test, absent) in [
        (json!({}), true, true, true),
        (json!({"matchLabels": {"tier": "prod"}}), true, false, false),
        (expression("In", json!(["prod", "pre"])), true, false, false),
        (expression("NotIn", json!(["prod"])), false, true, true),
        (expression("Exists", json!([])), true, true, false),
        (expression("DoesNotExist", Value::Null), false, false, true),
    ] {
        let compiled = compile(selector.clone()).unwrap();
        let found = (compiled.matches(&tier("prod")), compiled.matches(&tier("test")), compiled.matches(&none));
        assert_eq!(found, (prod, test, absent), "{selector}");
    }
}

#[test]
fn all_requirements_must_hold() {
    let selector = compile(json!({
        "matchLabels": {"tier": "prod", "example.com/team": ""},
        "matchExpressions": [{"key": "zone", "operator": "Exists"}],
    }))
    .unwrap();
    let all = [("tier", "prod"), ("example.com/team", ""), ("zone", "a")];
    assert!(selector.matches(&labels(&all)));
    for left_out in 0..all.len() {
        let rest: Vec<_> = all.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, pair)| *pair).collect();
        assert!(!selector.matches(&labels(&rest)), "{left_out}");
    }
}

#[test]
fn opposite_operators_disagree_on_every_set_of_labels() {
    let values = [None, Some("a"), Some("b"), Some("")];
    for chosen in [&["a"][..], &["a", "b"], &["", "b"]] {
        let with = |operator: &str| json!({"matchExpressions": [{"key": "k", "operator": operator, "values": chosen}]});
        let (within, without) = (compile(with("In")).unwrap(), compile(with("NotIn")).unwrap());
        for value in values {
            let labels = value.map_or_else(BTreeMap::new, |value| labels(&[("k", value)]));
            assert_ne!(within.matches(&labels), without.matches(&labels), "{chosen:?} {value:?}");
        }
    }
    let exists = compile(json!({"matchExpressions": [{"key": "k", "operator": "Exists"}]})).unwrap();
    let absent = compile(json!({"matchExpressions": [{"key": "k", "operator": "DoesNotExist"}]})).unwrap();
    for labels in [labels(&[]), labels(&[("k", "")]), labels(&[("K", "a")])] {
        assert_ne!(exists.matches(&labels), absent.matches(&labels));
    }
}

#[test]
fn a_selector_that_would_silently_select_nothing_is_an_error() {
    let long = "x".repeat(64);
    // The longest prefix of a key, and one that is longer.
    let prefix = |last: usize| [63, 63, 63, last].map(|length| "p".repeat(length)).join(".");
    assert!(compile(json!({"matchLabels": {format!("{}/tier", prefix(61)): "prod"}})).is_ok());
    assert!(compile(json!({"matchLabels": {format!("{}/tier", prefix(62)): "prod"}})).unwrap_err().contains("key"));
    for (bad, fragment) in [
        (json!({"matchExpressions": [{"key": "k", "operator": "in", "values": ["a"]}]}), "operator \"in\""),
        (json!({"matchExpressions": [{"key": "k", "operator": "In"}]}), "no values"),
        (json!({"matchExpressions": [{"key": "k", "operator": "Exists", "values": ["a"]}]}), "takes no values"),
        (json!({"matchLabels": {"tier ": "prod"}}), "key \"tier \""),
        (json!({"matchLabels": {"": "prod"}}), "key \"\""),
        (json!({"matchLabels": {"Example.com/tier": "prod"}}), "key"),
        (json!({"matchLabels": {"a/b/c": "prod"}}), "key"),
        (json!({"matchLabels": {"tier": "prod "}}), "value \"prod \""),
        (json!({"matchLabels": {"tier": long}}), "value"),
        (json!({"matchExpressions": [{"key": "k", "operator": "In", "values": ["a", "-"]}]}), "matchExpressions[0]"),
    ] {
        let message = compile(bad).unwrap_err();
        assert!(message.contains(fragment), "{message}");
    }
}
