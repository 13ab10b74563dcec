//! Objects as watches tell of them: without who manages which field, which takes more room and time than all the rest.

use std::{borrow::Cow, fmt, marker::PhantomData};

use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::{live::Live, metadata::metadata};

/// The metadata of an object of kind `K`; nothing else is sent.
#[derive(Deserialize)]
#[serde(bound = "")]
pub struct Meta<K> {
    /// The metadata.
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    #[serde(skip)]
    kind: PhantomData<fn() -> K>,
}

/// An object, or why this version of Bonafide cannot read it.
#[derive(Debug, Clone)]
pub struct Guarded<K>(pub Result<K, Unreadable>);

/// An object that cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct Unreadable {
    /// Why.
    pub error: String,
    /// What can be read of it.
    pub metadata: ObjectMeta,
}

impl<K> From<ObjectMeta> for Meta<K> {
    fn from(metadata: ObjectMeta) -> Self {
        Self { metadata, kind: PhantomData }
    }
}

impl<K> From<&Live> for Meta<K> {
    fn from(live: &Live) -> Self {
        live.meta().into()
    }
}

impl<K> Clone for Meta<K> {
    fn clone(&self) -> Self {
        self.metadata.clone().into()
    }
}

impl<K> fmt::Debug for Meta<K> {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.metadata.fmt(text)
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Live::deserialize(deserializer)?;
        Ok(Self(
            K::deserialize(object.object()).map_err(|error| Unreadable { error: error.to_string(), metadata: object.meta() }),
        ))
    }
}

/// Both are of the kind that they hold.
macro_rules! of_kind {
    ($name:ident, $partial:literal, $this:ident, $meta:expr, $meta_mut:expr) => {
        impl<K: Resource> Resource for $name<K> {
            type DynamicType = K::DynamicType;
            type Scope = K::Scope;

            fn kind(of: &K::DynamicType) -> Cow<'_, str> {
                K::kind(of)
            }

            fn group(of: &K::DynamicType) -> Cow<'_, str> {
                K::group(of)
            }

            fn version(of: &K::DynamicType) -> Cow<'_, str> {
                K::version(of)
            }

            fn plural(of: &K::DynamicType) -> Cow<'_, str> {
                K::plural(of)
            }

            fn metadata_api() -> bool {
                $partial
            }

            fn meta(&self) -> &ObjectMeta {
                let $this = self;
                $meta
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                let $this = self;
                $meta_mut
            }
        }
    };
}

of_kind!(Meta, true, this, &this.metadata, &mut this.metadata);
of_kind!(
    Guarded,
    false,
    this,
    this.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta),
    this.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
);

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_is_read_without_its_managers() {
        let object = json!({"metadata": {
            "name": "a", "managedFields": [{"manager": "x"}], "labels": {"managedFields": "b"}, "generation": 3,
        }});
        let read: Meta<Pod> = serde_json::from_str(&object.to_string()).unwrap();
        let mut wanted: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap();
        assert!(wanted.managed_fields.take().is_some());
        assert_eq!(read.metadata, wanted);
    }

    #[test]
    fn an_object_that_cannot_be_read_says_whose_it_is() {
        let object = json!({"metadata": {"name": "a", "managedFields": []}, "spec": {"containers": "no list"}});
        let Guarded(read) = serde_json::from_value::<Guarded<Pod>>(object).unwrap();
        let unreadable = read.unwrap_err();
        assert_eq!(unreadable.metadata.name.as_deref(), Some("a"));
        assert!(unreadable.error.contains("no list"), "{unreadable}");
    }
}
