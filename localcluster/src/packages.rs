//! What is needed from the system's package manager, installed when it is missing.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::progress::say;
use crate::{cache_lock, paths};

/// A Debian package, and the sign by which one sees that what it brings is there.
#[derive(Debug, Clone, Copy)]
pub struct Package {
    name: &'static str,
    sign: Sign,
}

#[derive(Debug, Clone, Copy)]
enum Sign {
    Program(&'static str),
    File(&'static str),
    /// A command that ends well.
    Command(&'static [&'static str]),
}

const fn program(name: &'static str, program: &'static str) -> Package {
    Package { name, sign: Sign::Program(program) }
}

const fn file(name: &'static str, path: &'static str) -> Package {
    Package { name, sign: Sign::File(path) }
}

/// To build programs that use C.
pub const CGO: &[Package] = &[
    program("gcc", "gcc"),
    program("pkg-config", "pkg-config"),
    file("libc6-dev", "/usr/include/stdlib.h"),
    file("libseccomp-dev", "/usr/include/seccomp.h"),
];

/// To run a node.
pub const NODE: &[Package] = &[
    program("iproute2", "ip"),
    program("nftables", "nft"),
    program("mount", "mount"),
    file("containernetworking-plugins", "/usr/lib/cni/bridge"),
];

/// To make an image from Debian's packages.
pub const DEBIAN_ROOT: &[Package] =
    &[program("mmdebstrap", "mmdebstrap"), file("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg")];

/// To make a Python environment, and to open a wheel.
pub const PYTHON: &[Package] =
    &[Package { name: "python3-venv", sign: Sign::Command(&["python3", "-c", "import ensurepip, venv"]) }];

/// To push an image.
pub const PUSH: &[Package] = &[program("skopeo", "skopeo")];

/// The certificates of the public authorities.
pub const CERTIFICATES: &[Package] = &[file("ca-certificates", "/etc/ssl/certs/ca-certificates.crt")];

/// Directories of programs that are not on everyone's `PATH`.
const SYSTEM_PROGRAMS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// `PATH` with the system's directories, which an unprivileged user's may lack.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let mut directories: Vec<_> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    for directory in SYSTEM_PROGRAMS.map(PathBuf::from) {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    directories
}

impl Package {
    fn is_there(&self) -> bool {
        match self.sign {
            Sign::File(path) => Path::new(path).exists(),
            Sign::Command(words) => ends_well(words),
            Sign::Program(name) => search_path().iter().any(|directory| directory.join(name).is_file()),
        }
    }
}

fn ends_well(words: &[&str]) -> bool {
    let Some((program, arguments)) = words.split_first() else { return false };
    let status = std::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Installs those of `packages` that are missing, with `apt-get`.
///
/// # Errors
///
/// When something is missing and this is not Debian or Ubuntu, or not root; the message then says what to install.
pub async fn ensure(packages: &[Package]) -> Result<()> {
    let missing = |packages: &[Package]| -> Vec<&str> {
        packages.iter().filter(|package| !package.is_there()).map(|package| package.name).collect()
    };
    if missing(packages).is_empty() {
        return Ok(());
    }
    let _lock = cache_lock::hold("apt-get", "installs packages").await?;
    let names = missing(packages);
    if names.is_empty() {
        return Ok(());
    }
    let list = names.join(" ");
    if paths::user()? != 0 {
        bail!("these Debian packages are missing: {list}. Install them (`sudo apt-get install {list}`) or run this as root");
    }
    say(format_args!("installing the Debian packages {list}"));
    let install = ["install", "-y", "--no-install-recommends"];
    let arguments: Vec<&str> = install.into_iter().chain(names).collect();
    if let Err(first) = apt_get(&arguments).await {
        say("fetching the package lists, as they are missing or old");
        apt_get(&["update"]).await.with_context(|| format!("after `apt-get install {list}` failed: {first:#}"))?;
        apt_get(&arguments).await?;
    }
    Ok(())
}

async fn apt_get(arguments: &[&str]) -> Result<()> {
    let command = format!("apt-get {}", arguments.join(" "));
    let output = Command::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("cannot run `{command}`: this is for Debian and Ubuntu; elsewhere install the same by hand"))?;
    if !output.status.success() {
        bail!("`{command}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
