//! The root of images for programs that need the C library and nothing else.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::layer::{Content, Entry, Layer};
use crate::packages;

/// The libraries of glibc and GCC that programs of Rust and C link to, and those by which names are looked up.
const LIBRARIES: [&str; 9] = [
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
];

/// Where systems keep them.
const DIRECTORIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
];

const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A layer with this machine's C library, the certificates of the public authorities, and `/tmp`. It is this machine's,
/// so that what is built here runs on it, whichever version that needs. About 4 MB uncompressed.
pub async fn base() -> Result<Layer> {
    packages::ensure(packages::CERTIFICATES).await?;
    let mut entries = accounts();
    entries.extend(Entry::of_machine(Path::new(AUTHORITIES), AUTHORITIES)?);
    let loader = match std::env::consts::ARCH {
        "x86_64" => "/lib64/ld-linux-x86-64.so.2",
        "aarch64" => "/lib/ld-linux-aarch64.so.1",
        other => bail!("images cannot be made on the architecture {other}"),
    };
    entries.extend(Entry::of_machine(Path::new(loader), loader)?);
    for name in LIBRARIES {
        let library = find(name).with_context(|| format!("{name} is in none of {}", DIRECTORIES.join(", ")))?;
        let path = library.to_str().context("the path of a library is not UTF-8")?;
        entries.extend(Entry::of_machine(&library, path)?);
    }
    Ok(Layer::Entries(entries))
}

/// What every image has whose programs ask who they are and where others are: accounts, the order of name look-ups, and
/// `/tmp`.
pub(crate) fn accounts() -> Vec<Entry> {
    vec![
        directory("/tmp", 0o1777),
        text("/etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n"),
        text("/etc/group", "root:x:0:\nnonroot:x:65532:\n"),
        text("/etc/nsswitch.conf", "hosts: files dns\n"),
    ]
}

fn find(library: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| Path::new(directory).join(library)).find(|path| path.exists())
}

fn directory(path: &str, mode: u32) -> Entry {
    Entry { path: path.into(), mode, content: Content::Directory }
}

fn text(path: &str, text: &str) -> Entry {
    Entry { path: path.into(), mode: 0o644, content: Content::Bytes(text.into()) }
}
