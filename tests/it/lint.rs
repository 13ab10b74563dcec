//! `bonafide lint` says what an API server says: `cluster::api` asks one the same questions.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use bonafide::cli::{lint::refused, yaml::written};
use serde_json::Value;

use crate::support::{files, path, rules::Table};

fn said(object: &Value) -> Vec<String> {
    refused(object).iter().map(|finding| format!("{}: {}", written(&finding.path), finding.message)).collect()
}

#[test]
fn what_the_tables_let_through_is_let_through_and_what_they_refuse_is_refused_in_the_same_words() {
    for (definition, table) in Table::all() {
        let kind = &definition["spec"]["names"]["kind"];
        assert_eq!(said(&table.base), Vec::<String>::new(), "{kind}: the base");
        // What an object may become is not asked of a file.
        for case in table.rules.iter().chain(&table.schema).filter(|case| !case.update) {
            for patch in &case.accept {
                assert_eq!(said(&table.object(patch)), Vec::<String>::new(), "{kind} with {patch}");
            }
            for patch in &case.refuse {
                let said = said(&table.object(patch));
                let right = |line: &String| line.contains(&case.says) && case.at.split("[]").all(|part| line.contains(part));
                assert!(said.iter().any(right), "{kind} with {patch}: {:?} at {:?} is not among {said:#?}", case.says, case.at);
            }
        }
    }
}

pub fn lint(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bonafide"));
    command.arg("lint").args(arguments).current_dir(path(""));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_example_and_every_engine_is_free_of_errors() {
    let (code, said, _) = lint(&["-f", "examples", "-f", "engines"], "");
    assert_eq!(code, Some(0), "{said}");
    let checked: usize = said.lines().last().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(checked >= files("examples").len().min(3) + files("engines").len(), "{said}");
}

#[test]
fn the_exit_code_tells_mistakes_from_files_that_cannot_be_read() {
    let model =
        "apiVersion: bonafide.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: parrot}\nspec: {model: {source: SOURCE}}\n";
    let (code, said, _) = lint(&["-f", "-"], &model.replace("SOURCE", "hf://a/b"));
    assert_eq!((code, said.as_str()), (Some(0), "1 object checked: 0 errors\n"));
    let (code, said, _) = lint(&["-f", "-", "--output", "json"], &model.replace("SOURCE", "parrot"));
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["checked"], &report["findings"][0]["line"]), (Some(1), &Value::from(1), &Value::from(4)), "{said}");
    assert_eq!(report["findings"][0]["path"], "spec.model.source");
    let (code, said, wrong) = lint(&["-f", "-", "-f", "no-such-file.yaml", "-f", "no-other.yaml"], "a: [1");
    assert_eq!((code, said.as_str()), (Some(2), "0 objects checked, 3 files not read: 0 errors\n"));
    assert!(wrong.starts_with("error: the standard input: line 1"), "{wrong}");
    let (_, said, _) = lint(&["-f", "-", "--output", "json"], "a: [1");
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["unreadable"], 1, "{said}");
    for (arguments, input, says) in [
        (&["-f", "-"][..], "a: [1", "standard input"),
        (&["-f", "no-such-file.yaml"], "", "no-such-file.yaml"),
        (&["-f", "src"], "", "there is no file that ends in .yaml"),
        (&[], "", "--filename"),
    ] {
        let (code, _, said) = lint(arguments, input);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(says), "{said}");
    }
}
