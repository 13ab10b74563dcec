//! An image as one file: an OCI image layout in a tar archive, as containerd imports and skopeo reads it.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::layer::{Layer, Written, spell};

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name and tag: `localhost/pause:1`.
    pub name: String,
    /// From the lowest to the highest.
    pub layers: Vec<Layer>,
    /// What runs when a container of it starts.
    pub entrypoint: Vec<String>,
    /// The numeric user it runs as, and after a colon the group; root when empty.
    pub user: String,
    /// Environment variables, `NAME=value`.
    pub environment: Vec<String>,
}

impl Image {
    /// Writes the image to `out`, in one step: `out` never holds half of it.
    pub fn write(&self, out: &Path) -> Result<()> {
        let Some((_, tag)) = self.name.rsplit_once(':').filter(|(_, tag)| !tag.is_empty() && !tag.contains('/')) else {
            bail!("the image name {:?} has no tag: it is to look like localhost/pause:1", self.name);
        };
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file_name = out.file_name().with_context(|| format!("{} names no file", out.display()))?;
        let work = parent.join(format!(".{}.{}", file_name.to_string_lossy(), std::process::id()));
        fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
        let done = self
            .write_in(&work, tag)
            .and_then(|archive| fs::rename(&archive, out).with_context(|| format!("cannot write {}", out.display())));
        let _ = fs::remove_dir_all(&work);
        done
    }

    fn write_in(&self, work: &Path, tag: &str) -> Result<std::path::PathBuf> {
        let mut layers = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            layers.push(layer.write(&work.join(format!("layer{number}")))?);
        }
        let config = Blob::new(&self.configuration(&layers))?;
        let descriptors: Vec<_> = layers.iter().map(|layer| descriptor(LAYER_TYPE, &layer.digest, layer.size)).collect();
        let manifest = Blob::new(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, &config.digest, config.size()),
            "layers": descriptors,
        }))?;
        let mut listed = descriptor(MANIFEST_TYPE, &manifest.digest, manifest.size());
        if let Some(fields) = listed.as_object_mut() {
            let names = json!({"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": tag});
            fields.insert("annotations".into(), names);
        }
        let index = Blob::new(&json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [listed]}))?;

        let path = work.join("archive");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut archive = tar::Builder::new(file);
        append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut archive, "index.json", &index.bytes)?;
        for blob in [&config, &manifest] {
            append(&mut archive, &blob_path(&blob.digest), &blob.bytes)?;
        }
        for layer in &layers {
            let mut file = File::open(&layer.file).with_context(|| format!("cannot read {}", layer.file.display()))?;
            archive.append_data(&mut header(layer.size), blob_path(&layer.digest), &mut file).context("cannot write a layer")?;
        }
        archive.finish().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    fn configuration(&self, layers: &[Written]) -> Value {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
        let environment: Vec<_> = std::iter::once(&path).chain(&self.environment).collect();
        let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
        json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "User": self.user, "Env": environment, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
    }
}

/// This machine's architecture, as images call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

struct Blob {
    bytes: Vec<u8>,
    digest: String,
}

impl Blob {
    fn new(value: &Value) -> Result<Self> {
        let bytes = serde_json::to_vec(value).context("cannot write JSON")?;
        Ok(Self { digest: spell(Sha256::new_with_prefix(&bytes)), bytes })
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

fn descriptor(media_type: &str, digest: &str, size: u64) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn append(archive: &mut tar::Builder<File>, path: &str, bytes: &[u8]) -> Result<()> {
    archive.append_data(&mut header(bytes.len() as u64), path, bytes).with_context(|| format!("cannot write {path}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use super::super::layer::{Content, Entry};
    use super::*;

    fn image() -> Image {
        let file = |path: &str, text: &str| Entry { path: path.into(), mode: 0o755, content: Content::Bytes(text.into()) };
        let link = Entry { path: "/lib64".into(), mode: 0o777, content: Content::Link("usr/lib64".into()) };
        Image {
            name: "localhost/greeter:2".into(),
            layers: vec![Layer::Entries(vec![file("/opt/app/greeter", "hello")]), Layer::Entries(vec![link])],
            entrypoint: vec!["/opt/app/greeter".into()],
            user: "1234:5678".into(),
            environment: vec!["MOOD=good".into()],
        }
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        files
    }

    fn unzipped(bytes: &[u8]) -> Vec<u8> {
        let mut child = Command::new("gzip").arg("-d").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        child.wait_with_output().unwrap().stdout
    }

    #[test]
    fn every_digest_of_an_archive_is_that_of_the_bytes_it_names() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("image.tar");
        image().write(&out).unwrap();
        let files = files(&fs::read(&out).unwrap());
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let bytes = &files[&blob_path(digest)];
            assert_eq!(digest, spell(Sha256::new_with_prefix(bytes)));
            assert_eq!(descriptor["size"].as_u64().unwrap(), bytes.len() as u64);
            bytes.clone()
        };
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = parse(&files["index.json"]);
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "localhost/greeter:2");
        let manifest = parse(&blob(&index["manifests"][0]));
        let config = parse(&blob(&manifest["config"]));
        assert_eq!(config["config"]["User"], "1234:5678");
        assert_eq!(config["config"]["Env"][1], "MOOD=good");
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 2);
        for (layer, diff_id) in layers.iter().zip(config["rootfs"]["diff_ids"].as_array().unwrap()) {
            assert_eq!(diff_id.as_str().unwrap(), spell(Sha256::new_with_prefix(unzipped(&blob(layer)))));
        }
        let first = super::tests::files(&unzipped(&blob(&layers[0])));
        assert_eq!(first.keys().collect::<Vec<_>>(), ["opt/", "opt/app/", "opt/app/greeter"]);
        assert_eq!(first["opt/app/greeter"], b"hello");
    }

    #[test]
    fn the_same_image_is_the_same_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| directory.path().join(name));
        image().write(&one).unwrap();
        image().write(&two).unwrap();
        assert!(fs::read(one).unwrap() == fs::read(two).unwrap());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "something was left behind");
    }

    #[test]
    fn names_without_a_tag_and_paths_that_leave_the_image_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("image.tar");
        let mut untagged = image();
        untagged.name = "registry.example:5000/greeter".into();
        assert!(untagged.write(&out).unwrap_err().to_string().contains("tag"));
        for path in ["relative", "/", "/a/../../b"] {
            let entry = Entry { path: path.into(), mode: 0o644, content: Content::Directory };
            let leaving = Image { layers: vec![Layer::Entries(vec![entry])], ..image() };
            assert!(leaving.write(&out).is_err(), "{path} was accepted");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "something was left behind");
    }
}
