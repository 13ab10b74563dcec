//! Quantities as Kubernetes writes them, and as people read them.

use crate::engine::{human_memory, human_size};

/// The number that a quantity stands for: `100m` is 0.1, `2Gi` is 2147483648. `None` when it is none.
pub fn parse(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    if let Ok(number) = text.parse::<f64>() {
        return number.is_finite().then_some(number);
    }
    let (digits, scale) = SUFFIXES.iter().find_map(|(suffix, scale)| Some((text.strip_suffix(suffix)?, scale)))?;
    digits.parse::<f64>().ok().map(|number| number * scale).filter(|number| number.is_finite())
}

/// `amount` of `resource` for people, without the resource's name: `31.5 GiB` of memory, `31.5 GB` of a disk, `4`, `0.5`.
pub fn amount(resource: &str, amount: f64) -> String {
    if resource == "memory" || resource.starts_with("hugepages-") {
        return human_memory(whole(amount));
    }
    if resource == "ephemeral-storage" {
        return human_size(whole(amount));
    }
    let rounded = (amount * 1000.0).round() / 1000.0;
    format!("{rounded}")
}

/// The same with the resource's name: `4 nvidia.com/gpu`, `31.5 GiB of memory`.
pub fn of(resource: &str, number: f64) -> String {
    match resource {
        "memory" => format!("{} of memory", amount(resource, number)),
        "ephemeral-storage" => format!("{} of ephemeral storage", amount(resource, number)),
        "cpu" => format!("{} CPU", amount(resource, number)),
        "pods" if number <= 1.0 => "room for another pod".to_owned(),
        _ => format!("{} {resource}", amount(resource, number)),
    }
}

/// A number of bytes; nothing less than none.
pub fn whole(bytes: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates, and below none there is nothing")]
    let whole = bytes.max(0.0) as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        let read = |text: &str| parse(text).unwrap();
        assert!((read("100m") - 0.1).abs() < 1e-9);
        assert_eq!(read("2Gi"), 2_147_483_648.0);
        assert_eq!(read("98M"), 98e6);
        assert_eq!(read("1e3"), 1000.0);
        assert_eq!(read("12E"), 12e18);
        assert_eq!(read("4"), 4.0);
        assert_eq!(["", "x", "1Xi", "Gi", "NaN", "inf"].map(parse), [None; 6]);
    }

    #[test]
    fn amounts_are_said_in_the_unit_of_their_resource() {
        assert_eq!(of("nvidia.com/gpu", 4.0), "4 nvidia.com/gpu");
        assert_eq!(of("memory", 33_822_867_456.0), "31.5 GiB of memory");
        assert_eq!(of("cpu", 0.1), "0.1 CPU");
        assert_eq!(amount("ephemeral-storage", -5.0), "0 B");
    }
}
