//! What is told in Events, when not everything can be written.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::json;
use tokio::time::sleep;

use super::world::{World, simulate};
use crate::support::fake_api::{
    caller::{Fate, Plan},
    refuse::Refusal,
    request::Asked,
};

/// The API server refuses every write of one kind or subresource while this lasts.
struct Refusing {
    kind: &'static str,
    subresource: &'static str,
    code: u16,
    lasts: Arc<AtomicBool>,
}

impl Plan for Refusing {
    fn request(&mut self, asked: &Asked) -> Fate {
        let meant = asked.is_write() && asked.kind.kind == self.kind && asked.subresource == self.subresource;
        if meant && self.lasts.load(Relaxed) {
            Fate::Refuse(Refusal::new(self.code, "InternalError", "Internal error occurred"))
        } else {
            Fate::Pass
        }
    }
}

/// A model that a policy refuses, told of by a manager whose writes of that kind are refused for so many seconds: its Events.
async fn told(world: &World, kind: &'static str, subresource: &'static str, code: u16, seconds: u64) -> Vec<(String, u64)> {
    let lasts = Arc::new(AtomicBool::new(true));
    let of_it = lasts.clone();
    world.keep_running(move |_| Box::new(Refusing { kind, subresource, code, lasts: of_it.clone() }));
    world.policy("strict", 1);
    world.deploy("pear", &[], json!({}));
    sleep(Duration::from_secs(seconds)).await;
    lasts.store(false, Relaxed);
    sleep(Duration::from_secs(600)).await;
    let count = |event: &serde_json::Value| event["series"]["count"].as_u64().unwrap_or(1);
    let events = world.api.all("Event");
    let mut events: Vec<_> = events.iter().map(|event| (event["reason"].as_str().unwrap().to_owned(), count(event))).collect();
    events.sort();
    events
}

fn each_once() -> Vec<(String, u64)> {
    ["Resolved", "Unsigned"].map(|reason| (reason.to_owned(), 1)).to_vec()
}

#[test]
fn an_event_that_cannot_be_written_for_a_while_is_written_later_and_once() {
    for (code, seconds) in [(500, 30), (403, 30), (429, 1800)] {
        simulate(1, async |world| assert_eq!(told(world, "Event", "", code, seconds).await, each_once(), "{code}"));
    }
}

#[test]
fn while_the_status_cannot_be_written_nothing_is_told_twice() {
    for (code, seconds) in [(500, 300), (409, 300), (422, 1800)] {
        simulate(1, async |world| {
            assert_eq!(told(world, "ModelDeployment", "status", code, seconds).await, each_once(), "{code}");
        });
    }
}
