//! What `millstream dev` says of itself: which servers it starts and which it was given.
//!
//! A server that was given belongs to somebody: its URL is not printed again, and what is done there is said before it is done.

use millstream_worker::program::Places;

use crate::cli::Invocation;

/// Which servers were given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given {
    pub(super) postgres: bool,
    pub(super) redis: bool,
}

impl Given {
    pub(super) fn of(context: &Invocation) -> Self {
        Self {
            postgres: !context.config.database.url.is_empty(),
            redis: !context.config.redis.url.is_empty(),
        }
    }

    /// Before anything is started.
    pub(super) fn beginning(self, places: &Places) -> String {
        let mut parts = Vec::new();
        if self.postgres {
            let place = places.postgres();
            parts.push(format!(
                "using the Postgres of DATABASE_URL at {place}: its schema is brought up to date, and the workers here take its jobs"
            ));
        }
        if self.redis {
            parts.push(format!(
                "using the Redis of REDIS_URL at {}",
                places.redis()
            ));
        }
        match (self.postgres, self.redis) {
            (false, false) => {
                parts.push("starting a private Postgres and a private Redis …".into());
            }
            (false, true) => parts.push("starting a private Postgres …".into()),
            (true, false) => parts.push("starting a private Redis …".into()),
            (true, true) => {}
        }
        parts.join("; ")
    }

    /// Who works.
    pub(super) fn crew(self, names: &[&str]) -> String {
        let names = names.join(", ");
        if self.postgres {
            format!("workers {names} join the fleet of that database")
        } else {
            format!("workers {names} are the fleet")
        }
    }

    /// How another terminal reaches the same. The private servers are for this machine's user: their passwords may stand on their own terminal.
    pub(super) fn exports(self, context: &Invocation) -> Vec<String> {
        let config = &context.config;
        let url = |name: &str, given: bool, url: &str| {
            if given {
                format!("  # {name} as it was given to this command")
            } else {
                format!("  export {name}='{url}'")
            }
        };
        vec![
            url("DATABASE_URL", self.postgres, config.database.url.expose()),
            url("REDIS_URL", self.redis, config.redis.url.expose()),
            format!("  export MILLSTREAM_OBJECTS__URL='{}'", config.objects.url),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // X31
    #[test]
    fn only_what_is_started_is_said_to_be_started() {
        let places = Places::default();
        for (postgres, redis) in [(false, false), (false, true), (true, false), (true, true)] {
            let said = Given { postgres, redis }.beginning(&places);
            assert_eq!(said.contains("using the Postgres"), postgres, "{said}");
            assert_eq!(said.contains("using the Redis"), redis, "{said}");
            assert_eq!(said.contains("a private Postgres"), !postgres, "{said}");
            assert_eq!(said.contains("a private Redis"), !redis, "{said}");
        }
    }
}
