//! Every Redis key, and the only file that may spell one.
//!
//! A key begins with the prefix, so that one pattern of an ACL covers all, and carries the mark of its database, so that two databases with
//! one prefix keep apart. All keys of a queue share the hash tag `{MARK:q:QUEUE}`, so that scripts over them stay in one cluster slot, and
//! queues of several databases lie in several.

use crate::job::Priority;

/// Names of keys of one database under one prefix.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
    mark: String,
}

impl Keys {
    /// Keys with this prefix of the database with this mark (`pg::mark`).
    pub fn new(prefix: impl Into<String>, mark: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            mark: mark.into(),
        }
    }

    /// Stream of hints. Written by publish, read by the consumer group, entries deleted when settled or leased. No TTL.
    pub fn stream(&self, queue: &str, priority: Priority) -> String {
        self.of_queue(queue, &priority.to_string())
    }

    /// String: how many entries each stream of the queue may hold. Written by the dispatch duty, read by the publish script. No TTL.
    pub fn window(&self, queue: &str) -> String {
        self.of_queue(queue, "window")
    }

    /// Capped stream of notices about dead jobs. Written after a burial, read by whoever likes. Never the truth.
    pub fn dead(&self, queue: &str) -> String {
        self.of_queue(queue, "dead")
    }

    /// Stream that the probe makes, uses like a work stream and removes, in one step. Read by nobody else.
    pub fn probe_stream(&self, queue: &str) -> String {
        self.of_queue(queue, "probe")
    }

    /// String: a random word that is gone after a FLUSHALL or on an empty replica. Written and read by the reconcile duty. No TTL.
    pub fn incarnation(&self) -> String {
        format!("{}:{}:incarnation", self.prefix, self.mark)
    }

    /// String written by the breaker's probe, TTL 60 s. Read by nobody.
    pub fn probe(&self) -> String {
        format!("{}:{}:probe", self.prefix, self.mark)
    }

    /// The pattern of an ACL that covers all of them.
    pub fn pattern(&self) -> String {
        format!("{}:*", self.prefix)
    }

    /// What every key of this database begins with, but for the brace of a hash tag.
    pub fn beginning(&self) -> String {
        format!("{}:{}", self.prefix, self.mark)
    }

    fn of_queue(&self, queue: &str, name: &str) -> String {
        format!("{}:{{{}:q:{queue}}}:{name}", self.prefix, self.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_queue(keys: &Keys, queue: &str) -> [String; 5] {
        [
            keys.stream(queue, Priority::High),
            keys.stream(queue, Priority::Low),
            keys.window(queue),
            keys.dead(queue),
            keys.probe_stream(queue),
        ]
    }

    #[test]
    fn all_keys_of_a_queue_share_its_hash_tag() {
        let tagged = of_queue(&Keys::new("ms", "0a1b"), "a");
        assert!(
            tagged.iter().all(|key| key.starts_with("ms:{0a1b:q:a}:")),
            "{tagged:?}"
        );
    }

    // X20: the documented pattern covers every key. X25: two databases with one prefix share none.
    #[test]
    fn every_key_begins_with_the_prefix_and_belongs_to_one_database() {
        let all = |keys: Keys| -> Vec<String> {
            of_queue(&keys, "a")
                .into_iter()
                .chain([keys.incarnation(), keys.probe()])
                .collect()
        };
        let (one, other) = (all(Keys::new("ms", "0a1b")), all(Keys::new("ms", "ffff")));
        assert!(
            one.iter().chain(&other).all(|key| key.starts_with("ms:")),
            "{one:?}"
        );
        assert!(
            one.iter().all(|key| !other.contains(key)),
            "{one:?} {other:?}"
        );
    }
}
