//! The commands. Those for people need no cluster; none of them starts a runtime that it does not need.

mod approve;
mod ask;
pub mod cluster;
mod conformance;
mod crd;
mod engines;
mod explain;
pub mod fetch;
pub mod lint;
mod manager;
mod manifest;
mod measure;
mod pin;
mod recall;
mod render;
mod rollout;
mod sign;
pub mod status;
pub mod verify;
pub mod yaml;

use std::process::ExitCode;

use self::verify::Output;

use clap::{Parser, Subcommand};

/// Serves open-weight AI models on Kubernetes, and only those whose signatures a policy accepts.
///
/// Exit codes of every command: 0 done; 1 no, for a reason that is printed; 2 wrong usage or unreadable input. `fetch` has
/// codes of its own, see its help.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "Examples:
  bonafide verify ./model --key publisher.pem           # is it what was signed?
  bonafide sign ./model --key ours.key                  # sign it yourself
  bonafide lint -f deploy/                              # what a cluster would refuse
  bonafide explain -f model.yaml --cluster              # would it be served here?
  bonafide pin -f model.yaml --in-place                 # the commit and the digest of today
  bonafide status -A                                    # what became of it, cause first
  bonafide rollout undo llama-70b -n chat               # back to the last revision that worked
  bonafide recall llama-70b -n chat --drain             # the policy that takes its bytes out of service

Under the name kubectl-bonafide in the PATH it is also `kubectl bonafide`. Each command has examples: bonafide verify --help"
)]
pub struct Bonafide {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Verify(verify::VerifyArgs),
    Sign(sign::SignArgs),
    Approve(approve::ApproveArgs),
    #[command(hide = true)]
    Conformance(conformance::ConformanceArgs),
    /// Tell what became of ModelDeployments: from the object down to its pods, cause first
    Status(status::StatusArgs),
    /// Look at the history of a ModelDeployment, go back, hold, try again, and wait
    Rollout(rollout::RolloutArgs),
    /// Make the policy that takes a model out of service, of what the cluster recorded of it
    Recall(recall::RecallArgs),
    /// Say what an API server and the manager would refuse, without a cluster
    Lint(lint::LintArgs),
    /// Say whether models would be served, and if not, why: by the policies of files or of a cluster
    Explain(explain::ExplainArgs),
    /// Print the manifest that makes a directory on a server of files a source
    Manifest(manifest::ManifestArgs),
    /// Write the commit and the digest that models stand for now into YAML
    Pin(pin::PinArgs),
    /// Print the objects that a ModelDeployment becomes, without a cluster
    Render(render::RenderArgs),
    /// List the engines that are built in, and what users may set for each
    Engines(engines::EnginesArgs),
    /// Print the CustomResourceDefinitions, or write them into a directory
    Crd(crd::CrdArgs),
    /// Run the operator (what the chart's Deployment runs)
    Manager(manager::ManagerArgs),
    /// Hash the files in a claim, and tell the manager what is there (what a pod for pvc:// sources runs)
    Measure(measure::MeasureArgs),
    /// Fetch and verify a model's files (what the pods' init container runs)
    Fetch(fetch::Fetch),
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let bonafide = match Bonafide::try_parse() {
        Ok(bonafide) => bonafide,
        Err(error) => {
            let _ = error.print();
            // A container that was started wrongly is not one whose weights were refused: `fetch` says so in a code of its own.
            let usage = if std::env::args().nth(1).as_deref() == Some("fetch") { fetch::EXIT_USAGE } else { USAGE };
            return ExitCode::from(if error.use_stderr() { usage } else { 0 });
        }
    };
    match bonafide.command {
        Command::Verify(args) => verify::run(&args),
        Command::Sign(args) => sign::run(&args),
        Command::Approve(args) => approve::run(&args),
        Command::Conformance(args) => conformance::run(&args),
        Command::Status(args) => on_one_thread(status::run(args)),
        Command::Rollout(args) => on_one_thread(rollout::run(args)),
        Command::Recall(args) => on_one_thread(recall::run(args)),
        Command::Lint(args) => lint::run(&args),
        Command::Explain(args) => on_one_thread(explain::run(args)),
        Command::Manifest(args) => manifest::run(&args),
        Command::Pin(args) => on_one_thread(pin::run(args)),
        Command::Render(args) => render::run(&args),
        Command::Engines(args) => engines::run(&args),
        Command::Crd(args) => crd::run(&args),
        Command::Manager(args) => manager::run(&args),
        Command::Measure(args) => on_one_thread(measure::run(args)),
        Command::Fetch(args) => on_one_thread(fetch::run(args)),
    }
}

/// Runs a command that waits for a network. One thread turns its event loop; what computes has threads of its own.
fn on_one_thread(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => fail(1, format_args!("the runtime could not be started: {error}")),
    }
}

/// Exit code for wrong usage and unreadable input.
const USAGE: u8 = 2;

/// Prints a result. Whoever stops reading early (`| head`) has what they wanted.
fn print(text: &str) -> ExitCode {
    use std::io::{ErrorKind, Write as _};

    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(USAGE, format_args!("the result cannot be written: {error}")),
    }
}

/// Says what went wrong, and ends with `code`.
fn fail(code: u8, message: impl std::fmt::Display) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// What the chart, the pods and the conformance suite run.
    const INNER: [&str; 4] = ["manager", "measure", "fetch", "conformance"];

    fn without_examples(command: &clap::Command) -> Vec<String> {
        let help = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string).unwrap_or_default();
        let own = (!help.contains("Example")).then(|| command.get_name().to_owned());
        let below = command.get_subcommands().filter(|below| !INNER.contains(&below.get_name())).flat_map(without_examples);
        own.into_iter().chain(below).collect()
    }

    #[test]
    fn the_help_of_every_command_for_people_shows_an_example() {
        assert_eq!(without_examples(&Bonafide::command()), Vec::<String>::new());
    }

    #[test]
    fn the_manual_has_every_command_for_people() {
        let manual = include_str!("../../docs/commands.md");
        let commands = Bonafide::command();
        let missing: Vec<&str> = commands.get_subcommands().map(clap::Command::get_name).collect();
        let missing: Vec<&str> =
            missing.into_iter().filter(|name| !INNER.contains(name) && !manual.contains(&format!("`{name}"))).collect();
        assert_eq!(missing, Vec::<&str>::new());
    }
}
