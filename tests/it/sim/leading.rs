//! One leads, the others stand by: who takes over when, and that nobody writes who may not lead any more.

use std::time::Duration;

use bonafide::runtime::{lease, shutdown::Shutdown};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    manager::{Held, LEASE, Permitted, RESTART},
    world::{SYSTEM, World, simulate},
};
use crate::support::{
    bell,
    dice::Dice,
    fake_api::{
        caller::{Caller, Fate, Plan, Smooth},
        request::Asked,
    },
};

const SECOND: Duration = Duration::from_secs(1);
/// A lease that nobody renews is taken within this time.
const TAKEN: Duration = Duration::from_secs(15 + 3 + 1);

/// A process that is started again when it ends, as its Deployment does it.
fn kept(world: &World, name: &str, plan: impl Plan + Clone + 'static, held: Held) -> (bell::Sender<bool>, Shutdown) {
    let (pause, paused) = bell::channel(false);
    let (world, name, shutdown) = (world.clone(), name.to_owned(), Shutdown::default());
    let first = shutdown.clone();
    tokio::spawn(async move {
        loop {
            let plan = Permitted { plan: Box::new(plan.clone()), oracle: world.oracle.clone() };
            let caller = Caller::new(&name, plan);
            world.process(&caller, &shutdown, paused.clone(), held).await;
            if futures::FutureExt::now_or_never(shutdown.begun()).is_some() {
                return;
            }
            sleep(RESTART).await;
        }
    });
    (pause, first)
}

fn holder(world: &World) -> String {
    let lease = world.api.get("Lease", SYSTEM, LEASE).unwrap_or_default();
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

/// Waits until that process leads: how long it took.
async fn leads(world: &World, name: &str, patience: Duration) -> Duration {
    let began = Instant::now();
    let look = |world: &World| if holder(world) == name { Ok(()) } else { Err(format!("{} leads", holder(world))) };
    world.within(patience, &format!("{name} leads"), look).await;
    began.elapsed()
}

/// Somebody changes something all the time.
async fn busy(world: &World, seconds: u64) {
    for second in 0..seconds / 3 {
        world.change("ModelDeployment", "pear", json!({ "spec": { "replicas": 1 + second % 3 } }));
        sleep(3 * SECOND).await;
    }
}

/// Two processes, of which the first leads and has work.
async fn two(world: &World, plan: impl Plan + Clone + 'static, held: Held) -> (bell::Sender<bool>, Shutdown) {
    let first = kept(world, "bonafide-a", plan, held);
    leads(world, "bonafide-a", 5 * SECOND).await;
    kept(world, "bonafide-b", SmoothToo, Held::Everything);
    world.deploy("pear", &[], json!({}));
    world.ready("pear", 1).await;
    first
}

#[derive(Clone)]
struct SmoothToo;

impl Plan for SmoothToo {
    fn request(&mut self, asked: &Asked) -> Fate {
        Smooth.request(asked)
    }
}

#[test]
fn a_standby_takes_over_when_the_leader_is_killed() {
    simulate(1, async |world| {
        let caller = Caller::new("bonafide-a", Smooth);
        let (process, of) = (world.clone(), caller.clone());
        let paused = bell::channel(false).1;
        tokio::spawn(async move { process.process(&of, &Shutdown::default(), paused, Held::Everything).await });
        leads(world, "bonafide-a", 5 * SECOND).await;
        kept(world, "bonafide-b", SmoothToo, Held::Everything);
        world.deploy("pear", &[], json!({}));
        sleep(3 * SECOND).await;
        caller.die();
        let took = leads(world, "bonafide-b", TAKEN).await;
        assert!(took >= lease::DURATION - lease::RETRY, "it was taken from one that may still live after {took:?}");
        world.ready("pear", 1).await;
    });
}

#[test]
fn a_leader_that_is_told_to_end_hands_over_at_once() {
    simulate(1, async |world| {
        let (_pause, shutdown) = two(world, SmoothToo, Held::Everything).await;
        shutdown.begin();
        let took = leads(world, "bonafide-b", 5 * SECOND).await;
        assert!(took <= lease::RETRY + SECOND, "{took:?}");
        world.change("ModelDeployment", "pear", json!({ "spec": { "replicas": 2 } }));
        world.ready("pear", 2).await;
    });
}

/// From some time on the Lease cannot be reached, and everything else only slowly.
#[derive(Clone)]
struct CutOff {
    from: Duration,
    until: Duration,
    began: Instant,
    dice: Dice,
    lease: Fate,
}

impl Plan for CutOff {
    fn request(&mut self, asked: &Asked) -> Fate {
        let now = self.began.elapsed();
        if now < self.from || now > self.until {
            return Fate::Pass;
        }
        if asked.kind.kind == "Lease" {
            return self.lease.clone();
        }
        if asked.is_write() { Fate::Late(Duration::from_millis(self.dice.below(14_000))) } else { Fate::Pass }
    }
}

fn cut_off(lease: &Fate) {
    for seed in 0..2 {
        simulate(seed, async |world| {
            let plan = CutOff {
                from: 60 * SECOND,
                until: 150 * SECOND,
                began: Instant::now(),
                dice: world.dice(),
                lease: lease.clone(),
            };
            two(world, plan, Held::Everything).await;
            busy(world, 100).await;
            leads(world, "bonafide-b", SECOND).await;
            world.ready("pear", 3).await;
        });
    }
}

#[test]
fn a_leader_that_cannot_renew_its_lease_writes_nothing_after_it() {
    cut_off(&Fate::Broken);
}

#[test]
fn a_leader_whose_renewals_hang_writes_nothing_after_it() {
    cut_off(&Fate::Hang);
}

#[test]
fn a_leader_whose_renewals_arrive_but_are_answered_late_writes_nothing_after_it() {
    for seed in 0..2 {
        simulate(seed, async |world| {
            let slow = Fate::Slow(Duration::from_millis(1900));
            let plan = CutOff { from: 60 * SECOND, until: 100 * SECOND, began: Instant::now(), dice: world.dice(), lease: slow };
            two(world, plan, Held::Everything).await;
            busy(world, 100).await;
            world.ready("pear", 3).await;
        });
    }
}

#[test]
fn a_leader_that_was_paused_writes_nothing_when_it_goes_on() {
    for held in [Held::Everything, Held::Statuses] {
        paused(held);
    }
}

fn paused(held: Held) {
    for seed in 0..2 {
        simulate(seed, async |world| {
            let broken =
                CutOff { from: 60 * SECOND, until: 90 * SECOND, began: Instant::now(), dice: world.dice(), lease: Fate::Hang };
            let (pause, _) = two(world, broken, held).await;
            // The status comes last, and then waits for its turn.
            let begins: u64 = if held == Held::Everything { 60 } else { 50 };
            busy(world, begins.saturating_sub(world.oracle.age().as_secs())).await;
            pause.send_replace(true);
            busy(world, 40).await;
            leads(world, "bonafide-b", SECOND).await;
            pause.send_replace(false);
            busy(world, 20).await;
            world.change("ModelDeployment", "pear", json!({ "spec": { "replicas": 2 } }));
            world.ready("pear", 2).await;
        });
    }
}
