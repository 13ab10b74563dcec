//! One request to a server on the same machine.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// The longest answer that is read, in bytes.
const LONGEST: u64 = 4 << 20;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nobody listens.
    Refused,
    /// Somebody listens and does not answer, or not in HTTP.
    Silent,
    /// An answer with its status and body.
    Status(u16, String),
}

/// Asks `path` of the server at `port` of this machine; each step takes at most `patience`.
pub fn get(port: u16, path: &str, patience: Duration) -> Answer {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    for address in loopback {
        match TcpStream::connect_timeout(&SocketAddr::new(address, port), patience) {
            Ok(stream) => return ask(stream, path, patience).unwrap_or(Answer::Silent),
            Err(error) if error.kind() == ErrorKind::TimedOut => return Answer::Silent,
            Err(_) => {}
        }
    }
    Answer::Refused
}

fn ask(mut stream: TcpStream, path: &str, patience: Duration) -> Option<Answer> {
    stream.set_read_timeout(Some(patience)).ok()?;
    stream.set_write_timeout(Some(patience)).ok()?;
    // In HTTP/1.0 the end of the answer is the end of the connection.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    Some(Answer::Status(status, body.to_owned()))
}
