//! Reads an expression.

use serde_json::Value;

/// An expression.
#[derive(Debug, Clone)]
pub enum Expression {
    Literal(Value),
    List(Vec<Self>),
    Name(String),
    Field(Box<Self>, String),
    Index(Box<Self>, Box<Self>),
    Has(Box<Self>, String),
    Not(Box<Self>),
    Minus(Box<Self>),
    Choice(Box<Self>, Box<Self>, Box<Self>),
    Binary(Operator, Box<Self>, Box<Self>),
    /// `of.all(variable, body)` and its like.
    Every {
        of: Box<Self>,
        macro_name: String,
        variable: String,
        body: Box<Self>,
    },
    /// A function; of a method the object is the first argument.
    Call(String, Vec<Self>),
}

/// What stands between two expressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// By how tightly they bind, loosest first.
const OPERATORS: [&[(&str, Operator)]; 5] = [
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[
        ("==", Operator::Equal),
        ("!=", Operator::Unequal),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
        ("in", Operator::In),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Remainder)],
];
/// Functions and methods, and how many arguments each has, the object counted.
const FUNCTIONS: [(&str, usize); 8] = [
    ("size", 1),
    ("matches", 2),
    ("contains", 2),
    ("startsWith", 2),
    ("endsWith", 2),
    ("lowerAscii", 1),
    ("upperAscii", 1),
    ("split", 2),
];
const MACROS: [&str; 5] = ["all", "exists", "exists_one", "filter", "map"];
/// Deeper ones are no rules of ours.
const DEEPEST: usize = 64;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Literal(Value),
    Sign(&'static str),
}

const SIGNS: [&str; 22] =
    ["||", "&&", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]"];

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
        let expression = parser.expression()?;
        match parser.tokens.get(parser.at) {
            None => Ok(expression),
            Some(token) => Err(format!("{token:?} is not expected there")),
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = vec![];
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let raw = rest.starts_with("r'") || rest.starts_with("r\"");
        if raw || matches!(first, '\'' | '"') {
            let (value, after) = quoted(rest.get(usize::from(raw)..).unwrap_or_default(), raw)?;
            tokens.push(Token::Literal(Value::String(value)));
            rest = after;
        } else if first.is_ascii_digit() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, after) = rest.split_at(end);
            tokens.push(Token::Literal(serde_json::from_str(number).map_err(|_| format!("{number} is no number"))?));
            rest = after;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            tokens.push(match word {
                "true" | "false" => Token::Literal(Value::Bool(word == "true")),
                "null" => Token::Literal(Value::Null),
                word => Token::Word(word.to_owned()),
            });
            rest = after;
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign)).ok_or_else(|| format!("{first:?} is not expected"))?;
            tokens.push(Token::Sign(sign));
            rest = rest.get(sign.len()..).unwrap_or_default();
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

/// The text between quotes, and what comes after it.
fn quoted(text: &str, raw: bool) -> Result<(String, &str), String> {
    let mut chars = text.char_indices();
    let quote = chars.next().map(|(_, quote)| quote);
    let mut value = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            c if Some(c) == quote => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            '\\' if !raw => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, 't')) => '\t',
                Some((_, 'r')) => '\r',
                Some((_, c @ ('\\' | '\'' | '"' | '`' | '?'))) => c,
                other => return Err(format!("an escape {other:?} is not known")),
            }),
            c => value.push(c),
        }
    }
    Err(format!("{text} does not end"))
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn next_is(&mut self, sign: &'static str) -> bool {
        let found = self.tokens.get(self.at) == Some(&Token::Sign(sign));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), String> {
        if self.next_is(sign) { Ok(()) } else { Err(format!("{sign:?} is expected, not {:?}", self.tokens.get(self.at))) }
    }

    fn word(&mut self) -> Result<String, String> {
        match self.tokens.get(self.at) {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word.clone())
            }
            other => Err(format!("a name is expected, not {other:?}")),
        }
    }

    fn expression(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("it is too deep".to_owned());
        }
        let condition = self.binary(0)?;
        let whole = if self.next_is("?") {
            let yes = self.expression()?;
            self.expect(":")?;
            Expression::Choice(condition.into(), yes.into(), self.expression()?.into())
        } else {
            condition
        };
        self.depth -= 1;
        Ok(whole)
    }

    fn binary(&mut self, level: usize) -> Result<Expression, String> {
        let Some(operators) = OPERATORS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = self.operator(operators) {
            self.at += 1;
            left = Expression::Binary(operator, left.into(), self.binary(level + 1)?.into());
        }
        Ok(left)
    }

    fn operator(&self, operators: &[(&str, Operator)]) -> Option<Operator> {
        let text = match self.tokens.get(self.at)? {
            Token::Sign(sign) => sign,
            Token::Word(word) => word.as_str(),
            Token::Literal(_) => return None,
        };
        operators.iter().find(|(known, _)| *known == text).map(|(_, operator)| *operator)
    }

    fn unary(&mut self) -> Result<Expression, String> {
        if self.next_is("!") {
            return Ok(Expression::Not(self.unary()?.into()));
        }
        if self.next_is("-") {
            return Ok(Expression::Minus(self.unary()?.into()));
        }
        let mut whole = self.primary()?;
        loop {
            if self.next_is(".") {
                let name = self.word()?;
                whole = if self.next_is("(") { self.method(whole, name)? } else { Expression::Field(whole.into(), name) };
            } else if self.next_is("[") {
                let at = self.expression()?;
                self.expect("]")?;
                whole = Expression::Index(whole.into(), at.into());
            } else {
                return Ok(whole);
            }
        }
    }

    fn method(&mut self, of: Expression, name: String) -> Result<Expression, String> {
        if MACROS.contains(&name.as_str()) {
            let variable = self.word()?;
            self.expect(",")?;
            let body = self.expression()?;
            self.expect(")")?;
            return Ok(Expression::Every { of: of.into(), macro_name: name, variable, body: body.into() });
        }
        let mut arguments = vec![of];
        arguments.extend(self.list(")")?);
        function(name, arguments)
    }

    /// What stands between commas, until `end`.
    fn list(&mut self, end: &'static str) -> Result<Vec<Expression>, String> {
        let mut items = vec![];
        while !self.next_is(end) {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(self.expression()?);
        }
        Ok(items)
    }

    fn primary(&mut self) -> Result<Expression, String> {
        if self.next_is("(") {
            let inner = self.expression()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.next_is("[") {
            return Ok(Expression::List(self.list("]")?));
        }
        if let Some(Token::Literal(value)) = self.tokens.get(self.at) {
            let value = value.clone();
            self.at += 1;
            return Ok(Expression::Literal(value));
        }
        let name = self.word()?;
        if !self.next_is("(") {
            return Ok(Expression::Name(name));
        }
        let mut arguments = self.list(")")?;
        if name == "has" {
            return match (arguments.pop(), arguments.is_empty()) {
                (Some(Expression::Field(of, field)), true) => Ok(Expression::Has(of, field)),
                other => Err(format!("has() asks for a field, not for {other:?}")),
            };
        }
        function(name, arguments)
    }
}

fn function(name: String, arguments: Vec<Expression>) -> Result<Expression, String> {
    match FUNCTIONS.iter().find(|(known, _)| *known == name) {
        Some((_, count)) if *count == arguments.len() => Ok(Expression::Call(name, arguments)),
        Some((_, count)) => Err(format!("{name} has {count} arguments, not {}", arguments.len())),
        None => Err(format!("there is no function {name}")),
    }
}
