//! The command line of `localcluster`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Args, Parser, Subcommand};
use localcluster::{Cluster, Options, assets, binaries, image, network, paths};

/// A real Kubernetes on this machine, for demos and tests.
///
/// The first run builds Kubernetes from source, once, which takes 10 to 20 minutes on two cores; it
/// tells how far it is. From then on a cluster is up in seconds, and `down` leaves nothing of it.
///
///   eval "$(localcluster up)"            # sets KUBECONFIG, and PATH for kubectl
///   kubectl get pods --all-namespaces
///   localcluster down
#[derive(Debug, Parser)]
#[command(version, verbatim_doc_comment)]
struct Cli {
    /// The directory that holds all there is of the cluster
    #[arg(long, global = true, env = "LOCALCLUSTER_STATE", default_value = paths::DEFAULT_STATE, value_name = "DIRECTORY")]
    state: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster, which runs until `down`, and print the shell command by which it is used
    Up(Up),
    /// End the cluster, or remove what is left of one; nothing of it stays behind
    Down,
    /// Tell what runs
    Status,
    /// Print the path of the administrator's kubeconfig
    Kubeconfig,
    /// End all that runs on a node at once, as when its power fails; or start it again
    #[command(subcommand)]
    Node(Power),
    /// Load images of OCI archives into the nodes
    LoadImage {
        /// OCI archives
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Fetch, make or build something that demos and tests need, once, and print its path
    Asset(Asset),
    /// Make and push container images
    #[command(subcommand)]
    Image(Image),
    /// Serve models as a hub does
    Hub(localcluster::hub::Args),
    /// Change one byte in the middle of a file, as an attacker or a bad disk would
    Alter {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Build programs into the cache, so that nothing waits for them later, and print their paths
    Build(Build),
}

#[derive(Debug, Args)]
struct Up {
    /// 0 for a control plane alone, without root; else how many nodes that run containers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=i64::from(network::NODES)))]
    nodes: u8,
    /// OCI archives whose images every node has from the start
    #[arg(long, num_args = 1.., value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Wait at most so long while others have all that the machine has for clusters with nodes
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    patience: u64,
    /// Start an image registry beside the cluster, over plain HTTP; `status` tells its address
    #[arg(long)]
    registry: bool,
}

#[derive(Debug, Subcommand)]
enum Power {
    /// End all that runs on it at once
    Stop {
        /// Its number: the first is 0
        number: u8,
    },
    /// Start it again, with what is on its disk
    Start {
        /// Its number: the first is 0
        number: u8,
    },
}

#[derive(Debug, Args)]
struct Asset {
    /// What to fetch or make
    #[arg(value_parser = PossibleValuesParser::new(asset_names()))]
    name: String,
}

#[derive(Debug, Subcommand)]
enum Image {
    /// Make an OCI archive of the C library, certificates, and files of this machine
    Build(ImageBuild),
    /// Push an OCI archive to a registry
    Push {
        /// The OCI archive
        file: PathBuf,
        /// REGISTRY/NAME:TAG
        destination: String,
        /// Use HTTP without TLS; without saying so, only at the registry that `up --registry` starts
        #[arg(long)]
        plain_http: bool,
    },
}

#[derive(Debug, Args)]
struct ImageBuild {
    /// The image's name and tag, for example localhost/bonafide:1
    #[arg(long, value_name = "NAME:TAG")]
    name: String,
    /// The OCI archive to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A file or directory of this machine, and where it is in the image
    #[arg(long, value_name = "HOSTPATH=/PATH", value_parser = added)]
    add: Vec<(PathBuf, String)>,
    /// What runs, as a JSON array, for example '["/bonafide"]'
    #[arg(long, value_parser = words, value_name = "JSON")]
    entrypoint: Words,
    /// The numeric user it runs as
    #[arg(long, default_value = "65532:65532")]
    user: String,
}

#[derive(Debug, Clone)]
struct Words(Vec<String>);

fn words(text: &str) -> Result<Words, String> {
    serde_json::from_str(text).map(Words).map_err(|error| format!("not a JSON array of strings: {error}"))
}

fn added(text: &str) -> Result<(PathBuf, String), String> {
    match text.rsplit_once('=') {
        Some((source, path)) if !source.is_empty() && path.starts_with('/') => Ok((source.into(), path.into())),
        _ => Err("it is to look like target/release/bonafide=/bonafide".into()),
    }
}

fn asset_names() -> Vec<PossibleValue> {
    let assets = assets::ALL.iter().map(|(name, about)| PossibleValue::new(name).help(about));
    let programs = binaries::all().iter().map(|recipe| PossibleValue::new(recipe.name).help(recipe.version()));
    assets.chain(programs).collect()
}

#[derive(Debug, Args)]
struct Build {
    /// Which programs; all of them when none is named
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(program_names()))]
    names: Vec<String>,
}

fn program_names() -> Vec<&'static str> {
    let programs = binaries::all().iter().map(|recipe| recipe.name);
    std::iter::once("all").chain(programs).collect()
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("localcluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Up(up) => up.run(cli.state).await,
        Command::Down => down(cli.state).await,
        Command::Status => tell(localcluster::status(&cli.state).await?),
        Command::Kubeconfig => tell(Cluster::attach(&cli.state)?.kubeconfig().display()),
        Command::Node(Power::Stop { number }) => Cluster::attach(&cli.state)?.stop_node(number).await,
        Command::Node(Power::Start { number }) => Cluster::attach(&cli.state)?.start_node(number).await,
        Command::LoadImage { files } => load_images(&cli.state, &files).await,
        Command::Asset(asset) => tell(assets::path(&asset.name).await?.display()),
        Command::Image(image) => image.run().await,
        Command::Hub(hub) => Ok(localcluster::hub::run(hub).await?),
        Command::Alter { file } => alter(&file),
        Command::Build(build) => build.run().await,
    }
}

/// Flips the bits of the byte in the middle.
fn alter(file: &Path) -> Result<()> {
    use std::os::unix::fs::FileExt as _;

    let open = std::fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .with_context(|| format!("cannot write to {}", file.display()))?;
    let middle = open.metadata()?.len() / 2;
    let mut byte = [0];
    open.read_exact_at(&mut byte, middle)?;
    open.write_all_at(&byte.map(|byte| !byte), middle)?;
    let [was] = byte;
    tell(format_args!("{}: byte {middle} was {was:#04x} and is {:#04x}", file.display(), !was))
}

/// Prints what was asked for.
fn tell(answer: impl std::fmt::Display) -> Result<()> {
    println!("{answer}");
    Ok(())
}

impl Up {
    async fn run(self, state: PathBuf) -> Result<()> {
        if self.registry && self.nodes == 0 {
            bail!("--registry is for a cluster with a node: leave out one of --registry and --nodes 0");
        }
        let patience = Duration::from_secs(self.patience);
        let options = Options { nodes: self.nodes, state: Some(state), images: self.images, patience };
        let mut cluster = Cluster::start(options).await?;
        if self.registry {
            cluster.start_registry().await?;
        }
        let (kubeconfig, programs) = (cluster.kubeconfig(), cluster.state().join("bin"));
        cluster.detach()?;
        tell(format_args!("export KUBECONFIG={} PATH={}:\"$PATH\"", kubeconfig.display(), programs.display()))
    }
}

async fn down(state: PathBuf) -> Result<()> {
    if !localcluster::down(&state).await? {
        eprintln!("localcluster: there is no cluster in {}", state.display());
    }
    Ok(())
}

async fn load_images(state: &Path, files: &[PathBuf]) -> Result<()> {
    let cluster = Cluster::attach(state)?;
    for file in files {
        cluster.load_image(file).await?;
    }
    Ok(())
}

impl Image {
    async fn run(self) -> Result<()> {
        match self {
            Self::Build(build) => image::build(&build.name, &build.out, &build.add, &build.entrypoint.0, &build.user).await,
            Self::Push { file, destination, plain_http } => {
                let ours = destination.split_once('/').is_some_and(|(registry, _)| network::is_registry(registry));
                let plain = plain_http || ours;
                image::push(&file, &destination, plain).await
            }
        }
    }
}

impl Build {
    async fn run(self) -> Result<()> {
        let all = self.names.is_empty() || self.names.iter().any(|name| name == "all");
        let names: Vec<&str> = match all {
            true => binaries::all().iter().map(|recipe| recipe.name).collect(),
            false => self.names.iter().map(String::as_str).collect(),
        };
        binaries::ensure(&names).await?;
        for name in names {
            tell(binaries::path(name).await?.display())?;
        }
        Ok(())
    }
}
