//! The names in certificates: subjects as RFC 4514 writes them, names beside the subject, and what a policy wants of them.

use std::{collections::BTreeSet, fmt};

use regex::{Regex, RegexBuilder};
use x509_cert::{
    der::{Encode as _, Tag, Tagged as _},
    ext::pkix::name::GeneralName,
    name::Name,
};

/// Types of attributes that have a short name: those of RFC 4514, and three that openssl writes so too.
const TYPES: [(&str, &str); 12] = [
    ("CN", "2.5.4.3"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("C", "2.5.4.6"),
    ("STREET", "2.5.4.9"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
    ("serialNumber", "2.5.4.5"),
    ("title", "2.5.4.12"),
];

/// A distinguished name in the order in which RFC 4514 writes it, the most specific part first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dn(Vec<BTreeSet<(String, Value)>>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Text(String),
    /// Hexadecimal digits of what is no text, or whose type has no name here.
    Der(String),
}

impl Dn {
    /// The name that stands in a certificate.
    pub fn of(name: &Name) -> Self {
        let part = |oid: String, value: &x509_cert::der::Any| {
            let short = TYPES.iter().find(|(_, known)| *known == oid).map(|(short, _)| (*short).to_owned());
            let is_text = matches!(value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
            match (short, std::str::from_utf8(value.value()).ok().filter(|_| is_text)) {
                (Some(short), Some(text)) => (short, Value::Text(text.to_owned())),
                (short, _) => (short.unwrap_or(oid), Value::Der(hex(&value.to_der().unwrap_or_default()))),
            }
        };
        let mut parts: Vec<_> =
            name.iter_rdn().map(|rdn| rdn.iter().map(|it| part(it.oid.to_string(), &it.value)).collect()).collect();
        parts.reverse();
        Self(parts)
    }

    /// Reads what RFC 4514 writes. Blanks around separators do not matter; case matters in values only.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        for rdn in split(text, ',')? {
            let mut attributes = BTreeSet::new();
            for attribute in split(rdn, '+')? {
                let (kind, value) = attribute
                    .split_once('=')
                    .ok_or_else(|| format!("{:?} is no attribute: write it as CN=NAME", attribute.trim()))?;
                let kind = kind.trim();
                let short = TYPES.iter().find(|(short, _)| short.eq_ignore_ascii_case(kind)).map(|(short, _)| *short);
                let is_oid = kind.contains('.') && kind.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                let value = read_value(value)?;
                match (short, &value) {
                    (Some(short), _) => attributes.insert((short.to_owned(), value)),
                    (None, Value::Der(_)) if is_oid => attributes.insert((kind.to_owned(), value)),
                    _ => {
                        let known = TYPES.map(|(short, _)| short).join(", ");
                        return Err(format!(
                            "{kind:?} is no type of attribute: it is one of {known}, or an OID with a value as #HEX"
                        ));
                    }
                };
            }
            parts.push(attributes);
        }
        Ok(Self(parts))
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As an expression sees it: what separates parts within a value is written in hexadecimal digits (RFC 4514, `\\2C`), so that a
    /// comma and a plus always separate, and nobody can write another part into the value of one.
    fn to_match(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = self.write(&mut text, true);
        text
    }

    fn write(&self, f: &mut impl fmt::Write, in_digits: bool) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            for (place, (kind, value)) in part.iter().enumerate() {
                f.write_str(match (index, place) {
                    (0, 0) => "",
                    (_, 0) => ",",
                    _ => "+",
                })?;
                match value {
                    Value::Text(text) => write!(f, "{kind}={}", escaped(text, in_digits))?,
                    Value::Der(hex) => write!(f, "{kind}=#{hex}")?,
                }
            }
        }
        Ok(())
    }

    fn is_reversed(&self, other: &Self) -> bool {
        self != other && self.0.iter().eq(other.0.iter().rev())
    }
}

impl fmt::Display for Dn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

/// A value as RFC 4514 writes it; `in_digits`: what separates parts, in hexadecimal digits.
fn escaped(text: &str, in_digits: bool) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut out = String::new();
    for (index, c) in text.chars().enumerate() {
        match c {
            '+' | ',' if in_digits => out.push_str(&format!("\\{:02X}", u32::from(c))),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', c]),
            '#' if index == 0 => out.push_str("\\#"),
            ' ' if index == 0 || index == last => out.push_str("\\ "),
            c if c.is_control() => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| out.push_str(&format!("\\{byte:02X}"))),
            c => out.push(c),
        }
    }
    out
}

/// Splits at what is not escaped.
fn split(text: &str, at: char) -> Result<Vec<&str>, String> {
    let mut parts = Vec::new();
    let (mut from, mut escaped) = (0, false);
    for (index, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == at {
            parts.push(text.get(from..index).unwrap_or_default());
            from = index + c.len_utf8();
        } else if matches!(c, '"' | ';' | '<' | '>') {
            return Err(format!("{c} needs a backslash before it"));
        }
    }
    parts.push(text.get(from..).unwrap_or_default());
    if escaped { Err("it ends with a backslash".to_owned()) } else { Ok(parts) }
}

fn read_value(text: &str) -> Result<Value, String> {
    let text = text.trim_start();
    if let Some(digits) = text.strip_prefix('#') {
        let digits = digits.trim_end().to_ascii_lowercase();
        let is_hex = digits.len().is_multiple_of(2) && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        return if is_hex { Ok(Value::Der(digits)) } else { Err(format!("#{digits} is not hexadecimal")) };
    }
    let mut bytes = Vec::new();
    let mut kept = 0;
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            if byte != b' ' {
                kept = bytes.len();
            }
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match rest.next() {
            Some(high) if digit(high).is_some() => match (digit(high), rest.next().and_then(digit)) {
                (Some(high), Some(low)) => bytes.push(high * 16 + low),
                _ => return Err("a backslash stands before one hexadecimal digit, and needs two".to_owned()),
            },
            Some(other) => bytes.push(other),
            None => {}
        }
        kept = bytes.len();
    }
    bytes.truncate(kept);
    match String::from_utf8(bytes) {
        Ok(text) if !text.is_empty() => Ok(Value::Text(text)),
        Ok(_) => Err("an attribute has no value".to_owned()),
        Err(_) => Err("a value is not UTF-8".to_owned()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A kind of name beside the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A mail address.
    Email,
    /// A URI, as SPIFFE uses them.
    Uri,
    /// A DNS name.
    Dns,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Email => "email",
            Self::Uri => "URI",
            Self::Dns => "DNS",
        })
    }
}

/// The names beside the subject that a policy can ask for; others are passed over.
pub fn beside(names: &[GeneralName]) -> Vec<(Kind, String)> {
    let one = |name: &GeneralName| match name {
        GeneralName::Rfc822Name(text) => Some((Kind::Email, text.to_string())),
        GeneralName::UniformResourceIdentifier(text) => Some((Kind::Uri, text.to_string())),
        GeneralName::DnsName(text) => Some((Kind::Dns, text.to_string())),
        _ => None,
    };
    names.iter().filter_map(one).collect()
}

/// What a name must be.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// This and nothing else.
    Exact(String),
    /// Anything that the expression fits as a whole.
    Regex(Regex),
}

/// The longest pattern, in bytes.
pub const MAX_PATTERN: usize = 512;

impl Pattern {
    /// This text and no other.
    pub fn exact(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("it is empty, and would name nobody".to_owned()),
            text if text.len() > MAX_PATTERN => Err(format!("it is {} bytes long, more than {MAX_PATTERN}", text.len())),
            text => Ok(Self::Exact(text.to_owned())),
        }
    }

    /// An expression that must fit the whole name, whether it says `^` and `$` or not.
    pub fn regex(text: &str) -> Result<Self, String> {
        if text.len() > MAX_PATTERN {
            return Err(format!("it is {} bytes long, more than {MAX_PATTERN}", text.len()));
        }
        let build = |text: &str| RegexBuilder::new(text).size_limit(1 << 20).build().map_err(|error| error.to_string());
        // By itself first: "a)|(b" is no expression, and must not become one by what is put around it.
        build(text)?;
        let whole = build(&format!(r"\A(?:{text})\z"))?;
        if whole.is_match("") {
            return Err("it fits the empty name, and so would name anybody".to_owned());
        }
        Ok(Self::Regex(whole))
    }

    pub(super) fn fits(&self, name: &str) -> bool {
        match self {
            Self::Exact(text) => text == name,
            Self::Regex(regex) => regex.is_match(name),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => f.write_str(text),
            Self::Regex(regex) => {
                let text = regex.as_str();
                write!(
                    f,
                    "the pattern {}",
                    text.strip_prefix(r"\A(?:").and_then(|text| text.strip_suffix(r")\z")).unwrap_or(text)
                )
            }
        }
    }
}

/// Whom a certificate must name: by its subject, by a name beside it, or by both.
#[derive(Debug, Clone)]
pub struct Wanted {
    subject: Option<Subject>,
    san: Option<(Kind, Pattern)>,
}

#[derive(Debug, Clone)]
enum Subject {
    Exact(Dn),
    Fits(Pattern),
}

impl Wanted {
    /// # Errors
    /// What is wrong, and with which of the two: `"subject"` or `"san"`; neither given is wrong with the first.
    pub fn new(
        subject: Option<Result<Pattern, String>>,
        san: Option<(Kind, Result<Pattern, String>)>,
    ) -> Result<Self, (&'static str, String)> {
        let subject = match subject.transpose().map_err(|error| ("subject", error))? {
            Some(Pattern::Exact(text)) => Some(Subject::Exact(Dn::parse(&text).map_err(|error| ("subject", error))?)),
            Some(pattern) => Some(Subject::Fits(pattern)),
            None => None,
        };
        let san = match san {
            Some((kind, pattern)) => Some((kind, pattern.map_err(|error| ("san", error))?)),
            None => None,
        };
        if subject.is_none() && san.is_none() {
            return Err((
                "subject",
                "there is neither subject nor san: everybody with a certificate of the authority could sign".to_owned(),
            ));
        }
        Ok(Self { subject, san })
    }

    /// Whether a certificate with these names is meant; if not, what was expected and found.
    pub fn check(&self, subject: &Dn, beside: &[(Kind, String)]) -> Result<(), String> {
        let fits = match &self.subject {
            None => true,
            Some(Subject::Exact(wanted)) => wanted == subject,
            Some(Subject::Fits(pattern)) => pattern.fits(&subject.to_match()),
        };
        if !fits {
            let order = match &self.subject {
                Some(Subject::Exact(wanted)) if wanted.is_reversed(subject) => {
                    " (the same in the other order: RFC 4514 writes the most specific part first)"
                }
                _ => "",
            };
            let found = if subject.is_empty() {
                "a certificate without a subject".to_owned()
            } else {
                format!("a certificate for {subject}")
            };
            return Err(format!("{found}, and wanted is {self}{order}"));
        }
        let Some((kind, pattern)) = &self.san else { return Ok(()) };
        if beside.iter().any(|(found, name)| found == kind && pattern.fits(name)) {
            return Ok(());
        }
        let found = beside.iter().map(|(kind, name)| format!("{kind}:{name}")).take(3).collect::<Vec<_>>().join(", ");
        let found = if found.is_empty() { "no name beside it".to_owned() } else { format!("the names {found} beside it") };
        Err(format!("a certificate for {subject} with {found}, and wanted is {self}"))
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Some(Subject::Exact(dn)) => write!(f, "{dn}")?,
            Some(Subject::Fits(pattern)) => write!(f, "{pattern}")?,
            None => {}
        }
        match &self.san {
            Some((kind, pattern)) if self.subject.is_some() => write!(f, " with {kind}:{pattern}"),
            Some((kind, pattern)) => write!(f, "{kind}:{pattern}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_within_a_value_separates_nothing_for_an_expression() {
        let subject = Dn::parse(r"CN=x\,OU=Release,O=Acme").unwrap();
        assert_eq!(
            (subject.to_string(), subject.to_match()),
            (r"CN=x\,OU=Release,O=Acme".into(), r"CN=x\2COU=Release,O=Acme".into())
        );
        assert_eq!(Dn::parse(r"CN=a\\,O=b\+c").unwrap().to_match(), r"CN=a\\,O=b\2Bc", "a backslash before a separator");
        let wanted = Wanted::new(Some(Pattern::regex("CN=[^,]+,OU=Release,O=Acme")), None).unwrap();
        assert!(wanted.check(&subject, &[]).is_err());
        assert!(wanted.check(&Dn::parse("CN=x,OU=Release,O=Acme").unwrap(), &[]).is_ok());
    }
}
