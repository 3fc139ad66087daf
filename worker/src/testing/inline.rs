//! One run of one handler in the test's own task.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use millstream_common::{id::new_job_id, pg::GuardedPool};
use serde::Serialize;
use sqlx::PgConnection;

use crate::{
    Context, Failure, Handler, Outcome,
    api::{Reporter, Reports, RunLink as _},
    job::Hold,
    run::panicked,
};

/// Nobody listens there: a handler that asks Postgres in a test without one gets an error.
const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/none";
/// Connections that one run may have.
const CONNECTIONS_MAX: u32 = 2;

/// A run that is prepared.
pub struct Run {
    handler: Handler,
    payload: String,
    attempt: i16,
    database_url: String,
    cancelled: bool,
}

/// What a run came to.
pub struct Ran {
    /// What the handler returned; a panic and a timeout are failures, as in a worker.
    pub outcome: Outcome,
    /// Its log lines.
    pub log: Vec<String>,
    /// Its last report of progress that stood at the end.
    pub progress: Option<(f32, String)>,
}

impl Run {
    /// The first attempt of `handler` at this payload.
    pub fn of(handler: &Handler, payload: &impl Serialize) -> Self {
        Self {
            handler: handler.clone(),
            payload: serde_json::to_string(payload).expect("the payload serialises"),
            attempt: 1,
            database_url: NOWHERE.to_owned(),
            cancelled: false,
        }
    }

    /// Which attempt it is.
    #[must_use]
    pub fn attempt(mut self, attempt: i16) -> Self {
        self.attempt = attempt;
        self
    }

    /// Where the connections of [`Context::pg`] lead.
    #[must_use]
    pub fn database(mut self, url: impl Into<String>) -> Self {
        self.database_url = url.into();
        self
    }

    /// The cancel token has fired already. The handler still runs to its end, so that its own reaction can be seen.
    #[must_use]
    pub fn cancelled(mut self) -> Self {
        self.cancelled = true;
        self
    }

    /// Runs it. The handler's effect is not written: see [`Ran::write`].
    pub async fn now(self) -> Ran {
        let (context, hold, mut reports) = self.context();
        let handler = &self.handler;
        let call = async { (handler.function)(context, &self.payload).await };
        let call = AssertUnwindSafe(call).catch_unwind();
        let outcome = match tokio::time::timeout(handler.timeout, call).await {
            Ok(caught) => caught.unwrap_or_else(panicked),
            Err(_) => Err(Failure::TimedOut(handler.timeout)),
        };
        Ran {
            outcome,
            log: reports.texts(),
            progress: hold.take_report(),
        }
    }

    fn context(&self) -> (Context, Arc<Hold>, Reports) {
        let (reporter, reports) = Reporter::new();
        let hold = Arc::new(Hold::leased(new_job_id(), 1));
        if self.cancelled {
            hold.cancel().cancel();
        }
        let context = Context {
            job_id: hold.id,
            epoch: hold.epoch,
            attempt: self.attempt,
            max_attempts: self.handler.retry.max_attempts,
            tenant_id: 1,
            batch_id: None,
            pg: GuardedPool::for_handlers(&self.database_url, CONNECTIONS_MAX)
                .expect("a Postgres URL"),
            link: hold.clone(),
            reporter,
        };
        (context, hold, reports)
    }
}

impl Ran {
    /// Its result, read back.
    pub fn result<T: serde::de::DeserializeOwned>(&self) -> T {
        let success = self.outcome.as_ref().map_err(ToString::to_string);
        let text = success.expect("the handler succeeds").result.as_deref();
        serde_json::from_str(text.expect("there is a result")).expect("the result is of that type")
    }

    /// Writes the handler's effect, as the completion of the job would.
    pub async fn write(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        match self.outcome.expect("the handler succeeds").effect {
            Some(effect) => effect(connection).await,
            None => Ok(()),
        }
    }
}
