//! Models on a shelf: what a hub would have.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bonafide::{
    api::Reason,
    model::{CleanPath, Digest, Source},
    weights::{Credentials, Library, SourceError, Tree, TreeFile},
};
use futures::future::BoxFuture;
use tokio::time::sleep;

use crate::support::signer::Person;

#[derive(Clone)]
struct Volume {
    commit: String,
    files: Vec<(String, String)>,
}

/// The shelf. Its clones are the same one.
#[derive(Clone, Default)]
pub struct Shelf(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    volumes: BTreeMap<String, Volume>,
    /// Who signed what was ever there, by commit.
    signers: BTreeMap<String, Vec<u8>>,
    closed: bool,
    signatures: BTreeMap<(u8, String), String>,
}

impl Shelf {
    /// Puts a model there with one file, signed by persons of these numbers. A signature is a file of its own.
    pub fn put(&self, source: &str, signers: &[u8]) {
        let name = source.rsplit('/').next().unwrap().to_lowercase();
        self.put_content(source, &format!("the weights of {name}"), signers);
    }

    pub fn put_content(&self, source: &str, content: &str, signers: &[u8]) {
        let name = format!("{}.gguf", source.rsplit('/').next().unwrap().to_lowercase());
        let mut inner = self.0.lock().unwrap();
        let mut files = vec![(name.clone(), content.to_owned())];
        for signer in signers {
            let signature = inner
                .signatures
                .entry((*signer, content.to_owned()))
                .or_insert_with(|| Person::new(*signer).signs(&[(&name, content)]))
                .clone();
            files.push((format!("{signer}.sig"), signature));
        }
        let commit: String = Digest::of(format!("{source} {content} {signers:?}")).hex().chars().take(40).collect();
        inner.signers.insert(commit.clone(), signers.to_vec());
        inner.volumes.insert(source.to_owned(), Volume { commit, files });
    }

    /// The numbers of those who signed what a commit has.
    pub fn signers(&self, commit: &str) -> Vec<u8> {
        self.0.lock().unwrap().signers.get(commit).cloned().unwrap_or_default()
    }

    /// A signature by one more person over what a source has, which does not come to lie beside it.
    pub fn sign_apart(&self, source: &str, signer: u8) -> String {
        let mut inner = self.0.lock().unwrap();
        let volume = inner.volumes[source].clone();
        inner.signers.get_mut(&volume.commit).unwrap().push(signer);
        let (name, content) = &volume.files[0];
        Person::new(signer).signs(&[(name, content)])
    }

    /// Whether nobody can look.
    pub fn close(&self, closed: bool) {
        self.0.lock().unwrap().closed = closed;
    }

    fn find(&self, source: &Source) -> Result<Volume, SourceError> {
        let inner = self.0.lock().unwrap();
        if inner.closed {
            return Err(SourceError::later(Reason::SourceUnavailable, "The shelf is closed.", None));
        }
        let found = inner.volumes.get(&source.to_string()).cloned();
        found.ok_or_else(|| SourceError::later(Reason::SourceUnavailable, format!("There is no {source} on the shelf."), None))
    }
}

impl Library for Shelf {
    fn resolve<'a>(
        &'a self,
        source: &'a Source,
        _: Option<&'a str>,
        _: Option<&'a Credentials>,
    ) -> BoxFuture<'a, Result<Tree, SourceError>> {
        Box::pin(async move {
            sleep(Duration::from_millis(120)).await;
            let volume = self.find(source)?;
            let file = |(path, content): &(String, String)| TreeFile {
                path: path.parse().unwrap(),
                size: content.len() as u64,
                sha256: Some(Digest::of(content)),
            };
            Ok(Tree { revision: volume.commit.clone(), files: volume.files.iter().map(file).collect(), unclean: vec![] })
        })
    }

    fn read<'a>(
        &'a self,
        source: &'a Source,
        _: &'a str,
        path: &'a CleanPath,
        _: u64,
        _: Option<&'a Credentials>,
    ) -> BoxFuture<'a, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            sleep(Duration::from_millis(40)).await;
            let volume = self.find(source)?;
            let found = volume.files.iter().find(|(name, _)| name == path.as_str());
            Ok(found.map(|(_, content)| content.clone().into_bytes()).unwrap_or_default())
        })
    }
}
