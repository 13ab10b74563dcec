//! Metadata without who manages which field: that takes more room and time than all the rest of an object, and is compared with
//! nothing.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, IntoDeserializer as _, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// What is left out.
const LEFT_OUT: &str = "managedFields";

/// Reads metadata without that field, whatever it is read into.
pub fn metadata<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Reader<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
        type Value = T;

        fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
            text.write_str("metadata")
        }

        fn visit_map<A: MapAccess<'de>>(self, parts: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(Without(parts)))
        }
    }

    deserializer.deserialize_map(Reader(PhantomData))
}

/// The fields of an object without [`LEFT_OUT`].
struct Without<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Without<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        loop {
            match self.0.next_key::<String>()? {
                Some(key) if key == LEFT_OUT => self.0.next_value::<IgnoredAny>().map(drop)?,
                Some(key) => return seed.deserialize(key.into_deserializer()).map(Some),
                None => return Ok(None),
            }
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}
