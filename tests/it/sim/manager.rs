//! Managers as processes: started, killed, started again.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bonafide::{
    controller::{self, Config, Surroundings},
    runtime::{clock::Clock, fence::Fence, http::Readiness, lease::Lease, metrics::Metrics, shutdown::Shutdown},
};
use futures::{FutureExt as _, future::BoxFuture};
use http::Request;
use kube::{
    Client,
    client::{Body, ClientBuilder},
};
use serde_json::json;
use tokio::time::Instant;
use tower::{BoxError, Layer as _, ServiceExt as _};

use super::{
    oracle::Oracle,
    world::{SYSTEM, World},
};
use crate::support::{
    bell,
    fake_api::{
        caller::{Caller, Fate, Plan, Smooth, Tidings},
        request::Asked,
        rights::Rights,
        store::Change,
    },
};

/// The Lease.
pub const LEASE: &str = "bonafide-manager";
/// Sees to it that a manager asks for nothing that the chart does not permit.
pub struct Permitted {
    pub plan: Box<dyn Plan>,
    pub oracle: Oracle,
}

impl Plan for Permitted {
    fn request(&mut self, asked: &Asked) -> Fate {
        static RIGHTS: LazyLock<Rights> = LazyLock::new(|| Rights::of_the_operator(SYSTEM));
        if !RIGHTS.permit(asked) {
            self.oracle.wrong(&format!("the chart does not permit the operator this: {}", asked.line()));
        }
        self.plan.request(asked)
    }

    fn event(&mut self, change: &Change) -> Tidings {
        self.plan.event(change)
    }
}

/// What is held up while a process is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    Everything,
    Statuses,
}

/// After a process died it is started again after this time.
pub const RESTART: Duration = Duration::from_secs(2);

pub fn config() -> Config {
    serde_json::from_value(json!({ "image": "registry.example/bonafide:1" })).unwrap()
}

impl World {
    /// What a manager reaches, and how it writes.
    fn surroundings(&self, client: Client, clock: Clock) -> Surroundings {
        Surroundings { client, library: Arc::new(self.shelf.clone()), ask: Arc::new(self.pods.clone()), clock }
    }

    /// The controllers of one process, until its caller dies.
    async fn work(&self, caller: &Caller, client: Client, clock: Clock, shutdown: Shutdown) {
        let metrics = Arc::new(Metrics::default());
        let surroundings = self.surroundings(client, clock);
        let work = controller::run(surroundings, config(), SYSTEM, metrics.clone(), Readiness::default(), shutdown.clone());
        let work = AssertUnwindSafe(work).catch_unwind();
        tokio::select! {
            biased;
            () = caller.death() => {}
            ended = work => match ended {
                Ok(Ok(())) if shutdown.begun().now_or_never().is_some() => {}
                Ok(ended) => self.oracle.wrong(&format!("the controllers of {} ended: {ended:?}", caller.who)),
                Err(_) => self.oracle.wrong(&format!("the controllers of {} panicked", caller.who)),
            },
        }
        if metrics.encode().unwrap().contains("panicked") {
            self.oracle.wrong(&format!("a reconcile of {} panicked", caller.who));
        }
    }

    /// A manager without a Lease that is started again whenever it died, each life with another plan.
    pub fn keep_running_as(&self, who: &str, plans: impl FnMut(u32) -> Box<dyn Plan> + Send + 'static) {
        self.keep(who, plans, |world, caller| {
            Box::pin(async move {
                let (fence, clock) = (Fence::default(), world.clock());
                fence.open_until(Instant::now() + Duration::from_secs(1 << 30));
                let client = ClientBuilder::new(world.api.service(&caller), SYSTEM).with_layer(&fence).with_layer(&clock).build();
                world.work(&caller, client, clock, Shutdown::default()).await;
            })
        });
    }

    /// The same as the chart runs it, with the Lease.
    pub fn keep_leading_as(
        &self,
        who: &str,
        paused: &bell::Receiver<bool>,
        plans: impl FnMut(u32) -> Box<dyn Plan> + Send + 'static,
    ) {
        let paused = paused.clone();
        self.keep(who, plans, move |world, caller| {
            let paused = paused.clone();
            Box::pin(async move { world.process(&caller, &Shutdown::default(), paused, Held::Everything).await })
        });
    }

    fn keep(
        &self,
        who: &str,
        mut plans: impl FnMut(u32) -> Box<dyn Plan> + Send + 'static,
        live: impl Fn(Self, Caller) -> BoxFuture<'static, ()> + Send + 'static,
    ) {
        let (world, name) = (self.clone(), who.to_owned());
        let oracle = self.oracle.clone();
        let mut plans = move |life| Permitted { plan: plans(life), oracle: oracle.clone() };
        let mut caller = Caller::new(who, plans(1));
        let first = caller.clone();
        let running = tokio::spawn(async move {
            for life in 2.. {
                live(world.clone(), caller.clone()).await;
                tokio::time::sleep(RESTART).await;
                caller = Caller::new(&name, plans(life));
                if let Some(known) = world.managers.lock().unwrap().get_mut(&name) {
                    known.0 = caller.clone();
                }
            }
        });
        self.managers.lock().unwrap().insert(who.to_owned(), (first, running.abort_handle()));
    }

    pub fn keep_running(&self, plans: impl FnMut(u32) -> Box<dyn Plan> + Send + 'static) {
        self.keep_running_as("bonafide", plans);
    }

    /// A manager to which nothing happens.
    pub fn run_smoothly(&self) {
        self.keep_running(|_| Box::new(Smooth));
    }

    /// Ends a manager for good.
    pub fn end(&self, who: &str) {
        let (caller, running) = self.managers.lock().unwrap().remove(who).unwrap();
        caller.die();
        running.abort();
    }

    /// A process as the chart runs it: it waits for the Lease, leads, and ends when it is told to or lost the Lease. While
    /// `paused` is true, what it decided to send is not sent yet: all of it, or of some only what it says of objects, which is sent
    /// afterwards although nobody waits for it any more.
    pub async fn process(&self, caller: &Caller, shutdown: &Shutdown, paused: bell::Receiver<bool>, held: Held) {
        let (fence, clock) = (Fence::default(), self.clock());
        let open = self.api.client(caller);
        let fenced = clock.layer(fence.layer(self.api.service(caller)));
        let pausing = tower::service_fn(move |request: Request<Body>| {
            let (fenced, mut paused) = (fenced.clone(), paused.clone());
            let is_held = held == Held::Everything || request.uri().path().ends_with("/status");
            let sent = async move {
                if is_held {
                    paused.wait_for(|paused| !paused).await;
                }
                fenced.oneshot(request).await
            };
            async move {
                match held {
                    Held::Everything => sent.await,
                    Held::Statuses => tokio::spawn(sent).await.map_err(BoxError::from)?,
                }
            }
        });
        let client = Client::new(pausing, SYSTEM);
        let mut lease = Lease::new(open, fence, SYSTEM, LEASE, &caller.who);
        let leading = async {
            if lease.acquire(shutdown).await.is_some() {
                lease.lead(shutdown, self.work(caller, client, clock, shutdown.clone())).await;
            }
        };
        tokio::select! {
            biased;
            () = caller.death() => {}
            () = leading => {}
        }
    }
}
