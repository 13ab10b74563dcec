//! The images that demos and tests run.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{BASE_IMAGE, LLAMA_IMAGE, PAUSE_IMAGE, made, run};
use crate::image::{self, Content, Entry, Image, Layer};
use crate::{binaries, packages};

/// The name of the image that holds a pod's namespaces.
pub const PAUSE_NAME: &str = "localhost/pause:1";

/// The name of the image with llama.cpp's server; the tag is the build that Debian has.
pub const LLAMA_NAME: &str = "localhost/llama-cpp:b11669";

/// Who images run as that need no rights.
pub(super) const NOBODY: &str = "65532:65532";

/// Debian's release with llama.cpp.
const LLAMA_RELEASE: &str = "forky";

/// Debian's own address, for machines that are not Debian; those that are use their own.
const DEBIAN: &str = "http://deb.debian.org/debian";

/// The OCI archive of [`PAUSE_NAME`].
pub(super) async fn pause() -> Result<PathBuf> {
    let program = binaries::path("pause").await?;
    let built = program.parent().and_then(Path::file_name).context("pause has no directory")?.to_string_lossy();
    let directory = made(&format!("{PAUSE_IMAGE}-{built}"), "making the image of pause", async |directory| {
        let image = Image {
            name: PAUSE_NAME.into(),
            layers: vec![Layer::Entries(Entry::of_machine(&program, "/pause")?)],
            entrypoint: vec!["/pause".into()],
            user: NOBODY.into(),
            environment: Vec::new(),
        };
        image.write(&directory.join("pause.tar"))
    })
    .await?;
    Ok(directory.join("pause.tar"))
}

/// The OCI archive of an image that is the base and nothing else.
pub(super) async fn base() -> Result<PathBuf> {
    let base = image::base().await?;
    let directory = made(&format!("{BASE_IMAGE}-{}", base.fingerprint()?), "making the base image", async |directory| {
        let image = Image {
            name: "localhost/base:1".into(),
            layers: vec![base.clone()],
            entrypoint: Vec::new(),
            user: NOBODY.into(),
            environment: Vec::new(),
        };
        image.write(&directory.join("base.tar"))
    })
    .await?;
    Ok(directory.join("base.tar"))
}

/// The OCI archive of [`LLAMA_NAME`].
pub(super) async fn llama() -> Result<PathBuf> {
    let directory = made(&format!("{LLAMA_IMAGE}-b11669"), "making the image of llama.cpp (about 20 s)", async |directory| {
        packages::ensure(packages::DEBIAN_ROOT).await?;
        let (root, mirror) = (directory.join("root.tar"), debian_mirror());
        let root_text = root.display().to_string();
        // Packages are unpacked and not set up: no shell, no package manager, and what is there is all that runs.
        let options = ["--variant=extract", "--include=llama.cpp-tools", "--aptopt=Acquire::Check-Valid-Until \"false\""];
        let arguments: Vec<_> = options.into_iter().chain([LLAMA_RELEASE, &root_text, &mirror]).collect();
        run(&directory.join("log"), Path::new("mmdebstrap"), &arguments).await?;
        let image = Image {
            name: LLAMA_NAME.into(),
            layers: vec![Layer::Tar(root.clone()), Layer::Entries(beside_packages())],
            entrypoint: vec!["/usr/bin/llama-server".into()],
            user: NOBODY.into(),
            // Its cache, should it want one, is where anybody may write if anybody may write anywhere.
            environment: vec!["HOME=/tmp".into(), "LLAMA_CACHE=/tmp".into()],
        };
        image.write(&directory.join("llama.tar"))?;
        fs::remove_file(&root).with_context(|| format!("cannot remove {}", root.display()))
    })
    .await?;
    Ok(directory.join("llama.tar"))
}

/// What setting the packages up would have made.
fn beside_packages() -> Vec<Entry> {
    let link = |path: &str, target: &str| Entry { path: path.into(), mode: 0o777, content: Content::Link(target.into()) };
    let mut entries = vec![link("/lib", "usr/lib"), link("/bin", "usr/bin"), link("/sbin", "usr/sbin")];
    if std::env::consts::ARCH == "x86_64" {
        entries.push(link("/lib64", "usr/lib64"));
    }
    entries.extend(image::accounts());
    entries
}

/// Where this machine has its Debian packages from, so that a mirror is used where there is one.
pub(super) fn debian_mirror() -> String {
    let sources = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    let texts = sources.iter().filter_map(|path| fs::read_to_string(path).ok());
    texts.filter_map(|text| first_mirror(&text)).next().unwrap_or_else(|| DEBIAN.into())
}

/// The first address of a list of package sources in either of apt's formats, if it is one of Debian.
fn first_mirror(sources: &str) -> Option<String> {
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        match words.next()? {
            "URIs:" => words.next().map(str::to_owned),
            "deb" => words.find(|word| word.contains("://")).map(str::to_owned),
            _ => None,
        }
    };
    sources.lines().find_map(address).filter(|address| address.trim_end_matches('/').ends_with("/debian"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_machines_own_mirror_of_debian_is_found_in_both_formats() {
        let new = "Types: deb\n# http://old.example/debian\nURIs: http://mirror.example/debian http://other.example/debian\n";
        let old = "# comment\ndeb [signed-by=/a/key] https://mirror.example/debian/ bookworm main\n";
        assert_eq!(first_mirror(new).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(first_mirror(old).as_deref(), Some("https://mirror.example/debian/"));
        assert_eq!(first_mirror("deb http://mirror.example/ubuntu noble main\n"), None);
        assert_eq!(first_mirror(""), None);
    }
}
