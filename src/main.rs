//! The one binary: the manager, the container that fetches, and the commands for people.

fn main() -> std::process::ExitCode {
    bonafide::cli::run()
}
