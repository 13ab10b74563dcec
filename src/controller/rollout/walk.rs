//! Random walks through rollouts: a small cluster in which pods become ready, fail and find no room, and what must hold at every
//! step of every walk.

use super::{
    tests::{at, pod},
    *,
};
use crate::api::{Canary, Strategy};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

struct World {
    random: Random,
    revisions: Vec<Seen>,
    current: String,
    replicas: i32,
    rollout: Rollout,
    now: i64,
    /// Pods that fit into the cluster.
    room: usize,
    made: u64,
    /// Whether engines come up.
    healthy: bool,
}

impl World {
    fn new(seed: u64, strategy: Strategy) -> Self {
        let mut random = Random(seed);
        let replicas = i32::try_from(1 + random.below(6)).unwrap();
        let canary = (strategy == Strategy::Canary).then(|| Canary { percent: Some(30), hold: Some("60s".parse().unwrap()) });
        let rollout = Rollout { strategy, canary, ..Rollout::default() };
        // Explicit surges need room for them; the others manage with less than is wanted.
        let spare = match strategy {
            Strategy::Surge => 3,
            _ => i32::try_from(random.below(4)).unwrap() - i32::from(replicas > 2),
        };
        let room = usize::try_from(replicas + spare).unwrap();
        let mut world =
            Self { random, revisions: vec![], current: String::new(), replicas, rollout, now: 0, room, made: 0, healthy: true };
        world.change();
        world
    }

    /// The author wants something else.
    fn change(&mut self) {
        self.made += 1;
        let name = format!("r{}", self.made);
        self.revisions.push(Seen {
            name: name.clone(),
            number: i64::try_from(self.made).unwrap(),
            asked: None,
            asked_since: None,
            since: None,
            pods: vec![],
            leaving: 0,
            counted_since: None,
            gave_room: false,
            standing: Standing::Good,
            may_serve: true,
            refused_since: None,
            asked_for: false,
            drained_by: vec![],
            stands_in: true,
            answered: false,
            whole: false,
            tried: false,
            deadline: Duration::from_secs(600),
            trouble: None,
        });
        self.current = name;
    }

    fn wish(&self) -> Wish<'_> {
        let current = self.revisions.iter().find(|revision| revision.name == self.current && revision.may_serve);
        Wish { replicas: self.replicas, current: current.map(|current| current.name.as_str()), rollout: &self.rollout }
    }

    fn answering(&self) -> i32 {
        self.revisions.iter().map(Seen::answering).sum()
    }

    fn total(&self) -> i32 {
        self.revisions.iter().map(Seen::occupied).sum()
    }

    /// What the controllers and nodes of a cluster do with a step.
    fn act(&mut self, step: &Step) {
        let now = at(self.now);
        if let Some((name, _)) = &step.given_up {
            self.revisions.iter_mut().find(|revision| &revision.name == name).unwrap().standing = Standing::Failed;
        }
        for revision in &mut self.revisions {
            for pod in &mut revision.pods {
                if step.take_back.contains(&pod.name) {
                    pod.draining_since = None;
                    pod.rank.3 = 0;
                    if pod.class == Class::Draining {
                        (pod.class, pod.rank.2, pod.answers_since, pod.idle) = (Class::Answering, true, Some(now), false);
                    }
                }
                if step.drain.contains(&pod.name) {
                    assert_eq!(pod.class, Class::Answering);
                    (pod.class, pod.rank, pod.answers_since) = (Class::Draining, (true, true, false, -1000), None);
                    pod.draining_since = Some(now);
                }
            }
        }
        for (at_, fate) in step.fates.iter().enumerate() {
            let revision = &mut self.revisions[at_];
            match fate {
                Fate::Rest => {
                    assert!(revision.pods.is_empty(), "pods of {} are deleted together", revision.name);
                    (revision.asked, revision.since) = (None, None);
                }
                Fate::Keep(replicas) => {
                    revision.since.get_or_insert(now);
                    revision.asked = Some(*replicas);
                }
            }
        }
        self.replica_sets();
    }

    fn replica_sets(&mut self) {
        for revision in &mut self.revisions {
            let asked = usize::try_from(revision.asked.unwrap_or(0)).unwrap();
            if revision.pods.len() != asked {
                revision.counted_since = Some(at(self.now));
                revision.gave_room = revision.pods.len() > asked;
            }
            while revision.pods.len() > asked {
                let first = revision.pods.iter().map(|pod| pod.rank).min().unwrap();
                let equal: Vec<usize> = (0..revision.pods.len()).filter(|i| revision.pods[*i].rank == first).collect();
                let taken = equal[usize::try_from(self.random.below(equal.len() as u64)).unwrap()];
                let pod = revision.pods.remove(taken);
                let finished =
                    pod.idle || pod.draining_since.is_some_and(|since| at(self.now).duration_since(since).as_secs() >= 120);
                assert!(pod.class < Class::Draining || finished, "{pod:?} was deleted with its work");
            }
            while revision.pods.len() < asked {
                self.made += 1;
                let name = format!("{}-{}", revision.name, self.made);
                revision.pods.push(Pod { created: Some(at(self.now)), ..pod(&name, Class::Pending) });
            }
        }
    }

    /// Something happens to some pods.
    fn time(&mut self, calm: bool) {
        self.now += i64::try_from(1 + self.random.below(15)).unwrap();
        let placed = |world: &Self| world.revisions.iter().flat_map(|r| &r.pods).filter(|pod| pod.class > Class::Pending).count();
        for at_ in 0..self.revisions.len() {
            for number in 0..self.revisions[at_].pods.len() {
                let dice = self.random.below(100);
                // Who waits for a verdict that does not come gets no node.
                let fits = placed(self) < self.room && self.revisions[at_].may_serve;
                let comes_up = self.healthy || self.revisions[at_].name != self.current;
                let refused = !self.revisions[at_].may_serve;
                let pod = &mut self.revisions[at_].pods[number];
                match pod.class {
                    Class::Pending if fits => {
                        (pod.class, pod.rank, pod.no_room_since) = (Class::Loading, (true, false, false, 0), None)
                    }
                    Class::Pending if refused => {}
                    Class::Pending => {
                        pod.no_room_since.get_or_insert(at(self.now));
                    }
                    Class::Loading if comes_up && dice < 40 => {
                        (pod.class, pod.rank, pod.answers_since) =
                            (Class::Answering, (true, true, true, pod.rank.3), Some(at(self.now)));
                    }
                    Class::Draining if dice < 30 => pod.idle = true,
                    Class::Answering | Class::Draining if !calm && dice > 97 => {
                        (pod.class, pod.rank, pod.answers_since) = (Class::Loading, (true, true, false, pod.rank.3), None);
                    }
                    _ => {}
                }
            }
        }
    }

    fn remember(&mut self) {
        for revision in &mut self.revisions {
            revision.answered |= revision.answering() > 0;
        }
    }

    /// So many replicas can answer at most.
    fn possible(&self) -> i32 {
        self.replicas.min(i32::try_from(self.room).unwrap())
    }

    fn is_done(&self) -> bool {
        let whole = |revision: &Seen| revision.answering() == self.possible() && revision.occupied() == self.replicas;
        self.revisions.iter().filter(|revision| whole(revision)).count() == 1 && self.total() == self.replicas
    }
}

fn walk(seed: u64, strategy: Strategy, calm: bool) {
    let mut world = World::new(seed, strategy);
    let mut changes = 3;
    for _ in 0..6000 {
        let step = step(&world.revisions, &world.wish(), at(world.now));
        assert_eq!(step, super::step(&world.revisions, &world.wish(), at(world.now)), "seed {seed}: not deterministic");
        let before = (world.answering(), world.total());
        world.act(&step);
        let (wanted, answering, total) = (world.replicas, world.answering(), world.total());
        let surge = share::surge(wanted).max(1);
        assert!(total <= (wanted + surge).max(before.1), "seed {seed}: {total} pods of {wanted} + {surge}");
        if strategy == Strategy::Surge {
            assert!(answering >= before.0.min(wanted), "seed {seed}: {answering} of {wanted} answer, {} did", before.0);
        } else {
            let least = (world.possible() - 1).max(i32::from(wanted > 1));
            assert!(answering >= before.0.min(least), "seed {seed}: {answering} of {wanted} answer, {} did", before.0);
        }
        let may_fail = !calm || !world.healthy || (wanted > 1 && world.room < 2);
        assert!(may_fail || step.given_up.is_none(), "seed {seed}, {strategy:?}: {:?}", step.given_up);
        if world.is_done() && step.given_up.is_none() {
            let settled = super::step(&world.revisions, &world.wish(), at(world.now));
            assert!(settled.drain.is_empty() && settled.take_back.is_empty(), "seed {seed}: {settled:?}");
            if changes == 0 {
                return;
            }
            changes -= 1;
            match world.random.below(5) {
                0 => {
                    let fits = world.room - if strategy == Strategy::Surge { 2 } else { 0 };
                    world.replicas = i32::try_from(1 + world.random.below(6)).unwrap().min(i32::try_from(fits).unwrap());
                }
                1 => world.healthy = false,
                _ => world.healthy = true,
            }
            if !world.healthy || world.random.below(2) == 0 {
                world.change();
            }
        }
        world.time(calm);
        world.remember();
    }
    let step = step(&world.revisions, &world.wish(), at(world.now));
    panic!("seed {seed}, {strategy:?}: no end at {} for {:?}, {step:#?} of {:#?}", at(world.now), world.wish(), world.revisions);
}

impl World {
    /// A policy says that what runs of these revisions is to go, or nobody says so of any.
    fn recall(&mut self, is_recalled: impl Fn(&Seen) -> bool) {
        let now = at(self.now);
        for revision in &mut self.revisions {
            let recalled = is_recalled(revision);
            revision.may_serve = !recalled;
            revision.asked_for = revision.name == self.current;
            revision.refused_since = recalled.then_some(now);
            revision.drained_by = if recalled { vec!["strict".into()] } else { vec![] };
        }
    }

    /// One step, and what must hold after it while something is recalled.
    fn go_on(&mut self, seed: u64) -> Step {
        let stays = |world: &Self| world.revisions.iter().filter(|one| !one.is_drained()).map(Seen::answering).sum::<i32>();
        let (before, total) = (stays(self), self.total());
        let step = step(&self.revisions, &self.wish(), at(self.now));
        self.act(&step);
        for revision in self.revisions.iter().filter(|revision| revision.is_drained()) {
            assert_eq!(revision.answering(), 0, "seed {seed}: what is recalled is routed to, {step:?} of {revision:?}");
            assert!(revision.asked.unwrap_or(0) <= number(revision.pods.len()), "seed {seed}: more of what is recalled");
        }
        let least = (self.possible() - 1).max(i32::from(self.replicas > 1));
        assert!(stays(self) >= before.min(least), "seed {seed}: {} of what may serve answer, {before} did", stays(self));
        // Those that leave and those that serve instead.
        let most = 2 * self.replicas + share::surge(self.replicas);
        assert!(self.total() <= most.max(total), "seed {seed}: {} pods for {}", self.total(), self.replicas);
        self.time(true);
        self.remember();
        step
    }

    fn until(&mut self, seed: u64, what: &str, is: impl Fn(&Self) -> bool) {
        for _ in 0..4000 {
            if is(self) {
                return;
            }
            self.go_on(seed);
        }
        let step = step(&self.revisions, &self.wish(), at(self.now));
        panic!("seed {seed}, not at {}: {what}; {step:#?} of {:#?}", at(self.now), self.revisions);
    }
}

/// An old revision and a new one, and policies that recall one of them or both and change their mind, at any moment of a rollout.
fn walk_with_recalls(seed: u64, strategy: Strategy) {
    let mut world = World::new(seed, strategy);
    // All that are wanted find room.
    world.room = world.room.max(usize::try_from(world.replicas).unwrap()).max(2);
    world.until(seed, "the first is whole", World::is_done);
    world.revisions[0].whole = true;
    for round in 0..3 {
        if round < 2 {
            world.change();
        }
        for _ in 0..world.random.below(30) {
            world.go_on(seed);
        }
        let current = world.current.clone();
        let all = world.random.below(4) == 0;
        match world.random.below(2) {
            0 => world.recall(|revision| all || revision.name == current),
            _ => world.recall(|revision| all || revision.name != current),
        }
        // Sometimes it is lifted before all are gone.
        if world.random.below(3) == 0 {
            for _ in 0..world.random.below(10) {
                world.go_on(seed);
            }
        } else {
            let gone = |world: &World| world.revisions.iter().all(|one| !one.is_drained() || one.pods.is_empty());
            world.until(seed, "what is recalled is gone", gone);
            let may = |one: &Seen| one.may_serve && (one.answered || one.name == current);
            if world.revisions.iter().any(may) {
                let serves = |world: &World| world.answering() == world.possible();
                world.until(seed, "what may serve does", serves);
            }
        }
        world.recall(|_| false);
        let is_whole = |world: &World| {
            let current = world.revisions.iter().find(|one| one.name == world.current);
            world.is_done() && current.is_some_and(|current| current.answering() == world.possible())
        };
        world.until(seed, "what is asked for comes back by itself", is_whole);
    }
}

#[test]
fn whatever_is_recalled_at_any_moment_is_unrouted_at_once_and_comes_back_when_that_is_lifted() {
    for seed in 0..160 {
        for strategy in [Strategy::Surge, Strategy::Auto, Strategy::OneByOne, Strategy::Canary] {
            walk_with_recalls(seed, strategy);
        }
    }
}

#[test]
fn every_walk_ends_and_loses_nothing_on_its_way() {
    for seed in 0..160 {
        for strategy in [Strategy::Surge, Strategy::Auto, Strategy::OneByOne, Strategy::Canary] {
            walk(seed, strategy, seed % 2 == 0);
        }
    }
}
