//! What users may add to an engine's command line and environment: what the engine's list names, and nothing else.
//!
//! Engines have dozens of ways to load other weights or code, so nothing is allowed by its looks: a flag must be on the list
//! character by character. No abbreviation, no second spelling, no value that could be read as a flag or as an argument of
//! its own.

use crate::api::{EnvVar, Problem, Reason};

use super::{
    definition::Engine,
    template::escape,
    text::{listed, quoted},
};

/// The user's arguments as they are given to the engine: every flag and every value an argument of its own.
pub(super) fn args(engine: &Engine, args: &[String]) -> Result<Vec<String>, Problem> {
    let mut allowed = Vec::new();
    let mut rest = args.iter().enumerate();
    while let Some((index, arg)) = rest.next() {
        let refuse = |problem: String| Problem::new(Reason::ArgumentNotAllowed, format!("spec.engine.args[{index}]: {problem}"));
        let (flag, joined) = match arg.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (arg.as_str(), None),
        };
        if engine.spec().user.switches.iter().any(|known| known == flag) && !is_own(engine, flag) {
            if joined.is_some() {
                return Err(refuse(format!("{flag} takes no value. Write {flag} alone.")));
            }
            allowed.push(escape(flag));
            continue;
        }
        if !engine.spec().user.args.iter().any(|known| known == flag) || is_own(engine, flag) {
            return Err(refuse(refusal(engine, arg, flag)));
        }
        let (at, value) = match joined {
            Some(value) => (index, value),
            None => match rest.next() {
                Some((at, value)) => (at, value.as_str()),
                None => return Err(refuse(format!("{flag} needs a value. Write {flag}=VALUE."))),
            },
        };
        if let Err(problem) = check_value(flag, value) {
            return Err(Problem::new(Reason::ArgumentNotAllowed, format!("spec.engine.args[{at}]: {problem}")));
        }
        allowed.push(escape(flag));
        allowed.push(escape(value));
    }
    Ok(allowed)
}

/// The user's variables.
pub(super) fn env(engine: &Engine, env: &[EnvVar]) -> Result<Vec<EnvVar>, Problem> {
    let spec = engine.spec();
    let mut allowed: Vec<EnvVar> = Vec::new();
    for variable in env {
        let name = variable.name.as_str();
        let shown = quoted(name, 80);
        let shown = if spec.user.env.iter().any(|known| known == name) { name } else { &shown };
        let refuse =
            |problem: String| Problem::new(Reason::EnvironmentNotAllowed, format!("spec.engine.env[{shown}]: {problem}"));
        let own = spec.env.iter().any(|own| own.name == name) || spec.writable.iter().any(|own| own.env.as_deref() == Some(name));
        if own {
            return Err(refuse(format!("engine {} sets this variable itself. Take it out.", engine.name())));
        }
        if !spec.user.env.iter().any(|known| known == name) {
            let known = if spec.user.env.is_empty() { "none".to_owned() } else { listed(closest(name, &spec.user.env), 500) };
            return Err(refuse(format!(
                "engine {} does not let users set this variable. Allowed are {known}. An administrator can allow more in the InferenceEngine's spec.user.env.",
                engine.name()
            )));
        }
        if allowed.iter().any(|other| other.name == name) {
            return Err(refuse("the variable is set twice. Take one out.".to_owned()));
        }
        if variable.value.contains('\0') {
            return Err(refuse("the value holds a NUL character, which no environment can.".to_owned()));
        }
        allowed.push(EnvVar { name: name.to_owned(), value: escape(&variable.value) });
    }
    Ok(allowed)
}

/// Whether the engine's own command line has the flag.
fn is_own(engine: &Engine, flag: &str) -> bool {
    engine.args.iter().any(|template| template.flag() == Some(flag))
}

/// A value must not be readable as anything but the value of its flag.
fn check_value(flag: &str, value: &str) -> Result<(), String> {
    let shown = quoted(value, 60);
    if value.is_empty() {
        return Err(format!("{flag} needs a value. Write {flag}=VALUE."));
    }
    if value.starts_with('-') && !is_negative_number(value) {
        return Err(format!("{shown} cannot be the value of {flag}: a value begins with '-' only when it is a number."));
    }
    if value.starts_with('@') {
        return Err(format!(
            "{shown} cannot be the value of {flag}: some programs read a file for a value that begins with '@'."
        ));
    }
    if value.chars().any(char::is_control) {
        return Err(format!("{shown} cannot be the value of {flag}: it holds a control character."));
    }
    Ok(())
}

fn is_negative_number(value: &str) -> bool {
    let Some(digits) = value.strip_prefix('-') else { return false };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    [whole, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
}

/// Why an argument that is not on the list is refused, and what to write instead.
fn refusal(engine: &Engine, arg: &str, flag: &str) -> String {
    let name = engine.name();
    let shown = quoted(flag, 80);
    if let Some((at, _)) = engine.args.iter().enumerate().find(|(_, template)| template.flag() == Some(flag)) {
        let value = engine.args.get(at).into_iter().chain(engine.args.get(at + 1).filter(|next| next.flag().is_none()));
        let field = value.flat_map(|template| template.variables()).find_map(|variable| variable.field());
        return match field {
            Some(field) => format!("engine {name} sets {shown} itself. Take it out; what it says is set with {field}."),
            None => format!("engine {name} sets {shown} itself. Take it out."),
        };
    }
    let user = &engine.spec().user;
    let flags: Vec<String> = user.args.iter().chain(&user.switches).cloned().collect();
    let known = if flags.is_empty() { "none".to_owned() } else { listed(closest(flag, &flags), 500) };
    let allowed = format!(
        "Allowed are {known}. An administrator can allow more in the InferenceEngine's spec.user.args and spec.user.switches."
    );
    if arg.starts_with([
        '\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2014}', '\u{2015}', '\u{2212}', '\u{fe58}', '\u{fe63}', '\u{ff0d}',
    ]) {
        return format!("{shown} begins with a dash that is not '-'. Write the flag with '-'. {allowed}");
    }
    if !arg.starts_with('-') {
        return format!(
            "{shown} is a value without a flag before it. Write --flag=value, or the flag in one entry and its value in the next. {allowed}"
        );
    }
    match arg.split_once(char::is_whitespace) {
        Some((first, value)) if flags.iter().any(|known| known == first) => {
            format!(
                "{} is one argument with a space in it. Write {first}={}.",
                quoted(arg, 80),
                value.trim().chars().take(60).collect::<String>()
            )
        }
        _ => format!("engine {name} does not let users set {shown}. {allowed}"),
    }
}

/// `known`, with those first that share the longest beginning with `name`: what was meant is probably among them.
fn closest<'a>(name: &str, known: &'a [String]) -> Vec<&'a str> {
    let mut sorted: Vec<&str> = known.iter().map(String::as_str).collect();
    let shared = |other: &str| name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    sorted.sort_by_key(|other| std::cmp::Reverse(shared(other)));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine() -> Engine {
        let spec = serde_json::from_value(serde_json::json!({
            "version": "1", "port": 9000, "images": [{"accelerator": "none", "image": "e"}],
            "args": ["--model", "$(MODEL_FILE)", "--ctx=$(CONTEXT_LENGTH)", "--quiet", "--fixed", "1"],
            "env": [{"name": "OFFLINE", "value": "1"}], "writable": [{"env": "TMPDIR", "path": "/tmp"}],
            "loads": [{"format": "gguf", "files": ["*"], "choose": "One"}], "probes": {"ready": "/ok"},
            "user": {"args": ["--threads", "-t", "--template", "--fixed"], "switches": ["--fast", "--quiet"], "env": ["LEVEL", "OFFLINE", "TMPDIR"]},
        }));
        Engine::parse("small", spec.unwrap()).unwrap()
    }

    fn given(list: &[&str]) -> Result<Vec<String>, String> {
        let list: Vec<String> = list.iter().map(|arg| (*arg).to_owned()).collect();
        args(&engine(), &list).map_err(|problem| {
            assert_eq!(problem.reason, Reason::ArgumentNotAllowed);
            problem.message
        })
    }

    #[test]
    fn listed_flags_are_given_on_with_their_values_apart() {
        let expected = ["--threads", "4", "-t", "-1", "--fast", "--template", "a=b $$(PORT) $$x"].map(str::to_owned).to_vec();
        assert_eq!(given(&["--threads=4", "-t", "-1", "--fast", "--template=a=b $(PORT) $x"]), Ok(expected));
    }

    #[test]
    fn every_refusal_names_the_argument_and_what_to_do() {
        for (list, message) in [
            (
                &["--threads=4", "--thread=4"][..],
                "spec.engine.args[1]: engine small does not let users set \"--thread\". Allowed are --threads, ",
            ),
            (&["--threads", "--fast"], "spec.engine.args[1]: \"--fast\" cannot be the value of --threads"),
            (&["--threads"], "spec.engine.args[0]: --threads needs a value"),
            (&["--threads="], "spec.engine.args[0]: --threads needs a value"),
            (&["--threads", "-1.5.2"], "spec.engine.args[1]: \"-1.5.2\" cannot be the value"),
            (&["--threads", "-inf"], "spec.engine.args[1]: \"-inf\" cannot be the value"),
            (&["--threads", "@/etc/passwd"], "spec.engine.args[1]: \"@/etc/passwd\" cannot be the value"),
            (&["--threads", "4\n--model"], "spec.engine.args[1]: \"4\\n--model\" cannot be the value"),
            (&["--threads 4"], "spec.engine.args[0]: \"--threads 4\" is one argument with a space in it. Write --threads=4."),
            (&["--threads", "4", "8"], "spec.engine.args[2]: \"8\" is a value without a flag before it"),
            (&["--fast", "other.gguf"], "spec.engine.args[1]: \"other.gguf\" is a value without a flag before it"),
            (&["--fast=1"], "spec.engine.args[0]: --fast takes no value"),
            (&["\u{2014}threads"], "spec.engine.args[0]: \"—threads\" begins with a dash that is not '-'"),
            (
                &["--model=x"],
                "spec.engine.args[0]: engine small sets \"--model\" itself. Take it out; what it says is set with spec.model.",
            ),
            (
                &["--ctx=1"],
                "spec.engine.args[0]: engine small sets \"--ctx\" itself. Take it out; what it says is set with spec.engine.contextLength.",
            ),
            (&["--quiet"], "spec.engine.args[0]: engine small sets \"--quiet\" itself. Take it out."),
            (&["--fixed=2"], "spec.engine.args[0]: engine small sets \"--fixed\" itself. Take it out."),
            (&[""], "spec.engine.args[0]: \"\" is a value without a flag before it"),
        ] {
            let refusal = given(list).unwrap_err();
            assert!(refusal.starts_with(message), "{list:?}: {refusal}");
            assert!(refusal.len() < Problem::MAX_MESSAGE);
        }
    }

    #[test]
    fn variables_are_allowed_by_name_and_never_those_that_the_engine_sets() {
        let variable = |name: &str, value: &str| EnvVar { name: name.to_owned(), value: value.to_owned() };
        assert_eq!(env(&engine(), &[variable("LEVEL", "$(HOME)")]), Ok(vec![variable("LEVEL", "$$(HOME)")]));
        for (list, message) in [
            (
                vec![variable("LD_PRELOAD", "/x.so")],
                "spec.engine.env[\"LD_PRELOAD\"]: engine small does not let users set this variable. Allowed are LEVEL, ",
            ),
            (vec![variable("LEVEL ", "")], "spec.engine.env[\"LEVEL \"]: engine small does not"),
            (vec![variable("OFFLINE", "0")], "spec.engine.env[OFFLINE]: engine small sets this variable itself"),
            (vec![variable("TMPDIR", "/models")], "spec.engine.env[TMPDIR]: engine small sets this variable itself"),
            (vec![variable("LEVEL", "1"), variable("LEVEL", "2")], "spec.engine.env[LEVEL]: the variable is set twice"),
        ] {
            let problem = env(&engine(), &list).unwrap_err();
            assert_eq!(problem.reason, Reason::EnvironmentNotAllowed);
            assert!(problem.message.starts_with(message), "{}", problem.message);
        }
    }
}
