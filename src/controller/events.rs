//! Events: one for what is new, and for what is said again a count of how often. What cannot be written now waits, and is written once
//! the API server takes it.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{Method, Request, header::CONTENT_TYPE};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use serde_json::{Value, json};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::model::Digest;

/// What is said again within this time is counted with what was said before.
const TOGETHER: Duration = Duration::from_secs(360);
/// Who says it.
const REPORTER: &str = "bonafide";
/// The most characters of an object's name in the name of an Event about it.
const LONGEST: usize = 200;
/// The most Events that wait to be written; the oldest give way.
const MOST: usize = 1000;
/// The shortest and the longest wait between two attempts at what waits.
const ATTEMPTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// An attempt that takes longer is tried again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is said in an Event.
#[derive(Debug, Hash)]
pub struct Said<'a> {
    /// Whether it is trouble.
    pub warning: bool,
    /// Why, in a word.
    pub reason: &'a str,
    /// The condition that it is about.
    pub action: &'a str,
}

/// Writes Events.
pub struct Events {
    client: Client,
    recent: Mutex<HashMap<u64, Recent>>,
    waiting: Mutex<VecDeque<Telling>>,
    more: Notify,
}

/// An Event that was written.
#[derive(Debug, Clone)]
struct Recent {
    name: String,
    count: i32,
    at: Instant,
}

/// An Event that is to be written. It has its name from the beginning: written twice, because an answer was lost, it is one still.
#[derive(Debug, Clone)]
struct Telling {
    key: u64,
    namespace: String,
    name: String,
    event: Value,
    once: bool,
}

impl Telling {
    fn new(about: &ObjectReference, said: &Said<'_>, note: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (&about.uid, said, note).hash(&mut hasher);
        let now = Timestamp::now();
        let name = format!("{}.{:x}", about.name.as_deref().unwrap_or(REPORTER), now.as_nanosecond());
        Self::named(hasher.finish(), name, about, said, note, now, false)
    }

    fn once(about: &ObjectReference, said: &Said<'_>, note: &str, of: &[u8]) -> Self {
        let name: String = about.name.as_deref().unwrap_or(REPORTER).chars().take(LONGEST).collect();
        let what = Digest::of([about.uid.as_deref().unwrap_or_default().as_bytes(), of].join(&0)).hex();
        let name = format!("{}.{what:.16}", name.trim_end_matches(['-', '.']));
        let mut hasher = DefaultHasher::new();
        (&about.namespace, &name).hash(&mut hasher);
        Self::named(hasher.finish(), name, about, said, note, Timestamp::now(), true)
    }

    fn named(key: u64, name: String, about: &ObjectReference, said: &Said<'_>, note: &str, at: Timestamp, once: bool) -> Self {
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": name, "namespace": namespace },
            "type": if said.warning { "Warning" } else { "Normal" }, "reason": said.reason, "action": said.action,
            "note": note, "regarding": about, "eventTime": format!("{at:.6}"), "reportingController": REPORTER,
            "reportingInstance": REPORTER,
        });
        Self { key, namespace, name, event, once }
    }
}

/// Why an Event was not written.
#[derive(Debug, thiserror::Error)]
enum Unwritten {
    #[error(transparent)]
    Refused(#[from] kube::Error),
    #[error("the API server did not answer within {} s", PATIENCE.as_secs())]
    Late,
}

impl Unwritten {
    /// Whether no later attempt can do better: the Event cannot be, or its namespace is gone.
    const fn is_final(&self) -> bool {
        matches!(self, Self::Refused(kube::Error::Api(status)) if matches!(status.code, 400 | 404 | 413 | 422))
    }
}

impl Events {
    /// Nothing was said yet.
    pub fn new(client: Client) -> Self {
        Self { client, recent: Mutex::default(), waiting: Mutex::default(), more: Notify::new() }
    }

    /// Says it of `about`: anew when it is said in other words, or when what was said is gone.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn publish(&self, about: &ObjectReference, said: &Said<'_>, note: &str) -> Result<(), kube::Error> {
        self.write(&Telling::new(about, said, note)).await
    }

    /// Says it as [`Self::publish`] does; what the API server does not take waits, and [`Self::run`] tries again.
    pub async fn tell(&self, about: &ObjectReference, said: &Said<'_>, note: &str) {
        self.tell_or_keep(Telling::new(about, said, note)).await;
    }

    /// Says it of `about` once, whoever says it and how often: `of` is what it is said of. What the API server does not take waits.
    pub async fn tell_once(&self, about: &ObjectReference, said: &Said<'_>, note: &str, of: &[u8]) {
        self.tell_or_keep(Telling::once(about, said, note, of)).await;
    }

    /// Tries again what waits, until the process ends.
    pub async fn run(&self) -> Infallible {
        let (shortest, longest) = ATTEMPTS;
        let mut wait = shortest;
        loop {
            let next = self.waiting().front().cloned();
            let Some(telling) = next else {
                self.more.notified().await;
                wait = shortest;
                continue;
            };
            sleep(wait).await;
            let failed = self.attempt(&telling).await.err();
            wait = if failed.is_some() { (wait * 2).clamp(shortest, longest) } else { Duration::ZERO };
            let mut waiting = self.waiting();
            let Some(at) = waiting.iter().position(|other| other.name == telling.name) else { continue };
            let telling = waiting.remove(at);
            // What is refused by itself, in a namespace that goes for one, does not keep the others waiting.
            if failed.is_some_and(|error| !error.is_final()) {
                waiting.extend(telling);
            }
        }
    }

    async fn tell_or_keep(&self, telling: Telling) {
        // The same words are about to be said.
        if self.waiting().iter().any(|waiting| waiting.key == telling.key) {
            return;
        }
        let Err(error) = self.attempt(&telling).await else { return };
        let (namespace, name) = (&telling.namespace, &telling.name);
        if error.is_final() {
            tracing::warn!(namespace, name, %error, "an Event could not be written");
            return;
        }
        tracing::warn!(namespace, name, %error, "an Event could not be written; it is tried again");
        let mut waiting = self.waiting();
        waiting.push_back(telling);
        if waiting.len() > MOST {
            waiting.pop_front();
            tracing::warn!("more than {MOST} Events wait to be written; the oldest of them is given up");
        }
        self.more.notify_one();
    }

    async fn attempt(&self, telling: &Telling) -> Result<(), Unwritten> {
        Ok(timeout(PATIENCE, self.write(telling)).await.map_err(|_| Unwritten::Late)??)
    }

    async fn write(&self, telling: &Telling) -> Result<(), kube::Error> {
        let Telling { key, namespace, name, event, once } = telling;
        let at = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let before = self.recent().get(key).filter(|recent| recent.at.elapsed() < TOGETHER && !once).cloned();
        if let Some(Recent { name, count, .. }) = before {
            let count = count.saturating_add(1);
            let series = json!({ "series": { "count": count, "lastObservedTime": event.get("eventTime") } });
            match self.send(Method::PATCH, &format!("{at}/{name}"), "application/merge-patch+json", &series).await {
                Ok(()) => {
                    self.recent().insert(*key, Recent { name, count, at: Instant::now() });
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        match self.send(Method::POST, &at, "application/json", event).await {
            // It was written before, and the answer was lost.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            sent => sent?,
        }
        if !once {
            self.recent().insert(*key, Recent { name: name.clone(), count: 1, at: Instant::now() });
        }
        Ok(())
    }

    /// Forgets what was said long ago.
    pub fn forget_what_is_old(&self) {
        self.recent().retain(|_, recent| recent.at.elapsed() < TOGETHER);
    }

    fn recent(&self) -> MutexGuard<'_, HashMap<u64, Recent>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Telling>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, method: Method, at: &str, content: &str, body: &Value) -> Result<(), kube::Error> {
        let body = body.to_string().into_bytes();
        let request = Request::builder().method(method).uri(at).header(CONTENT_TYPE, content).body(body);
        let request = request.map_err(kube::Error::HttpError)?;
        self.client.request_text(request).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use http::Response;
    use http_body_util::BodyExt as _;
    use kube::client::Body;

    use super::*;

    type Sent = Arc<Mutex<Vec<(Method, String, Value)>>>;

    /// Events that come to a server which answers with the code that `code` holds, and what it was sent.
    fn events(code: &Arc<Mutex<u16>>) -> (Events, Sent) {
        let (sent, code) = (Sent::default(), code.clone());
        let seen = sent.clone();
        let server = tower::service_fn(move |request: Request<Body>| {
            let (seen, code) = (seen.clone(), *code.lock().unwrap());
            async move {
                let (head, body) = request.into_parts();
                let body = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
                seen.lock().unwrap().push((head.method, head.uri.path().to_owned(), body));
                let answer = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Some", "code": code });
                let answer = if code == 200 { "{}".to_owned() } else { answer.to_string() };
                Ok::<_, Infallible>(Response::builder().status(code).body(Body::from(answer.into_bytes())).unwrap())
            }
        });
        (Events::new(Client::new(server, "birds")), sent)
    }

    fn parrot() -> ObjectReference {
        ObjectReference {
            name: Some("parrot".into()),
            namespace: Some("birds".into()),
            uid: Some("u".into()),
            ..ObjectReference::default()
        }
    }

    const UNSIGNED: Said<'_> = Said { warning: true, reason: "Unsigned", action: "Ready" };

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_a_while_is_written_once_under_its_first_name_and_time() {
        for refusal in [403, 429, 500] {
            let code = Arc::new(Mutex::new(refusal));
            let (events, sent) = events(&code);
            for _ in 0..3 {
                events.tell(&parrot(), &UNSIGNED, "a note").await;
                events.tell_once(&parrot(), &UNSIGNED, "another", b"bundle").await;
            }
            assert_eq!(events.waiting().len(), 2, "what waits is not said again");
            let first = sent.lock().unwrap()[0].2.clone();
            let _ = timeout(Duration::from_secs(3600), events.run()).await;
            let attempts = std::mem::take(&mut *sent.lock().unwrap()).len();
            assert!((60..80).contains(&attempts), "{attempts} attempts in an hour");
            *code.lock().unwrap() = 200;
            let _ = timeout(Duration::from_secs(3600), events.run()).await;
            let sent = std::mem::take(&mut *sent.lock().unwrap());
            assert_eq!(sent.len(), 2, "{sent:?}");
            assert!(sent.iter().any(|(method, _, event)| *method == Method::POST && *event == first), "{sent:?}");
            assert!(events.waiting().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_though_the_answer_was_lost_is_not_written_again() {
        let code = Arc::new(Mutex::new(500));
        let (events, sent) = events(&code);
        events.tell(&parrot(), &UNSIGNED, "a note").await;
        *code.lock().unwrap() = 409;
        let _ = timeout(Duration::from_secs(60), events.run()).await;
        assert_eq!((sent.lock().unwrap().len(), events.waiting().len()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_never_be_written_does_not_wait_and_of_too_much_the_oldest_goes() {
        let code = Arc::new(Mutex::new(404));
        let (events, _) = events(&code);
        events.tell(&parrot(), &UNSIGNED, "a note").await;
        assert!(events.waiting().is_empty());
        *code.lock().unwrap() = 503;
        for number in 0..MOST + 2 {
            events.tell(&parrot(), &UNSIGNED, &number.to_string()).await;
        }
        assert_eq!(events.waiting().len(), MOST);
        assert_eq!(events.waiting()[0].event["note"], "2");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_said_again_is_counted_and_after_a_while_it_is_new() {
        let (events, sent) = events(&Arc::new(Mutex::new(200)));
        let about = parrot();
        let say = async |reason: &str, note: &str| {
            events.publish(&about, &Said { warning: true, reason, action: "Ready" }, note).await.unwrap();
            sent.lock().unwrap().pop().unwrap()
        };
        let (method, path, first) = say("Unsigned", "a note").await;
        assert_eq!((method, path.as_str()), (Method::POST, "/apis/events.k8s.io/v1/namespaces/birds/events"));
        assert_eq!((&first["type"], &first["note"], &first["series"]), (&json!("Warning"), &json!("a note"), &Value::Null));
        let (method, path, again) = say("Unsigned", "a note").await;
        assert_eq!(method, Method::PATCH);
        assert!(path.ends_with(first["metadata"]["name"].as_str().unwrap()), "{path}");
        assert_eq!(again["series"]["count"], 2);
        assert_eq!(say("Resolved", "a note").await.0, Method::POST);
        assert_eq!(say("Unsigned", "another").await.0, Method::POST);
        tokio::time::sleep(TOGETHER * 2).await;
        assert_eq!(say("Unsigned", "a note").await.0, Method::POST);
        events.forget_what_is_old();
        assert_eq!(events.recent().len(), 1);
    }
}
