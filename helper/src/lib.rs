//! What waits in the container of an engine until the engine has no work, and what that needs: its metrics and its port.

pub mod drain;
pub mod gauges;
pub mod http;
