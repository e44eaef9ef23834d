//! A plugin over real tables: its actions as requests see them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use host_sync::{Rooms, Sqlite};
use host_workspace::Workspaces;
use http_body_util::BodyExt;
use tempfile::TempDir;
use tower::ServiceExt;

use super::guest::Guest;
use super::{limits, load_with};
use crate::Limits;

/// The routes of a workspace whose plugin has one place for each kind of call.
async fn serve(limits: Limits) -> (TempDir, Router) {
    let guest = Guest {
        queries: &["put-in-a-query", "echo"],
        mutations: &["put", "write-and-trap", "spin"],
        ..Guest::default()
    };
    let plugin = load_with(&guest.module(), limits).await.unwrap();
    let dir = TempDir::new().unwrap();
    let storage = Sqlite::open(&dir.path().join("rooms.db")).unwrap();
    let rooms = Rooms::new(Arc::new(storage), host_sync::Limits::default(), Arc::new(()));
    let workspaces = Workspaces::new(rooms);
    workspaces.mount(Arc::new(plugin)).await.unwrap();
    (dir, workspaces.router())
}

pub(super) async fn request(router: &Router, method: &str, uri: &str, body: &str) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actions_that_write_never_wait_for_each_other_for_ever() {
    let limits = Limits { actions: 4, checks: 1, parses: 1, ..limits() };
    let (_dir, router) = serve(Limits { action: Duration::from_secs(5), ..limits }).await;
    let calls: Vec<_> = (0..40)
        .map(|i| {
            let router = router.clone();
            let row = format!(r#"{{"id":"n{i}"}}"#);
            tokio::spawn(async move { request(&router, "POST", "/notes/actions/put", &row).await })
        })
        .collect();
    for call in calls {
        let (status, body) = call.await.unwrap();
        assert_eq!(status, 200, "{body}");
    }
    let (status, body) = request(&router, "GET", "/notes/tables/notes/n39", "").await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_call_wrote_before_it_crashed_did_not_happen() {
    let (_dir, router) = serve(limits()).await;
    let row = r#"{"id":"lost"}"#;
    let (status, body) = request(&router, "POST", "/notes/actions/write-and-trap", row).await;
    assert_eq!(status, 500, "{body}");
    assert!(body.contains("it panicked"), "{body}");
    let (status, body) = request(&router, "GET", "/notes/tables/notes/lost", "").await;
    assert_eq!(status, 404, "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_writes_is_denied() {
    let (_dir, router) = serve(limits()).await;
    let uri = "/notes/actions/put-in-a-query?id=a";
    let (status, body) = request(&router, "GET", uri, "").await;
    assert_eq!(status, 403, "{body}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_and_too_many_callers_are_errors_of_their_own() {
    let (_dir, router) = serve(Limits { actions: 1, waiting: 0, ..limits() }).await;
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let router = router.clone();
            tokio::spawn(async move { request(&router, "POST", "/notes/actions/spin", "{}").await })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers.sort();
    let statuses: Vec<_> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [503, 503, 504], "{answers:?}");
    assert!(answers[2].1.contains("took longer than 300 ms"), "{answers:?}");
}
