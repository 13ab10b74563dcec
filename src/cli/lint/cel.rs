//! The part of CEL in which the rules of our definitions are written: read and evaluated here, without a cluster.
//!
//! A rule that needs more than this is found by the tests, which read every rule there is and compare what comes of it with
//! a complete implementation and with an API server.

mod parse;

use serde_json::Value;

pub use self::parse::Expression;
use self::parse::Operator;

/// The variables of an expression, the innermost last.
type Scope<'a> = Vec<(&'a str, Value)>;

impl Expression {
    /// Whether the rule holds for `this`.
    ///
    /// # Errors
    /// What could not be evaluated: a field that is not there, or a value of another type. An API server refuses the object then.
    pub fn holds(&self, this: &Value) -> Result<bool, String> {
        truth(&self.evaluate(&mut vec![("self", this.clone())])?)
    }

    fn evaluate<'a>(&'a self, scope: &mut Scope<'a>) -> Result<Value, String> {
        Ok(match self {
            Self::Literal(value) => value.clone(),
            Self::List(items) => Value::Array(items.iter().map(|item| item.evaluate(scope)).collect::<Result<_, _>>()?),
            Self::Name(name) => {
                let found = scope.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
                found.ok_or_else(|| format!("there is no variable {name}"))?
            }
            Self::Field(of, name) => {
                let of = of.evaluate(scope)?;
                of.get(name).cloned().ok_or_else(|| format!("no such key: {name}"))?
            }
            Self::Index(of, at) => index(&of.evaluate(scope)?, &at.evaluate(scope)?)?,
            Self::Has(of, name) => Value::Bool(of.evaluate(scope)?.get(name).is_some()),
            Self::Not(of) => Value::Bool(!truth(&of.evaluate(scope)?)?),
            Self::Minus(of) => match number(&of.evaluate(scope)?)? {
                Number::Whole(number) => Value::from(-number),
                Number::Broken(number) => Value::from(-number),
            },
            Self::Choice(condition, yes, no) => {
                if truth(&condition.evaluate(scope)?)? {
                    yes.evaluate(scope)?
                } else {
                    no.evaluate(scope)?
                }
            }
            Self::Binary(Operator::And, left, right) => either(left, right, scope, false)?,
            Self::Binary(Operator::Or, left, right) => either(left, right, scope, true)?,
            Self::Binary(operator, left, right) => binary(*operator, &left.evaluate(scope)?, &right.evaluate(scope)?)?,
            Self::Every { of, macro_name, variable, body } => every(of, macro_name, variable, body, scope)?,
            Self::Call(name, arguments) => {
                let arguments: Vec<Value> =
                    arguments.iter().map(|argument| argument.evaluate(scope)).collect::<Result<_, _>>()?;
                call(name, &arguments)?
            }
        })
    }
}

fn truth(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{value} is neither true nor false"))
}

/// `&&` and `||`: the side that decides does so also when the other one cannot be evaluated.
fn either<'a>(left: &'a Expression, right: &'a Expression, scope: &mut Scope<'a>, decides: bool) -> Result<Value, String> {
    let left = left.evaluate(scope).and_then(|value| truth(&value));
    if left == Ok(decides) {
        return Ok(Value::Bool(decides));
    }
    match right.evaluate(scope).and_then(|value| truth(&value)) {
        Ok(right) if right == decides => Ok(Value::Bool(decides)),
        right => left.and(right).map(Value::Bool),
    }
}

/// The macros over lists and the keys of maps.
fn every<'a>(
    of: &'a Expression,
    name: &str,
    variable: &'a str,
    body: &'a Expression,
    scope: &mut Scope<'a>,
) -> Result<Value, String> {
    let items = match of.evaluate(scope)? {
        Value::Array(items) => items,
        Value::Object(map) => map.into_iter().map(|(key, _)| Value::String(key)).collect(),
        other => return Err(format!("{other} has no members")),
    };
    let mut results = vec![];
    for item in items {
        scope.push((variable, item.clone()));
        let result = body.evaluate(scope);
        scope.pop();
        results.push((item, result));
    }
    let truths = || results.iter().map(|(_, result)| result.clone().and_then(|value| truth(&value)));
    // A member that decides does so also when another one cannot be evaluated.
    let decided = |by: bool| {
        if truths().any(|truth| truth == Ok(by)) { Ok(by) } else { truths().find(Result::is_err).unwrap_or(Ok(!by)) }
    };
    Ok(match name {
        "all" => Value::Bool(decided(false)?),
        "exists" => Value::Bool(decided(true)?),
        "exists_one" => Value::Bool(truths().collect::<Result<Vec<_>, _>>()?.into_iter().filter(|truth| *truth).count() == 1),
        "filter" => {
            let truths = truths().collect::<Result<Vec<_>, _>>()?;
            Value::Array(results.iter().zip(truths).filter(|(_, truth)| *truth).map(|((item, _), _)| item.clone()).collect())
        }
        _ => Value::Array(results.into_iter().map(|(_, result)| result).collect::<Result<_, _>>()?),
    })
}

fn index(of: &Value, at: &Value) -> Result<Value, String> {
    let found = match (of, at) {
        (Value::Array(items), at) => at.as_u64().and_then(|at| items.get(usize::try_from(at).ok()?)),
        (of, Value::String(key)) => of.get(key),
        _ => None,
    };
    found.cloned().ok_or_else(|| format!("{of} has no {at}"))
}

/// A number: whole ones are compared with broken ones by their value.
enum Number {
    Whole(i64),
    Broken(f64),
}

impl Number {
    const fn broken(&self) -> f64 {
        match self {
            Self::Whole(number) => *number as f64,
            Self::Broken(number) => *number,
        }
    }
}

fn number(value: &Value) -> Result<Number, String> {
    value
        .as_i64()
        .map(Number::Whole)
        .or_else(|| value.as_f64().map(Number::Broken))
        .ok_or_else(|| format!("{value} is not a number"))
}

fn binary(operator: Operator, left: &Value, right: &Value) -> Result<Value, String> {
    use Operator::{Add, Divide, Equal, Greater, GreaterOrEqual, In, Less, LessOrEqual, Multiply, Remainder, Subtract, Unequal};

    let equal = |left: &Value, right: &Value| match (number(left), number(right)) {
        (Ok(left), Ok(right)) => left.broken() == right.broken(),
        _ => left == right,
    };
    let order = || match (left, right) {
        (Value::String(left), Value::String(right)) => Ok(left.cmp(right)),
        _ => number(left)?.broken().partial_cmp(&number(right)?.broken()).ok_or_else(|| "not comparable".to_owned()),
    };
    Ok(Value::Bool(match operator {
        Equal => equal(left, right),
        Unequal => !equal(left, right),
        Less => order()?.is_lt(),
        LessOrEqual => order()?.is_le(),
        Greater => order()?.is_gt(),
        GreaterOrEqual => order()?.is_ge(),
        In => match right {
            Value::Array(items) => items.iter().any(|item| equal(item, left)),
            Value::Object(map) => left.as_str().is_some_and(|key| map.contains_key(key)),
            other => return Err(format!("{other} has no members")),
        },
        Add => match (left, right) {
            (Value::String(left), Value::String(right)) => return Ok(Value::String(format!("{left}{right}"))),
            (Value::Array(left), Value::Array(right)) => return Ok(left.iter().chain(right).cloned().collect()),
            _ => return arithmetic(left, right, i64::checked_add, |a, b| a + b),
        },
        Subtract => return arithmetic(left, right, i64::checked_sub, |a, b| a - b),
        Multiply => return arithmetic(left, right, i64::checked_mul, |a, b| a * b),
        Divide => return arithmetic(left, right, i64::checked_div, |a, b| a / b),
        Remainder => return arithmetic(left, right, i64::checked_rem, |a, b| a % b),
        Operator::And | Operator::Or => return Err("evaluated elsewhere".to_owned()),
    }))
}

fn arithmetic(
    left: &Value,
    right: &Value,
    whole: fn(i64, i64) -> Option<i64>,
    broken: fn(f64, f64) -> f64,
) -> Result<Value, String> {
    match (number(left)?, number(right)?) {
        (Number::Whole(left), Number::Whole(right)) => {
            whole(left, right).map(Value::from).ok_or_else(|| "out of range".to_owned())
        }
        (left, right) => Ok(Value::from(broken(left.broken(), right.broken()))),
    }
}

/// Functions; of a method the object is the first argument.
fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |at: usize| arguments.get(at).and_then(Value::as_str).ok_or_else(|| format!("{name} is for texts"));
    Ok(match name {
        "size" => Value::from(match arguments.first() {
            Some(Value::String(text)) => text.chars().count(),
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(map)) => map.len(),
            _ => return Err("size is for texts, lists and maps".to_owned()),
        }),
        "matches" => {
            let pattern = regex::Regex::new(text(1)?).map_err(|error| error.to_string())?;
            Value::Bool(pattern.is_match(text(0)?))
        }
        "contains" => Value::Bool(text(0)?.contains(text(1)?)),
        "startsWith" => Value::Bool(text(0)?.starts_with(text(1)?)),
        "endsWith" => Value::Bool(text(0)?.ends_with(text(1)?)),
        "lowerAscii" => Value::from(text(0)?.to_ascii_lowercase()),
        "upperAscii" => Value::from(text(0)?.to_ascii_uppercase()),
        "split" => text(0)?.split(text(1)?).map(Value::from).collect(),
        _ => return Err(format!("there is no function {name}")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_evaluated_as_cel_says() {
        let object = json!({"name": "parrot", "n": 3, "list": ["a", "b"], "map": {"k": 1}, "half": 0.5});
        for (rule, holds) in [
            ("self.name == 'parrot' && self.n == 3", true),
            ("self.name.size() == 6 && size(self.list) == 2 && size(self.map) == 1", true),
            ("!has(self.none) || self.none > 1", true),
            ("has(self.n) && !(self.n in [1, 2])", true),
            ("'a' in self.list && 'k' in self.map", true),
            ("self.list.all(x, x.matches('^[ab]$'))", true),
            ("self.list.exists_one(x, x == 'a') && self.list.exists(x, x == 'b')", true),
            ("self.list.exists_one(x, true)", false),
            ("self.map.all(k, k.startsWith('k'))", true),
            ("(self.n > 2 ? 'more' : 'less') == 'more'", true),
            ("self.n + 1 == 4 && self.n - 1 == 2 && self.n * 2 >= 6 && self.n / 2 == 1 && self.n % 2 == 1", true),
            ("self.half < self.n && -self.n < 0", true),
            ("self.name + 's' == 'parrots' && self.list + ['c'] == ['a', 'b', 'c']", true),
            (r#"self.name.contains("arr") && self.name.endsWith('ot')"#, true),
            (r"'a\\b\'c'.size() == 5 && r'a\b'.size() == 3", true),
            ("self.list[0] == 'a' && self.map['k'] == 1", true),
            ("self.list.filter(x, x != 'a') == ['b'] && self.list.map(x, x + x) == ['aa', 'bb']", true),
            ("'a,b'.split(',') == self.list && 'AB'.lowerAscii() == 'ab'", true),
            ("self.none == 1 || true", true),
            ("true || self.none == 1", true),
            ("self.none == 1 && false", false),
            ("self.n > 2 && self.n < 2 || self.n == 3", true),
            ("!self.list.all(x, x == 'a')", true),
        ] {
            let expression = Expression::parse(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
            assert_eq!(expression.holds(&object), Ok(holds), "{rule}");
        }
    }

    #[test]
    fn what_cannot_be_evaluated_is_no_answer() {
        for rule in ["self.none == 1", "self.none == 1 && true", "false || self.n", "self.n.size() > 1", "self.list[7] == 'a'"] {
            assert!(Expression::parse(rule).unwrap().holds(&json!({"n": 1, "list": []})).is_err(), "{rule}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_when_it_is_read() {
        for rule in
            ["", "self.", "self.a ==", "quantity(self.a)", "self.a.foo()", "self.all(x)", "'a", "(self.a", "self.a b", "#"]
        {
            assert!(Expression::parse(rule).is_err(), "{rule}");
        }
    }
}
