//! Two handlers: one answers with a result, one writes rows together with the completion of its job.

use std::time::Duration;

use millstream_worker::{Context, Failure, Handler, Outcome, RetryPolicy, Success, sqlx};
use serde::{Deserialize, Serialize};

/// All handlers of this program.
pub fn handlers() -> Vec<Handler> {
    vec![
        Handler::new("greet", greet),
        Handler::new("invoice", invoice)
            .timeout(Duration::from_secs(30))
            .retry(RetryPolicy {
                max_attempts: 5,
                ..RetryPolicy::default()
            }),
    ]
}

/// Who is greeted.
#[derive(Serialize, Deserialize)]
pub struct Greeting {
    /// The name.
    pub name: String,
}

async fn greet(context: Context, greeting: Greeting) -> Outcome {
    context.log(format!("greeting {}", greeting.name));
    Success::with_result(&format!("hello {}", greeting.name))
}

/// An order to be billed.
#[derive(Serialize, Deserialize)]
pub struct Order {
    /// Its number.
    pub order_id: i64,
    /// What it costs, in cents.
    pub cents: i64,
}

async fn invoice(_: Context, order: Order) -> Outcome {
    if order.cents <= 0 {
        return Err(Failure::permanent("an order costs something"));
    }
    // The row is there exactly if this job completes, however often it is run.
    Ok(Success::new().and_write(Box::new(move |connection| {
        Box::pin(async move {
            sqlx::query("INSERT INTO invoice (order_id, cents) VALUES ($1, $2)")
                .bind(order.order_id)
                .bind(order.cents)
                .execute(connection)
                .await?;
            Ok(())
        })
    })))
}
