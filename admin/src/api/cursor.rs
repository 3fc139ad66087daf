//! The way to the next page: an opaque text whose first character is the version of its form, so that the form can change.

use axum::http::{HeaderName, Uri, header};
use serde::Serialize;
use uuid::Uuid;

use super::problem::Problem;

const VERSION: char = '1';

/// One page.
#[derive(Debug, Serialize)]
pub(super) struct Page<T> {
    items: Vec<T>,
    /// Give this as `cursor`; `null` on the last page.
    next_cursor: Option<String>,
}

impl<T> Page<T> {
    pub(super) fn new(items: Vec<T>, next: Option<Uuid>) -> Self {
        Self {
            items,
            next_cursor: next.map(write),
        }
    }
}

/// All of something that is few.
#[derive(Debug, Serialize)]
pub(super) struct Items<T> {
    items: Vec<T>,
}

impl<T> Items<T> {
    pub(super) fn of(items: Vec<T>) -> Self {
        Self { items }
    }
}

/// The id that a cursor stands for.
pub(super) fn read(text: &str) -> Result<Uuid, Problem> {
    let id = text
        .strip_prefix(VERSION)
        .and_then(|hex| Uuid::try_parse(hex).ok());
    id.ok_or_else(|| {
        Problem::malformed("this cursor was not given out by this API; begin again without one")
    })
}

fn write(id: Uuid) -> String {
    format!("{VERSION}{}", id.simple())
}

/// The `Link` header to the next page of the same listing, if there is one.
pub(super) fn link(uri: &Uri, next: Option<Uuid>) -> Option<[(HeaderName, String); 1]> {
    let cursor = write(next?);
    let kept = uri
        .query()
        .unwrap_or("")
        .split('&')
        .filter(|part| !part.is_empty() && !part.starts_with("cursor="));
    let last = format!("cursor={cursor}");
    let query: Vec<&str> = kept.chain([last.as_str()]).collect();
    Some([(
        header::LINK,
        format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&")),
    )])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let id = millstream_common::id::new_job_id();
        assert_eq!(read(&write(id)).unwrap(), id);
        assert!(read("").is_err() && read("2abc").is_err() && read("1' OR 1=1").is_err());
    }

    #[test]
    fn the_link_keeps_the_filters_and_replaces_the_cursor() {
        let uri: Uri = "/v1/jobs?state=dead&cursor=1old&limit=5".parse().unwrap();
        let [(_, link)] = link(&uri, Some(Uuid::nil())).unwrap();
        assert_eq!(
            link,
            format!(
                "</v1/jobs?state=dead&limit=5&cursor=1{}>; rel=\"next\"",
                Uuid::nil().simple()
            )
        );
    }
}
