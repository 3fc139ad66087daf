//! Every Redis key, and the only file that may spell one.
//!
//! All keys of a queue share the hash tag `{prefix:q:queue}`, so that scripts and pipelines over them stay in one cluster slot.

use crate::job::Priority;

/// Names of keys under one prefix.
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Keys of the installation with this prefix.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// Stream of hints. Written by publish, read by the consumer group, entries deleted when settled or leased. No TTL.
    pub fn stream(&self, queue: &str, priority: Priority) -> String {
        format!("{{{}:q:{queue}}}:{priority}", self.prefix)
    }

    /// String: how many entries each stream of the queue may hold. Written by the dispatch duty, read by the publish script. No TTL.
    pub fn window(&self, queue: &str) -> String {
        format!("{{{}:q:{queue}}}:window", self.prefix)
    }

    /// Capped stream of notices about dead jobs. Written after a burial, read by whoever likes. Never the truth.
    pub fn dead(&self, queue: &str) -> String {
        format!("{{{}:q:{queue}}}:dead", self.prefix)
    }

    /// String: a random word that is gone after a FLUSHALL or on an empty replica. Written and read by the reconcile duty. No TTL.
    pub fn incarnation(&self) -> String {
        format!("{}:incarnation", self.prefix)
    }

    /// String written by the breaker's probe, TTL 60 s. Read by nobody.
    pub fn probe(&self) -> String {
        format!("{}:probe", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_queue_share_its_hash_tag() {
        let keys = Keys::new("ms");
        let tagged = [keys.stream("a", Priority::High), keys.stream("a", Priority::Low), keys.window("a"), keys.dead("a")];
        assert!(tagged.iter().all(|key| key.starts_with("{ms:q:a}:")), "{tagged:?}");
    }
}
