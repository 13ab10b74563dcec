//! Every claim of the threat model has a test, and the test exists.

use crate::support::{path, text};

/// The names in back quotes that could be names of tests.
fn named(manual: &str) -> Vec<&str> {
    let quoted = manual.split('`').skip(1).step_by(2);
    quoted
        .filter(|name| name.contains('_') && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_'))
        .collect()
}

fn sources(directory: std::path::PathBuf, found: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap().path();
        if entry.is_dir() {
            sources(entry, found);
        } else if entry.extension().is_some_and(|end| end == "rs") {
            found.push_str(&std::fs::read_to_string(entry).unwrap());
        }
    }
}

#[test]
fn every_claim_names_a_test_that_exists() {
    let manual = text("docs/threat-model.md");
    let mut code = String::new();
    for directory in ["src", "tests/it"] {
        sources(path(directory), &mut code);
    }
    let names = named(&manual);
    let missing: Vec<_> = names.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "these tests do not exist: {missing:#?}");
    // A row of a table that claims something ends with its test.
    let claims = manual.lines().filter(|line| line.starts_with("| ") && !line.contains("|---") && !line.starts_with("| **"));
    let heads = ["| they try to", "| what happens", "| whose"];
    let bare: Vec<_> = claims.filter(|line| !heads.iter().any(|head| line.starts_with(head)) && named(line).is_empty()).collect();
    assert!(bare.iter().all(|line| line.trim() == "| | |"), "these claims have no test: {bare:#?}");
    assert!(names.len() > 40, "{}", names.len());
}
