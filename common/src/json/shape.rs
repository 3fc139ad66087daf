//! Which form of JSON a type asks for, learned from the first question that it puts to a deserializer.

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor, value},
    forward_to_deserialize_any,
};

const STRUCT: &str = "struct";

/// Whether `T` is a struct with named fields.
pub(super) fn is_object<'de, T: Deserialize<'de>>() -> bool {
    T::deserialize(Question).is_err_and(|asked| asked.to_string() == STRUCT)
}

/// Answers each question with an error that names it.
struct Question;

impl<'de> Deserializer<'de> for Question {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, value::Error> {
        Err(value::Error::custom("something else"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, value::Error> {
        Err(value::Error::custom(STRUCT))
    }

    /// A wrapper has the form of what it wraps.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, value::Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
