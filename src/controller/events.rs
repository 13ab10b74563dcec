//! Events: one for what is new, and for what is said again a count of how often.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{Method, Request, header::CONTENT_TYPE};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::model::Digest;

/// What is said again within this time is counted with what was said before.
const TOGETHER: Duration = Duration::from_secs(360);
/// Who says it.
const REPORTER: &str = "bonafide";
/// The most characters of an object's name in the name of an Event about it.
const LONGEST: usize = 200;

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
}

/// An Event that was written.
#[derive(Debug, Clone)]
struct Recent {
    name: String,
    count: i32,
    at: Instant,
}

impl Events {
    /// Nothing was said yet.
    pub fn new(client: Client) -> Self {
        Self { client, recent: Mutex::default() }
    }

    /// Says it of `about`: anew when it is said in other words, or when what was said is gone.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn publish(&self, about: &ObjectReference, said: &Said<'_>, note: &str) -> Result<(), kube::Error> {
        let mut hasher = DefaultHasher::new();
        (&about.uid, said, note).hash(&mut hasher);
        let key = hasher.finish();
        let now = Timestamp::now();
        let before = self.recent().get(&key).filter(|recent| recent.at.elapsed() < TOGETHER).cloned();
        let namespace = about.namespace.as_deref().unwrap_or("default");
        let at = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let time = format!("{now:.6}");
        if let Some(Recent { name, count, .. }) = before {
            let count = count.saturating_add(1);
            let series = json!({ "series": { "count": count, "lastObservedTime": time } });
            match self.send(Method::PATCH, &format!("{at}/{name}"), "application/merge-patch+json", &series).await {
                Ok(()) => {
                    self.recent().insert(key, Recent { name, count, at: Instant::now() });
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let name = format!("{}.{:x}", about.name.as_deref().unwrap_or(REPORTER), now.as_nanosecond());
        self.send(Method::POST, &at, "application/json", &event(&name, about, said, note, &time)).await?;
        self.recent().insert(key, Recent { name, count: 1, at: Instant::now() });
        Ok(())
    }

    /// Says it of `about` once, whoever says it and how often: `of` is what it is said of.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub async fn publish_once(&self, about: &ObjectReference, said: &Said<'_>, note: &str, of: &[u8]) -> Result<(), kube::Error> {
        let namespace = about.namespace.as_deref().unwrap_or("default");
        let name: String = about.name.as_deref().unwrap_or(REPORTER).chars().take(LONGEST).collect();
        let what = Digest::of([about.uid.as_deref().unwrap_or_default().as_bytes(), of].join(&0)).hex();
        let name = format!("{}.{what:.16}", name.trim_end_matches(['-', '.']));
        let at = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let event = event(&name, about, said, note, &format!("{:.6}", Timestamp::now()));
        match self.send(Method::POST, &at, "application/json", &event).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            sent => sent,
        }
    }

    /// Forgets what was said long ago.
    pub fn forget_what_is_old(&self) {
        self.recent().retain(|_, recent| recent.at.elapsed() < TOGETHER);
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Recent>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, method: Method, at: &str, content: &str, body: &Value) -> Result<(), kube::Error> {
        let body = body.to_string().into_bytes();
        let request = Request::builder().method(method).uri(at).header(CONTENT_TYPE, content).body(body);
        let request = request.map_err(kube::Error::HttpError)?;
        self.client.request_text(request).await.map(|_| ())
    }
}

fn event(name: &str, about: &ObjectReference, said: &Said<'_>, note: &str, time: &str) -> Value {
    let namespace = about.namespace.as_deref().unwrap_or("default");
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": name, "namespace": namespace },
        "type": if said.warning { "Warning" } else { "Normal" }, "reason": said.reason, "action": said.action,
        "note": note, "regarding": about, "eventTime": time, "reportingController": REPORTER,
        "reportingInstance": REPORTER,
    })
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use http::Response;
    use http_body_util::BodyExt as _;
    use kube::client::Body;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_said_again_is_counted_and_after_a_while_it_is_new() {
        let sent: Arc<Mutex<Vec<(Method, String, Value)>>> = Arc::default();
        let seen = sent.clone();
        let server = tower::service_fn(move |request: Request<Body>| {
            let seen = seen.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
                seen.lock().unwrap().push((head.method, head.uri.path().to_owned(), body));
                Ok::<_, Infallible>(Response::new(Body::from(b"{}".to_vec())))
            }
        });
        let events = Events::new(Client::new(server, "birds"));
        let about = ObjectReference {
            name: Some("parrot".into()),
            namespace: Some("birds".into()),
            uid: Some("u".into()),
            ..ObjectReference::default()
        };
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
