//! What the chart permits the operator: its ClusterRole and Role.

use serde_json::Value;

use super::request::Asked;
use crate::support::{documents, text};

/// The rules of one account.
pub struct Rights {
    rules: Vec<(Option<String>, Value)>,
}

impl Rights {
    /// Those of the operator. What holds in its own namespace only, holds in `system`.
    pub fn of_the_operator(system: &str) -> Self {
        let template = text("charts/bonafide/templates/rbac.yaml");
        // What Helm fills in is labels, names, and lists of names; a rule without its names permits a little more.
        let lines = template.lines().filter(|line| !line.trim_start_matches([' ', '-']).starts_with("{{"));
        let plain: Vec<String> = lines.map(|line| line.split("{{").next().unwrap().to_owned()).collect();
        let rendered = documents(&plain.join("\n"));
        let mut rules = vec![];
        for object in &rendered {
            let within = match object["kind"].as_str() {
                Some("ClusterRole") => None,
                Some("Role") => Some(system.to_owned()),
                _ => continue,
            };
            rules.extend(object["rules"].as_array().unwrap().iter().map(|rule| (within.clone(), rule.clone())));
        }
        assert!(rules.len() > 5, "the chart's roles were not found");
        Self { rules }
    }

    /// Whether a request is permitted.
    pub fn permit(&self, asked: &Asked) -> bool {
        let verb = match asked.method.as_str() {
            "GET" if asked.is_watch() => "watch",
            "GET" if asked.name.is_empty() => "list",
            "GET" => "get",
            "POST" => "create",
            "PUT" => "update",
            "DELETE" => "delete",
            _ => "patch",
        };
        let resource = match asked.subresource.as_str() {
            "" => asked.kind.plural.to_owned(),
            subresource => format!("{}/{subresource}", asked.kind.plural),
        };
        self.rules.iter().any(|(within, rule)| {
            let has = |list: &str, wanted: &str| {
                rule[list].as_array().is_some_and(|all| all.iter().any(|one| one == wanted || one == "*"))
            };
            within.as_ref().is_none_or(|within| *within == asked.namespace)
                && has("apiGroups", asked.kind.group)
                && has("resources", &resource)
                && has("verbs", verb)
                && (rule["resourceNames"].is_null() || has("resourceNames", &asked.name))
        })
    }
}
