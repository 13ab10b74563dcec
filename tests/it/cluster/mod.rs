//! The real program against a real API server, controller manager and scheduler; there is no node, so pods stay pending.
//!
//! Most tests share one cluster and one operator, each in a namespace of its own. Those that stop the operator, count what it
//! writes or break something have a cluster for themselves.

mod admission;
mod api;
mod chart;
mod children;
mod leadership;
mod operator;
mod place;
mod policies;
mod quiet;
mod rollout;
mod surroundings;
mod unreadable;
mod upgrade;
mod verdicts;
mod world;
