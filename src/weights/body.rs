//! Answers that are read whole.

use reqwest::Response;

use super::{error::SourceError, hosts::Site, http::cause};
use crate::api::Reason;

/// The whole body, or nothing when it is longer than `max` bytes.
pub async fn body(mut response: Response, max: usize, site: Option<&Site>) -> Result<Option<Vec<u8>>, SourceError> {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > max => return Ok(None),
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(Some(bytes)),
            Err(error) => {
                let who = site.map(ToString::to_string).unwrap_or_default();
                let why = cause(&error);
                let message = format!("{who} broke off in the middle of an answer: {why}. It is tried again by itself.");
                return Err(SourceError::later(Reason::SourceUnavailable, message, None));
            }
        }
    }
}
