//! A database per test, made and dropped on the server that the settings name.

use std::str::FromStr;

use millstream_common::{id::new_job_id, pg::migrate_up};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions,
};

/// How the databases of tests begin; what follows is an id, which tells when it was made.
const PREFIX: &str = "millstream_test_";
/// No test takes so long: what is older was left by one that was killed.
const ABANDONED_AFTER_S: i64 = 3600;

/// Makes one with the current schema. Returns its name and its URL.
pub(super) async fn create(server_url: &str) -> (String, String) {
    let mut server = connect(server_url).await;
    sweep(&mut server).await;
    let name = format!("{PREFIX}{}", new_job_id().simple());
    let create = format!("CREATE DATABASE {name}");
    server
        .execute(AssertSqlSafe(create))
        .await
        .expect("the login of DATABASE_URL may create databases");
    let url = options(server_url).database(&name).to_url_lossy();
    migrate_up(url.as_str()).await.expect("the migrations run");
    (name, url.to_string())
}

/// Drops one, whoever is still connected.
pub(super) async fn remove(server_url: &str, name: &str) {
    drop_it(&mut connect(server_url).await, name).await;
}

async fn sweep(server: &mut PgConnection) {
    let old = sqlx::query_scalar(
        "SELECT datname::text FROM pg_database WHERE starts_with(datname, $1) AND datname <
           $1 || lpad(to_hex(((extract(epoch FROM now()) - $2) * 1000)::bigint), 12, '0')",
    );
    let old: Vec<String> = old
        .bind(PREFIX)
        .bind(ABANDONED_AFTER_S)
        .fetch_all(&mut *server)
        .await
        .expect("Postgres lists its databases");
    for name in old {
        drop_it(server, &name).await;
    }
}

async fn drop_it(server: &mut PgConnection, name: &str) {
    let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    // Another test may be dropping it at the same moment.
    drop(server.execute(AssertSqlSafe(sql)).await);
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect_with(&options(url))
        .await
        .expect("Postgres answers at DATABASE_URL")
}

fn options(url: &str) -> PgConnectOptions {
    PgConnectOptions::from_str(url).expect("DATABASE_URL is a Postgres URL")
}
