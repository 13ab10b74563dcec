//! The fake API server and the real one are asked the same: `tests/conformance/*.yaml`. What the real one answered is recorded
//! in `tests/golden/conformance.yaml` (`UPDATE_GOLDEN=1` and `cluster::likeness` write it); both have to answer that.

mod transcript;

use std::collections::BTreeMap;

use kube::Client;
use serde::Deserialize;
use serde_json::Value;

pub use self::transcript::Transcript;
use crate::sim::collector;
use crate::support::{self, fake_api::FakeApi, files, text};

/// Where the answers of the real one are recorded.
pub const RECORD: &str = "tests/golden/conformance.yaml";

/// One row of questions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// In a sentence.
    pub case: String,
    pub steps: Vec<Step>,
}

/// One question.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// `APPLY /api/v1/...`
    pub r#do: String,
    #[serde(default)]
    pub body: Value,
    /// Which parts of the answer count, beside its code.
    #[serde(default)]
    pub see: Vec<String>,
    /// The name by which later questions refer to the answer.
    #[serde(default)]
    pub r#as: String,
    /// A part: it is asked again until the answer lacks it.
    #[serde(default)]
    pub until: String,
}

/// All rows.
pub fn cases() -> Vec<Case> {
    let read = |file: String| -> Vec<Case> {
        serde_saphyr::from_str(&text(format!("tests/conformance/{file}"))).unwrap_or_else(|error| panic!("{file}: {error}"))
    };
    files("tests/conformance").into_iter().flat_map(read).collect()
}

/// What was answered, by case.
pub type Answers = BTreeMap<String, Vec<String>>;

/// Asks everything, each row in a namespace of its own, which `place` makes; `forget` lets the API server forget what was.
pub async fn ask(client: &Client, place: impl AsyncFn(usize) -> String, forget: impl AsyncFn()) -> Answers {
    let mut answers = Answers::new();
    for (number, case) in cases().into_iter().enumerate() {
        let mut transcript = Transcript::new(client.clone(), place(number).await);
        for step in &case.steps {
            match step.r#do.as_str() {
                "FORGET" => forget().await,
                _ => transcript.ask(step).await,
            }
        }
        answers.insert(case.case, transcript.lines);
    }
    answers
}

/// What the real one answered.
pub fn recorded() -> Answers {
    serde_saphyr::from_str(&text(RECORD)).unwrap_or_else(|error| panic!("{RECORD}: {error}"))
}

/// Says where two differ.
pub fn differences(expected: &Answers, found: &Answers) -> Vec<String> {
    let mut differences = vec![];
    for (case, found) in found {
        let Some(expected) = expected.get(case) else {
            differences.push(format!("{case}: it is not recorded"));
            continue;
        };
        for (number, line) in found.iter().enumerate() {
            let wanted = expected.get(number).map_or("", String::as_str);
            if wanted != line {
                differences.push(format!("{case}, step {}:\n  expected {wanted}\n  found    {line}", number + 1));
            }
        }
    }
    differences
}

#[tokio::test(start_paused = true)]
async fn the_fake_answers_as_the_real_one_does() {
    let api = FakeApi::new();
    let client = api.smooth_client("test");
    let place = async |number: usize| {
        let name = format!("case-{number}");
        api.create("Namespace", "", "test", &serde_json::json!({ "metadata": { "name": name } })).unwrap();
        name
    };
    let collected = api.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            collector::look(&collected);
        }
    });
    let differences = differences(&recorded(), &ask(&client, place, async || api.state().compact()).await);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Writes down what the real one answered.
pub fn record(answers: &Answers) {
    std::fs::write(support::path(RECORD), serde_saphyr::to_string(answers).unwrap()).unwrap();
}
