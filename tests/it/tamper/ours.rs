use std::process::Command;

use serde_json::Value;

use super::{
    scene::{Method, Scene},
    table::{Ours, Row, TABLE},
    theirs,
};
use crate::support::{recorded, updating};

/// What the command says of a scene: its exit code, the reason, the sentence.
fn told(scene: &Scene) -> (Option<i32>, String, String) {
    let (key, ca) = scene.trusted();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bonafide"));
    command.args(["verify", "--output", "json"]).arg(scene.dir());
    match scene.asked {
        Method::Certificate => command.arg("--certificate-chain").arg(ca).args(["--subject", scene.subject]),
        Method::Key | Method::Old => command.arg("--key").arg(key),
    };
    let output = command.output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let text = |field: &str| said[field].as_str().unwrap().to_owned();
    (output.status.code(), text("reason"), text("message"))
}

#[test]
fn each_way_to_tamper_with_a_model_is_told_as_the_table_says() {
    let mut seen = 0;
    for row in TABLE.iter().flat_map(|(_, rows)| *rows) {
        for method in row.methods {
            check(row, Scene::new(*method));
            seen += 1;
        }
    }
    assert!(seen > 80, "{seen}");
}

#[test]
fn the_same_is_told_of_what_the_reference_client_signed() {
    let (group, rows) = TABLE[0];
    assert_eq!(group, "The files");
    // The last one has the publisher sign something else.
    for row in rows.iter().filter(|row| !row.what.starts_with("the whole directory replaced")) {
        row.methods.iter().for_each(|method| check(row, Scene::of_the_reference(*method)));
    }
}

fn check(row: &Row, mut scene: Scene) {
    let at = format!("{} ({:?})", row.what, scene.method);
    (row.does)(&mut scene);
    let (code, reason, message) = told(&scene);
    match row.ours {
        Ours::Verified => assert_eq!((code, reason.as_str()), (Some(0), "Verified"), "{at}: {message}"),
        Ours::Refused(expected, part) => {
            assert_eq!((code, reason.as_str()), (Some(1), expected), "{at}: {message}");
            assert!(message.contains(part), "{at}: {part:?} is not in: {message}");
        }
    }
}

#[test]
fn no_row_of_the_table_is_there_twice() {
    let mut rows: Vec<_> = TABLE
        .iter()
        .flat_map(|(_, rows)| *rows)
        .flat_map(|row| row.methods.iter().map(move |method| (row.what, *method)))
        .collect();
    let count = rows.len();
    rows.sort_unstable();
    rows.dedup();
    assert_eq!(rows.len(), count);
}

#[test]
fn the_manual_of_tampering_is_the_table() {
    // Where the reference client is asked anew, its test writes both.
    if !updating() || !theirs::is_installed() {
        recorded("docs/tamper.md", &manual(&theirs::recorded_before()));
    }
}

/// The manual: every row, and what the reference client says of the same files.
pub fn manual(theirs: &theirs::Said) -> String {
    let mut text = String::from(
        "# What happens to a model that was tampered with

Each row is done to a small signed model, and `bonafide verify` and the reference client, `model_signing verify` 1.1.1 from PyPI, are asked
about the same files. Signed is with a key, with a certificate of an authority (`certificate`), or with a key by model_signing 0.2 (`0.2`).
Bonafide is asked for the signer by name (`--subject`); the reference client has no such question. The tests do every row with both
programs. Written by `make generate` from `tests/it/tamper/table.rs`.

What `bonafide verify` refuses, a policy refuses in the cluster before a pod is made, as far as it is about the signature and the files that would be
served: files that are there and were not signed are not served (`unsignedFiles`), and symbolic links are never followed.

A signature says who vouches for which bytes, and not which of a signer's models is meant: the last row of the first table passes. Name the digest
or the revision that you want (`spec.model.digest`, `bonafide pin`), or deny the old one.
",
    );
    for (group, rows) in TABLE {
        text.push_str(&format!(
            "\n## {group}\n\n| what was done | signed with | `bonafide verify` | `model_signing` 1.1.1 |\n|---|---|---|---|\n"
        ));
        for row in *rows {
            for (methods, said) in by_answer(row, theirs) {
                let ours = match row.ours {
                    Ours::Verified => "verified".to_owned(),
                    Ours::Refused(reason, part) => {
                        format!("`{reason}`: {}{}", cell(part), if part.ends_with(' ') { "…" } else { "" })
                    }
                };
                text.push_str(&format!("| {} | {methods} | {ours} | {} |\n", cell(row.what), cell(&said)));
            }
        }
    }
    text
}

/// The methods of a row, those with one answer of the reference client together.
fn by_answer(row: &Row, theirs: &theirs::Said) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for method in row.methods {
        let said = theirs.get(&theirs::name(row, *method)).cloned().unwrap_or_else(|| "not asked yet".to_owned());
        match lines.iter_mut().find(|(_, known)| *known == said) {
            Some((methods, _)) => methods.push_str(&format!(", {}", method.name())),
            None => lines.push((method.name().to_owned(), said)),
        }
    }
    lines
}

/// Text that does not end a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
