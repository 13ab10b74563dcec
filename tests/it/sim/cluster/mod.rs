//! The rest of a cluster: what makes pods of Deployments, puts them on nodes, runs them, and removes what has no owner.

pub mod collector;
pub mod deployments;
pub mod kubelet;
pub mod scheduler;

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use self::kubelet::Kubelet;
use crate::support::{dice::Dice, fake_api::FakeApi};

/// Runs it all, for ever.
pub async fn run(api: FakeApi, mut kubelet: Kubelet, mut dice: Dice) {
    let mut changed = api.changed();
    let mut collect = Instant::now();
    loop {
        changed.borrow_and_update();
        deployments::look(&api);
        scheduler::look(&api);
        let mut next = kubelet.look(&api);
        if Instant::now() >= collect {
            collector::look(&api);
            collect = Instant::now() + Duration::from_millis(500 + dice.below(1500));
        }
        if collector::has_work(&api) {
            next = next.min(collect);
        }
        if !changed.has_changed() {
            tokio::select! {
                biased;
                () = changed.changed() => {}
                () = sleep_until(next) => {}
            }
        }
        // Nobody reacts at once.
        sleep(Duration::from_millis(1 + dice.below(20))).await;
    }
}
