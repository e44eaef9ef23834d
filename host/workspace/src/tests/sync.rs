//! Rows that come by sync.

use host_sync::Edit;
use serde_json::json;

use super::harness::{Server, ask, entry};

#[tokio::test]
async fn the_later_of_two_entries_counts_and_the_other_is_deleted() {
    let server = Server::start().await;
    let post = |title: &str| json!({ "id": "a", "title": title, "views": 1 });
    server.synced("table:posts", [entry("a", post("new"), 9), entry("a", post("old"), 3)]).await;
    assert_eq!(server.get("/tables/posts/a").await.data()["title"], "new");
    // On a tie, the one further back.
    server.synced("table:posts", [entry("a", post("newer"), 9)]).await;
    assert_eq!(server.get("/tables/posts/a").await.data()["title"], "newer");
    let entries = server.entries("posts").await;
    assert_eq!(entries.len(), 1, "the losers are gone: {entries:?}");
}

#[tokio::test]
async fn our_clock_is_ahead_of_every_time_that_was_seen() {
    let server = Server::start().await;
    let future = 1 << 50;
    let post = |title: &str| json!({ "id": "a", "title": title, "views": 1 });
    server.synced("table:posts", [entry("a", post("theirs"), future)]).await;
    server.ask(ask("POST", "/tables/posts").json(post("ours"))).await;
    assert_eq!(server.get("/tables/posts/a").await.data()["title"], "ours");
    // Had our entry an earlier time, this one would win over it.
    server.synced("table:posts", [entry("a", post("again"), future)]).await;
    assert_eq!(server.get("/tables/posts/a").await.data()["title"], "ours");
}

#[tokio::test]
async fn what_is_no_entry_is_passed_over() {
    let server = Server::start().await;
    let junk =
        [json!(7), json!({ "key": 1, "val": 2, "ts": 3 }), json!({ "key": "a" }), json!(null)];
    server.synced("table:posts", junk).await;
    server.synced("table:nope", [entry("a", json!({ "id": "a" }), 1)]).await;
    server.synced("elsewhere", [entry("a", json!({ "id": "a" }), 1)]).await;
    assert_eq!(server.get("/tables/posts").await.text, r#"{"data":[]}"#);
    let room = server.rooms.open("blog").unwrap();
    room.edit(host_sync::Author::server(), |_| (Edit::default(), ())).await.unwrap();
    assert_eq!(server.get("/tables/posts/a").await.status, 404);
}
