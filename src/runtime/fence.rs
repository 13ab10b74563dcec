//! Between the manager and the API server: nothing is written after the lease is over, and nobody waits for ever.
//!
//! A process may be paused between the moment when it decides to write and the moment when it does, and a connection may hang
//! while somebody else becomes the leader. So it is not enough that the work ends with the lease: each write is looked at when
//! it is sent, and given up when the time is over, by the monotonic clock.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use tokio::time::{Instant, sleep_until};
use tower::{BoxError, Layer, Service};

/// How long an answer may take to begin. Watches have no answer to wait for beyond that: their events come when they come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Until when may be written. Closed at first. Its clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Fence(Arc<Mutex<Option<Instant>>>);

/// Why a request was not made, or given up.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The lease is over.
    #[error("this manager may not be the leader any more, so nothing is written; the leader does it")]
    Fenced,
    /// No answer came.
    #[error("the API server did not begin to answer within {} s", PATIENCE.as_secs())]
    Silent,
}

impl Fence {
    /// From now on may be written until then; what was allowed before counts no more.
    pub fn open_until(&self, end: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// Nothing may be written any more, nor may what is under way go on.
    pub fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The end; `None`: it is over.
    fn end(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).filter(|end| Instant::now() < *end)
    }
}

impl<S> Layer<S> for Fence {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Fenced<S> {
        Fenced { fence: self.clone(), inner }
    }
}

/// A connection behind a fence.
#[derive(Debug, Clone)]
pub struct Fenced<S> {
    fence: Fence,
    inner: S,
}

impl<S, A, B> Service<Request<A>> for Fenced<S>
where
    S: Service<Request<A>, Response = Response<B>, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(task).map_err(Into::into)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let writes = !matches!(*request.method(), Method::GET | Method::HEAD);
        if writes && self.fence.end().is_none() {
            return Box::pin(async { Err(Stopped::Fenced.into()) });
        }
        let (fence, answer) = (self.fence.clone(), self.inner.call(request));
        let silent = Instant::now() + PATIENCE;
        Box::pin(async move {
            tokio::pin!(answer);
            loop {
                // Looked at before the request is: whoever was paused sends nothing more.
                let end = if writes { fence.end().ok_or(Stopped::Fenced)? } else { silent };
                tokio::select! {
                    biased;
                    () = sleep_until(end), if writes => {}
                    answered = &mut answer => return answered.map_err(Into::into),
                    // Last, so that an answer that came while nobody looked is still an answer.
                    () = sleep_until(silent) => return Err(Stopped::Silent.into()),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::ServiceExt as _;

    use super::*;

    /// A server that takes its time, behind the fence.
    fn server(
        fence: Fence,
        takes: Duration,
    ) -> Fenced<impl Service<Request<()>, Response = Response<()>, Error = Infallible, Future: Send> + Send> {
        let answer = move |_: Request<()>| async move {
            tokio::time::sleep(takes).await;
            Ok::<_, Infallible>(Response::new(()))
        };
        fence.layer(tower::service_fn(answer))
    }

    fn request(method: Method) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        request
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_closed_fence_lets_reads_through_and_no_write() {
        let fence = Fence::default();
        assert!(server(fence.clone(), SECOND).oneshot(request(Method::GET)).await.is_ok());
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let error = server(fence.clone(), SECOND).oneshot(request(method)).await.err();
            assert!(error.is_some_and(|error| error.to_string().contains("may not be the leader")));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_is_under_way_when_the_time_is_over_is_given_up() {
        let fence = Fence::default();
        fence.open_until(Instant::now() + 10 * SECOND);
        assert!(server(fence.clone(), 9 * SECOND).oneshot(request(Method::PATCH)).await.is_ok());
        let began = Instant::now();
        assert!(server(fence.clone(), 9 * SECOND).oneshot(request(Method::PATCH)).await.is_err());
        assert_eq!(began.elapsed().as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fence_that_is_moved_on_meanwhile_lets_a_write_go_on() {
        let fence = Fence::default();
        fence.open_until(Instant::now() + 2 * SECOND);
        let slow = tokio::spawn(server(fence.clone(), 5 * SECOND).oneshot(request(Method::PATCH)));
        tokio::time::sleep(SECOND).await;
        fence.open_until(Instant::now() + 10 * SECOND);
        assert!(slow.await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let fence = Fence::default();
        let began = Instant::now();
        let error = server(fence.clone(), 3600 * SECOND).oneshot(request(Method::GET)).await.err();
        assert!(error.is_some_and(|error| error.to_string().contains("60 s")));
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
