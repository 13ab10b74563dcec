//! What the manager asks pods directly: how far a download is, whether an engine answers, and whether it has work.

use std::{net::SocketAddr, time::Duration};

use bonafide_helper::gauges::sum;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

pub use crate::weights::fetch::Download;
use crate::weights::measure::Measured;

/// How an engine is asked, frozen with its revision: an engine's definition may change while its pods run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Asking {
    /// The first request, which has to be answered before a replica counts; `None`: the readiness probe is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<FirstRequest>,
    /// The path of the metrics; empty when the engine has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metrics_path: String,
    /// Gauges that are all zero when the engine has no work.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub idle_when_zero: Vec<String>,
}

/// A request that an engine has to answer with 200.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FirstRequest {
    /// The path.
    pub path: String,
    /// The body, JSON; variables are filled in.
    pub body: String,
}

/// Asks pods. The answers say nothing about trust: they are the word of the pod.
pub trait Ask: Send + Sync {
    /// How far the download is.
    fn download(&self, at: SocketAddr) -> BoxFuture<'_, Result<Download, String>>;

    /// What a pod found in a claim; the error says that it has not finished, or what it answers instead.
    fn measured(&self, at: SocketAddr) -> BoxFuture<'_, Result<Measured, String>> {
        Box::pin(async move { Err(format!("{at} was not asked")) })
    }

    /// Whether the engine answers its first request; the error says what it answered instead.
    fn answers<'a>(&'a self, at: SocketAddr, request: &'a FirstRequest) -> BoxFuture<'a, Result<(), String>>;

    /// How many requests the engine works on or has waiting, by the sum of its gauges.
    fn work<'a>(&'a self, at: SocketAddr, asking: &'a Asking) -> BoxFuture<'a, Result<u64, String>>;
}

/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 4 << 20;
/// How long an answer to a look may take.
const LOOK: Duration = Duration::from_secs(3);
/// How long the answer to the first request may take: engines compile on it.
const FIRST: Duration = Duration::from_secs(60);

/// Asks over the network: plain HTTP to the pod's own address, through no proxy.
pub struct Network {
    client: reqwest::Client,
}

impl Network {
    /// # Errors
    /// When no client can be made; says why.
    pub fn new() -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(LOOK)
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| format!("no client can be made: {error}"))?;
        Ok(Self { client })
    }

    async fn get(&self, at: SocketAddr, path: &str) -> Result<String, String> {
        let answer = self.client.get(format!("http://{at}{path}")).timeout(LOOK).send().await.map_err(said)?;
        let status = answer.status();
        let body = body(answer).await?;
        if status.is_success() { Ok(body) } else { Err(format!("{path} answers {status}: {}", clip(&body))) }
    }
}

impl Ask for Network {
    fn download(&self, at: SocketAddr) -> BoxFuture<'_, Result<Download, String>> {
        Box::pin(async move {
            let text = self.get(at, "/progress").await?;
            serde_json::from_str(&text).map_err(|error| format!("/progress answers what cannot be read: {error}"))
        })
    }

    fn measured(&self, at: SocketAddr) -> BoxFuture<'_, Result<Measured, String>> {
        Box::pin(async move {
            let text = self.get(at, "/measured").await?;
            serde_json::from_str(&text).map_err(|error| format!("/measured answers what cannot be read: {error}"))
        })
    }

    fn answers<'a>(&'a self, at: SocketAddr, request: &'a FirstRequest) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let FirstRequest { path, body: wanted } = request;
            let ask = self.client.post(format!("http://{at}{path}")).header("content-type", "application/json");
            let answer = ask.body(wanted.clone()).timeout(FIRST).send().await.map_err(said)?;
            let status = answer.status();
            let text = body(answer).await?;
            if is_answer(status) { Ok(()) } else { Err(format!("{path} answers {status}: {}", clip(&text))) }
        })
    }

    fn work<'a>(&'a self, at: SocketAddr, asking: &'a Asking) -> BoxFuture<'a, Result<u64, String>> {
        Box::pin(async move { sum(&self.get(at, &asking.metrics_path).await?, &asking.idle_when_zero) })
    }
}

/// Whether the engine is well. One that serves embeddings alone refuses a completion (400, 404, 501), and one with keys of its own
/// refuses us (401): those are answers of an engine that works.
fn is_answer(status: reqwest::StatusCode) -> bool {
    !status.is_server_error() || status == reqwest::StatusCode::NOT_IMPLEMENTED
}

fn said(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    clip(&cause.to_string())
}

async fn body(mut answer: reqwest::Response) -> Result<String, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(said)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_ANSWER {
            return Err(format!("the answer has more than {MAX_ANSWER} bytes"));
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_refuses_a_completion_is_well_and_one_that_fails_at_it_is_not() {
        let is = |code: u16| is_answer(reqwest::StatusCode::from_u16(code).unwrap());
        assert_eq!([200, 400, 401, 404, 405, 501].map(is), [true; 6]);
        assert_eq!([500, 502, 503, 504].map(is), [false; 4]);
    }
}
