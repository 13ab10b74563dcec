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

#[cfg(test)]
mod tests {
    use super::quantity;

    #[test]
    fn a_quantity_is_written_as_the_api_server_writes_it() {
        let written = [0, 1, 999, 1000, 1001, 1024, 1500, 12_000, 2_000_000_000, 2_000_000_100, 10_000_000_000_000_000_000];
        let expected = ["0", "1", "999", "1k", "1001", "1024", "1500", "12k", "2G", "2000000100", "10E"];
        assert_eq!(written.map(quantity), expected);
    }
}
