//! How far the weights are, and why they do not come.

use super::{Case, Progress, Step, starting};
use crate::{
    api::Reason,
    controller::{doors::ask::Download, fetched, objects::slim::SlimContainer},
    engine::human_size,
};

/// The exit code of a fetch after which trying again is of no use.
const REFUSED: i32 = 65;
/// After so many seconds without a byte a download is stalled.
const STALLED: f64 = 30.0;

/// What the container that fetches says.
pub fn progress(case: &Case<'_>, fetch: &SlimContainer) -> Progress {
    if let Some(problem) = starting::waiting(case, fetch) {
        return Progress::stuck(problem);
    }
    match fetched::ended(case.pod) {
        Some(ended) if ended.exit_code == REFUSED => Progress::new(Step::Stuck, fetched::refused(ended), fetched::message(ended)),
        // Under way again, and what went wrong before is still what people want to know.
        Some(ended) if ended.exit_code != 0 && !comes(case) => {
            let reason = fetched::reason(ended);
            let (step, message) = match reason {
                Reason::DiskFull => (Step::Stuck, fetched::message(ended)),
                _ => (
                    Step::Fetching,
                    format!("Fetching the weights failed and is tried again by itself: {}", fetched::message(ended)),
                ),
            };
            Progress::new(step, reason, message)
        }
        _ if fetch.state.running.is_some() => match case.looked.and_then(|looked| looked.download) {
            Some(download) => of_download(&download),
            None => Progress::new(Step::Fetching, Reason::Fetching, "The weights are being fetched and verified."),
        },
        _ => match starting::from_events(case) {
            Some(problem) => Progress::stuck(problem),
            None => Progress::new(Step::Pulling, Reason::PullingImage, "The node is getting the pod ready."),
        },
    }
}

/// Whether bytes come now.
fn comes(case: &Case<'_>) -> bool {
    let download = case.looked.and_then(|looked| looked.download);
    download.is_some_and(|download| download.rate > 0.0 && download.idle_seconds < STALLED)
}

/// `61 %, 2.1 GB/s, 40 s left`, or that nothing comes.
pub fn of_download(download: &Download) -> Progress {
    let Download { total, hashed, rate, idle_seconds, .. } = *download;
    if total == 0 {
        return Progress::new(Step::Fetching, Reason::Fetching, "The source is being asked for the weights.");
    }
    let of_all = format!("{} of {}", human_size(hashed), human_size(total));
    if idle_seconds > STALLED && hashed < total {
        let message = format!(
            "No byte of the weights has come for more than {STALLED} s: {of_all} are there. It is asked for again by itself; see that the node reaches the source, and that the source is well."
        );
        return Progress::new(Step::Stuck, Reason::DownloadStalled, message);
    }
    let percent = u128::from(hashed.min(total)) * 100 / u128::from(total);
    if hashed >= total {
        return Progress::new(Step::Fetching, Reason::Fetching, format!("100 %, {}, being put in place.", human_size(total)));
    }
    if rate < 1.0 {
        return Progress::new(Step::Fetching, Reason::Fetching, format!("{percent} %, {of_all}."));
    }
    let left = (total - hashed) as f64 / rate;
    let speed = human_size(super::quantity::whole(rate));
    Progress::new(Step::Fetching, Reason::Fetching, format!("{percent} %, {speed}/s, {} left.", span(left)))
}

/// Seconds as people say them: `40 s`, `12 min`, `3.5 h`.
pub fn span(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{:.0} s", seconds.max(1.0)),
        seconds if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hashed: u64, rate: f64, idle_seconds: f64) -> Progress {
        of_download(&Download { total: 100_000_000_000, hashed, rate, elapsed_seconds: 9.0, idle_seconds })
    }

    #[test]
    fn a_download_says_how_far_it_is_how_fast_and_how_long_it_takes() {
        assert_eq!(at(16_000_000_000, 2.1e9, 0.0).message, "16 %, 2.1 GB/s, 40 s left.");
        assert_eq!(at(61_000_000_000, 10e6, 0.0).message, "61 %, 10.0 MB/s, 65 min left.");
        assert_eq!(at(100_000_000_000, 0.0, 0.0).message, "100 %, 100.0 GB, being put in place.");
        assert_eq!(at(1, 0.0, 3.0).message, "0 %, 1 B of 100.0 GB.");
        assert_eq!(of_download(&Download::default()).reason, Reason::Fetching);
    }

    #[test]
    fn a_download_that_stands_still_is_stalled_and_one_that_is_done_is_not() {
        let stalled = at(2_100_000_000, 0.0, 31.0);
        assert_eq!((stalled.step, stalled.reason), (Step::Stuck, Reason::DownloadStalled));
        assert!(stalled.message.contains("2.1 GB of 100.0 GB are there"), "{}", stalled.message);
        assert_eq!(at(2_100_000_000, 0.0, 29.0).reason, Reason::Fetching);
        assert_eq!(at(100_000_000_000, 0.0, 60.0).reason, Reason::Fetching);
    }
}
