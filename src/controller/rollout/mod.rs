//! How many replicas each revision has, and which pods are unrouted first: one pure function of what is seen and what is wanted.
//!
//! It knows no client and keeps no memory: what it sees is enough to go on, after a crash too. Replicas move from the revisions
//! that were to the one that is wanted ([`share`]); whoever has to go is unrouted, finishes its work, and then goes ([`victims`]);
//! a revision that does not come up is given up while another answers ([`failure`]).

mod failure;
mod say;
mod seen;
mod share;
mod victims;

use std::{cmp::Reverse, time::Duration};

use jiff::{SignedDuration, Timestamp};

pub use self::{
    failure::deadline,
    say::{Said, policies},
    seen::{Looks, is_leaving, of_pod},
};
use crate::api::Rollout;

/// How long a replica may go on with its requests, when nobody says otherwise.
pub const DRAIN: Duration = Duration::from_secs(120);
/// How long a pod has to find no room before one of the old makes some, and how long who waits may take to find what was made.
const NO_ROOM: Duration = Duration::from_secs(20);
/// How long pods that do not answer keep their nodes when the policies refuse them: a policy that is being replaced costs nobody
/// another download.
const REFUSED: Duration = Duration::from_secs(60);
/// How often pods that drain are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// So many revisions keep their Deployments to be gone back to, the present one included.
const WAYS_BACK: usize = 3;

/// What deleting a pod costs that is to go: less than any other of its ReplicaSet.
pub const COST: i64 = -1000;

/// How far a pod is. In this order they are let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It has no node.
    Pending,
    /// It fetches, loads, or does not answer any more.
    Loading,
    /// It could answer, gets no new requests, and is to go.
    Draining,
    /// It answers.
    Answering,
}

/// Where a ReplicaSet has a pod in its order of whom to delete first: has a node, runs, is ready, costs.
pub type Rank = (bool, bool, bool, i64);

/// A pod that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// How far it is.
    pub class: Class,
    /// Where its ReplicaSet has it.
    pub rank: Rank,
    /// Since when it answers, if it does.
    pub answers_since: Option<Timestamp>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Since when it does not answer any more, if it ever did.
    pub silent_since: Option<Timestamp>,
    /// Since when the scheduler finds no room for it.
    pub no_room_since: Option<Timestamp>,
    /// Since when it is to go.
    pub draining_since: Option<Timestamp>,
    /// Whether its engine has no work any more.
    pub idle: bool,
    /// How often its engine was started again.
    pub restarts: i32,
}

/// Whether a revision can be gone to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It can.
    Good,
    /// Its bytes were not those that were judged.
    Refused,
    /// It did not come up.
    Failed,
}

/// A revision as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Later ones are greater.
    pub number: i64,
    /// Replicas that its Deployment asks for; `None` when there is no Deployment.
    pub asked: Option<i32>,
    /// Since when it asks for so many, as far as is known.
    pub asked_since: Option<Timestamp>,
    /// When that Deployment was made.
    pub since: Option<Timestamp>,
    /// Its pods, those that are over apart.
    pub pods: Vec<Pod>,
    /// Pods that are on their way out.
    pub leaving: usize,
    /// Since when it has as many pods on nodes, those on their way out included.
    pub counted_since: Option<Timestamp>,
    /// Whether it had more before that, as far as is known: one of it made room.
    pub gave_room: bool,
    /// Whether it can be gone to.
    pub standing: Standing,
    /// Whether the policies let new pods of it in.
    pub may_serve: bool,
    /// Since when the policies are seen to refuse it. `None` also when it is not known what they say.
    pub refused_since: Option<Timestamp>,
    /// Whether it is what is asked for today, be it refused or not.
    pub asked_for: bool,
    /// The policies by which what runs of it is to go (`onRecall: Drain`); none: nobody says so.
    pub drained_by: Vec<String>,
    /// Whether it may take the place of one that is to go: it serves the same source, and is reached by its names.
    pub stands_in: bool,
    /// Whether a pod of it ever answered.
    pub answered: bool,
    /// Whether it ever answered for all replicas, alone.
    pub whole: bool,
    /// Whether it has passed its trial (`rollout.strategy: Canary`).
    pub tried: bool,
    /// How long it may take to answer with its next replica.
    pub deadline: Duration,
    /// What is in the way of those of its pods that do not answer, in a sentence.
    pub trouble: Option<String>,
}

impl Seen {
    fn count(&self, is: impl Fn(&Pod) -> bool) -> i32 {
        number(self.pods.iter().filter(|pod| is(pod)).count())
    }

    /// Pods that answer.
    fn answering(&self) -> i32 {
        self.count(|pod| pod.class == Class::Answering)
    }

    /// Whether what runs of it is to go at once, whoever else answers.
    fn is_drained(&self) -> bool {
        !self.drained_by.is_empty()
    }

    /// The most pods that stay when those of a refused revision go that get no requests any more.
    fn not_going(&self) -> i32 {
        match self.count(|pod| pod.class == Class::Draining) {
            going if going > 0 && self.refused_since.is_some() => number(self.pods.len()) - going,
            _ => i32::MAX,
        }
    }

    /// Pods that answer, or would when they were taken back.
    fn capable(&self) -> i32 {
        self.count(|pod| pod.class >= Class::Draining)
    }

    /// Pods that answer, would when they were taken back, or did and may come back: an engine that was started again is given as
    /// long as a new one.
    fn lasting(&self, now: Timestamp) -> i32 {
        self.capable().saturating_add(self.count(|pod| self.comes_back(pod, now).is_some()))
    }

    /// How long a pod still has to answer again, if it did.
    fn comes_back(&self, pod: &Pod, now: Timestamp) -> Option<Duration> {
        let since = pod.silent_since.filter(|_| pod.class == Class::Loading)?;
        Some(left(Some(since), self.deadline, now)).filter(|left| !left.is_zero())
    }

    /// When the next of those that did answer has had its time.
    fn gives_up(&self, now: Timestamp) -> Option<Duration> {
        self.pods.iter().filter_map(|pod| self.comes_back(pod, now)).min()
    }

    /// What decides which one is gone back to: the one that has served everybody, the one that serves most, the newest.
    fn proven(&self) -> (bool, i32, i64) {
        (self.whole, self.capable(), self.number)
    }

    /// Whether it can be gone back to: it has answered before, and may again.
    fn is_way_back(&self) -> bool {
        self.standing == Standing::Good && self.may_serve && self.asked.is_some() && (self.answered || self.capable() > 0)
    }

    /// Pods that there are or will be.
    fn occupied(&self) -> i32 {
        number(self.pods.len()).max(self.asked.unwrap_or(0))
    }
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// How many replicas.
    pub replicas: i32,
    /// The revision that answers today's wish and may be served.
    pub current: Option<&'a str>,
    /// How it is got there.
    pub rollout: &'a Rollout,
}

impl Wish<'_> {
    fn drain(&self) -> Duration {
        self.rollout.drain.as_ref().map_or(DRAIN, |drain| drain.length())
    }
}

/// What becomes of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its Deployment has so many replicas.
    Keep(i32),
    /// Its Deployment goes, and what the pods of it need; what it was stays as history.
    Rest,
}

/// One step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// The fate of each revision, in the order in which they were seen.
    pub fates: Vec<Fate>,
    /// Names of pods to unroute now.
    pub drain: Vec<String>,
    /// Names of pods that were to go, and are wanted again.
    pub take_back: Vec<String>,
    /// Of those to unroute now, the ones that go because a policy says so: whoever else answers.
    pub recalled: Vec<String>,
    /// The revision in which all replicas are to be; `None` when there is none that could be gone to.
    pub target: Option<String>,
    /// So many have to go on answering.
    pub floor: i32,
    /// The revision that has passed its trial now.
    pub tried: Option<String>,
    /// A revision that is given up now, and why.
    pub given_up: Option<(String, String)>,
    /// What to say of it.
    pub said: Option<Said>,
    /// When this has to be looked at again, events or none.
    pub again: Option<Duration>,
}

impl Step {
    /// The same when pods could not be marked: nobody is unrouted, and nobody is routed to again.
    pub fn without_marks(self) -> Self {
        Self { drain: vec![], take_back: vec![], recalled: vec![], ..self }
    }

    /// The same when nothing may be done now: it is looked at again after this time.
    pub fn held_back(self, again: Duration) -> Self {
        let mut held = Self { given_up: None, tried: None, ..self.without_marks() };
        held.look_again(again);
        held
    }

    /// This has to be looked at again after this time, if not sooner.
    pub fn look_again(&mut self, after: Duration) {
        soonest(&mut self.again, Some(after));
    }
}

/// The next step.
///
/// Without a current revision nothing is added and nothing is lost: what serves goes on, as far as it is wanted.
pub fn step(seen: &[Seen], wish: &Wish<'_>, now: Timestamp) -> Step {
    let mut seen = seen.to_vec();
    let mut step = Step::default();
    let current = seen.iter().position(|revision| Some(revision.name.as_str()) == wish.current);
    if let Some(at) = current {
        let (cause, again) = failure::of(&seen, at, wish, now);
        step.again = again;
        if let (Some(cause), Some(revision)) = (cause, seen.get_mut(at)) {
            revision.standing = Standing::Failed;
            step.given_up = Some((revision.name.clone(), cause));
        }
    }
    let target = current.and_then(|at| target(&seen, at));
    let plan = match target {
        Some(target) => share::between(&seen, target, wish, now),
        None => share::of_what_is_left(&seen, current, wish, now),
    };
    soonest(&mut step.again, plan.again);
    step.floor = plan.floor;
    // Who answers now may be unrouted as long as enough others answer.
    let stay = seen.iter().filter(|revision| !revision.is_drained());
    let mut spare = (stay.map(Seen::answering).sum::<i32>() - plan.floor).max(0);
    let ways_back = ways_back(&seen);
    let instead = seen.iter().zip(&plan.each).any(|(revision, wanted)| revision.may_serve && *wanted > 0);
    let whole = target.and_then(|at| seen.get(at)).is_some_and(|target| target.answering() >= wish.replicas);
    for (at, revision) in seen.iter().enumerate() {
        let wanted = plan.each.get(at).copied().unwrap_or(0);
        let going = victims::of(revision, wanted, if revision.is_drained() { i32::MAX } else { spare }, wish.drain(), now);
        if revision.is_drained() {
            step.recalled.extend(going.to_drain.iter().cloned());
        } else {
            spare -= number(going.to_drain.len());
        }
        step.drain.extend(going.to_drain);
        if going.looked_at {
            soonest(&mut step.again, Some(LOOK));
        }
        step.take_back.extend(going.taken_back);
        let empty = wanted == 0 && revision.pods.is_empty() && revision.leaving == 0;
        // One that is to go keeps its name until the policies change their mind, unless another one of ours does.
        let waits = current.is_none() && !instead && revision.is_drained() && revision.asked.is_some();
        let kept = Some(at) == target || Some(at) == current || waits;
        // Until the new one is whole, it can be gone back to the old one at once.
        let done = revision.asked.is_none() || whole || !ways_back.contains(&at);
        step.fates.push(if empty && !kept && done { Fate::Rest } else { Fate::Keep(going.replicas) });
    }
    let is_current = target.is_some() && target == current;
    step.tried = target.and_then(|at| seen.get(at)).filter(|_| is_current && plan.passed).map(|new| new.name.clone());
    step.target = target.and_then(|at| seen.get(at)).map(|revision| revision.name.clone());
    step.said = say::of(&seen, current, target, wish, &plan, &step);
    step
}

/// The step while nothing is to be changed: everything stays as it is, and who was to go is taken back; only what the policies say
/// is to go goes all the same. Nobody holds that back who may write the ModelDeployment.
pub fn hold(seen: &[Seen], wish: &Wish<'_>, now: Timestamp) -> Step {
    let mut step = Step { floor: i32::MAX, ..Step::default() };
    for revision in seen {
        if !revision.is_drained() {
            let stays_out = |pod: &&Pod| pod.class == Class::Draining && revision.refused_since.is_some();
            let marked = revision.pods.iter().filter(|pod| pod.draining_since.is_some() && !stays_out(pod));
            step.take_back.extend(marked.map(|pod| pod.name.clone()));
            step.fates.push(revision.asked.map_or(Fate::Rest, Fate::Keep));
            continue;
        }
        let going = victims::of(revision, 0, i32::MAX, wish.drain(), now);
        step.fates.push(revision.asked.map_or(Fate::Rest, |_| Fate::Keep(going.replicas)));
        step.recalled.extend(going.to_drain.iter().cloned());
        step.drain.extend(going.to_drain);
        if going.looked_at {
            step.look_again(LOOK);
        }
    }
    step
}

/// Where the replicas are to be: the current revision; or the one before it, when that can be gone back to.
fn target(seen: &[Seen], current: usize) -> Option<usize> {
    let is = seen.get(current)?;
    if is.standing == Standing::Good {
        return Some(current);
    }
    let before = seen.iter().enumerate().filter(|(at, revision)| *at != current && revision.is_way_back());
    let before = before.max_by_key(|(_, revision)| revision.proven()).map(|(at, _)| at);
    // When there is nothing to go back to, trying on is better than nothing. Other bytes are never tried.
    before.or_else(|| (is.standing == Standing::Failed).then_some(current))
}

/// Positions of the revisions whose Deployments are kept to go back to: of those that can be, the ones that have served everybody,
/// and the newest.
fn ways_back(seen: &[Seen]) -> Vec<usize> {
    let mut ways: Vec<((bool, i64), usize)> = seen
        .iter()
        .enumerate()
        .filter(|(_, revision)| revision.is_way_back())
        .map(|(at, revision)| ((revision.whole, revision.number), at))
        .collect();
    ways.sort_unstable_by_key(|way| Reverse(*way));
    ways.into_iter().take(WAYS_BACK).map(|(_, at)| at).collect()
}

/// Positions of all but one, the newest first.
fn others(seen: &[Seen], one: usize) -> Vec<usize> {
    let mut others: Vec<usize> = (0..seen.len()).filter(|at| *at != one).collect();
    others.sort_by_key(|at| Reverse(seen.get(*at).map(|revision| revision.number)));
    others
}

/// What is left of `length` since `since`; zero when it is over.
fn left(since: Option<Timestamp>, length: Duration, now: Timestamp) -> Duration {
    let passed = since.map_or(SignedDuration::ZERO, |since| now.duration_since(since));
    length.saturating_sub(Duration::try_from(passed).unwrap_or(Duration::ZERO))
}

fn soonest(known: &mut Option<Duration>, other: Option<Duration>) {
    *known = match (*known, other) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod recalls;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod walk;
