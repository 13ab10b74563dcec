//! Numbers in Prometheus' text format.

/// The sum of the samples of these gauges in Prometheus' text format, over all labels.
///
/// # Errors
/// When one of them is not there: then nothing is known, and nothing is assumed.
pub fn sum(text: &str, gauges: &[String]) -> Result<u64, String> {
    let mut total = 0.0;
    for gauge in gauges {
        let mut found = false;
        for line in text.lines() {
            let Some(rest) = line.strip_prefix(gauge.as_str()) else { continue };
            let value = match rest.as_bytes().first() {
                Some(b' ' | b'\t') => rest,
                Some(b'{') => rest.rsplit_once('}').map_or("", |(_, value)| value),
                _ => continue,
            };
            let value: f64 = value.split_whitespace().next().and_then(|value| value.parse().ok()).unwrap_or(f64::NAN);
            if !value.is_finite() || value < 0.0 {
                return Err(format!("{gauge} has a value that is no count"));
            }
            found = true;
            total += value;
        }
        if !found {
            return Err(format!("the metrics have no {gauge}"));
        }
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a finite count that is not negative")]
    Ok(total.ceil() as u64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_work_of_an_engine_is_the_sum_of_its_gauges() {
        let text = "# HELP x y\nvllm:num_requests_running{engine=\"0\",model_name=\"a b}\"} 2.0\nvllm:num_requests_waiting{engine=\"0\"} 1.0\nvllm:num_requests_waiting_by_reason{reason=\"capacity\"} 9\nplain 4 1700000000\n";
        let sum = |gauges: &[&str]| super::sum(text, &gauges.iter().map(|gauge| (*gauge).to_owned()).collect::<Vec<_>>());
        assert_eq!(sum(&["vllm:num_requests_running", "vllm:num_requests_waiting"]), Ok(3));
        assert_eq!(sum(&["plain"]), Ok(4));
        assert!(sum(&["vllm:num_requests"]).is_err());
        assert!(super::sum("plain NaN\n", &["plain".to_owned()]).is_err());
    }
}
