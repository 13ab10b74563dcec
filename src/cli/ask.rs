//! Asking sources from a terminal, as the manager asks them from the cluster.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{USAGE, cluster::Failure, status::text};
use crate::{
    api::{InferenceEngine, Problem, Reason, SECRET_TYPE},
    engine::Catalogue,
    weights::{Credentials, Resolver, Sources},
};

/// Who may see the token of the environment.
const HUB: &str = "huggingface.co";

/// Where models are asked for.
#[derive(Debug, Clone, clap::Args)]
pub struct AskArgs {
    /// The hub, or a mirror of it, where the source itself is asked
    #[arg(long, value_name = "URL", env = "HF_ENDPOINT")]
    endpoint: Option<String>,
    /// A host that may be asked although its address is private, as sources.allowedHosts of the chart
    #[arg(long = "allowed-host", value_name = "HOST")]
    allowed_hosts: Vec<String>,
}

/// Asks sources.
pub struct Asker {
    pub resolver: Resolver,
    pub credentials: Option<Credentials>,
    /// The engines that are built in, and those of the files.
    pub catalogue: Catalogue,
}

impl AskArgs {
    /// Whoever asks as these arguments say, with the InferenceEngines among `objects`.
    ///
    /// # Errors
    /// When an argument or the token of the environment cannot be used.
    pub fn asker(&self, objects: &[Value]) -> Result<Asker, Failure> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let table = match &self.endpoint {
            Some(endpoint) => serde_json::json!({ "hf": { "endpoint": endpoint }, "allowedHosts": self.allowed_hosts }),
            None => serde_json::json!({ "allowedHosts": self.allowed_hosts }),
        };
        let sources: Sources =
            serde_json::from_value(table).map_err(|error| (USAGE, format!("--endpoint or --allowed-host: {error}")))?;
        let resolver = Resolver::new(sources).map_err(|problem| (USAGE, problem.message))?;
        let token = std::env::var("HF_TOKEN").ok().filter(|token| !token.trim().is_empty());
        let secret = |token: String| {
            BTreeMap::from([("token".to_owned(), token.into_bytes()), ("hosts".to_owned(), HUB.as_bytes().to_vec())])
        };
        let credentials = token.map(|token| Credentials::from_secret(SECRET_TYPE, &secret(token))).transpose();
        let credentials = credentials.map_err(|problem| (USAGE, format!("HF_TOKEN: {}", problem.message)))?;
        let engines = objects.iter().filter(|value| text(value, "/kind") == "InferenceEngine");
        let engines = engines.filter_map(|value| serde_json::from_value::<InferenceEngine>(value.clone()).ok());
        Ok(Asker { resolver, credentials, catalogue: Catalogue::builtin().with_objects(engines) })
    }
}

/// A problem in the words of the cluster, and what is to be done where there is none.
pub fn here(problem: &Problem) -> String {
    // The manager asks again and again; this command asks once.
    let said = problem.to_string().replace("It is tried again by itself", "Run this again");
    if problem.reason == Reason::HostNotAllowed { format!("{said} Here, --allowed-host HOST lets it be asked.") } else { said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_host_is_answered_with_the_flag_that_allows_it() {
        let said = here(&Problem::new(Reason::HostNotAllowed, "hub.corp is private."));
        assert!(said.ends_with("hub.corp is private. Here, --allowed-host HOST lets it be asked."), "{said}");
        let down = here(&Problem::new(Reason::SourceUnavailable, "hub.corp is busy. It is tried again by itself in 7 s."));
        assert!(down.ends_with("hub.corp is busy. Run this again in 7 s."), "{down}");
    }
}
