//! An API server within the process, under the runtime's own clock: hours are free when that clock is paused.
//!
//! It does what the real one does as far as our controllers use it; `conformance` asks both the same questions.

mod apply;
pub mod caller;
mod fields;
pub mod kinds;
mod patches;
pub mod refuse;
pub mod request;
pub mod rights;
mod rules;
mod schema;
mod select;
pub mod store;
mod verbs;
mod watching;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use jiff::{SignedDuration, Timestamp};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{BoxError, Service};

use self::{
    caller::{Caller, Fate, Smooth},
    kinds::Kind,
    refuse::Refusal,
    request::Asked,
    select::Selector,
    store::{State, Witness},
    verbs::Writer,
};
use crate::support::bell;

/// The body of an answer.
pub type AnswerBody = UnsyncBoxBody<Bytes, Infallible>;

/// When time begins.
pub const DAWN: &str = "2031-03-01T06:00:00Z";
/// So many changes are remembered for those who watch.
const MEMORY: usize = 20_000;

/// The API server. Its clones are the same one.
#[derive(Clone)]
pub struct FakeApi(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    witnesses: Mutex<Vec<Witness>>,
    changed: bell::Sender<u64>,
    began: Instant,
}

impl FakeApi {
    /// An empty one. It begins now.
    pub fn new() -> Self {
        let inner =
            Inner { state: Mutex::default(), witnesses: Mutex::default(), changed: bell::channel(0).0, began: Instant::now() };
        Self(Arc::new(inner))
    }

    /// A connection of a process.
    pub fn service(
        &self,
        caller: &Caller,
    ) -> impl Service<Request<Body>, Response = Response<AnswerBody>, Error = BoxError, Future: Send + 'static> + Clone + Send + 'static
    {
        let (api, caller) = (self.clone(), caller.clone());
        tower::service_fn(move |request| {
            let (api, caller) = (api.clone(), caller.clone());
            async move { api.serve(&caller, request).await }
        })
    }

    /// A client for a process.
    pub fn client(&self, caller: &Caller) -> Client {
        Client::new(self.service(caller), "default")
    }

    /// A client of somebody to whom nothing happens.
    pub fn smooth_client(&self, who: &str) -> Client {
        self.client(&Caller::new(who, Smooth))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Tells of every change that is made from now on.
    pub fn changed(&self) -> bell::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Shows every change to `witness` as it is made.
    pub fn witness(&self, witness: Witness) {
        self.0.witnesses.lock().unwrap().push(witness);
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.0.began.elapsed()).unwrap();
        DAWN.parse::<Timestamp>().unwrap() + passed
    }

    /// The same as objects have it.
    pub fn time(&self) -> Value {
        json!(Timestamp::from_second(self.now().as_second()).unwrap().to_string())
    }

    // For those who live beside the API server: the simulated cluster.

    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.state().get(kinds::of(kind), namespace, name).map(|object| (**object).clone())
    }

    pub fn all(&self, kind: &str) -> Vec<Arc<Value>> {
        self.state().all(kinds::of(kind), "").cloned().collect()
    }

    pub fn create(&self, kind: &str, namespace: &str, who: &str, body: &Value) -> Result<Arc<Value>, Refusal> {
        let writer = Writer { who, manager: who.to_owned(), now: self.time(), dry: false };
        self.changing(|state| state.create(kinds::of(kind), namespace, body, &writer))
    }

    /// Changes an object as it stands, if it stands and changes.
    pub fn edit(&self, kind: &str, namespace: &str, name: &str, who: &str, change: impl FnOnce(&mut Value)) {
        let kind = kinds::of(kind);
        self.changing(|state| {
            let Some(live) = state.get(kind, namespace, name).cloned() else { return };
            let mut object = (*live).clone();
            change(&mut object);
            // What is absent gets its default at once, and not with the next write.
            schema::admit(kind, &mut object, Some(&live)).unwrap();
            if object == *live {
                return;
            }
            if kind.generation
                && rules::wants_new_generation(kind, &live, &object)
                && object["spec"]["nodeName"] == live["spec"]["nodeName"]
            {
                object["metadata"]["generation"] = json!(live["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
            }
            state.put(kind, namespace, name, Some(object), who);
        });
    }

    /// Takes a finalizer off an object that is deleted; it goes when none is left.
    pub fn release(&self, kind: &str, namespace: &str, name: &str, who: &str, finalizer: &str) {
        self.edit(kind, namespace, name, who, |object| {
            object["metadata"]["finalizers"].as_array_mut().unwrap().retain(|found| found != finalizer);
        });
        let left = self.get(kind, namespace, name).map(|object| object["metadata"]["finalizers"].clone());
        if left.is_some_and(|left| left.as_array().is_none_or(Vec::is_empty)) {
            self.remove(kind, namespace, name, who);
        }
    }

    /// Removes an object at once.
    pub fn remove(&self, kind: &str, namespace: &str, name: &str, who: &str) {
        let kind = kinds::of(kind);
        self.changing(|state| {
            if state.get(kind, namespace, name).is_some() {
                state.put(kind, namespace, name, None, who);
            }
        });
    }

    /// Deletes as a request would: with a pod's time to end.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str, who: &str, uid: &str) {
        let kind = kinds::of(kind);
        let asked = Asked {
            method: http::Method::DELETE,
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: String::new(),
            query: Default::default(),
            content_type: String::new(),
            metadata_only: false,
            body: json!({ "preconditions": { "uid": uid } }),
            agent: String::new(),
        };
        let writer = Writer { who, manager: who.to_owned(), now: self.time(), dry: false };
        let _ = self.changing(|state| state.write(&asked, &writer));
    }

    /// Lets something change the state, and shows to all what changed.
    fn changing<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let before = state.version;
        let done = act(&mut state);
        if state.version == before {
            return done;
        }
        let changes: Vec<_> = (before + 1..=state.version).filter_map(|version| state.change(version).cloned()).collect();
        for witness in self.0.witnesses.lock().unwrap().iter_mut() {
            changes.iter().for_each(|change| witness(change, &state));
        }
        state.trim(MEMORY);
        let version = state.version;
        drop(state);
        self.0.changed.send_replace(version);
        done
    }

    async fn serve(&self, caller: &Caller, request: Request<Body>) -> Result<Response<AnswerBody>, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let asked = match Asked::read(parts.method, &parts.uri, &parts.headers, &body) {
            Ok(asked) => asked,
            Err(refusal) => return Ok(refused(&refusal)),
        };
        if caller.is_dead() {
            return std::future::pending().await;
        }
        let dated = |mut answer: Response<AnswerBody>| {
            let date = self.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            answer.headers_mut().insert(http::header::DATE, date.parse().unwrap());
            answer
        };
        let fate = caller.request(&asked);
        match &fate {
            Fate::Late(by) | Fate::Slow(by) => tokio::time::sleep(*by).await,
            Fate::Refuse(refusal) => return Ok(dated(refused(refusal))),
            Fate::Broken => return Err("connection reset by peer".into()),
            Fate::Hang => return std::future::pending().await,
            Fate::DieBefore => {
                caller.die();
                return std::future::pending().await;
            }
            Fate::Pass | Fate::Lost | Fate::DieAfter => {}
        }
        if caller.is_dead() {
            return std::future::pending().await;
        }
        let answer = dated(self.answer(caller, asked));
        match fate {
            Fate::Lost => Err("connection closed before message completed".into()),
            Fate::DieAfter => {
                caller.die();
                std::future::pending().await
            }
            Fate::Slow(by) => {
                tokio::time::sleep(by).await;
                Ok(answer)
            }
            _ => Ok(answer),
        }
    }

    fn answer(&self, caller: &Caller, asked: Asked) -> Response<AnswerBody> {
        if asked.is_watch() {
            return match watching::body(self, caller, asked) {
                Ok(body) => Response::new(body),
                Err(refusal) => refused(&refusal),
            };
        }
        if !asked.is_write() {
            let found = if asked.name.is_empty() { self.list(&asked) } else { self.read(&asked) };
            return found.map_or_else(|refusal| refused(&refusal), |object| answered(200, &object));
        }
        let dry = asked.parameter("dryRun") == "All";
        let writer = Writer { who: &caller.who, manager: asked.manager(), now: self.time(), dry };
        match self.changing(|state| state.write(&asked, &writer)) {
            Ok((code, object)) => answered(code, &if asked.metadata_only { partial(&object) } else { (*object).clone() }),
            Err(refusal) => refused(&refusal),
        }
    }

    fn read(&self, asked: &Asked) -> Result<Value, Refusal> {
        let state = self.state();
        let found = state.get(asked.kind, &asked.namespace, &asked.name);
        let found = found.ok_or_else(|| Refusal::not_found(asked.kind, &asked.name))?;
        Ok(match asked.subresource.as_str() {
            "scale" => rules::scale(asked.kind, found),
            // No container of this server ever ran.
            "log" => return Err(Refusal::not_found(asked.kind, &asked.name)),
            _ if asked.metadata_only => partial(found),
            _ => (**found).clone(),
        })
    }

    fn list(&self, asked: &Asked) -> Result<Value, Refusal> {
        let selector = Selector::parse(asked.parameter("labelSelector"), asked.parameter("fieldSelector"))?;
        let limit = asked.parameter("limit").parse().unwrap_or(0);
        let page = self.state().page(asked.kind, &asked.namespace, &selector, limit, asked.parameter("continue"));
        let (version, items, rest) = page?;
        let mut metadata = json!({ "resourceVersion": version.to_string() });
        if let Some((token, left)) = rest {
            metadata["continue"] = json!(token);
            if asked.parameter("labelSelector").is_empty() && asked.parameter("fieldSelector").is_empty() {
                metadata["remainingItemCount"] = json!(left);
            }
        }
        let item = |object: &Arc<Value>| match asked.metadata_only {
            true => partial(object),
            false => of_list(asked.kind, object),
        };
        let items: Vec<Value> = items.iter().map(item).collect();
        let (version, kind) = if asked.metadata_only {
            ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned())
        } else {
            (asked.kind.api_version(), format!("{}List", asked.kind.kind))
        };
        Ok(json!({ "kind": kind, "apiVersion": version, "metadata": metadata, "items": items }))
    }
}

/// Items of a list of a built-in kind do not say their kind.
fn of_list(kind: &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    if kind.schema.is_none() {
        schema::object_mut(&mut object).retain(|field, _| field != "apiVersion" && field != "kind");
    }
    object
}

/// `PartialObjectMetadata`
pub fn partial(object: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}

fn answered(code: u16, object: &Value) -> Response<AnswerBody> {
    let body = Full::new(Bytes::from(object.to_string())).boxed_unsync();
    Response::builder().status(code).header("content-type", "application/json").body(body).unwrap()
}

fn refused(refusal: &Refusal) -> Response<AnswerBody> {
    let mut answer = answered(refusal.code, &refusal.body());
    if let Some(seconds) = refusal.retry_after {
        answer.headers_mut().insert("retry-after", seconds.into());
    }
    answer
}
