//! `bonafide-helper drain`: a step before a container is stopped.

use std::{process::ExitCode, time::Duration};

use bonafide_helper::drain::{Drain, Here, drain};

const USAGE: &str = "usage: bonafide-helper drain --port PORT [--path PATH --idle-when-zero GAUGE...] --within SECONDS

Waits until the server at PORT of this machine has no work, which it has not when the gauges at PATH are all zero: at least
5 seconds, at most SECONDS. When nobody listens at PORT, the first process of the container is told to end instead.";

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(wanted) => {
            eprintln!("bonafide-helper: {:?}", drain(&Here::default(), &wanted));
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("bonafide-helper: {message}\n{USAGE}");
            ExitCode::from(64)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Drain, String> {
    if words.next().as_deref() != Some("drain") {
        return Err("the one command is drain".to_owned());
    }
    let (mut port, mut path, mut idle_when_zero, mut within) = (None, None, Vec::new(), None);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} lacks its value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{word} {value} is no number"));
        match word.as_str() {
            "--port" => port = Some(u16::try_from(number()?).map_err(|_| format!("--port {value} is no port"))?),
            "--path" => path = Some(value),
            "--idle-when-zero" => idle_when_zero.push(value),
            "--within" => within = Some(Duration::from_secs(number()?)),
            _ => return Err(format!("{word} is not known")),
        }
    }
    if path.as_deref().is_some_and(|path| !path.starts_with('/') || path.contains(|c: char| c.is_whitespace() || c.is_control()))
    {
        return Err("--path must be a path".to_owned());
    }
    let (port, within) = (port.ok_or("--port is missing")?, within.ok_or("--within is missing")?);
    Ok(Drain { port, path, idle_when_zero, within })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Drain, String> {
        parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn the_command_line_says_what_is_waited_for() {
        let found = words("drain --port 8000 --path /metrics --idle-when-zero a --idle-when-zero b --within 120").unwrap();
        let gauges = vec!["a".to_owned(), "b".to_owned()];
        let path = Some("/metrics".to_owned());
        assert_eq!(found, Drain { port: 8000, path, idle_when_zero: gauges, within: Duration::from_secs(120) });
    }

    #[test]
    fn what_is_wrong_with_it_is_said() {
        for (line, says) in [
            ("sleep", "drain"),
            ("drain --within 1", "--port is missing"),
            ("drain --port 1", "--within is missing"),
            ("drain --port 70000 --within 1", "no port"),
            ("drain --port 1 --within", "lacks its value"),
            ("drain --port 1 --within 1 --path metrics", "a path"),
            ("drain --port 1 --within 1 --frob 1", "--frob is not known"),
        ] {
            let error = words(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
