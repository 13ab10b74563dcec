//! The first request to an engine: a replica counts once it was answered. Engines say that they are ready, and fail on what they
//! are asked first.
//!
//! It is asked in the background, since an engine may compile for a minute before it answers; what came of it is remembered for
//! as long as the engine's container runs.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

use super::ask::{Ask, FirstRequest};
use crate::{
    api::{Problem, Reason},
    controller::backoff::doubled,
};

/// How many engines are asked at the same time.
const AT_ONCE: usize = 32;
/// How long a look waits for an answer that comes at once.
const AT_HAND: Duration = Duration::from_millis(250);
/// The first and the longest wait after an answer that was none.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// What is known of one pod: which start of its engine, and what came of it.
#[derive(Debug, Clone)]
struct Known {
    start: i32,
    answer: Answer,
    /// Somebody else vouched for it, perhaps for an earlier start.
    doubted: bool,
}

#[derive(Debug, Clone)]
enum Answer {
    Unasked,
    Asked,
    Given,
    Not { problem: Problem, times: u32, at: Instant },
}

/// What an engine said to its first request since its container was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// It answered.
    Answered,
    /// It was asked, and has not answered yet.
    Asked,
    /// It did not answer as it should, and is asked again.
    Failing(Problem),
}

/// The engines that were asked, by the UID of their pods.
pub struct Answers {
    known: Arc<Mutex<HashMap<String, Known>>>,
    turn: Arc<Semaphore>,
}

impl Default for Answers {
    fn default() -> Self {
        Self { known: Arc::default(), turn: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Answers {
    /// Takes it as answered: the pod was vouched for by somebody who knew.
    pub fn take_for_granted(&self, uid: &str, start: i32) {
        self.note().entry(uid.to_owned()).or_insert(Known { start, answer: Answer::Given, doubted: false });
    }

    /// Somebody else vouched for the pod, perhaps before its engine was started again: it is asked once more, and goes on meanwhile.
    pub fn doubt(&self, uid: &str, start: i32) {
        self.note().entry(uid.to_owned()).or_insert(Known { start, answer: Answer::Unasked, doubted: true });
    }

    /// Whether it is asked for such a [doubt](Self::doubt) alone.
    pub fn is_doubted(&self, uid: &str, start: i32) -> bool {
        self.note().get(uid).is_some_and(|known| known.start == start && known.doubted)
    }

    /// Whether the engine has answered since its container was started for the `start`th time.
    pub fn has(&self, uid: &str, start: i32) -> bool {
        matches!(self.note().get(uid), Some(Known { start: then, answer: Answer::Given, .. }) if *then == start)
    }

    /// What the engine said; asks it when it was not asked, or when it is time to ask again.
    pub async fn first(&self, ask: &Arc<dyn Ask>, uid: &str, start: i32, at: SocketAddr, request: &FirstRequest) -> First {
        let times = match self.note().get(uid).filter(|known| known.start == start).map(|known| &known.answer) {
            Some(Answer::Given) => return First::Answered,
            Some(Answer::Asked) => return First::Asked,
            Some(Answer::Not { problem, times, at }) if at.elapsed() < doubled(AGAIN.0, *times, AGAIN.1) => {
                return First::Failing(problem.clone());
            }
            Some(Answer::Not { times, .. }) => *times,
            Some(Answer::Unasked) | None => 0,
        };
        let doubted = self.is_doubted(uid, start);
        let before = self.note().insert(uid.to_owned(), Known { start, answer: Answer::Asked, doubted });
        let (ask, turn, known) = (ask.clone(), self.turn.clone(), self.known.clone());
        let (uid, request) = (uid.to_owned(), request.clone());
        let asked = tokio::spawn(async move {
            let _turn = turn.acquire_owned().await;
            let answer = match ask.answers(at, &request).await {
                Ok(()) => Answer::Given,
                Err(error) => Answer::Not { problem: problem(at, &request, &error), times: times + 1, at: Instant::now() },
            };
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            // Forgotten meanwhile, or started again: then this is nobody's answer.
            if let Some(known) = known.get_mut(&uid).filter(|known| known.start == start) {
                known.answer = answer.clone();
            }
            answer
        });
        match tokio::time::timeout(AT_HAND, asked).await {
            Ok(Ok(Answer::Given)) => First::Answered,
            Ok(Ok(Answer::Not { problem, .. })) => First::Failing(problem),
            // What it said before is still what people want to know.
            _ => match before.filter(|before| before.start == start).map(|before| before.answer) {
                Some(Answer::Not { problem, .. }) => First::Failing(problem),
                _ => First::Asked,
            },
        }
    }

    /// Forgets the pods that are not in `alive`.
    pub fn keep_only(&self, alive: &HashSet<String>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|uid, _| alive.contains(uid));
    }

    fn note(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn problem(at: SocketAddr, request: &FirstRequest, error: &str) -> Problem {
    if error.starts_with(&format!("{} answers ", request.path)) {
        let message = format!(
            "The engine says that it is ready, and does not answer its first request: {error}. It gets no requests until it does, and is asked again."
        );
        return Problem::new(Reason::AnswerFailing, message);
    }
    let message = format!(
        "The engine says that it is ready, and the operator gets no answer from it at {at}{}: {error}. It gets no requests until it answers. Look for a NetworkPolicy or a service mesh that keeps the operator's namespace out.",
        request.path
    );
    Problem::new(Reason::Unreachable, message)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::BoxFuture;

    use super::{
        super::ask::{Asking, Download},
        *,
    };

    /// Answers after a while, and only from the so-manieth time on.
    struct Engine {
        asked: AtomicU32,
        slow: Duration,
        from: u32,
    }

    impl Ask for Engine {
        fn download(&self, _: SocketAddr) -> BoxFuture<'_, Result<Download, String>> {
            unreachable!()
        }

        fn answers<'a>(&'a self, _: SocketAddr, request: &'a FirstRequest) -> BoxFuture<'a, Result<(), String>> {
            Box::pin(async move {
                let time = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::time::sleep(self.slow).await;
                if time >= self.from { Ok(()) } else { Err(format!("{} answers 500: no", request.path)) }
            })
        }

        fn work<'a>(&'a self, _: SocketAddr, _: &'a Asking) -> BoxFuture<'a, Result<u64, String>> {
            unreachable!()
        }
    }

    async fn first(answers: &Answers, engine: &Arc<Engine>, start: i32) -> First {
        let ask: Arc<dyn Ask> = engine.clone();
        let request = FirstRequest { path: "/v1/completions".into(), body: "{}".into() };
        answers.first(&ask, "u", start, "127.0.0.1:1".parse().unwrap(), &request).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_is_asked_once_for_each_start_and_nobody_waits_for_a_slow_one() {
        let engine = Arc::new(Engine { asked: 0.into(), slow: Duration::from_secs(50), from: 1 });
        let answers = Answers::default();
        let began = Instant::now();
        assert_eq!(first(&answers, &engine, 0).await, First::Asked);
        assert_eq!(first(&answers, &engine, 0).await, First::Asked);
        assert!(began.elapsed() < Duration::from_secs(1));
        tokio::time::sleep(Duration::from_secs(51)).await;
        assert_eq!(first(&answers, &engine, 0).await, First::Answered);
        assert_eq!(engine.asked.load(Ordering::SeqCst), 1);
        assert_eq!(first(&answers, &engine, 1).await, First::Asked, "its container was started again");
        assert!(!answers.has("u", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_none_is_told_and_asked_for_again_less_and_less_often() {
        let engine = Arc::new(Engine { asked: 0.into(), slow: Duration::ZERO, from: 4 });
        let answers = Answers::default();
        let mut waits = vec![];
        let mut last = Instant::now();
        loop {
            let before = engine.asked.load(Ordering::SeqCst);
            let said = first(&answers, &engine, 0).await;
            if engine.asked.load(Ordering::SeqCst) > before {
                waits.push(last.elapsed().as_secs());
                last = Instant::now();
            }
            match said {
                First::Answered => break,
                First::Failing(problem) => {
                    assert!(problem.reason == Reason::AnswerFailing && problem.message.contains("500: no"))
                }
                First::Asked => panic!("it answers at once"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(waits, [0, 2, 4, 8]);
    }
}
