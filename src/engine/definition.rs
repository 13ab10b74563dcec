//! An engine whose definition was checked: globs compiled, variables known, lists without contradictions.

use std::{collections::HashSet, fmt::Display, str::FromStr as _};

use crate::{
    api::{AcceleratorClass, Choose, InferenceEngineSpec, Loads, Problem, Reason},
    model::{CleanPath, Glob},
};

use super::{errors::Errors, template::Template, text::quoted};

/// An engine that can be used: an [`InferenceEngineSpec`] of which every part was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Engine {
    name: String,
    spec: InferenceEngineSpec,
    pub(super) formats: Vec<Format>,
    pub(super) command: Vec<Template>,
    pub(super) args: Vec<Template>,
    pub(super) env: Vec<(String, Template)>,
    errors: Errors,
}

/// One format that an engine loads.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Format {
    pub name: String,
    pub files: Vec<Glob>,
    pub except: Vec<Glob>,
    pub with: Vec<Glob>,
    pub choose: Choose,
    pub prefer: Vec<Glob>,
}

impl Format {
    /// Whether a file is weights of this format.
    pub(super) fn loads(&self, path: &CleanPath) -> bool {
        matches_any(&self.files, path) && !matches_any(&self.except, path)
    }
}

pub(super) fn matches_any(globs: &[Glob], path: &CleanPath) -> bool {
    globs.iter().any(|glob| glob.matches(path.as_str()))
}

impl Engine {
    /// Checks the definition of the engine called `name`.
    ///
    /// # Errors
    /// `InvalidSpec`, with the field that is wrong and how.
    pub fn parse(name: &str, spec: InferenceEngineSpec) -> Result<Self, Problem> {
        let checks = Checks { name };
        checks.images(&spec)?;
        if !(1024..=65535).contains(&spec.port) {
            return Err(checks.wrong("spec.port", format_args!("is {}: it must be between 1024 and 65535", spec.port)));
        }
        if !spec.probes.ready.starts_with('/') || !plain(&spec.probes.ready) {
            let ready = quoted(&spec.probes.ready, 80);
            return Err(checks.wrong("spec.probes.ready", format_args!("is {ready}: it must be a path that begins with '/'")));
        }
        if spec.probes.start_timeout_seconds < 10 {
            return Err(checks.wrong("spec.probes.startTimeoutSeconds", "must be at least 10"));
        }
        checks.asking(&spec)?;
        let command = checks.templates("spec.command", &spec.command)?;
        let args = checks.templates("spec.args", &spec.args)?;
        let env = checks.env(&spec)?;
        checks.writable(&spec)?;
        checks.user(&spec)?;
        if spec.loads.is_empty() {
            return Err(checks.wrong("spec.loads", "is empty: an engine loads at least one format"));
        }
        let formats = spec.loads.iter().enumerate().map(|(index, loads)| checks.loads(index, loads)).collect::<Result<_, _>>()?;
        let errors = Errors::compile(&spec.errors)
            .map_err(|(index, field, problem)| checks.wrong(&format!("spec.errors[{index}].{field}"), problem))?;
        checks.asking(&spec)?;
        Ok(Self { name: name.to_owned(), formats, command, args, env, errors, spec })
    }

    /// The name by which `spec.engine.name` asks for it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The definition as written.
    pub const fn spec(&self) -> &InferenceEngineSpec {
        &self.spec
    }

    /// What its messages mean.
    pub const fn errors(&self) -> &Errors {
        &self.errors
    }

    /// The image for a class of accelerators, if there is one.
    pub fn image(&self, class: AcceleratorClass) -> Option<&str> {
        self.spec.images.iter().find(|image| image.accelerator == class).map(|image| image.image.as_str())
    }

    /// The classes that it has images for, joined by commas.
    pub(super) fn classes(&self) -> String {
        self.spec.images.iter().map(|image| image.accelerator.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The formats that it loads, joined by commas.
    pub(super) fn format_names(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for format in &self.formats {
            if !names.contains(&format.name.as_str()) {
                names.push(&format.name);
            }
        }
        names.join(", ")
    }

    /// Whether a file is weights that it loads.
    pub(super) fn loads(&self, path: &CleanPath) -> bool {
        self.formats.iter().any(|format| format.loads(path))
    }
}

struct Checks<'a> {
    name: &'a str,
}

impl Checks<'_> {
    fn wrong(&self, field: &str, problem: impl Display) -> Problem {
        Problem::new(Reason::InvalidSpec, format!("InferenceEngine {}: {field} {problem}.", self.name))
    }

    fn images(&self, spec: &InferenceEngineSpec) -> Result<(), Problem> {
        let mut classes = HashSet::new();
        for image in &spec.images {
            let class = image.accelerator.as_str();
            if image.image.is_empty() || !plain(&image.image) || image.image.contains(char::is_whitespace) {
                return Err(self.wrong(&format!("spec.images[{class}].image"), "must be the name of an image, without spaces"));
            }
            if !classes.insert(image.accelerator) {
                return Err(self.wrong("spec.images", format_args!("names the accelerator {class} twice")));
            }
        }
        if classes.is_empty() { Err(self.wrong("spec.images", "is empty: an engine has at least one image")) } else { Ok(()) }
    }

    /// What it is asked while it runs.
    fn asking(&self, spec: &InferenceEngineSpec) -> Result<(), Problem> {
        let paths = [
            ("spec.metrics.path", spec.metrics.as_ref().map(|metrics| &metrics.path)),
            ("spec.probes.request.path", spec.probes.request.as_ref().map(|request| &request.path)),
        ];
        for (field, path) in paths {
            if let Some(path) = path.filter(|path| !path.starts_with('/') || !plain(path) || path.contains(char::is_whitespace)) {
                let path = quoted(path, 80);
                return Err(self.wrong(field, format_args!("is {path}: it must be a path that begins with '/', without spaces")));
            }
        }
        if let Some(request) = &spec.probes.request
            && serde_json::from_str::<serde_json::Value>(&request.body).is_err()
        {
            return Err(self.wrong("spec.probes.request.body", "is no JSON: it is what is posted"));
        }
        let Some(drain) = &spec.drain else { return Ok(()) };
        if spec.metrics.is_none() {
            return Err(self.wrong("spec.drain", "names gauges, and spec.metrics.path does not say where they are"));
        }
        if drain.idle_when_zero.is_empty() {
            return Err(
                self.wrong("spec.drain.idleWhenZero", "is empty: leave spec.drain out when nothing tells that it has no work")
            );
        }
        for (index, gauge) in drain.idle_when_zero.iter().enumerate() {
            let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
            if gauge.is_empty() || !gauge.chars().all(letter) || gauge.starts_with(|c: char| c.is_ascii_digit()) {
                let field = format!("spec.drain.idleWhenZero[{index}]");
                return Err(self.wrong(&field, format_args!("is {}, which is no name of a metric", quoted(gauge, 80))));
            }
        }
        Ok(())
    }

    fn templates(&self, field: &str, texts: &[String]) -> Result<Vec<Template>, Problem> {
        let template = |(index, text): (usize, &String)| {
            Template::parse(text)
                .map_err(|problem| self.wrong(&format!("{field}[{index}]"), format_args!("{} {problem}", quoted(text, 60))))
        };
        texts.iter().enumerate().map(template).collect()
    }

    fn env(&self, spec: &InferenceEngineSpec) -> Result<Vec<(String, Template)>, Problem> {
        let mut names = HashSet::new();
        let mut env = Vec::new();
        for variable in &spec.env {
            let field = format!("spec.env[{}]", short(&variable.name));
            self.variable_name(&field, &variable.name)?;
            if !names.insert(variable.name.as_str()) {
                return Err(self.wrong(&field, "is there twice"));
            }
            let value = Template::parse(&variable.value).map_err(|problem| self.wrong(&field, problem))?;
            env.push((variable.name.clone(), value));
        }
        for (index, writable) in spec.writable.iter().enumerate() {
            let Some(name) = &writable.env else { continue };
            let field = format!("spec.writable[{index}].env");
            self.variable_name(&field, name)?;
            if !names.insert(name) {
                return Err(self.wrong(&field, format_args!("sets {name}, which is set already")));
            }
        }
        Ok(env)
    }

    fn variable_name(&self, field: &str, name: &str) -> Result<(), Problem> {
        let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if letters && !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(());
        }
        Err(self.wrong(field, format_args!("{} is not the name of an environment variable", quoted(name, 60))))
    }

    fn writable(&self, spec: &InferenceEngineSpec) -> Result<(), Problem> {
        let mut paths = HashSet::new();
        for (index, writable) in spec.writable.iter().enumerate() {
            let field = format!("spec.writable[{index}].path");
            let path = writable.path.as_str();
            let clean = path.strip_prefix('/').is_some_and(|relative| CleanPath::from_str(relative).is_ok());
            // A colon or a comma has a meaning of its own in mounts.
            if !clean || path.contains([':', ',']) {
                return Err(
                    self.wrong(&field, format_args!("{} must be an absolute path without '.', '..' and ':'", quoted(path, 80)))
                );
            }
            if !paths.insert(path) {
                return Err(self.wrong(&field, format_args!("{path} is there twice")));
            }
        }
        Ok(())
    }

    fn user(&self, spec: &InferenceEngineSpec) -> Result<(), Problem> {
        let mut flags = HashSet::new();
        for (field, list) in [("spec.user.args", &spec.user.args), ("spec.user.switches", &spec.user.switches)] {
            for (index, flag) in list.iter().enumerate() {
                let field = format!("{field}[{index}]");
                let written = flag.starts_with('-')
                    && !flag.trim_matches('-').is_empty()
                    && flag.chars().all(|c| c.is_ascii_graphic() && c != '=');
                if !written {
                    let flag = quoted(flag, 60);
                    return Err(self.wrong(
                        &field,
                        format_args!("{flag} must be a flag as it is written, such as --threads: without '=' and spaces"),
                    ));
                }
                if !flags.insert(flag.as_str()) {
                    return Err(self
                        .wrong(&field, format_args!("{flag} is listed twice: a flag takes a value (args) or none (switches)")));
                }
            }
        }
        for (index, name) in spec.user.env.iter().enumerate() {
            self.variable_name(&format!("spec.user.env[{index}]"), name)?;
        }
        Ok(())
    }

    fn loads(&self, index: usize, loads: &Loads) -> Result<Format, Problem> {
        let field = format!("spec.loads[{index}]");
        if loads.format.is_empty() || !plain(&loads.format) {
            return Err(self.wrong(&format!("{field}.format"), "must be the name of a format, such as gguf"));
        }
        if loads.files.is_empty() {
            return Err(self.wrong(&format!("{field}.files"), "is empty: which files are the weights?"));
        }
        if loads.choose == Choose::All && !loads.prefer.is_empty() {
            return Err(self.wrong(&format!("{field}.prefer"), "has a meaning only with choose: One"));
        }
        let globs = |list: &str, globs: &[String]| {
            let glob = |(at, text): (usize, &String)| {
                text.parse::<Glob>().map_err(|problem| self.wrong(&format!("{field}.{list}[{at}]:"), problem))
            };
            globs.iter().enumerate().map(glob).collect::<Result<Vec<_>, _>>()
        };
        Ok(Format {
            name: loads.format.clone(),
            files: globs("files", &loads.files)?,
            except: globs("except", &loads.except)?,
            with: globs("with", &loads.with)?,
            choose: loads.choose,
            prefer: globs("prefer", &loads.prefer)?,
        })
    }
}

fn plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

fn short(name: &str) -> String {
    name.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{EngineDrain, EngineError, EngineImage, EngineMetrics, EngineRequest, EnvVar, Writable};

    fn error(pattern: &str, reason: &str, say: &str) -> EngineError {
        EngineError { pattern: pattern.into(), reason: reason.into(), say: say.into() }
    }

    fn request(path: &str, body: &str) -> EngineRequest {
        EngineRequest { path: path.into(), body: body.into() }
    }

    fn spec() -> InferenceEngineSpec {
        serde_json::from_value(serde_json::json!({
            "version": "1", "port": 9000, "images": [{"accelerator": "none", "image": "registry.example/engine:1"}],
            "loads": [{"format": "gguf", "files": ["*.gguf"], "choose": "One"}], "probes": {"ready": "/health"},
        }))
        .unwrap()
    }

    #[test]
    fn a_definition_that_is_understood_becomes_an_engine() {
        let engine = Engine::parse("small", spec()).unwrap();
        assert_eq!(engine.image(AcceleratorClass::None), Some("registry.example/engine:1"));
        assert_eq!(engine.image(AcceleratorClass::Amd), None);
        assert!(engine.loads(&"a.gguf".parse().unwrap()));
    }

    #[test]
    fn every_mistake_is_a_problem_that_names_the_field() {
        type Mistake = fn(&mut InferenceEngineSpec);
        let mistakes: [(&str, Mistake); 34] = [
            ("spec.images is empty", |spec| spec.images.clear()),
            ("spec.images names the accelerator none twice", |spec| {
                spec.images.push(EngineImage { accelerator: AcceleratorClass::None, image: "other".into() });
            }),
            ("spec.images[none].image", |spec| spec.images[0].image = "a b".into()),
            ("spec.port is 80", |spec| spec.port = 80),
            ("spec.probes.ready", |spec| spec.probes.ready = "health".into()),
            ("spec.probes.startTimeoutSeconds", |spec| spec.probes.start_timeout_seconds = 0),
            ("spec.command[0]", |spec| spec.command = vec!["$(X)".into()]),
            ("spec.args[1]", |spec| spec.args = vec!["--port".into(), "$(PORTS)".into()]),
            ("spec.env[A B]", |spec| spec.env = vec![EnvVar { name: "A B".into(), value: String::new() }]),
            ("spec.env[A]", |spec| spec.env = vec![EnvVar { name: "A".into(), value: "$(NOPE)".into() }]),
            ("spec.env[A] is there twice", |spec| spec.env = vec![EnvVar { name: "A".into(), value: String::new() }; 2]),
            ("spec.writable[0].env", |spec| {
                spec.env = vec![EnvVar { name: "HOME".into(), value: String::new() }];
                spec.writable = vec![Writable { env: Some("HOME".into()), path: "/home".into() }];
            }),
            ("spec.writable[0].path", |spec| spec.writable = vec![Writable { env: None, path: "tmp".into() }]),
            ("spec.writable[0].path", |spec| spec.writable = vec![Writable { env: None, path: "/a/../b".into() }]),
            ("spec.writable[1].path", |spec| spec.writable = vec![Writable { env: None, path: "/tmp".into() }; 2]),
            ("spec.user.args[0]", |spec| spec.user.args = vec!["threads".into()]),
            ("spec.user.args[0]", |spec| spec.user.args = vec!["--threads=".into()]),
            ("spec.user.args[0]", |spec| spec.user.args = vec!["--".into()]),
            ("spec.user.switches[0]", |spec| {
                spec.user.args = vec!["--fast".into()];
                spec.user.switches = vec!["--fast".into()];
            }),
            ("spec.user.env[0]", |spec| spec.user.env = vec!["A=B".into()]),
            ("spec.metrics.path", |spec| spec.metrics = Some(EngineMetrics { path: "metrics".into() })),
            ("spec.probes.request.path", |spec| spec.probes.request = Some(request("/a b", "{}"))),
            ("spec.drain names gauges", |spec| spec.drain = Some(EngineDrain { idle_when_zero: vec!["work".into()] })),
            ("spec.drain.idleWhenZero is empty", |spec| {
                spec.metrics = Some(EngineMetrics { path: "/metrics".into() });
                spec.drain = Some(EngineDrain { idle_when_zero: vec![] });
            }),
            ("spec.drain.idleWhenZero[1]", |spec| {
                spec.metrics = Some(EngineMetrics { path: "/metrics".into() });
                spec.drain = Some(EngineDrain { idle_when_zero: vec!["a:b_c1".into(), "a b".into()] });
            }),
            ("spec.errors[0].match is no regular expression", |spec| spec.errors = vec![error("a(", "EngineFailed", "x")]),
            ("spec.errors[0].match compiles to too much", |spec| {
                spec.errors = vec![error("(a{1000}){1000}", "EngineFailed", "x")]
            }),
            ("spec.errors[1].reason must be one of", |spec| {
                spec.errors = vec![error("a", "EngineFailed", "x"), error("a", "Signed", "x")];
            }),
            ("spec.errors[0].say uses ${name}", |spec| spec.errors = vec![error("(?<other>a)", "EngineFailed", "${name}")]),
            ("spec.errors[0].say has a '${'", |spec| spec.errors = vec![error("(?<name>a)", "EngineFailed", "${name")]),
            ("spec.probes.request.body", |spec| spec.probes.request = Some(request("/v1", "{"))),
            ("spec.loads is empty", |spec| spec.loads.clear()),
            ("spec.loads[0].files[0]", |spec| spec.loads[0].files = vec!["a?".into()]),
            ("spec.loads[0].prefer", |spec| {
                spec.loads[0].choose = Choose::All;
                spec.loads[0].prefer = vec!["*".into()];
            }),
        ];
        for (field, mistake) in mistakes {
            let mut spec = spec();
            mistake(&mut spec);
            let problem = Engine::parse("small", spec).unwrap_err();
            assert_eq!(problem.reason, Reason::InvalidSpec);
            assert!(problem.message.starts_with(&format!("InferenceEngine small: {field}")), "{}", problem.message);
        }
    }
}
