//! The rules of the definitions, evaluated here. `cluster::api` asks a real API server the same questions.

use bonafide::api;
use kube::core::cel::{ValidationErrors, Validator};
use serde_json::Value;

use crate::support::{
    merge,
    rules::{Case, Rule, Table, rules, schema},
};

/// Whether the object is of a kind of ours and can be read and obeys every rule; `false` for kinds of others.
pub fn accepts(object: &Value) -> Result<bool, String> {
    if !object["apiVersion"].as_str().unwrap_or_default().starts_with("bonafide.dev/") {
        return Ok(false);
    }
    let definitions = api::crds();
    let definition = definitions.iter().find(|(_, definition)| definition["spec"]["names"]["kind"] == object["kind"]);
    let (_, definition) = definition.ok_or_else(|| format!("no definition has kind {}", object["kind"]))?;
    Validator::new().validate(schema(definition), object, None).map_err(said)?;
    unknown(schema(definition), object, "")?;
    Ok(true)
}

/// Fields that the schema does not know.
fn unknown(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    match value {
        Value::Object(map) if schema["properties"].is_object() => map
            .iter()
            .filter(|(key, _)| !at.is_empty() || !["apiVersion", "kind", "metadata"].contains(&key.as_str()))
            .try_for_each(|(key, value)| {
                let property = schema["properties"].get(key).ok_or_else(|| format!("{at}.{key} does not exist"))?;
                unknown(property, value, &format!("{at}.{key}"))
            }),
        Value::Array(items) => items.iter().try_for_each(|item| unknown(&schema["items"], item, &format!("{at}[]"))),
        _ => Ok(()),
    }
}

fn said(errors: ValidationErrors) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn rule<'a>(rules: &'a [Rule], case: &Case) -> &'a Rule {
    let found: Vec<&Rule> = rules.iter().filter(|rule| rule.at == case.at && rule.message.contains(&case.says)).collect();
    assert_eq!(found.len(), 1, "{:?} at {:?} is the message of these rules: {found:?}", case.says, case.at);
    found[0]
}

#[test]
fn every_rule_has_something_that_it_accepts_and_something_that_it_refuses() {
    for (definition, table) in Table::all() {
        let kind = &definition["spec"]["names"]["kind"];
        let rules = rules(schema(&definition));
        let covered: Vec<&Rule> = table.rules.iter().map(|case| rule(&rules, case)).collect();
        let missing: Vec<&Rule> = rules.iter().filter(|rule| !covered.contains(rule)).collect();
        assert!(missing.is_empty(), "{kind}: these rules have no case in tests/cel: {missing:#?}");
        for case in &table.rules {
            assert!(
                !case.accept.is_empty() && !case.refuse.is_empty(),
                "{kind}: {:?} needs something to accept and something to refuse",
                case.says
            );
        }
    }
}

#[test]
fn every_rule_accepts_and_refuses_what_the_table_says() {
    for (definition, table) in Table::all() {
        let kind = &definition["spec"]["names"]["kind"];
        let schema = schema(&definition);
        let known = rules(schema);
        Validator::new()
            .validate(schema, &table.base, None)
            .unwrap_or_else(|errors| panic!("{kind}: the base is refused: {}", said(errors)));
        for case in &table.rules {
            let rule = rule(&known, case);
            let old = case.update.then_some(&table.base);
            // With a rule that is never met an accepted object is refused: so it is one that the rule looks at.
            let mut never = schema.clone();
            *never.pointer_mut(&rule.pointer).unwrap() = Value::from("false");
            for patch in &case.accept {
                let object = table.object(patch);
                Validator::new()
                    .validate(schema, &object, old)
                    .unwrap_or_else(|errors| panic!("{kind} with {patch} is refused: {}", said(errors)));
                let errors = Validator::new().validate(&never, &object, old);
                assert!(errors.is_err(), "{kind} with {patch} says nothing about {:?}", rule.message);
            }
            for patch in &case.refuse {
                let errors = Validator::new()
                    .validate(schema, &table.object(patch), old)
                    .expect_err(&format!("{kind} with {patch} is accepted"));
                assert!(
                    errors.iter().any(|error| error.message == rule.message),
                    "{kind} with {patch} is refused for another reason: {}",
                    said(errors)
                );
            }
        }
    }
}

#[test]
fn a_merge_patch_changes_what_it_names_and_removes_what_it_nulls() {
    let base = serde_json::json!({"a": {"b": 1, "c": 2}, "d": [1]});
    let merged = merge(&base, &serde_json::json!({"a": {"b": null, "e": {"f": 3}}, "d": [2]}));
    assert_eq!(merged, serde_json::json!({"a": {"c": 2, "e": {"f": 3}}, "d": [2]}));
}
