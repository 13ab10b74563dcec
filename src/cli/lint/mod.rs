//! `bonafide lint`: what an API server and the manager would refuse, before anything is applied.

mod beside;
mod cel;
mod offline;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};

pub use self::offline::is_commit;
use super::{
    Output, USAGE, fail, print,
    yaml::{self, Kind, Node, Step, written},
};
use crate::{
    api::{GROUP, InferenceEngine, crds},
    engine::Catalogue,
};

/// What `lint` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It needs no cluster: the rules are those of this version's definitions (`bonafide crd`), and what the manager
would say of engines, arguments and policies. Objects of other kinds are passed over and counted. InferenceEngines
among the files are known to the ModelDeployments beside them.

Exit codes: 0 nothing is wrong (hints are no mistakes); 1 something would be refused; 2 a file cannot be read.

Examples:
  bonafide lint -f model.yaml
  bonafide lint -f deploy/ --recursive
  kustomize build overlays/production | bonafide lint -f -
  bonafide lint -f deploy/ --output json | jq '.findings[] | select(.severity == \"error\")'"
)]
pub struct LintArgs {
    /// A file with YAML documents or JSON, a directory of such files, or '-' for the standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Look into directories of directories too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// How the findings are printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It would be refused.
    Error,
    /// It works, and something is better done otherwise.
    Hint,
}

/// Something that is to be said of one place in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub path: Vec<Step>,
    /// What.
    pub message: String,
    /// What to do.
    pub next: Option<String>,
}

impl Finding {
    const fn new(path: Vec<Step>, message: String) -> Self {
        Self { path, message, next: None }
    }
}

/// An object among the documents.
struct Object<'a> {
    file: &'a Path,
    node: &'a Node,
    value: Value,
}

impl Object<'_> {
    fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn is_ours(&self) -> bool {
        self.text("/apiVersion").split_once('/').is_some_and(|(group, _)| group == GROUP)
    }
}

/// What was found, and how much was looked at.
#[derive(Default)]
struct Report {
    findings: Vec<Value>,
    text: String,
    errors: usize,
    checked: usize,
    skipped: usize,
    unreadable: usize,
}

/// Lints.
pub fn run(args: &LintArgs) -> ExitCode {
    let paths = match yaml::files(&args.files, args.recursive) {
        Ok(paths) => paths,
        Err(error) => return fail(USAGE, error),
    };
    let mut unreadable = 0;
    let mut read = vec![];
    for path in paths {
        let documents =
            yaml::text(&path).and_then(|text| yaml::documents(&text).map_err(|error| format!("{}: {error}", name(&path))));
        match documents {
            Ok(documents) => read.push((path, documents)),
            Err(error) => {
                unreadable += 1;
                let _ = fail(USAGE, error);
            }
        }
    }
    let report = Report { unreadable, ..lint(&read) };
    let printed = match args.output {
        Output::Text => print(&format!("{}{}\n", report.text, report.summary())),
        Output::Json => {
            let Report { findings, checked, skipped, unreadable, .. } = &report;
            let all = json!({ "findings": findings, "checked": checked, "skipped": skipped, "unreadable": unreadable });
            print(&format!("{all}\n"))
        }
    };
    match (unreadable, report.errors) {
        (0, 0) => printed,
        (0, _) => ExitCode::FAILURE,
        _ => ExitCode::from(USAGE),
    }
}

/// What a file is called in messages.
fn name(file: &Path) -> String {
    if file == Path::new("-") { "the standard input".to_owned() } else { file.display().to_string() }
}

fn lint(read: &[(PathBuf, Vec<Node>)]) -> Report {
    let mut objects = vec![];
    for (file, documents) in read {
        for node in documents {
            collect(file, node, &mut objects);
        }
    }
    let engines = objects.iter().filter(|object| object.is_ours() && object.text("/kind") == "InferenceEngine");
    let engines = engines.filter_map(|object| serde_json::from_value::<InferenceEngine>(taken(&object.value).ok()?).ok());
    let catalogue = Catalogue::builtin().with_objects(engines);
    let mut report = Report::default();
    let mut beside = beside::check(&objects);
    for (number, object) in objects.iter().enumerate() {
        if !object.is_ours() {
            report.skipped += 1;
            continue;
        }
        report.checked += 1;
        let mut findings = check(&object.value, &catalogue);
        findings.extend(beside.remove(&number).into_iter().flatten().map(|finding| (Severity::Error, finding)));
        findings.sort_by_key(|(_, finding)| object.node.place_of(&finding.path).byte);
        for (severity, finding) in findings {
            report.add(object, severity, &finding);
        }
    }
    report
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The objects of a document: itself, or the items of a list.
fn collect<'a>(file: &'a Path, node: &'a Node, objects: &mut Vec<Object<'a>>) {
    let value = node.value();
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    match node.get("items") {
        Some((_, Node { kind: Kind::List(items), .. })) if is_list => {
            items.iter().for_each(|item| collect(file, item, objects));
        }
        _ => objects.push(Object { file, node, value }),
    }
}

/// What is to be said of an object of ours.
fn check(object: &Value, catalogue: &Catalogue) -> Vec<(Severity, Finding)> {
    match taken(object) {
        Ok(taken) => {
            let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
            offline::check(kind, &taken, catalogue)
        }
        Err(refused) => refused.into_iter().map(|finding| (Severity::Error, finding)).collect(),
    }
}

/// Why an API server with the definitions of this version would refuse an object of ours.
pub fn refused(object: &Value) -> Vec<Finding> {
    taken(object).err().unwrap_or_default()
}

/// An object of ours as an API server with the definitions of this version takes it, or why it would refuse it.
fn taken(object: &Value) -> Result<Value, Vec<Finding>> {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let error = |step: &str, message: String, next: String| {
        Err(vec![Finding { path: vec![Step::Key(step.to_owned())], message, next: Some(next) }])
    };
    let definitions = crds();
    let kind_of =
        |definition: &Value| definition.pointer("/spec/names/kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some((_, definition)) = definitions.iter().find(|(_, definition)| kind_of(definition) == kind) else {
        let kinds: Vec<String> = definitions.iter().map(|(_, definition)| kind_of(definition)).collect();
        let next = match schema::nearest(kind, kinds.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("there are {}", kinds.join(", ")),
        };
        return error("kind", format!("no kind {kind:?} in group {GROUP:?}"), next);
    };
    let version = definition.pointer("/spec/versions/0/name").and_then(Value::as_str).unwrap_or_default();
    let wanted = format!("{GROUP}/{version}");
    let found = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if found != wanted {
        return error("apiVersion", format!("no matches for kind {kind:?} in version {found:?}"), format!("write {wanted}"));
    }
    let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap_or(&Value::Null);
    let refused = schema::check(schema, object);
    if refused.is_empty() { Ok(schema::taken(schema, object)) } else { Err(refused) }
}

impl Report {
    /// How much was looked at and found, in a line.
    fn summary(&self) -> String {
        let others = if self.skipped == 0 { String::new() } else { format!(", {} of other kinds passed over", self.skipped) };
        let unread =
            if self.unreadable == 0 { String::new() } else { format!(", {} not read", counted(self.unreadable, "file")) };
        format!("{} checked{others}{unread}: {}", counted(self.checked, "object"), counted(self.errors, "error"))
    }

    fn add(&mut self, object: &Object<'_>, severity: Severity, finding: &Finding) {
        let place = object.node.place_of(&finding.path);
        let path = written(&finding.path);
        let severity = match severity {
            Severity::Error => "error",
            Severity::Hint => "hint",
        };
        self.errors += usize::from(severity == "error");
        let (kind, name) = (object.text("/kind"), object.text("/metadata/name"));
        let field = if path.is_empty() { String::new() } else { format!("{path}: ") };
        let next = finding.next.as_ref().map(|next| format!("; {next}")).unwrap_or_default();
        let file = object.file.display();
        let _ = writeln!(
            self.text,
            "{file}:{}:{}: {severity}: {kind} {name}: {field}{}{next}",
            place.line, place.column, finding.message
        );
        self.findings.push(json!({
            "file": file.to_string(), "line": place.line, "column": place.column, "severity": severity,
            "kind": kind, "namespace": object.text("/metadata/namespace"), "name": name,
            "path": path, "message": finding.message, "next": finding.next,
        }));
    }
}
