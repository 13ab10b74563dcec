//! How an engine is asked, from its definition: frozen with the revision, since the definition may change while its pods run.

use serde_json::Value;

use crate::{
    controller::doors::ask::{Asking, FirstRequest},
    engine::Engine,
};

/// How `engine` is asked when it serves the model under these names.
pub fn asking(engine: &Engine, served_names: &[String]) -> Asking {
    let spec = engine.spec();
    let name = Value::from(served_names.first().cloned().unwrap_or_default()).to_string();
    let name = name.trim_matches('"');
    Asking {
        request: spec
            .probes
            .request
            .as_ref()
            .map(|request| FirstRequest { path: request.path.clone(), body: request.body.replace("$(SERVED_NAME)", name) }),
        metrics_path: spec.metrics.as_ref().map(|metrics| metrics.path.clone()).unwrap_or_default(),
        idle_when_zero: spec.drain.as_ref().map(|drain| drain.idle_when_zero.clone()).unwrap_or_default(),
    }
}
