//! Quantities as the API server writes them: what stands in the cluster is compared with what we wrote.

/// A number as the API server writes it: 2000000 is `2M`, and 2000001 is `2000001`.
pub(super) fn quantity(number: u64) -> String {
    let (mut rest, mut suffixes) = (number, ["", "k", "M", "G", "T", "P", "E"].into_iter());
    let mut suffix = suffixes.next().unwrap_or_default();
    while rest != 0
        && rest.is_multiple_of(1000)
        && let Some(greater) = suffixes.next()
    {
        (rest, suffix) = (rest / 1000, greater);
    }
    format!("{rest}{suffix}")
}

/// A number of processors as users write it: `1.5` is `1500m`.
pub(super) fn cpu(text: &str) -> String {
    let thousandths = match text.strip_suffix('m') {
        Some(number) => number.parse().ok(),
        None => {
            let (whole, part) = text.split_once('.').unwrap_or((text, ""));
            let part = format!("{part:0<3}").parse::<u64>().ok();
            whole.parse::<u64>().ok().zip(part).map(|(whole, part)| whole.saturating_mul(1000).saturating_add(part))
        }
    };
    match thousandths {
        Some(number) if number.is_multiple_of(1000) => quantity(number / 1000),
        Some(number) => format!("{number}m"),
        None => text.to_owned(),
    }
}

/// A number of bytes as users write it: `2048Mi` is `2Gi`, and `2000M` is `2G`.
pub(super) fn memory(text: &str) -> String {
    match bytes(text) {
        Some((number, true)) => binary(number),
        Some((number, false)) => quantity(number),
        None => text.to_owned(),
    }
}

/// Half of a number of bytes.
pub(super) fn half(text: &str) -> Option<String> {
    bytes(text).map(|(number, _)| binary(number / 2))
}

/// How many bytes, and whether they were written in powers of 1024.
fn bytes(text: &str) -> Option<(u64, bool)> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let units = ["", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti"];
    let unit = units.iter().position(|unit| text.strip_prefix(digits) == Some(*unit))?;
    let power = u32::try_from(unit).ok()?;
    let (scale, binary) = if power <= 4 { (1000_u64.pow(power), false) } else { (1024_u64.pow(power - 4), true) };
    Some((number.checked_mul(scale)?, binary))
}

fn binary(number: u64) -> String {
    let (mut rest, mut suffixes) = (number, ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].into_iter());
    let mut suffix = suffixes.next().unwrap_or_default();
    while rest != 0
        && rest.is_multiple_of(1024)
        && let Some(greater) = suffixes.next()
    {
        (rest, suffix) = (rest / 1024, greater);
    }
    if suffix.is_empty() { quantity(rest) } else { format!("{rest}{suffix}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_written_as_the_api_server_writes_it() {
        let written = [0, 1, 999, 1000, 1001, 1024, 1500, 12_000, 2_000_000_000, 2_000_000_100, 10_000_000_000_000_000_000];
        let expected = ["0", "1", "999", "1k", "1001", "1024", "1500", "12k", "2G", "2000000100", "10E"];
        assert_eq!(written.map(quantity), expected);
    }

    #[test]
    fn what_users_write_becomes_the_same() {
        let processors = ["1", "1.5", "0.25", "1.50", "500m", "2000m", "1000", "1001m", "0.001"];
        assert_eq!(processors.map(cpu), ["1", "1500m", "250m", "1500m", "500m", "2", "1k", "1001m", "1m"]);
        let sizes = ["16Gi", "2048Mi", "1000Ki", "2000M", "1500000", "1k", "1536Mi", "1024", "1024Ti"];
        assert_eq!(sizes.map(memory), ["16Gi", "2Gi", "1000Ki", "2G", "1500k", "1k", "1536Mi", "1024", "1Pi"]);
        assert_eq!(["3Gi", "1k", "2000"].map(half), ["1536Mi", "500", "1k"].map(|half| Some(half.to_owned())));
    }
}
