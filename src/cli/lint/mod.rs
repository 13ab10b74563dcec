//! `bonafide lint`: what an API server and the manager would refuse, before anything is applied.

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
}

/// Lints.
pub fn run(args: &LintArgs) -> ExitCode {
    let paths = match yaml::files(&args.files, args.recursive) {
        Ok(paths) => paths,
        Err(error) => return fail(USAGE, error),
    };
    let mut unreadable = false;
    let mut read = vec![];
    for path in paths {
        let documents =
            yaml::text(&path).and_then(|text| yaml::documents(&text).map_err(|error| format!("{}: {error}", name(&path))));
        match documents {
            Ok(documents) => read.push((path, documents)),
            Err(error) => {
                unreadable = true;
                let _ = fail(USAGE, error);
            }
        }
    }
    let report = lint(&read);
    let printed = match args.output {
        Output::Text => print(&report.text),
        Output::Json => {
            print(&format!("{}\n", json!({ "findings": report.findings, "checked": report.checked, "skipped": report.skipped })))
        }
    };
    match (unreadable, report.errors) {
        (true, _) => ExitCode::from(USAGE),
        (false, 0) => printed,
        (false, _) => ExitCode::FAILURE,
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
    let engines = engines.filter_map(|object| serde_json::from_value::<InferenceEngine>(object.value.clone()).ok());
    let catalogue = Catalogue::builtin().with_objects(engines);
    let mut report = Report::default();
    for object in &objects {
        if !object.is_ours() {
            report.skipped += 1;
            continue;
        }
        report.checked += 1;
        let mut findings = check(&object.value, &catalogue);
        findings.sort_by_key(|(_, finding)| object.node.place_of(&finding.path).byte);
        for (severity, finding) in findings {
            report.add(object, severity, &finding);
        }
    }
    let (errors, checked, skipped) = (report.errors, report.checked, report.skipped);
    let others = if skipped == 0 { String::new() } else { format!(", {skipped} of other kinds passed over") };
    let _ = writeln!(report.text, "{} checked{others}: {}", counted(checked, "object"), counted(errors, "error"));
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
    let refused = refused(object);
    if refused.is_empty() {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
        return offline::check(kind, object, catalogue);
    }
    refused.into_iter().map(|finding| (Severity::Error, finding)).collect()
}

/// Why an API server with the definitions of this version would refuse an object of ours.
pub fn refused(object: &Value) -> Vec<Finding> {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let error = |step: &str, message: String, next: String| {
        vec![Finding { path: vec![Step::Key(step.to_owned())], message, next: Some(next) }]
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
    schema::check(definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap_or(&Value::Null), object)
}

impl Report {
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
