//! What there is: one line per endpoint. The router is built from this list, and a test holds `openapi.json` to it.

use std::time::Duration;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    handler::Handler,
    http::StatusCode,
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, on},
};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    Api, auth, away, batches, bodies,
    deadline::{self, ORDINARY, UPLOAD, WAITING},
    documents, guard, health, jobs, openapi,
    problem::Problem,
    queues, request_id, stats, workers,
};

/// A payload and metadata of 64 KiB each, escaped as JSON strings may be, and the rest of a job.
const BODY_BYTES_MAX: usize = 512 * 1024;
/// A thousand jobs of ordinary size; larger ones go in several requests.
const BULK_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One endpoint.
pub(super) struct Route {
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "read by the test that holds openapi.json to the routes"
        )
    )]
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    handler: MethodRouter<Api>,
    /// From the first byte of its body to its answer.
    limit: Duration,
    /// Answered also while Postgres is away.
    without_postgres: bool,
    /// Of a body that is larger than others.
    large_bytes_max: Option<usize>,
}

/// All endpoints.
pub(super) fn routes() -> Vec<Route> {
    vec![
        post("/v1/jobs", jobs::enqueue::one, ORDINARY),
        get("/v1/jobs", jobs::list::one_page, ORDINARY),
        post("/v1/jobs/bulk", jobs::bulk::many, ORDINARY).large_body(BULK_BODY_BYTES_MAX),
        get("/v1/jobs/{id}", jobs::show::one, ORDINARY),
        get("/v1/jobs/{id}/wait", jobs::wait::one, WAITING),
        get("/v1/jobs/{id}/explain", jobs::explain::one, ORDINARY),
        get("/v1/jobs/{id}/log", jobs::log::page, ORDINARY),
        post("/v1/jobs/{id}/cancel", jobs::moves::cancel, ORDINARY),
        post("/v1/jobs/{id}/retry", jobs::moves::retry, ORDINARY),
        post("/v1/batches", batches::open::one, ORDINARY),
        get("/v1/batches", batches::list::one_page, ORDINARY),
        get("/v1/batches/{id}", batches::show::one, ORDINARY),
        post("/v1/batches/{id}/seal", batches::seal, ORDINARY),
        post("/v1/batches/{id}/cancel", batches::cancel, ORDINARY),
        post("/v1/batches/{id}/retry-failed", batches::retry, ORDINARY),
        // The upload counts its bytes itself.
        post("/v1/documents", documents::add::one, UPLOAD).endless_body(),
        get("/v1/documents", documents::list::one_page, ORDINARY),
        get("/v1/documents/{id}", documents::show::one, ORDINARY),
        get("/v1/queues", queues::all, ORDINARY),
        get("/v1/workers", workers::all, ORDINARY),
        get("/v1/stats", stats::all, ORDINARY),
        get("/v1/health", health::health, ORDINARY).without_postgres(),
        get("/metrics", health::metrics, ORDINARY).without_postgres(),
        get("/livez", health::livez, ORDINARY).without_postgres(),
        get("/readyz", health::readyz, ORDINARY).without_postgres(),
        get("/openapi.json", openapi::document, ORDINARY).without_postgres(),
    ]
}

/// The router with everything that stands before the endpoints. The last layer is the first to see a request.
pub(super) fn router(api: Api) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, route| {
            let (path, handler) = route.before(&api);
            router.route(path, handler)
        })
        // The inner limit of a route, where it has one, wins over this one.
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .fallback(async || {
            Problem::not_found("there is no such address; /openapi.json lists those that exist")
        })
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "this address does not take this method",
            )
        })
        .layer(from_fn_with_state(api.clone(), auth::check))
        .layer(from_fn_with_state(api.clone(), guard::check))
        .layer(CatchPanicLayer::custom(
            |panic: Box<dyn std::any::Any + Send>| panicked(panic.as_ref()),
        ))
        .layer(from_fn(request_id::assign))
        .with_state(api)
}

fn get<H: Handler<T, Api>, T: 'static>(path: &'static str, handler: H, limit: Duration) -> Route {
    Route::new("get", path, on(MethodFilter::GET, handler), limit)
}

fn post<H: Handler<T, Api>, T: 'static>(path: &'static str, handler: H, limit: Duration) -> Route {
    Route::new("post", path, on(MethodFilter::POST, handler), limit)
}

impl Route {
    fn new(
        method: &'static str,
        path: &'static str,
        handler: MethodRouter<Api>,
        limit: Duration,
    ) -> Self {
        Self {
            method,
            path,
            handler,
            limit,
            without_postgres: false,
            large_bytes_max: None,
        }
    }

    fn without_postgres(self) -> Self {
        Self {
            without_postgres: true,
            ..self
        }
    }

    /// The handler with what stands before it alone. The last layer is the first to see a request.
    fn before(self, api: &Api) -> (&'static str, MethodRouter<Api>) {
        let mut handler = self.handler;
        if let Some(bytes_max) = self.large_bytes_max {
            handler = handler.layer(from_fn_with_state((api.clone(), bytes_max), bodies::admit));
        }
        handler = handler.layer(from_fn_with_state(self.limit, deadline::check));
        if !self.without_postgres {
            handler = handler.layer(from_fn_with_state(api.clone(), away::check));
        }
        (self.path, handler)
    }

    fn large_body(self, bytes_max: usize) -> Self {
        let handler = self.handler.layer(DefaultBodyLimit::max(bytes_max));
        Self {
            handler,
            large_bytes_max: Some(bytes_max),
            ..self
        }
    }

    fn endless_body(self) -> Self {
        Self {
            handler: self.handler.layer(DefaultBodyLimit::disable()),
            ..self
        }
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    tracing::error!(request_id = %request_id::current(), panic = text, "a request panicked");
    Problem::internal().into_response()
}
