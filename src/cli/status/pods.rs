//! What a pod does, in a few words.

use serde_json::{Value, json};

use super::draw::Paint;
use crate::api::{GATE, VOUCHED};

/// What a pod does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doing {
    /// In a word.
    pub state: String,
    /// How that is to be taken.
    pub paint: Paint,
    /// More, when there is more to say.
    pub note: String,
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A pod's condition: its status, and what is said of it.
fn condition<'a>(pod: &'a Value, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let found = list(pod, "/status/conditions").find(|condition| text(condition, "/type") == kind)?;
    Some((text(found, "/status"), text(found, "/reason"), text(found, "/message")))
}

/// How often the containers of the pod were started again.
pub fn restarts(pod: &Value) -> i64 {
    let all = list(pod, "/status/initContainerStatuses").chain(list(pod, "/status/containerStatuses"));
    all.filter_map(|container| container.get("restartCount").and_then(Value::as_i64)).sum()
}

/// What the pod does; `refused` is why the policies refuse what it would serve, if they do.
pub fn doing(pod: &Value, refused: Option<&str>) -> Doing {
    let say = |state: &str, paint, note: &str| Doing { state: state.to_owned(), paint, note: note.to_owned() };
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return say("Stopping", Paint::Dim, "");
    }
    match text(pod, "/status/phase") {
        "Failed" => return say(or(text(pod, "/status/reason"), "Failed"), Paint::Bad, text(pod, "/status/message")),
        "Succeeded" => return say("Ended", Paint::Bad, "every container has ended"),
        _ => {}
    }
    if let Some(("True", ..)) = condition(pod, "Ready") {
        return say("Ready", Paint::Good, "");
    }
    if list(pod, "/spec/schedulingGates").any(|gate| gate.get("name") == Some(&json!(GATE))) {
        return match refused {
            Some(why) => say("Refused", Paint::Bad, why),
            None => say("Gated", Paint::Busy, "waits for its verdict"),
        };
    }
    if let Some(("False", reason, message)) = condition(pod, "PodScheduled") {
        return say(or(reason, "Unscheduled"), Paint::Bad, message);
    }
    let init = list(pod, "/status/initContainerStatuses").map(|container| (container, true));
    for (container, is_init) in init.chain(list(pod, "/status/containerStatuses").map(|container| (container, false))) {
        if let Some(doing) = container_doing(container, is_init) {
            return doing;
        }
    }
    match condition(pod, VOUCHED) {
        Some(("False", "Draining", message)) => say("Draining", Paint::Dim, message),
        Some(("False", "Recalled", message)) => say("Recalled", Paint::Bad, message),
        Some(("False", reason, message)) => say(or(reason, "NotVouched"), Paint::Bad, message),
        _ if list(pod, "/status/containerStatuses").next().is_some() => say("Vouching", Paint::Busy, ""),
        _ => say(or(text(pod, "/status/phase"), "Pending"), Paint::Busy, ""),
    }
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

/// What a container says of its pod; nothing when all is well with it.
fn container_doing(container: &Value, is_init: bool) -> Option<Doing> {
    let name = text(container, "/name");
    let last = text(container, "/lastState/terminated/message");
    let ended = |pointer: &str| {
        let code = container.pointer(&format!("{pointer}/exitCode")).and_then(Value::as_i64).unwrap_or_default();
        (code, text(container, &format!("{pointer}/reason")), text(container, &format!("{pointer}/message")))
    };
    if container.pointer("/state/waiting").is_some() {
        let reason = text(container, "/state/waiting/reason");
        let message = or(text(container, "/state/waiting/message"), last);
        let calm = matches!(reason, "" | "PodInitializing" | "ContainerCreating");
        if calm && container.get("restartCount").and_then(Value::as_i64).unwrap_or_default() == 0 {
            // While the init containers work, the others wait.
            let starting =
                Doing { state: "Starting".to_owned(), paint: Paint::Busy, note: format!("container {name} is being made") };
            return (is_init || reason != "PodInitializing").then_some(starting);
        }
        let before = match ended("/lastState/terminated") {
            (0, "", _) => String::new(),
            (code, reason, _) => format!("; before that it ended with {} (exit code {code})", or(reason, "an error")),
        };
        return Some(Doing {
            state: or(reason, "Waiting").to_owned(),
            paint: Paint::Bad,
            note: format!("{name}: {message}{before}"),
        });
    }
    if container.pointer("/state/terminated").is_some() {
        let (code, reason, message) = ended("/state/terminated");
        if is_init && code == 0 {
            return None;
        }
        let note = format!("{name} ended with exit code {code}{}{message}", if message.is_empty() { "" } else { ": " });
        return Some(Doing { state: or(reason, "Ended").to_owned(), paint: Paint::Bad, note });
    }
    if is_init {
        let state = if name == "fetch" { "Fetching" } else { "Starting" };
        return Some(Doing { state: state.to_owned(), paint: Paint::Busy, note: String::new() });
    }
    let ready = container.get("ready").and_then(Value::as_bool).unwrap_or_default();
    (!ready).then(|| Doing { state: "Loading".to_owned(), paint: Paint::Busy, note: String::new() })
}
