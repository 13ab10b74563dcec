//! Sending files: ranges, and everything that can go wrong on the way.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Method, StatusCode, header},
    response::Response,
};
use futures::stream;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt, SeekFrom},
    time::{Instant, sleep_until},
};

use super::{Hub, repository::Entry, request::Asked};

/// How much is read and sent at once.
const BLOCK: usize = 256 << 10;

/// A file as it goes out.
struct Sending {
    file: File,
    at: u64,
    end: u64,
    /// Bytes of the real file; what is sent beyond them is made up.
    real: u64,
    flip: Option<u64>,
    cut: Option<u64>,
    stall: Option<u64>,
    rate: Option<u64>,
    began: Instant,
    gone: u64,
    sent: Arc<AtomicU64>,
}

/// Answers with a file or the part of it that was asked for. `name` is `OWNER/NAME/PATH`, as faults are named.
pub(super) async fn send(
    hub: &Hub,
    asked: &Asked,
    entry: &Entry,
    name: &str,
    etag: &str,
    sent: Arc<AtomicU64>,
) -> io::Result<Response> {
    let faults = hub.faults.now();
    let grown = faults.grow.iter().any(|file| file == name);
    let size = entry.size + u64::from(grown);
    let range = asked.header(&header::RANGE).filter(|_| !faults.ignore_range).filter(|_| {
        let condition = asked.header(&header::IF_RANGE);
        condition.is_none_or(|condition| condition == etag)
    });
    let mut answer = Response::builder().header(header::ETAG, etag).header(header::CONTENT_TYPE, "application/octet-stream");
    if !faults.ignore_range {
        answer = answer.header(header::ACCEPT_RANGES, "bytes");
    }
    let (start, end, status) = match range.and_then(|range| parse(range, size)) {
        None => (0, size, StatusCode::OK),
        Some(Some((start, end))) => {
            answer = answer.header(header::CONTENT_RANGE, format!("bytes {start}-{}/{size}", end - 1));
            (start, end, StatusCode::PARTIAL_CONTENT)
        }
        Some(None) => {
            let answer =
                answer.status(StatusCode::RANGE_NOT_SATISFIABLE).header(header::CONTENT_RANGE, format!("bytes */{size}"));
            return answer.body(Body::empty()).map_err(io::Error::other);
        }
    };
    let length = end - start;
    let answer = answer.status(status).header(header::CONTENT_LENGTH, length);
    if asked.method == Method::HEAD {
        return answer.body(Body::empty()).map_err(io::Error::other);
    }
    let lies = faults.lie.iter().any(|file| file == name);
    let cut = hub.faults.cut(length);
    let stall = faults.stall_after.filter(|after| *after < length);
    let body = open(Sending {
        file: File::open(PathBuf::from(&entry.disk)).await?,
        at: start,
        end,
        real: entry.size,
        flip: lies.then_some(entry.size / 2),
        cut,
        stall,
        rate: faults.bytes_per_second,
        began: Instant::now(),
        gone: 0,
        sent,
    });
    answer.body(body.await?).map_err(io::Error::other)
}

async fn open(mut sending: Sending) -> io::Result<Body> {
    sending.file.seek(SeekFrom::Start(sending.at.min(sending.real))).await?;
    sending.file.set_max_buf_size(BLOCK);
    Ok(Body::from_stream(stream::try_unfold(sending, |mut sending| async move {
        let block = sending.next().await?;
        Ok::<_, io::Error>(block.map(|block| (block, sending)))
    })))
}

impl Sending {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.cut.is_some_and(|cut| self.gone >= cut) {
            // What was handed over before has to leave first: an error takes everything that waits with it.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut, as the faults say"));
        }
        if self.stall.is_some_and(|stall| self.gone >= stall) {
            std::future::pending::<()>().await;
        }
        if let Some(rate) = self.rate {
            let due = Duration::from_secs_f64(self.gone as f64 / rate.max(1) as f64);
            sleep_until(self.began + due).await;
        }
        let limits = [Some(self.end - self.at), self.cut.map(|cut| cut - self.gone), self.stall.map(|stall| stall - self.gone)];
        let limit = limits.into_iter().flatten().min().unwrap_or_default();
        let slow = self.rate.map_or(BLOCK as u64, |rate| (rate / 20).clamp(1, BLOCK as u64));
        let wanted = usize::try_from(limit.min(slow)).unwrap_or(BLOCK);
        if wanted == 0 {
            return Ok(None);
        }
        let mut block = vec![0; wanted];
        let read = match self.file.read(&mut block).await? {
            0 if self.at >= self.real => wanted,
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter")),
            read => read,
        };
        block.truncate(read);
        if let Some(flip) = self.flip.and_then(|flip| usize::try_from(flip.checked_sub(self.at)?).ok())
            && let Some(byte) = block.get_mut(flip)
        {
            *byte ^= 1;
        }
        self.at += read as u64;
        self.gone += read as u64;
        self.sent.fetch_add(read as u64, Relaxed);
        Ok(Some(block.into()))
    }
}

/// The first range that a header asks for: nothing when it is none of ours, `Some(None)` when it cannot be satisfied.
fn parse(range: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (start, end) = range.strip_prefix("bytes=")?.split(',').next()?.trim().split_once('-')?;
    let (start, end) = match (start, end) {
        ("", last) => (size.saturating_sub(last.parse().ok()?), size),
        (start, "") => (start.parse().ok()?, size),
        (start, end) => (start.parse().ok()?, end.parse::<u64>().ok()?.saturating_add(1).min(size)),
    };
    Some((start < end).then_some((start, end)))
}

/// The value of a header that we made ourselves.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_http_defines_them() {
        assert_eq!(parse("bytes=0-4", 10), Some(Some((0, 5))));
        assert_eq!(parse("bytes=5-", 10), Some(Some((5, 10))));
        assert_eq!(parse("bytes=-3", 10), Some(Some((7, 10))));
        assert_eq!(parse("bytes=5-99", 10), Some(Some((5, 10))));
        assert_eq!(parse("bytes=10-", 10), Some(None));
        assert_eq!(parse("items=0-4", 10), None);
    }
}
