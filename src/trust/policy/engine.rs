//! Which images of engines a policy takes.

use std::collections::BTreeSet;

use crate::{
    api::{Problem, Reason},
    model::Digest,
};

/// An image that can be no other: where it is, and its digest. A tag beside the digest says nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::trust) struct Image {
    repository: String,
    digest: Digest,
}

impl Image {
    /// Reads `REPOSITORY[:TAG]@sha256:DIGEST`; none when there is no digest.
    pub fn read(text: &str) -> Option<Self> {
        let (name, digest) = text.split_once('@')?;
        let last = name.rsplit('/').next().unwrap_or(name);
        let tag = last.find(':').map_or(0, |at| last.len() - at);
        let repository = name.get(..name.len() - tag).filter(|repository| !repository.is_empty())?;
        Some(Self { repository: repository.to_owned(), digest: digest.parse().ok()? })
    }
}

pub(super) fn images(texts: &[String]) -> Result<BTreeSet<Image>, Problem> {
    const AT: &str = "spec.engines.images";
    if texts.is_empty() {
        return Err(Problem::new(Reason::InvalidSpec, format!("{AT} is empty: no engine could serve.")));
    }
    let image = |(index, text): (usize, &String)| {
        Image::read(text).ok_or_else(|| {
            let shown: String = text.chars().take(120).collect();
            let message = format!(
                "{AT}[{index}]: {shown:?} has no digest by which an image can be told from every other; write REGISTRY/NAME@sha256:… with 64 hexadecimal digits."
            );
            Problem::new(Reason::InvalidDigest, message)
        })
    };
    texts.iter().enumerate().map(image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_where_it_is_and_its_digest_whatever_the_tag() {
        let digest = Digest::of("image").to_string();
        let read = |name: &str| Image::read(&format!("{name}@{digest}"));
        assert_eq!(read("ghcr.io/a/b:v1"), read("ghcr.io/a/b"));
        assert_eq!(read("localhost:5000/a:v1"), read("localhost:5000/a"));
        assert_ne!(read("localhost:5000/a"), read("localhost/a"));
        assert_ne!(read("ghcr.io/a/b"), read("docker.io/a/b"));
        assert!(read(":v1").is_none() && Image::read("ghcr.io/a/b:v1").is_none());
        assert!(Image::read("ghcr.io/a/b@sha256:00").is_none());
    }
}
