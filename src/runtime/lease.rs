//! Leadership by a Lease: one manager works, the others wait.
//!
//! As client-go does it: the age of somebody else's lease is measured on our own monotonic clock from the moment we saw it
//! change, so that clocks of different machines need not agree; every write carries the resource version it is based on.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease as LeaseObject, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::shutdown::Shutdown;

/// How long a lease is good after it was last renewed.
pub const DURATION: Duration = Duration::from_secs(15);
/// The holder gives up when it could not renew for so long: before anybody else may take the lease.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// Between two attempts to take or renew the lease.
pub const RETRY: Duration = Duration::from_secs(3);

/// The lease of one name in one namespace, and who we are.
pub struct Lease {
    api: Api<LeaseObject>,
    name: String,
    identity: String,
    seen: Option<(String, Instant)>,
    /// The newest version that we wrote.
    written: Option<String>,
    /// Whether an older one was found since.
    went_back: bool,
}

/// Why a lease is not held any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The process ends.
    Over,
    /// It is somebody else's, or could not be renewed in time.
    Lost,
    /// It is still ours, but what the API server holds is older than what it told us before: it was restored from a
    /// snapshot. Watches would wait for versions that are yet to come, and what was read counts no more.
    WentBack,
}

impl Lease {
    /// The lease `namespace/name`, to be held as `identity`.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
            written: None,
            went_back: false,
        }
    }

    /// Waits until the lease is ours. `None` when the process ends first.
    pub async fn acquire(&mut self, shutdown: &Shutdown) -> Option<()> {
        let mut waiting = false;
        loop {
            match self.attempt().await {
                Ok(true) => return Some(()),
                Ok(false) if !waiting => {
                    waiting = true;
                    tracing::info!(lease = self.name, "standing by: another manager holds the lease");
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(lease = self.name, %error, "the lease cannot be read or taken; trying again"),
            }
            tokio::select! {
                () = sleep(RETRY) => {}
                () = shutdown.begun() => return None,
            }
        }
    }

    /// Renews the lease until it is lost or the process ends. After it returns nothing may be written any more that rests on
    /// what was read before.
    pub async fn hold(&mut self, shutdown: &Shutdown) -> Ended {
        let mut renewed = Instant::now();
        let mut ticks = interval(RETRY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = shutdown.begun();
        tokio::pin!(end);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = &mut end => return Ended::Over,
            }
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            match timeout(left, self.attempt()).await {
                Ok(Ok(true)) if std::mem::take(&mut self.went_back) => {
                    tracing::warn!(lease = self.name, "the API server was restored from a snapshot: everything is read anew");
                    return Ended::WentBack;
                }
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => {
                    tracing::error!(lease = self.name, "the lease was taken by another manager");
                    return Ended::Lost;
                }
                Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "the lease could not be renewed; trying again"),
                Err(_) => {}
            }
            if renewed.elapsed() >= RENEW_DEADLINE {
                tracing::error!(lease = self.name, "the lease could not be renewed for {} s", RENEW_DEADLINE.as_secs());
                return Ended::Lost;
            }
        }
    }

    /// Gives the lease back, so that a standby takes over at once.
    pub async fn release(&mut self) {
        let released = async {
            if let Some(mut lease) = self.api.get_opt(&self.name).await?
                && let Some(spec) = lease.spec.as_mut()
                && spec.holder_identity.as_deref() == Some(&self.identity)
            {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<_, kube::Error>(())
        };
        if let Ok(Err(error)) = timeout(Duration::from_secs(3), released).await {
            tracing::warn!(lease = self.name, %error, "the lease could not be given back; it expires by itself");
        }
    }

    /// Takes or renews the lease if that is possible now: whether it is ours.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let found = self.api.get_opt(&self.name).await?;
        self.went_back |=
            is_older(self.written.as_deref(), found.as_ref().map(|lease| lease.metadata.resource_version.as_deref()));
        let Some(mut lease) = found else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = LeaseObject { metadata, spec: Some(self.spec(None)) };
            let written = self.api.create(&PostParams::default(), &lease).await;
            return self.settle(written);
        };
        let spec = lease.spec.take().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder != self.identity && !holder.is_empty() && !self.expired(&spec, lease.metadata.resource_version.as_deref()) {
            return Ok(false);
        }
        lease.spec = Some(self.spec(Some(spec)));
        let written = self.api.replace(&self.name, &PostParams::default(), &lease).await;
        self.settle(written)
    }

    /// Somebody who was faster is no error.
    fn settle(&mut self, written: Result<LeaseObject, kube::Error>) -> Result<bool, kube::Error> {
        match written {
            Ok(lease) => {
                self.written = lease.metadata.resource_version;
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn expired(&mut self, spec: &LeaseSpec, version: Option<&str>) -> bool {
        let version = version.unwrap_or_default();
        let good_for =
            Duration::from_secs(spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(DURATION.as_secs()));
        match &self.seen {
            Some((seen, since)) if seen == version => since.elapsed() > good_for,
            _ => {
                self.seen = Some((version.to_owned(), Instant::now()));
                false
            }
        }
    }

    fn spec(&self, previous: Option<LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let previous = previous.unwrap_or_default();
        let ours = previous.holder_identity.as_deref() == Some(&self.identity);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if ours { previous.acquire_time } else { Some(now.clone()) },
            lease_transitions: Some(previous.lease_transitions.unwrap_or(0) + i32::from(!ours)),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }
}

/// Whether what is `found` of a lease, if it is there at all, is older than what was `written`. Versions of objects of one
/// kind are numbers that only grow, as long as an API server is the same.
fn is_older(written: Option<&str>, found: Option<Option<&str>>) -> bool {
    let number = |version: Option<&str>| version.and_then(|version| version.parse::<u64>().ok());
    match (number(written), found) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(written), Some(found)) => number(found).is_some_and(|found| found < written),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_below_what_was_written_says_that_history_went_back_and_nothing_else_does() {
        assert!(is_older(Some("500"), Some(Some("499"))));
        assert!(is_older(Some("1000"), Some(Some("999"))), "they are numbers and no texts");
        assert!(is_older(Some("500"), None), "a snapshot from before the lease");
        for (written, found) in
            [(Some("500"), Some(Some("500"))), (Some("500"), Some(Some("501"))), (None, Some(Some("1"))), (None, None)]
        {
            assert!(!is_older(written, found), "{written:?} {found:?}");
        }
        assert!(
            !is_older(Some("abc"), Some(Some("1"))) && !is_older(Some("5"), Some(Some("abc"))),
            "a version that is no number says nothing"
        );
    }
}
