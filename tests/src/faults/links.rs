//! The two links of one group of clients: a proxy before each server, and settings that lead through them.

use millstream_common::config::{Config, Secret};

use super::Proxy;
use crate::Lab;

/// To Postgres and to Redis.
pub struct Links {
    /// Before Postgres.
    pub postgres: Proxy,
    /// Before Redis.
    pub redis: Proxy,
    /// The lab's settings, with the servers behind the proxies.
    pub config: Config,
}

impl Links {
    /// Two links that have no fault yet, with the settings that the lab has now.
    pub async fn of(lab: &Lab) -> Self {
        let mut config = lab.config.clone();
        let postgres = Proxy::before(config.database.url.expose()).await;
        let redis = Proxy::before(config.redis.url.expose()).await;
        config.database.url = Secret::new(postgres.url(config.database.url.expose()));
        config.redis.url = Secret::new(redis.url(config.redis.url.expose()));
        Self {
            postgres,
            redis,
            config,
        }
    }

    /// The one to Redis, or to Postgres.
    pub fn to(&self, server: Server) -> &Proxy {
        match server {
            Server::Postgres => &self.postgres,
            Server::Redis => &self.redis,
        }
    }
}

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The truth.
    Postgres,
    /// The hints.
    Redis,
}
