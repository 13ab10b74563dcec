//! `bonafide manager`: the operator.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc};

use kube::client::ClientBuilder;

use super::{USAGE, fail};
use crate::{
    controller,
    runtime::{
        clock::Clock,
        fence::Fence,
        http::{self, Readiness},
        lease::{Lease, Led},
        metrics::Metrics,
        shutdown::Shutdown,
    },
};

/// What `manager` takes.
#[derive(Debug, clap::Args)]
pub struct ManagerArgs {
    /// The configuration, as the chart writes it
    #[arg(long, value_name = "FILE", default_value = "/etc/bonafide/manager.yaml")]
    config: PathBuf,
    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// The namespace of the Lease, and of the Secrets that policies name
    #[arg(long, env = "POD_NAMESPACE", default_value = NAMESPACE)]
    namespace: String,
    /// Who this one is, for the Lease: a name that no other manager has
    #[arg(long, env = "POD_NAME")]
    identity: String,
}

/// The Lease that the manager that works holds.
pub const LEASE: &str = "bonafide-manager";
/// Where the manager runs unless it was installed elsewhere.
pub const NAMESPACE: &str = "bonafide-system";
/// How long the first look at the definitions may keep a standby from being ready.
const FIRST_LOOK: std::time::Duration = std::time::Duration::from_secs(10);

/// Runs until a signal or until the lease is lost.
pub fn run(args: &ManagerArgs) -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let config: controller::Config = match std::fs::read_to_string(&args.config)
        .map_err(|error| error.to_string())
        .and_then(|text| serde_saphyr::from_str(&text).map_err(|error| error.to_string()))
    {
        Ok(config) => config,
        Err(error) => return fail(USAGE, format_args!("{}: {error}", args.config.display())),
    };
    // One thread: the work is waiting, and threads that wake each other cost a third of the CPU and some memory.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(lead(args, config)),
        Err(error) => fail(1, format_args!("the runtime could not be started: {error}")),
    }
}

async fn lead(args: &ManagerArgs, config: controller::Config) -> ExitCode {
    // Both rings of the dependency tree use this provider; with none installed the first connection would fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let shutdown = match Shutdown::on_signals() {
        Ok(shutdown) => shutdown,
        Err(error) => return fail(1, format_args!("signals cannot be heard: {error}")),
    };
    let (fence, clock) = (Fence::default(), Clock::of_machine());
    // The lease has a way of its own: it is what opens the fence.
    let ways = async {
        let config = kube::Config::infer().await.map_err(|error| error.to_string())?;
        let way = || ClientBuilder::try_from(config.clone()).map_err(|error| error.to_string());
        Ok::<_, String>((way()?.with_layer(&clock).build(), way()?.with_layer(&fence).with_layer(&clock).build()))
    };
    let (open, client) = match ways.await {
        Ok(ways) => ways,
        Err(error) => return fail(1, format_args!("there is no way to an API server: {error}")),
    };
    let (metrics, readiness) = (Arc::new(Metrics::default()), Readiness::default());
    let serving = tokio::spawn({
        let (readiness, metrics, shutdown, address) = (readiness.clone(), metrics.clone(), shutdown.clone(), args.listen);
        async move { http::serve(address, readiness, metrics, &shutdown).await }
    });
    // A standby looks as well: a new version that lacks its definitions is not ready, so the old one is not replaced by it.
    let mut definitions = controller::Definitions::default();
    let _ = tokio::time::timeout(FIRST_LOOK, definitions.look(&open, &readiness)).await;
    // A standby is ready: it answers its probes and waits for its turn.
    readiness.set(true);
    let looking = controller::watch_definitions(open.clone(), readiness.clone(), definitions);
    let _looking = tokio::task::JoinSet::from_iter([looking]);
    let mut lease = Lease::new(open, fence, &args.namespace, LEASE, &args.identity);
    // Its end with the process is no failure.
    let broken = async {
        match serving.await {
            Ok(Ok(())) => std::future::pending().await,
            Ok(Err(error)) => format!("{} cannot be served: {error}", args.listen),
            Err(error) => format!("{} is served no more: {error}", args.listen),
        }
    };
    tokio::pin!(broken);
    tokio::select! {
        acquired = lease.acquire(&shutdown) => if acquired.is_none() { return ExitCode::SUCCESS },
        problem = &mut broken => return fail(1, problem),
    }
    tracing::info!(identity = args.identity, "leading");
    metrics.leader.set(1);
    let ended = loop {
        readiness.set(false);
        let surroundings = match controller::Surroundings::real(client.clone(), clock.clone(), &config) {
            Ok(surroundings) => surroundings,
            Err(error) => return fail(1, error),
        };
        let (config, metrics, readiness) = (config.clone(), metrics.clone(), readiness.clone());
        let work = controller::run(surroundings, config, &args.namespace, metrics, readiness, shutdown.clone());
        tokio::select! {
            ended = lease.lead(&shutdown, work) => if !matches!(ended, Led::WentBack) { break ended },
            problem = &mut broken => return fail(1, problem),
        }
    };
    metrics.leader.set(0);
    match ended {
        Led::Done(Err(error)) => fail(1, error),
        Led::Lost if !is_over(&shutdown).await => fail(1, "the lease was lost; starting again as a standby"),
        Led::Done(Ok(())) | Led::Lost | Led::WentBack => ExitCode::SUCCESS,
    }
}

async fn is_over(shutdown: &Shutdown) -> bool {
    tokio::time::timeout(std::time::Duration::ZERO, shutdown.begun()).await.is_ok()
}
