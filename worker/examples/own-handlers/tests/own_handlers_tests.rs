//! The handlers alone, and on a real Postgres and Redis: set `DATABASE_URL` and `REDIS_URL`, then `cargo test`.

use std::time::Duration;

use millstream_worker::{
    Failure,
    sqlx::{self, Executor},
    testing::{Drained, Run, TestBed},
};
use own_handlers::{Greeting, Order, handlers};
use serde_json::json;

async fn bed() -> TestBed {
    let bed = TestBed::new(handlers()).await;
    bed.pool
        .execute(include_str!("../schema.sql"))
        .await
        .unwrap();
    bed
}

#[tokio::test]
async fn a_greeting_has_the_name_in_it() {
    let greeting = Greeting { name: "Ada".into() };
    let ran = Run::of(&handlers()[0], &greeting).now().await;
    assert_eq!(ran.result::<String>(), "hello Ada");
    assert_eq!(ran.log, ["greeting Ada"]);
}

#[tokio::test]
async fn an_order_that_costs_nothing_is_refused_for_good() {
    let order = json!({ "order_id": 1, "cents": 0 });
    let ran = Run::of(&handlers()[1], &order).now().await;
    assert!(matches!(ran.outcome, Err(Failure::Permanent(_))));
}

#[tokio::test]
async fn an_invoice_is_written_with_the_completion() {
    let bed = bed().await;
    let order = Order {
        order_id: 17,
        cents: 995,
    };
    bed.enqueue("invoice", &order).await;
    bed.assert_enqueued("invoice", &json!({ "order_id": 17 }))
        .await;
    let drained = bed.drain().await;
    assert_eq!(
        drained,
        Drained {
            completed: 1,
            ..Drained::default()
        }
    );
    let cents: i64 = sqlx::query_scalar("SELECT cents FROM invoice WHERE order_id = 17")
        .fetch_one(&bed.pool)
        .await
        .unwrap();
    assert_eq!(cents, 995);
    bed.close().await;
}

#[tokio::test]
async fn a_greeting_for_tomorrow_is_sent_tomorrow() {
    let bed = bed().await;
    bed.pool
        .execute("SELECT millstream.enqueue('greet', '{\"name\":\"Ada\"}', run_at => now() + interval '1 day')")
        .await
        .unwrap();
    assert_eq!(bed.drain().await.later, 1);
    bed.travel(Duration::from_hours(24)).await;
    assert_eq!(bed.drain().await.completed, 1);
    bed.close().await;
}
