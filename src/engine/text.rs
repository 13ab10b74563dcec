//! Words for messages: sizes, bounded lists, and other people's text made harmless.

/// A number of bytes of a file or on a wire as people read it, in decimal units: `98.4 MB`.
pub fn human_size(bytes: u64) -> String {
    human(bytes, 1000.0, ["kB", "MB", "GB", "TB", "PB", "EB"])
}

/// A number of bytes of memory, in the binary units in which it is asked for: `1.5 GiB`.
pub fn human_memory(bytes: u64) -> String {
    human(bytes, 1024.0, ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

fn human(bytes: u64, scale: f64, units: [&str; 6]) -> String {
    let mut size = bytes as f64;
    let mut unit = "B";
    for next in units {
        // What would be written as 1000.0 belongs to the next unit.
        if size < scale - 0.05 {
            break;
        }
        size /= scale;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

/// `text` in quotes, escaped and at most `max` characters: for what users wrote.
pub(super) fn quoted(text: &str, max: usize) -> String {
    let short: String = text.chars().take(max).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

/// `items` joined by commas in at most about `budget` bytes; what does not fit is counted.
pub(super) fn listed(items: impl IntoIterator<Item = impl AsRef<str>>, budget: usize) -> String {
    let mut text = String::new();
    let mut left_out = 0_usize;
    for item in items {
        let item = item.as_ref();
        if left_out > 0 || (!text.is_empty() && text.len() + item.len() + 2 > budget) {
            left_out += 1;
            continue;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(item);
    }
    if left_out > 0 {
        text.push_str(&format!(" and {left_out} more"));
    }
    text
}

/// A path for a list, shortened in its middle where the telling parts of a name seldom are.
pub(super) fn short_path(path: &str) -> String {
    const ENDS: usize = 36;
    let count = path.chars().count();
    if count <= 2 * ENDS {
        return path.to_owned();
    }
    let head: String = path.chars().take(ENDS).collect();
    let tail: String = path.chars().skip(count - ENDS).collect();
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_at_a_glance() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (98_362_432, "98.4 MB"),
            (999_999_999, "1.0 GB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human_size(bytes), text);
        }
    }

    #[test]
    fn lists_are_bounded_and_say_how_much_is_missing() {
        assert_eq!(listed(["a", "b"], 100), "a, b");
        assert_eq!(listed(["aaaa", "bbbb", "c"], 6), "aaaa and 2 more");
        assert_eq!(listed(["a name longer than the budget"], 6), "a name longer than the budget");
    }

    #[test]
    fn text_of_others_cannot_break_a_message() {
        assert_eq!(quoted("a\n\u{202e}b", 40), r#""a\n\u{202e}b""#);
        assert_eq!(quoted("abcdef", 3), "\"abc\"…");
    }
}
