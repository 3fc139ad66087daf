//! How many jobs of a kind fit into one stream entry: 20 ms of its measured mean run time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use millstream_common::error::Outage;

use super::{Duty, Ran, Scope};
use crate::shared::Shared;

#[derive(Default)]
pub(super) struct Learn {
    written: HashMap<i32, i16>,
}

impl Duty for Learn {
    const NAME: &'static str = "learn";
    const SCOPE: Scope = Scope::Everywhere;

    fn every(&self, _: &Shared) -> Duration {
        Duration::from_secs(1)
    }

    async fn run_once(&mut self, shared: &Arc<Shared>) -> Result<Ran, Outage> {
        let measured = shared
            .serves
            .registry
            .all()
            .filter_map(|kind| Some((kind.kind_id, kind.chunk()?)));
        let changed: Vec<(i32, i16)> = measured
            .filter(|(kind, chunk)| self.written.get(kind) != Some(chunk))
            .collect();
        if changed.is_empty() {
            return Ok(Ran::Done);
        }
        let (kinds, chunks): (Vec<i32>, Vec<i16>) = changed.iter().copied().unzip();
        let update = sqlx::query("UPDATE millstream.kind k SET chunk = u.chunk FROM unnest($1::int[], $2::smallint[]) AS u(id, chunk) WHERE k.id = u.id AND k.chunk <> u.chunk")
            .bind(kinds)
            .bind(chunks);
        shared
            .pg
            .main("learning chunk sizes")
            .execute(update)
            .await?;
        self.written.extend(changed);
        Ok(Ran::Done)
    }
}
