//! A database that answers and is not ours, told apart from one that does not answer.

use millstream_local::{Durability, PostgresStop};
use millstream_tests::{Lab, Served};
use reqwest::StatusCode;
use serde_json::json;

// F52, F61: "it answers" and "it has our tables" are two facts
#[tokio::test]
async fn a_database_without_our_schema_is_up_and_not_ready_and_one_that_is_stopped_is_not_up() {
    let lab = Lab::private(Durability::None).await;
    let api = Served::start(&lab, &["api"]).await;
    let away = [
        "ALTER TABLE millstream._migrations RENAME TO gone",
        "ALTER SCHEMA millstream RENAME TO gone",
    ];
    let back = [
        "ALTER TABLE millstream.gone RENAME TO _migrations",
        "ALTER SCHEMA gone RENAME TO millstream",
    ];
    for (away, back) in away.into_iter().zip(back) {
        sqlx::query(away).execute(&lab.pool).await.unwrap();
        let (status, body) = api
            .await_ready("the schema is missed", |body| body["schema"] == false)
            .await;
        assert_eq!(
            (status, &body["postgres"], &body["status"]),
            (
                StatusCode::SERVICE_UNAVAILABLE,
                &json!(true),
                &json!("not_ready")
            )
        );
        assert_eq!(body["breakers"]["postgres"]["open"], false, "{body}");
        sqlx::query(back).execute(&lab.pool).await.unwrap();
        api.await_ready("the schema is back", |body| body["status"] == "ready")
            .await;
    }
    lab.harm(|servers| servers.stop_postgres(PostgresStop::Fast))
        .await;
    let (status, body) = api
        .await_ready("the server is missed", |body| {
            body["breakers"]["postgres"]["open"] == true
        })
        .await;
    assert_eq!(
        (status, &body["postgres"], &body["schema"]),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            &json!(false),
            &json!(false)
        )
    );
}
