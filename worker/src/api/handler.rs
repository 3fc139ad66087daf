//! A handler: a kind, its policies, and a typed async function (F30).

use std::{future::Future, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use millstream_common::{json, retry::RetryPolicy};
use serde::de::DeserializeOwned;

use super::{Context, Failure, Outcome};

/// One attempt may run this long unless the kind says otherwise.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_mins(5);

type Function = Arc<dyn Fn(Context, &str) -> BoxFuture<'static, Outcome> + Send + Sync>;

/// How jobs of one kind are run.
#[derive(Clone)]
pub struct Handler {
    pub(crate) kind: String,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeout: Duration,
    pub(crate) version_max: i16,
    pub(crate) function: Function,
}

impl Handler {
    /// A handler whose payload is the JSON form of `P`. A payload that does not fit is a permanent failure of that one job.
    ///
    /// ```
    /// use millstream_worker::{Context, Handler, Outcome, Success};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Greeting { name: String }
    ///
    /// async fn greet(_: Context, greeting: Greeting) -> Outcome {
    ///     Success::with_result(&format!("hello {}", greeting.name))
    /// }
    ///
    /// let handler = Handler::new("greet", greet);
    /// ```
    pub fn new<P, F, R>(kind: impl Into<String>, function: F) -> Self
    where
        P: DeserializeOwned + 'static,
        F: Fn(Context, P) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        let function =
            move |context: Context, payload: &str| match json::decode::<P>(payload.as_bytes()) {
                Ok(payload) => function(context, payload).boxed(),
                Err(e) => {
                    let text = format!("the payload is not what the kind expects: {}", e.text);
                    futures::future::ready(Err(Failure::Undecodable(text))).boxed()
                }
            };
        Self {
            kind: kind.into(),
            retry: RetryPolicy::default(),
            timeout: TIMEOUT_DEFAULT,
            version_max: 1,
            function: Arc::new(function),
        }
    }

    /// Sets how failures are retried.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets how long one attempt may run.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The newest version of the payload that the function understands; 1 unless said. Jobs of newer ones are put back for a newer
    /// worker, never completed or buried here.
    #[must_use]
    pub fn versions_up_to(mut self, version: i16) -> Self {
        self.version_max = version;
        self
    }

    /// The kind's name.
    pub fn kind(&self) -> &str {
        &self.kind
    }
}
