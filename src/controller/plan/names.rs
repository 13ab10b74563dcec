//! The names of children.

use crate::api::NAME_PREFIX;

/// `bonafide-NAME-REVISION`: the name of a revision's Deployment, ConfigMap and ControllerRevision.
///
/// With a name of at most 40 characters (a rule of the resource) and eight of a revision it has at most 58, so that the
/// names of pods keep the whole of it.
pub fn child_name(deployment: &str, revision: &str) -> String {
    format!("{NAME_PREFIX}{deployment}-{revision}")
}

/// The revision in the name of a child of `deployment`.
pub fn revision_of<'a>(deployment: &str, child: &'a str) -> Option<&'a str> {
    child.strip_prefix(NAME_PREFIX)?.strip_prefix(deployment)?.strip_prefix('-').filter(|revision| !revision.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_its_revision_back() {
        let name = child_name("chat-7b", "0a1b2c3d");
        assert_eq!(name, "bonafide-chat-7b-0a1b2c3d");
        assert_eq!(revision_of("chat-7b", &name), Some("0a1b2c3d"));
        assert_eq!(revision_of("chat", &name), None);
    }
}
