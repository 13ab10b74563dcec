//! Watches: changes as they come, from a version on.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::{
    AnswerBody, FakeApi,
    caller::{Caller, Tidings},
    partial,
    refuse::Refusal,
    request::Asked,
    select::Selector,
    store::Change,
};
use crate::support::bell;

/// Between two bookmarks.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// The watch of which an event was forgotten ends after this time.
const FORGETFUL: Duration = Duration::from_secs(20);

struct Watch {
    api: FakeApi,
    caller: Caller,
    asked: Asked,
    selector: Selector,
    /// Everything up to this version was told.
    seen: u64,
    changed: bell::Receiver<u64>,
    waiting: VecDeque<Value>,
    /// When the next bookmark is due, if they are wanted.
    bookmark: Option<Instant>,
    end: Instant,
    /// When it is said that the version is too old.
    forgetful: Option<Instant>,
    over: bool,
    /// The change whose lateness was decided.
    decided: (u64, Instant),
}

/// The body of a watch.
pub fn body(api: &FakeApi, caller: &Caller, asked: Asked) -> Result<AnswerBody, Refusal> {
    let selector = Selector::parse(asked.parameter("labelSelector"), asked.parameter("fieldSelector"))?;
    let changed = api.changed();
    let mut waiting = VecDeque::new();
    let seen = match asked.parameter("resourceVersion") {
        "" | "0" => {
            let state = api.state();
            let objects: Vec<_> =
                state.all(asked.kind, &asked.namespace).filter(|object| selector.matches(object)).cloned().collect();
            waiting.extend(objects.iter().map(|object| event("ADDED", object, &asked)));
            state.version
        }
        version => version.parse().map_err(|_| Refusal::bad(format!("Invalid resource version {version}")))?,
    };
    let now = Instant::now();
    let seconds = asked.parameter("timeoutSeconds").parse().unwrap_or(1800);
    let watch = Watch {
        api: api.clone(),
        caller: caller.clone(),
        selector,
        seen,
        changed,
        waiting,
        bookmark: asked.is_set("allowWatchBookmarks").then(|| now + BOOKMARKS),
        end: now + Duration::from_secs(seconds),
        forgetful: None,
        over: false,
        decided: (0, now),
        asked,
    };
    let lines = futures::stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        let line = Bytes::from(format!("{event}\n"));
        Some((Ok::<_, Infallible>(http_body::Frame::data(line)), watch))
    });
    Ok(StreamBody::new(lines).boxed_unsync())
}

impl Watch {
    /// The next event; `None`: the connection ends.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if self.caller.is_dead() {
                std::future::pending::<()>().await;
            }
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            let now = Instant::now();
            if self.over || now >= self.end {
                return None;
            }
            if self.forgetful.is_some_and(|at| now >= at) {
                self.over = true;
                return Some(gone(&Refusal::expired(format!("too old resource version: {}", self.seen))));
            }
            let found =
                self.api.state().next_change(self.asked.kind, &self.asked.namespace, self.seen).map(|found| found.cloned());
            let change = match found {
                Ok(change) => change,
                Err(expired) => {
                    self.over = true;
                    return Some(gone(&expired));
                }
            };
            let until = match change {
                Some(change) => match self.tell(&change, now) {
                    Some(until) => until,
                    None => continue,
                },
                None => {
                    if self.bookmark.is_some_and(|at| now >= at) {
                        self.bookmark = Some(now + BOOKMARKS);
                        return Some(self.bookmark());
                    }
                    self.end.min(self.bookmark.unwrap_or(self.end)).min(self.forgetful.unwrap_or(self.end))
                }
            };
            tokio::select! {
                biased;
                () = self.caller.death() => {}
                () = self.changed.changed() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// Makes events of a change, or says when to look again.
    fn tell(&mut self, change: &Change, now: Instant) -> Option<Instant> {
        let matches = |object: &Option<Arc<Value>>| object.as_ref().is_some_and(|object| self.selector.matches(object));
        let kind = match (matches(&change.before), matches(&change.after)) {
            (false, true) => Some("ADDED"),
            (true, true) => Some("MODIFIED"),
            (true, false) => Some("DELETED"),
            (false, false) => None,
        };
        let Some(kind) = kind else {
            self.seen = change.version;
            return None;
        };
        if self.decided.0 != change.version {
            let tidings = if self.forgetful.is_some() { Tidings::Now } else { self.caller.event(change) };
            self.decided = (change.version, change.at);
            match tidings {
                Tidings::Now => {}
                Tidings::Late(by) => self.decided.1 = change.at + by,
                Tidings::Twice => self.waiting.push_back(self.event(kind, change)),
                Tidings::Break => {
                    self.over = true;
                    return None;
                }
                Tidings::Forget => {
                    self.seen = change.version;
                    self.forgetful = Some(now + FORGETFUL);
                    return None;
                }
            }
        }
        if self.decided.1 > now {
            return Some(self.decided.1.min(self.end));
        }
        self.seen = change.version;
        self.waiting.push_back(self.event(kind, change));
        None
    }

    fn event(&self, kind: &str, change: &Change) -> Value {
        // What no longer matches is told as it is now.
        let object = change.after.as_ref().or(change.before.as_ref()).unwrap();
        event(kind, object, &self.asked)
    }

    fn bookmark(&mut self) -> Value {
        self.seen = self.seen.max(self.api.state().version);
        let metadata = json!({ "resourceVersion": self.seen.to_string(), "creationTimestamp": null });
        let (version, kind) = if self.asked.metadata_only {
            ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadata")
        } else {
            (self.asked.kind.api_version(), self.asked.kind.kind)
        };
        json!({ "type": "BOOKMARK", "object": { "apiVersion": version, "kind": kind, "metadata": metadata } })
    }
}

fn event(kind: &str, object: &Arc<Value>, asked: &Asked) -> Value {
    let object = if asked.metadata_only { partial(object) } else { (**object).clone() };
    json!({ "type": kind, "object": object })
}

fn gone(refusal: &Refusal) -> Value {
    json!({ "type": "ERROR", "object": refusal.body() })
}
