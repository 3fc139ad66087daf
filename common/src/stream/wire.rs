//! What the server answers about streams, read as bytes and one piece at a time: a name that is no text, or an entry of another form, is
//! that entry's own affair and never that of its neighbours.
//!
//! Knows the forms of the answers, not what is done with them.
//!
//! redis-rs fails the whole answer when one name in it is no UTF-8. So nothing here asks it for
//! text.

use redis::Value;

use super::entry::{self, Hint};

/// One entry of a stream; without a hint it is none of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its id.
    pub id: String,
    /// What it hints at.
    pub hint: Option<Hint>,
}

/// The answer of XREADGROUP: entries by the key of their stream. Empty if nothing was read.
pub fn streams(answer: &Value) -> Vec<(String, Vec<Told>)> {
    pairs(answer)
        .filter_map(|(key, found)| Some((text(key)?, entries(found))))
        .collect()
}

/// The answer of XRANGE.
pub fn entries(answer: &Value) -> Vec<Told> {
    items(answer).iter().filter_map(told).collect()
}

fn told(entry: &Value) -> Option<Told> {
    let [id, fields, ..] = items(entry) else {
        return None;
    };
    let hint = entry::decode(
        pairs(fields).filter_map(|(name, value)| Some((bytes(name)?, bytes(value)?))),
    );
    Some(Told {
        id: text(id)?,
        hint,
    })
}

/// A list of records, each with its fields by name, as XINFO tells about groups and consumers.
pub fn records(answer: &Value) -> impl Iterator<Item = Record<'_>> {
    items(answer).iter().map(Record)
}

/// Fields by name.
#[derive(Clone, Copy)]
pub struct Record<'a>(pub &'a Value);

impl<'a> Record<'a> {
    /// The field of this name.
    pub fn field(self, name: &str) -> Option<&'a Value> {
        pairs(self.0)
            .find(|(key, _)| bytes(key) == Some(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// The same as bytes.
    pub fn bytes(self, name: &str) -> Option<&'a [u8]> {
        self.field(name).and_then(bytes)
    }

    /// The same as text.
    pub fn text(self, name: &str) -> Option<String> {
        self.field(name).and_then(text)
    }

    /// The same as a number.
    pub fn number(self, name: &str) -> Option<u64> {
        self.field(name).and_then(number)
    }
}

/// A list; anything else is an empty one.
pub fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) | Value::Set(items) => items,
        _ => &[],
    }
}

/// A map in either form: as such (RESP3), as a list of keys and values in turn, or as a list of pairs.
fn pairs(value: &Value) -> Box<dyn Iterator<Item = (&Value, &Value)> + '_> {
    match value {
        Value::Map(pairs) => Box::new(pairs.iter().map(|(key, value)| (key, value))),
        Value::Array(items)
            if items
                .iter()
                .all(|item| matches!(item, Value::Array(pair) if pair.len() == 2)) =>
        {
            Box::new(
                items.iter().filter_map(|item| {
                    Some((self::items(item).first()?, self::items(item).get(1)?))
                }),
            )
        }
        _ => Box::new(
            items(value)
                .chunks_exact(2)
                .map(|pair| (&pair[0], &pair[1])),
        ),
    }
}

/// A string as it is.
pub fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.as_bytes()),
        _ => None,
    }
}

/// A string that is to be shown or compared; what is no text in it is replaced.
pub fn text(value: &Value) -> Option<String> {
    bytes(value).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// A number, also one that is written as text.
pub fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => std::str::from_utf8(bytes(value)?).ok()?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::new_job_ids, stream::entry::pack};

    fn bulk(bytes: &[u8]) -> Value {
        Value::BulkString(bytes.to_vec())
    }

    /// A small generator, the same in every run.
    struct Noise(u64);

    impl Noise {
        fn draw(&mut self, below: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % below
        }

        fn bytes(&mut self) -> Vec<u8> {
            (0..self.draw(6)).map(|_| self.draw(256) as u8).collect()
        }

        /// An entry that somebody else has added: any names, any values, of entries ours among them.
        fn garbage(&mut self, id: &str) -> Value {
            let mut fields: Vec<Value> = (0..=self.draw(3))
                .flat_map(|_| [bulk(&self.bytes()), bulk(&self.bytes())])
                .collect();
            if self.draw(2) == 0 {
                fields.extend([bulk(b"p"), bulk(&self.bytes())]);
            }
            let fields = match self.draw(4) {
                0 => Value::Nil,
                1 => Value::Map(
                    fields
                        .chunks_exact(2)
                        .map(|pair| (pair[0].clone(), pair[1].clone()))
                        .collect(),
                ),
                _ => Value::Array(fields),
            };
            Value::Array(vec![bulk(id.as_bytes()), fields])
        }
    }

    fn ours(id: &str) -> (Value, Hint) {
        let hint = Hint {
            parcel: 7,
            jobs: new_job_ids(3).map(|id| (id, 1)).collect(),
        };
        let fields = vec![bulk(b"p"), bulk(b"7"), bulk(b"j"), bulk(&pack(&hint.jobs))];
        (
            Value::Array(vec![bulk(id.as_bytes()), Value::Array(fields)]),
            hint,
        )
    }

    // X60: whatever lies between them, the entries of ours are read, and every other one has an id by which it can be dropped
    #[test]
    fn garbage_of_any_bytes_hides_none_of_its_neighbours() {
        let mut noise = Noise(60);
        for _ in 0..500 {
            let (mut answer, mut wanted) = (Vec::new(), Vec::new());
            for nth in 0..8 {
                let id = format!("{nth}-1");
                if noise.draw(2) == 0 {
                    answer.push(noise.garbage(&id));
                    wanted.push(Told { id, hint: None });
                } else {
                    let (entry, hint) = ours(&id);
                    answer.push(entry);
                    wanted.push(Told {
                        id,
                        hint: Some(hint),
                    });
                }
            }
            let answer = Value::Array(answer);
            assert_eq!(entries(&answer), wanted);
            let of_two = [(bulk(b"a"), answer.clone()), (bulk(b"b"), answer)];
            let (map, list) = (
                Value::Map(of_two.to_vec()),
                of_two.map(|(key, told)| Value::Array(vec![key, told])),
            );
            let wanted = vec![("a".to_owned(), wanted.clone()), ("b".to_owned(), wanted)];
            assert_eq!(
                (streams(&map), streams(&Value::Array(list.into()))),
                (wanted.clone(), wanted)
            );
        }
        assert!(streams(&Value::Nil).is_empty(), "nothing was read");
    }

    #[test]
    fn a_record_whose_name_is_no_text_is_read_beside_the_others() {
        let group = |name: &[u8], last: &[u8]| {
            Value::Array(vec![
                bulk(b"name"),
                bulk(name),
                bulk(b"last-delivered-id"),
                bulk(last),
            ])
        };
        let answer = Value::Array(vec![group(b"\xff\xfe", b"1-1"), group(b"workers", b"2-2")]);
        let ours = records(&answer).find(|group| group.bytes("name") == Some(b"workers"));
        assert_eq!(
            ours.and_then(|group| group.text("last-delivered-id"))
                .as_deref(),
            Some("2-2")
        );
        assert_eq!(records(&answer).count(), 2);
    }
}
