//! The real program against a real API server, controller manager and scheduler; there is no node, so pods stay pending.
//!
//! Most tests share one cluster and one operator, each in a namespace of its own. Those that stop the operator, count what it
//! writes or break something have a cluster for themselves.

mod accelerators;
mod admission;
mod api;
mod campaign;
mod chart;
mod children;
mod claims;
mod commands;
mod contents;
mod definitions;
mod gitops;
mod large;
mod leadership;
mod likeness;
mod one_node;
mod operator;
mod pinning;
mod place;
mod pods;
mod policies;
mod quiet;
mod reasons;
mod recall;
mod restored;
mod rollout;
mod signatures;
mod surroundings;
mod unreadable;
mod upgrade;
mod verdicts;
mod world;
