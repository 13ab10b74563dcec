//! What the engine does: it loads, breaks down, runs out of memory, or runs and does not become ready.

use jiff::{SignedDuration, Timestamp};

use super::{Case, Progress, Step, quantity, scheduling::sentence, starting};
use crate::{
    api::{Problem, Reason, VOUCHED},
    controller::objects::slim::{SlimContainer, SlimTerminated},
    engine::{human_memory, human_size, readable},
};

/// After so many restarts an engine stops again and again.
const AGAIN_AND_AGAIN: i32 = 3;
/// An engine that loads for longer than this, and than its bytes explain, is asked after.
const SLOW: i64 = 300;
/// Bytes a second that even a slow disk gives.
const SLOW_DISK: u64 = 100_000_000;
/// What an engine needs beside the weights: a fifth of them, and this.
const BESIDE: f64 = 1_073_741_824.0;
/// A context, in tokens, whose cache takes more than the weights of most models do.
const LONG: u64 = 65_536;
/// One whose cache is small beside what an engine needs anyway.
const USUAL: u64 = 4_096;

/// What the container of the engine says.
pub fn progress(case: &Case<'_>, engine: &SlimContainer, now: Timestamp) -> Progress {
    if let Some(problem) = starting::waiting(case, engine) {
        return Progress::stuck(problem);
    }
    let ended = engine.state.terminated.as_ref().or(engine.last_state.terminated.as_ref());
    if engine.ready {
        return vouching(case);
    }
    let Some(running) = &engine.state.running else {
        return match ended {
            Some(ended) => broken_down(case, engine, ended),
            None => match starting::from_events(case) {
                Some(problem) => Progress::stuck(problem),
                None => Progress::new(Step::Pulling, Reason::PullingImage, "The node is getting the engine's image."),
            },
        };
    };
    // Until it has lived for longer than the last time, nothing says that it will go better.
    if let Some(ended) = ended
        && let (Some(since), Some(from), Some(until)) = (running.started_at, ended.started_at, ended.finished_at)
        && now.duration_since(since) < until.duration_since(from) + SignedDuration::from_secs(5)
    {
        return broken_down(case, engine, ended);
    }
    loading(case, engine, running.started_at, now)
}

fn vouching(case: &Case<'_>) -> Progress {
    let vouched = case.pod.condition(VOUCHED).filter(|condition| condition.status == "False" && !condition.message.is_empty());
    match vouched.map(|condition| (condition.reason.as_str(), condition.message.as_str())) {
        Some(("Draining" | "Recalled", message)) => Progress::new(Step::Vouching, Reason::Draining, message),
        Some(("Probing", message)) => Progress::new(Step::Vouching, Reason::Probing, message),
        Some((_, message)) => Progress::new(Step::Stuck, Reason::NotVouched, message),
        None => Progress::new(Step::Vouching, Reason::Vouching, "The pod is being compared with what was written."),
    }
}

/// The engine broke down, and does not run or has not lived for longer since.
fn broken_down(case: &Case<'_>, engine: &SlimContainer, ended: &SlimTerminated) -> Progress {
    let found = Progress::stuck(broke_down(case, engine, ended));
    Progress { lasts: found.lasts || (found.reason == Reason::OutOfMemory && is_too_small(case, engine)), ..found }
}

/// Whether the engine was killed at its own limit again although it has never answered: then loading alone needs more than that.
/// Without a limit it was its node that had no more, and that may pass; so may what many requests needed.
fn is_too_small(case: &Case<'_>, engine: &SlimContainer) -> bool {
    let has_answered = case.pod.condition(VOUCHED).is_some();
    memory_limit(case).is_some() && engine.restart_count > 1 && !has_answered
}

/// The bytes that the engine's container may have.
fn memory_limit(case: &Case<'_>) -> Option<f64> {
    case.looked.and_then(|looked| looked.memory_limit).or(case.asked.memory_limit)
}

/// How the engine broke down.
fn broke_down(case: &Case<'_>, engine: &SlimContainer, ended: &SlimTerminated) -> Problem {
    if ended.reason == "OOMKilled" {
        return out_of_memory(case, engine);
    }
    let killing = case.looked.and_then(|looked| looked.event(&["Killing"]));
    if ended.exit_code != 0
        && let Some(killing) = killing.filter(|event| {
            event.note.contains("probe") && event.at() + SignedDuration::from_secs(120) > ended.finished_at.unwrap_or_default()
        })
    {
        let probe = last_probe(case);
        let message = format!(
            "The engine did not become ready in time and is started again, {}: {} {probe}Let it have more time with probes.startTimeoutSeconds of its InferenceEngine, now {}.",
            times(engine),
            sentence(&killing.note),
            super::fetching::span(case.asked.start_timeout as f64),
        );
        return Problem::new(Reason::ProbeFailing, message);
    }
    let exit = exit(case, ended);
    let crash = case.looked.and_then(|looked| looked.crash.as_ref());
    if let Some(explained) = crash.and_then(|crash| crash.explained.as_ref()) {
        let message =
            format!("{} The engine stopped with {exit}, {}, and is started again.", explained.said.trim(), times(engine));
        return Problem::new(explained.reason, message);
    }
    let lines = crash.map(|crash| crash.last.clone()).filter(|lines| !lines.is_empty());
    let lines = lines.unwrap_or_else(|| last_lines(ended.message.as_bytes()));
    let lines = if lines.is_empty() { "It left no words.".to_owned() } else { format!("Its last lines: {lines}") };
    let reason = if engine.restart_count >= AGAIN_AND_AGAIN { Reason::CrashLooping } else { Reason::EngineFailed };
    Problem::new(reason, format!("The engine stopped with {exit}, {}, and is started again. {lines}", times(engine)))
}

fn exit(case: &Case<'_>, ended: &SlimTerminated) -> String {
    let lies = case.looked.and_then(|looked| looked.crash.as_ref()).is_some_and(|crash| crash.zero_is_crash);
    match ended.exit_code {
        0 if lies => "exit code 0, which this engine also has when it broke down".to_owned(),
        0 => "exit code 0, though it should go on".to_owned(),
        137 => "exit code 137 (killed)".to_owned(),
        code if ended.reason.is_empty() || ended.reason == "Error" => format!("exit code {code}"),
        code => format!("exit code {code} ({})", ended.reason),
    }
}

fn times(engine: &SlimContainer) -> String {
    match engine.restart_count {
        0 | 1 => "once so far".to_owned(),
        more => format!("{more} times so far"),
    }
}

fn out_of_memory(case: &Case<'_>, engine: &SlimContainer) -> Problem {
    let limit = memory_limit(case);
    let weights = case.asked.bytes as f64;
    let estimate = weights * 1.2 + BESIDE;
    // A whole number of gibibytes, and more than what was not enough.
    let needs = estimate.max(limit.unwrap_or_default() * 1.25);
    let gib = (needs / 1_073_741_824.0).ceil();
    let had = limit.map_or_else(
        || "The engine was killed because its node had no more memory".to_owned(),
        |limit| {
            format!("The engine was killed because it needed more than its {} of memory", human_memory(quantity::whole(limit)))
        },
    );
    let (times, size) = (times(engine), human_size(case.asked.bytes));
    // The weights alone would have had room: then it is the cache for the context that had none.
    let long = |context: &u64| limit.map_or(*context >= LONG, |limit| limit >= estimate && *context > USUAL);
    let message = match case.asked.context.filter(long) {
        Some(context) => format!(
            "{had}, {times}. The weights have {size}, and most of the rest goes to a context of {context} tokens: set spec.engine.contextLength to less, or spec.resources.memory to {gib}Gi or more."
        ),
        None => format!(
            "{had}, {times}. The weights have {size}: set spec.resources.memory to {gib}Gi, take a smaller quantisation, or set spec.engine.contextLength to less."
        ),
    };
    Problem::new(Reason::OutOfMemory, message)
}

fn loading(case: &Case<'_>, engine: &SlimContainer, since: Option<Timestamp>, now: Timestamp) -> Progress {
    let started = engine.started == Some(true);
    let age = since.map_or(0, |since| now.duration_since(since).as_secs());
    let patience = SLOW
        .saturating_add(i64::try_from(case.asked.bytes / SLOW_DISK).unwrap_or(i64::MAX))
        .min(case.asked.start_timeout / 2)
        .max(10);
    let path = &case.asked.ready_path;
    if started && (age > patience || is_unready(case, since)) {
        let message = format!("The engine runs, and {path} does not say that it is ready. {}See its log.", last_probe(case));
        return Progress::new(Step::Stuck, Reason::ProbeFailing, message);
    }
    if started {
        return Progress::new(Step::Loading, Reason::Loading, "The engine has loaded, and is asked whether it is ready.");
    }
    if age > patience {
        let limit = super::fetching::span(case.asked.start_timeout as f64);
        let message = format!(
            "The engine has been running for more than {}, and {path} does not say that it is ready. {}After {limit} it is started again (probes.startTimeoutSeconds of its InferenceEngine). See its log.",
            super::fetching::span(patience as f64),
            last_probe(case)
        );
        return Progress::new(Step::Loading, Reason::ProbeFailing, message);
    }
    let message = match &engine.last_state.terminated {
        None => "The engine loads the weights.".to_owned(),
        Some(ended) => {
            format!("The engine loads the weights again. Before, {}", lowered(&broke_down(case, engine, ended).message))
        }
    };
    Progress::new(Step::Loading, Reason::Loading, message)
}

/// Whether the kubelet has asked since this start, and heard that it is not ready. Between the last probe of the start and the
/// first after it nobody has asked.
fn is_unready(case: &Case<'_>, since: Option<Timestamp>) -> bool {
    let mut events = case.looked.iter().flat_map(|looked| &looked.events);
    events.any(|event| event.reason == "Unhealthy" && event.note.starts_with("Readiness") && Some(event.at()) >= since)
}

fn lowered(message: &str) -> String {
    message.strip_prefix("The ").map_or_else(|| message.to_owned(), |rest| format!("the {rest}"))
}

/// What the probe got to hear.
fn last_probe(case: &Case<'_>) -> String {
    let event = case.looked.and_then(|looked| looked.event(&["Unhealthy"]));
    event.map(|event| format!("{} ", sentence(&event.note))).unwrap_or_default()
}

/// The last lines of a log that say something, in one.
pub fn last_lines(log: &[u8]) -> String {
    let lines: Vec<String> = log.split(|byte| *byte == b'\n').map(readable).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(4);
    lines.get(from..).unwrap_or_default().join(" | ")
}
