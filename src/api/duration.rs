//! Lengths of time as users write them: the pattern of the Gateway API, `1h30m`, `90s`, `200ms`.

use std::{fmt, str::FromStr, time};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A length of time: up to four numbers of at most five digits, each with `h`, `m`, `s` or `ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duration {
    text: String,
    length: time::Duration,
}

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no length of time; write it as 1h30m, 90s or 200ms")]
pub struct InvalidDuration(String);

impl Duration {
    /// What the text has to match.
    pub const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";

    /// What is said of a text that does not: a pattern is no help to who reads it.
    pub const MEANS: &str = "must be a length of time: 90s, 5m, 1h30m";

    /// How long it is.
    pub const fn length(&self) -> time::Duration {
        self.length
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration(text.chars().take(40).collect());
        let (mut rest, mut length, mut parts) = (text, time::Duration::ZERO, 0);
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, unit) = rest.split_at(digits);
            let number = number.parse::<u64>().ok().filter(|_| digits <= 5).ok_or_else(invalid)?;
            let (milliseconds, after) = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)]
                .into_iter()
                .find_map(|(name, scale)| Some((scale, unit.strip_prefix(name)?)))
                .ok_or_else(invalid)?;
            length += time::Duration::from_millis(number.saturating_mul(milliseconds));
            (rest, parts) = (after, parts + 1);
        }
        if (1..=4).contains(&parts) { Ok(Self { text: text.to_owned(), length }) } else { Err(invalid()) }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl schemars::JsonSchema for Duration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "maxLength": 32, "x-kubernetes-validations": [
            { "rule": format!("self.matches('{}')", Self::PATTERN), "message": Self::MEANS },
        ] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_the_gateway_api_reads_them() {
        let seconds = |text: &str| text.parse::<Duration>().map(|duration| duration.length().as_secs_f64());
        assert_eq!(["1h30m", "90s", "200ms", "0s"].map(|text| seconds(text).unwrap()), [5400.0, 90.0, 0.2, 0.0]);
        for wrong in ["", "1", "h", "1d", "1.5h", "-1s", "123456s", "1h1h1h1h1h", "1h ", "١s"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert_eq!("1h30m".parse::<Duration>().unwrap().to_string(), "1h30m");
    }
}
