//! Where the controller learns what a source has; a simulation has a shelf of its own.

use futures::future::BoxFuture;

use super::{Credentials, Resolver, SourceError, Tree};
use crate::model::{CleanPath, Source};

/// What can say what a source has, without the weights. See [`Resolver`], which asks real servers.
pub trait Library: Send + Sync {
    /// What `source` has at `revision`, as of now; `None`: the source's own default.
    fn resolve<'a>(
        &'a self,
        source: &'a Source,
        revision: Option<&'a str>,
        credentials: Option<&'a Credentials>,
    ) -> BoxFuture<'a, Result<Tree, SourceError>>;

    /// The whole of a small file of `size` bytes at the immutable revision `commit`.
    fn read<'a>(
        &'a self,
        source: &'a Source,
        commit: &'a str,
        path: &'a CleanPath,
        size: u64,
        credentials: Option<&'a Credentials>,
    ) -> BoxFuture<'a, Result<Vec<u8>, SourceError>>;
}

impl Library for Resolver {
    fn resolve<'a>(
        &'a self,
        source: &'a Source,
        revision: Option<&'a str>,
        credentials: Option<&'a Credentials>,
    ) -> BoxFuture<'a, Result<Tree, SourceError>> {
        Box::pin(self.resolve(source, revision, credentials))
    }

    fn read<'a>(
        &'a self,
        source: &'a Source,
        commit: &'a str,
        path: &'a CleanPath,
        size: u64,
        credentials: Option<&'a Credentials>,
    ) -> BoxFuture<'a, Result<Vec<u8>, SourceError>> {
        Box::pin(self.read(source, commit, path, size, credentials))
    }
}
