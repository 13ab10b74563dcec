//! Text with `$(VARIABLES)`, as engines' command lines have it.

/// What a variable stands for in one rendering.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    /// The directory of the model.
    pub model_path: &'a str,
    /// The file that the engine opens.
    pub model_file: &'a str,
    /// The names by which requests ask for the model.
    pub served_names: &'a [String],
    /// The port of the API.
    pub port: i32,
    /// The longest context in tokens, if the user set one.
    pub context_length: Option<i64>,
    /// How many accelerators a replica has; none on the CPU.
    pub accelerators: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    ModelPath,
    ModelFile,
    ServedNames,
    EachServedName,
    ServedName,
    Port,
    ContextLength,
    AcceleratorCount,
}

const VARIABLES: [(&str, Variable); 8] = [
    ("MODEL_PATH", Variable::ModelPath),
    ("MODEL_FILE", Variable::ModelFile),
    ("SERVED_NAMES", Variable::ServedNames),
    ("SERVED_NAMES[*]", Variable::EachServedName),
    ("SERVED_NAME", Variable::ServedName),
    ("PORT", Variable::Port),
    ("CONTEXT_LENGTH", Variable::ContextLength),
    ("ACCELERATOR_COUNT", Variable::AcceleratorCount),
];

impl Variable {
    fn value(self, values: &Values<'_>) -> Option<String> {
        match self {
            Self::ModelPath => Some(values.model_path.to_owned()),
            Self::ModelFile => Some(values.model_file.to_owned()),
            Self::ServedNames | Self::EachServedName => (!values.served_names.is_empty()).then(|| values.served_names.join(",")),
            Self::ServedName => values.served_names.first().cloned(),
            Self::Port => Some(values.port.to_string()),
            Self::ContextLength => values.context_length.map(|tokens| tokens.to_string()),
            Self::AcceleratorCount => values.accelerators.map(|count| count.to_string()),
        }
    }

    /// The field with which users set what the variable stands for.
    pub(super) const fn field(self) -> Option<&'static str> {
        match self {
            Self::ModelPath | Self::ModelFile => Some("spec.model"),
            Self::ServedNames | Self::EachServedName | Self::ServedName => Some("spec.model.servedNames"),
            Self::Port => None,
            Self::ContextLength => Some("spec.engine.contextLength"),
            Self::AcceleratorCount => Some("spec.resources.accelerator.count"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(Variable),
}

/// One argument, or the value of one environment variable, of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

impl Template {
    /// Reads `text`; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.chars().any(char::is_control) {
            return Err("holds a control character".to_owned());
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
            } else if let Some(after) = after.strip_prefix('(') {
                let (name, after) = after.split_once(')').ok_or("has '$(' without ')'")?;
                let (_, variable) = VARIABLES.iter().find(|(known, _)| *known == name).ok_or_else(|| unknown(name))?;
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Variable(*variable));
                rest = after;
            } else {
                literal.push('$');
                rest = after;
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        if parts.len() > 1 && parts.contains(&Part::Variable(Variable::EachServedName)) {
            return Err("has '$(SERVED_NAMES[*])' beside other text: it is an argument of its own".to_owned());
        }
        Ok(Self(parts))
    }

    /// The flag that this sets, when it begins with one: `--port` of `--port` and of `--port=$(PORT)`.
    pub(super) fn flag(&self) -> Option<&str> {
        match self.0.first() {
            Some(Part::Text(text)) if text.starts_with('-') => Some(text.split('=').next().unwrap_or(text)),
            _ => None,
        }
    }

    /// Whether this is a flag and nothing else, so that a value may follow.
    pub(super) fn is_bare_flag(&self) -> bool {
        self.0.len() == 1 && self.flag().is_some_and(|flag| matches!(self.0.first(), Some(Part::Text(text)) if text == flag))
    }

    /// The variables in it.
    pub(super) fn variables(&self) -> impl Iterator<Item = Variable> {
        self.0.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(*variable),
            Part::Text(_) => None,
        })
    }

    /// The texts it becomes, escaped for the kubelet; nothing when a variable has no value.
    pub(super) fn fill(&self, values: &Values<'_>) -> Option<Vec<String>> {
        if let [Part::Variable(Variable::EachServedName)] = self.0.as_slice() {
            return (!values.served_names.is_empty()).then(|| values.served_names.iter().map(|name| escape(name)).collect());
        }
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(&escape(text)),
                Part::Variable(variable) => filled.push_str(&escape(&variable.value(values)?)),
            }
        }
        Some(vec![filled])
    }
}

fn unknown(name: &str) -> String {
    let known: Vec<String> = VARIABLES.iter().map(|(known, _)| format!("$({known})")).collect();
    format!(
        "has the unknown variable {}; there are {} (write '$$' for a dollar sign)",
        super::text::quoted(&format!("$({name})"), 60),
        known.join(", ")
    )
}

/// `text` so that the kubelet leaves it as it is: it expands `$(NAME)` in commands, arguments and variables, and `$$` is `$`.
pub(super) fn escape(text: &str) -> String {
    text.replace('$', "$$")
}

/// A command line: an argument without a value goes, together with the flag before it.
pub(super) fn fill_all(templates: &[Template], values: &Values<'_>) -> Vec<String> {
    let mut filled: Vec<String> = Vec::new();
    let mut after_flag = false;
    for template in templates {
        match template.fill(values) {
            Some(texts) => {
                filled.extend(texts);
                after_flag = template.is_bare_flag();
            }
            None => {
                if after_flag && template.flag().is_none() {
                    filled.pop();
                }
                after_flag = false;
            }
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(args: &[&str], context_length: Option<i64>) -> Vec<String> {
        let templates: Vec<Template> = args.iter().map(|arg| Template::parse(arg).unwrap()).collect();
        let names = ["first".to_owned(), "second$(HOME)".to_owned()];
        let values = Values {
            model_path: "/models",
            model_file: "/models/a.gguf",
            served_names: &names,
            port: 8000,
            context_length,
            accelerators: None,
        };
        fill_all(&templates, &values)
    }

    #[test]
    fn variables_are_filled_in() {
        assert_eq!(fill(&["--m=$(MODEL_FILE)", "$(PORT)-$(CONTEXT_LENGTH)"], Some(9)), ["--m=/models/a.gguf", "8000-9"]);
        assert_eq!(
            fill(&["--names", "$(SERVED_NAMES[*])", "$(SERVED_NAME)"], None),
            ["--names", "first", "second$$(HOME)", "first"]
        );
        assert_eq!(fill(&["$(SERVED_NAMES)"], None), ["first,second$$(HOME)"]);
    }

    #[test]
    fn an_argument_without_a_value_goes_with_its_flag_and_nothing_else() {
        assert_eq!(fill(&["--a", "--ctx", "$(CONTEXT_LENGTH)", "--b"], None), ["--a", "--b"]);
        assert_eq!(fill(&["--a", "--ctx=$(CONTEXT_LENGTH)", "--b"], None), ["--a", "--b"]);
        assert_eq!(fill(&["--a", "1", "$(CONTEXT_LENGTH)"], None), ["--a", "1"]);
        assert_eq!(fill(&["--a=1", "$(CONTEXT_LENGTH)"], None), ["--a=1"]);
        assert_eq!(fill(&["--a", "$(CONTEXT_LENGTH)", "$(CONTEXT_LENGTH)"], None), Vec::<String>::new());
        assert_eq!(fill(&["--a", "x", "--b", "$(ACCELERATOR_COUNT)"], None), ["--a", "x"]);
    }

    #[test]
    fn dollars_reach_the_engine_as_they_are_written() {
        // The kubelet turns `$$` back into `$`.
        assert_eq!(fill(&["$$(PORT)", "a$b", "$"], None), ["$$(PORT)", "a$$b", "$$"]);
    }

    #[test]
    fn what_is_not_a_template_is_refused_with_the_reason() {
        for (text, problem) in [
            ("$(HOSTNAME)", "unknown variable \"$(HOSTNAME)\""),
            ("$(PORT", "'$(' without ')'"),
            ("x$(SERVED_NAMES[*])", "argument of its own"),
            ("a\nb", "control character"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
