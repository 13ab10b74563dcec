//! The program itself, as it is brought into other people's images.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "these are tests")]

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

fn program() -> String {
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/build.sh")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn it_is_small_and_needs_nothing_of_the_image_it_runs_in() {
    let program = program();
    let bytes = std::fs::read(&program).unwrap();
    // Where there is no Rust for musl it is glibc's code, most of it.
    let most = if program.contains("-musl/") { 500_000 } else { 1_200_000 };
    assert!(bytes.len() < most, "{} bytes", bytes.len());
    assert_eq!(&bytes[..5], b"\x7fELF\x02");
    let number =
        |at: usize, length: usize| bytes[at..at + length].iter().rev().fold(0_usize, |n, byte| n << 8 | usize::from(*byte));
    let (table, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let kinds: Vec<usize> = (0..count).map(|entry| number(table + entry * size, 4)).collect();
    // A loader (PT_INTERP) or libraries (PT_DYNAMIC) would have to be there.
    assert!(kinds.contains(&1) && !kinds.contains(&3) && !kinds.contains(&2), "{kinds:?}");
}

#[test]
fn it_waits_for_a_server_that_answers_in_pieces_until_its_work_is_done() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    thread::spawn(move || {
        for connection in server.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 1024]);
            let running = u32::from(count.fetch_add(1, SeqCst) < 7);
            for part in ["HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n# x\nwork{a=\"b\"} ", &format!("{running}.0\n")] {
                connection.write_all(part.as_bytes()).unwrap();
                thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let began = Instant::now();
    let arguments = ["drain", "--port", &port.to_string(), "--path", "/metrics", "--idle-when-zero", "work", "--within", "30"];
    let output = Command::new(program()).args(arguments).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "bonafide-helper: Idle\n");
    let took = began.elapsed();
    assert!(asked.load(SeqCst) == 9 && took > Duration::from_secs(8) && took < Duration::from_secs(20), "{asked:?}, {took:?}");
}

#[test]
fn a_command_line_that_cannot_be_used_is_an_exit_code_of_its_own() {
    let output = Command::new(program()).args(["drain", "--port", "8000"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--within is missing"));
}
