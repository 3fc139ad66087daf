//! Questions that many tests ask of a lab, and the jobs they send.

use std::collections::HashMap;

use millstream_common::{job::Priority, stream::GROUP};
use millstream_producer::{NewJob, Producer};
use redis::{FromRedisValue, aio::MultiplexedConnection};
use uuid::Uuid;

use crate::{Lab, Process, eventually};

impl Lab {
    /// The one number of a statement.
    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql)
            .fetch_one(&self.pool)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// Waits until a statement yields at least this.
    pub async fn await_number(&self, sql: &'static str, least: i64) {
        eventually(&format!("at least {least}: {sql}"), async || {
            (self.number(sql).await >= least).then_some(())
        })
        .await;
    }

    /// Waits until this many workers are active.
    pub async fn await_workers(&self, workers: i64) {
        self.await_number(
            "SELECT count(*) FROM millstream.worker WHERE state = 'active'",
            workers,
        )
        .await;
    }

    /// The number under which a process has registered.
    pub async fn worker_of(&self, process: &Process) -> i64 {
        eventually("the worker registers", async || {
            sqlx::query_scalar(
                "SELECT id FROM millstream.worker WHERE pid = $1 ORDER BY id DESC LIMIT 1",
            )
            .bind(process.id() as i32)
            .fetch_optional(&self.pool)
            .await
            .expect("a look")
        })
        .await
    }

    /// State of a job.
    pub async fn state(&self, id: Uuid) -> String {
        sqlx::query_scalar("SELECT state FROM millstream.job_view WHERE id = $1")
            .bind(id)
            .fetch_one(&self.pool)
            .await
            .expect("a state")
    }

    /// Waits until a job is in a state.
    pub async fn await_state(&self, id: Uuid, state: &str) {
        eventually(&format!("job {id} is {state}"), async || {
            (self.state(id).await == state).then_some(())
        })
        .await;
    }

    /// Every job has completed with exactly one accepted outcome, which is what counts an attempt, and nothing is left of them.
    pub async fn await_all_completed(&self, jobs: i64) {
        self.await_count("completed", jobs).await;
        self.await_drained("default").await;
        assert_eq!(
            self.number("SELECT count(*) FROM millstream.job WHERE attempt <> 1")
                .await,
            0,
            "one outcome per job"
        );
        assert_eq!(
            self.number("SELECT count(*) FROM millstream.dead_letter")
                .await,
            0,
            "no job is dead"
        );
        assert_eq!(
            self.number("SELECT count(*) FROM millstream.lease").await,
            0,
            "no lease is left"
        );
    }

    /// The work stream of queue `default` that jobs without a wish go to.
    pub fn work_stream(&self) -> String {
        self.keys().stream("default", Priority::Medium)
    }

    /// One Redis command of words.
    pub async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command
            .query_async(&mut self.redis().await)
            .await
            .unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    /// Everything in the work stream: entry ids and their fields.
    pub async fn entries(&self) -> Vec<(String, HashMap<String, Vec<u8>>)> {
        self.command(&["XRANGE", &self.work_stream(), "-", "+"])
            .await
    }

    /// Entries pending with a worker in the work stream.
    pub async fn pending_with(&self, worker: i64) -> usize {
        let found: redis::Value = redis::cmd("XPENDING")
            .arg(&[
                &self.work_stream(),
                GROUP,
                "-",
                "+",
                "1000",
                &format!("w{worker}"),
            ])
            .query_async(&mut self.redis().await)
            .await
            .unwrap_or(redis::Value::Array(Vec::new()));
        if let redis::Value::Array(entries) = found {
            entries.len()
        } else {
            0
        }
    }
}

/// Adds an entry to a stream behind the product's back.
pub async fn forge(redis: &mut MultiplexedConnection, stream: &str, fields: &[(&str, Vec<u8>)]) {
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("*");
    for (name, value) in fields {
        command.arg(name).arg(value);
    }
    let _id: String = command.query_async(redis).await.expect("XADD");
}

/// Enqueues this many equal jobs.
pub async fn send(producer: &Producer, kind: &str, payload: &str, jobs: usize) -> Vec<Uuid> {
    let jobs = (0..jobs).map(|_| NewJob::new(kind, payload)).collect();
    let answers = producer
        .enqueue_many(jobs)
        .await
        .expect("the jobs are enqueued");
    answers
        .into_iter()
        .map(|answer| answer.expect("no job is refused").id)
        .collect()
}
