//! The reference client, asked about the same files.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::{Command, Stdio},
};

use localcluster::assets;
use regex::Regex;
use serde_json::{Value, json};

use super::{
    ours,
    scene::{Method, Scene},
    table::{Row, TABLE},
};
use crate::support::{path, recorded, text, updating};

/// What it says, by row and method.
pub type Said = BTreeMap<String, String>;

const RECORD: &str = "tests/data/tamper/model_signing-1.1.1.json";

/// Runs its command line once for each list of arguments, in one process: Python takes a second to start.
const DRIVER: &str = r#"
import json, sys
from click.testing import CliRunner
from model_signing._cli import main
for line in sys.stdin:
    result = CliRunner().invoke(main, json.loads(line))
    crash = None if result.exception is None or isinstance(result.exception, SystemExit) else repr(result.exception)
    print(json.dumps({"code": result.exit_code, "output": result.output, "crash": crash}), flush=True)
"#;

pub fn name(row: &Row, method: Method) -> String {
    format!("{}: {}", method.name(), row.what)
}

/// What it said when it was asked last.
pub fn recorded_before() -> Said {
    if path(RECORD).exists() { serde_json::from_str(&text(RECORD)).unwrap() } else { Said::new() }
}

/// Whether it is there, without fetching it.
pub fn is_installed() -> bool {
    let Ok(cache) = localcluster::paths::cache() else { return false };
    let mut entries = std::fs::read_dir(cache.join("assets")).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_string_lossy().starts_with("model-signing-"))
}

fn arguments(scene: &Scene) -> Value {
    let (key, ca) = scene.trusted();
    let (method, option, trusted) = match scene.asked {
        Method::Certificate => ("certificate", "--certificate_chain", ca),
        Method::Key | Method::Old => ("key", "--public_key", key),
    };
    json!(["verify", method, option, trusted, "--signature", scene.signature(), scene.dir()])
}

/// One line of its answer, without what differs from run to run.
fn shown(answer: &Value, scene: &Scene) -> String {
    let output = answer["output"].as_str().unwrap();
    if answer["code"] == 0 && output.contains("Verification succeeded") {
        return "verified".to_owned();
    }
    let said = match answer["crash"].as_str() {
        Some(crash) => format!("ends by an exception: {crash}"),
        None => {
            let line = output.lines().rev().find(|line| line.contains("rror: ")).unwrap_or(output.trim());
            line.trim_start_matches("Verification failed with error: ").trim().to_owned()
        }
    };
    let mut said =
        if said.is_empty() || said == "Verification failed with error:" { "an empty message".to_owned() } else { said };
    said = said.replace(&*scene.outer().to_string_lossy(), "");
    for (pattern, with) in [
        // Bytes as Python writes them, of which nobody reads anything.
        (": Expected .*", ": Expected …"),
        ("[0-9a-f]{64}", "HASH"),
        ("0x[0-9a-f]{8,}", "0x…"),
    ] {
        said = Regex::new(pattern).unwrap().replace_all(&said, with).into_owned();
    }
    let cut: String = said.chars().take(160).collect();
    if cut.len() < said.len() { format!("refused: {cut}…") } else { format!("refused: {cut}") }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_client_says_of_the_same_files_what_is_recorded() {
    let program = assets::path(assets::MODEL_SIGNING).await.unwrap();
    let mut python = Command::new(program.with_file_name("python"))
        .args(["-c", DRIVER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut scenes = Vec::new();
    let mut input = python.stdin.take().unwrap();
    for row in TABLE.iter().flat_map(|(_, rows)| *rows) {
        for method in row.methods {
            let mut scene = Scene::new(*method);
            (row.does)(&mut scene);
            writeln!(input, "{}", arguments(&scene)).unwrap();
            scenes.push((name(row, *method), scene));
        }
    }
    drop(input);
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), scenes.len());
    let said: Said = scenes.iter().zip(&answers).map(|((name, scene), answer)| (name.clone(), shown(answer, scene))).collect();
    if updating() {
        std::fs::create_dir_all(path(RECORD).parent().unwrap()).unwrap();
    }
    recorded(RECORD, &(serde_json::to_string_pretty(&said).unwrap() + "\n"));
    if updating() {
        recorded("docs/tamper.md", &ours::manual(&said));
    }
    assert_eq!(said["key: nothing"], "verified");
    assert_eq!(said["certificate: a certificate that has expired"], "verified", "why people should know of this table");
}

/// What `bonafide sign` writes, the reference client accepts.
#[tokio::test(flavor = "multi_thread")]
async fn the_reference_client_accepts_what_is_signed_here() {
    let program = assets::path(assets::MODEL_SIGNING).await.unwrap();
    let people = super::signed::people();
    for (at, sign, verify) in super::signed::cases(people.path()) {
        let model = people.path().join(&at);
        super::signed::model(&model);
        let signed = Command::new(env!("CARGO_BIN_EXE_bonafide")).arg("sign").arg(&model).args(&sign).output().unwrap();
        assert!(signed.status.success(), "{at}: {signed:?}");
        let checked = Command::new(&program)
            .arg("verify")
            .args(&verify)
            .arg("--signature")
            .arg(model.join("model.sig"))
            .arg(&model)
            .output()
            .unwrap();
        assert!(checked.status.success(), "{at}: {checked:?}");
        // It is a check at all: another byte, and it refuses.
        std::fs::write(model.join("config.json"), "x").unwrap();
        let checked = Command::new(&program)
            .arg("verify")
            .args(&verify)
            .arg("--signature")
            .arg(model.join("model.sig"))
            .arg(&model)
            .output()
            .unwrap();
        assert!(!checked.status.success(), "{at}: {checked:?}");
    }
}
