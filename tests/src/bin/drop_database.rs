//! The process that removes the database of a test that has ended: `drop_database NAME`, on the server of `DATABASE_URL`.

use anyhow::{Context, Result};
use sqlx::{Connection, Executor, PgConnection};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let database = std::env::args()
        .nth(1)
        .context("usage: drop_database NAME")?;
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL says where")?;
    let mut admin = PgConnection::connect(&url).await?;
    admin
        .execute(sqlx::AssertSqlSafe(format!(
            "DROP DATABASE IF EXISTS {database} WITH (FORCE)"
        )))
        .await?;
    Ok(())
}
