//! One file over the network: several ranges at once, handed on in order, continued after every interruption.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinHandle,
    time::sleep,
};

use super::{Fetch, Stop, outcome::Refused, sink::Sink};
use crate::{
    api::{Problem, Reason},
    model::{CleanPath, Digest},
    weights::{
        error::{Retry, SourceError},
        hosts::Site,
        http::cause,
        resolver::{Location, Wanted},
    },
};

/// The most pieces of a range that wait for their turn.
const WAITING: usize = 8192;
/// The same where the range has no bound.
const WAITING_SERIAL: usize = 32;
/// The most pieces handed on at once.
const BATCH: usize = 16;
/// The first and the longest pause before asking again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// A file on its way.
pub struct Transfer {
    fetch: Arc<Fetch>,
    path: CleanPath,
    sha256: Digest,
    size: u64,
    location: Mutex<Option<Location>>,
    from: Mutex<Option<Site>>,
    interrupted: AtomicBool,
}

/// Why a range ended early.
enum Trouble {
    /// Asking again may help, after this pause if the source named one.
    Again(Option<Duration>, Problem),
    /// The server does not do ranges: the file has to come as a whole.
    NoRanges,
    /// Asking again does not help.
    Stop(Stop),
}

/// A range under way; dropped, it is given up.
struct Flight {
    chunks: mpsc::Receiver<Bytes>,
    task: JoinHandle<Result<(), Trouble>>,
    _memory: OwnedSemaphorePermit,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Transfer {
    pub fn new(fetch: Arc<Fetch>, path: CleanPath, sha256: Digest, size: u64) -> Arc<Self> {
        let (location, from) = Default::default();
        Arc::new(Self { fetch, path, sha256, size, location, from, interrupted: AtomicBool::new(false) })
    }

    /// Whether a connection broke on the way, so that what came is pieced together.
    pub fn was_interrupted(&self) -> bool {
        self.interrupted.load(Relaxed)
    }

    /// Who sent the bytes, for messages.
    pub fn sender(&self) -> String {
        let from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        let site = || self.fetch.resolver.sources().endpoint(&self.fetch.job.source).site().to_string();
        from.as_ref().map_or_else(site, ToString::to_string)
    }

    /// Brings everything that the sink has not got.
    pub async fn run(self: &Arc<Self>, sink: &mut Sink) -> Result<(), Stop> {
        let mut ended = self.in_parallel(sink).await;
        if let (Err(Trouble::NoRanges), Some(memory)) = (&ended, self.memory().await) {
            ended = self.fly(sink.at()..self.size, true, memory).land(self, sink).await;
        }
        ended.map_err(|trouble| match trouble {
            Trouble::Stop(stop) => stop,
            Trouble::Again(_, problem) => Stop::Failed(problem),
            Trouble::NoRanges => {
                let message = format!("{}: the server sent other parts of the file than were asked for", self.path);
                Stop::Failed(Problem::new(Reason::SourceInvalid, message))
            }
        })
    }

    /// The first range always gets its share of memory, the later ones as far as there is some: so files never wait for each
    /// other in a circle.
    async fn in_parallel(self: &Arc<Self>, sink: &mut Sink) -> Result<(), Trouble> {
        let mut next = sink.at();
        let mut flights = VecDeque::new();
        loop {
            while next < self.size {
                let end = next.saturating_add(self.fetch.limits.range).min(self.size);
                let memory = match flights.is_empty() {
                    true => self.memory().await,
                    false => Arc::clone(&self.fetch.memory).try_acquire_owned().ok(),
                };
                let Some(memory) = memory else { break };
                flights.push_back(self.fly(next..end, false, memory));
                next = end;
            }
            match flights.pop_front() {
                None => return Ok(()),
                Some(flight) => flight.land(self, sink).await?,
            }
        }
    }

    /// Waits for a share of memory. The semaphore is never closed, so there is always one in the end.
    async fn memory(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.fetch.memory).acquire_owned().await.ok()
    }

    fn fly(self: &Arc<Self>, range: Range<u64>, serial: bool, memory: OwnedSemaphorePermit) -> Flight {
        let (to, chunks) = mpsc::channel(if serial { WAITING_SERIAL } else { WAITING });
        let transfer = Arc::clone(self);
        let task = tokio::spawn(async move { transfer.range(range, serial, &to).await });
        Flight { chunks, task, _memory: memory }
    }

    /// Brings one range, asking again from where it was cut, until nothing came for too long.
    async fn range(&self, range: Range<u64>, serial: bool, to: &mpsc::Sender<Bytes>) -> Result<(), Trouble> {
        let mut at = range.start;
        let mut pause = PAUSES.0;
        while at < range.end && !to.is_closed() {
            let before = at;
            let known = self.location.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let ended = self.stream(&mut at, range.end, serial, known.as_ref(), to).await;
            if at > before {
                pause = PAUSES.0;
            }
            let (after, problem) = match ended {
                Ok(()) => continue,
                Err(Trouble::Again(after, problem)) => (after, problem),
                Err(other) => return Err(other),
            };
            if known.is_some() {
                // The link may have run out: the hub makes another.
                self.location.lock().unwrap_or_else(PoisonError::into_inner).take();
                if at == before {
                    continue;
                }
            }
            let wait = after.unwrap_or(pause);
            self.be_patient(wait, problem)?;
            sleep(wait).await;
            pause = (pause * 2).min(PAUSES.1);
        }
        Ok(())
    }

    fn be_patient(&self, wait: Duration, problem: Problem) -> Result<(), Trouble> {
        let idle = self.fetch.progress.idle();
        if idle + wait <= self.fetch.limits.patience {
            return Ok(());
        }
        let (idle, wait) = (idle.as_secs(), wait.as_secs_f64());
        let message = format!(
            "{}: {} Nothing came for {idle} s, and the next attempt is due in {wait:.0} s: given up for now.",
            self.path, problem.message
        );
        Err(Trouble::Stop(Stop::Failed(Problem::new(problem.reason, message))))
    }

    /// One request: streams `at..end`, moving `at` along.
    async fn stream(
        &self,
        at: &mut u64,
        end: u64,
        serial: bool,
        known: Option<&Location>,
        to: &mpsc::Sender<Bytes>,
    ) -> Result<(), Trouble> {
        let whole = *at == 0 && end == self.size;
        let fetch = &self.fetch;
        let wanted = Wanted {
            source: &fetch.job.source,
            commit: &fetch.job.revision,
            path: &self.path,
            credentials: fetch.job.credentials.as_ref(),
        };
        let opened = fetch.resolver.open(wanted, (!whole).then_some(*at..end), known).await;
        let answer =
            opened.map_err(|error| if known.is_some() { Trouble::Again(None, error.problem) } else { trouble(error) })?;
        let (status, site) = (answer.response.status(), Site::of(&answer.url));
        self.from.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&site);
        let headers = answer.response.headers();
        let mut skip = 0;
        match status {
            StatusCode::PARTIAL_CONTENT => {
                let sent = headers.get(header::CONTENT_RANGE).and_then(content_range);
                let (start, total) = sent.ok_or_else(|| self.malformed(site.as_ref()))?;
                self.check_size(total)?;
                if start != Some(*at) {
                    return Err(self.malformed(site.as_ref()));
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let total = headers.get(header::CONTENT_RANGE).and_then(content_range).and_then(|(_, total)| total);
                self.check_size(total)?;
                return Err(if serial { self.malformed(site.as_ref()) } else { Trouble::NoRanges });
            }
            _ => {
                // A page that tells of maintenance also comes with 200, but as no version of anything: it is no word about the file.
                let length = answer.response.content_length();
                let versioned = headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
                if length.is_some_and(|length| length != self.size) && !versioned {
                    return Err(self.malformed(site.as_ref()));
                }
                self.check_size(length)?;
                // Where the whole file comes although a part was asked for, what is there already is skipped.
                skip = *at;
                if end != self.size || (skip > 0 && !serial) {
                    return Err(Trouble::NoRanges);
                }
            }
        }
        if known.is_none() && answer.url.origin() != fetch.origin {
            let strong = |etag: &&HeaderValue| !etag.as_bytes().starts_with(b"W/");
            let etag = headers.get(header::ETAG).filter(strong).cloned();
            *self.location.lock().unwrap_or_else(PoisonError::into_inner) = Some(Location { url: answer.url, etag });
        }
        let mut response = answer.response;
        loop {
            match response.chunk().await {
                Ok(Some(mut chunk)) => {
                    let skipped = skip.min(chunk.len() as u64);
                    skip -= skipped;
                    // Both lengths are bounded by the chunk's.
                    let chunk = chunk.split_off(usize::try_from(skipped).unwrap_or(chunk.len()));
                    if chunk.is_empty() {
                        continue;
                    }
                    let length = chunk.len() as u64;
                    if length > end - *at {
                        let all = end == self.size;
                        return Err(if all {
                            self.wrong_size(&format!("more than {} bytes", self.size))
                        } else {
                            self.malformed(site.as_ref())
                        });
                    }
                    fetch.progress.add_received(length);
                    *at += length;
                    if to.send(chunk).await.is_err() {
                        // Nobody waits for it any more.
                        return Ok(());
                    }
                }
                Ok(None) if *at == end => return Ok(()),
                Ok(None) => return Err(self.cut(site.as_ref(), "the answer ended early")),
                Err(error) => return Err(self.cut(site.as_ref(), &cause(&error).to_string())),
            }
        }
    }

    fn cut(&self, site: Option<&Site>, why: &str) -> Trouble {
        self.interrupted.store(true, Relaxed);
        let who = site.map(ToString::to_string).unwrap_or_default();
        Trouble::Again(
            None,
            Problem::new(Reason::SourceUnavailable, format!("{who} broke off in the middle of the file: {why}.")),
        )
    }

    fn malformed(&self, site: Option<&Site>) -> Trouble {
        let who = site.map(ToString::to_string).unwrap_or_default();
        let message =
            format!("{}: {who} answers with another part of the file than was asked for. Tell those who run it.", self.path);
        Trouble::Stop(Stop::Failed(Problem::new(Reason::SourceInvalid, message)))
    }

    fn check_size(&self, total: Option<u64>) -> Result<(), Trouble> {
        match total {
            Some(total) if total != self.size => Err(self.wrong_size(&format!("{total} bytes"))),
            _ => Ok(()),
        }
    }

    fn wrong_size(&self, found: &str) -> Trouble {
        Trouble::Stop(Stop::Refused(Refused::size(&self.fetch.job, &self.sender(), &self.path, self.size, found)))
    }
}

impl Flight {
    /// Hands everything to the sink, in order, and sees how it ended.
    async fn land(mut self, transfer: &Transfer, sink: &mut Sink) -> Result<(), Trouble> {
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            if self.chunks.recv_many(&mut batch, BATCH).await == 0 {
                break;
            }
            let written = sink.write(batch).await;
            written.map_err(|error| Trouble::Stop(Stop::Failed(transfer.fetch.disk(&transfer.path.to_string(), &error))))?;
        }
        match (&mut self.task).await {
            Ok(ended) => ended,
            Err(_) => Err(Trouble::Stop(Stop::Failed(Problem::new(
                Reason::InternalError,
                format!("{}: the transfer broke down", transfer.sha256),
            )))),
        }
    }
}

fn trouble(error: SourceError) -> Trouble {
    match error.retry {
        Retry::After(after) if error.is_passing() => Trouble::Again(after, error.problem),
        _ => Trouble::Stop(Stop::Failed(error.problem)),
    }
}

/// Where a part begins, and how long the whole is, from `bytes 5-9/10`, `bytes 5-9/*` or `bytes */10`.
fn content_range(value: &HeaderValue) -> Option<(Option<u64>, Option<u64>)> {
    let (range, total) = value.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
    let start = match range {
        "*" => None,
        range => Some(range.split_once('-')?.0.trim().parse().ok()?),
    };
    let total = match total {
        "*" => None,
        total => Some(total.trim().parse().ok()?),
    };
    Some((start, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_read_in_its_three_forms() {
        let read = |text| content_range(&HeaderValue::from_static(text));
        assert_eq!(read("bytes 5-9/10"), Some((Some(5), Some(10))));
        assert_eq!(read("bytes 5-9/*"), Some((Some(5), None)));
        assert_eq!(read("bytes */10"), Some((None, Some(10))));
        for bad in ["", "bytes", "bytes 5/10", "bytes x-9/10", "items 5-9/10"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
