//! What happens when a plugin is replaced, goes, or comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::sync::Notify;

use super::harness::{Blog, Server, ask, case, entry};

#[tokio::test]
async fn a_new_plugin_parses_all_rows_again() {
    let server = Server::start().await;
    let rows = [
        entry("old", json!({ "id": "old", "title": "short" }), 1),
        entry("long", json!({ "id": "long", "title": "a longer title", "views": 1 }), 2),
    ];
    server.synced("table:posts", rows).await;
    server.reload(Blog::new().migrating("second").with_titles_up_to(5)).await;
    server
        .check([
            case("migrated anew", ask("GET", "/tables/posts/old"), 200).has(&[r#""by":"second""#]),
            case("no longer valid", ask("GET", "/tables/posts/long"), 422),
            case("the list", ask("GET", "/tables/posts"), 200)
                .has(&[r#""by":"second""#])
                .lacks(&["longer"]),
            case("writes", ask("POST", "/tables/posts").json(json!({ "title": "longer" })), 422),
        ])
        .await;
    server.reload(Blog::new()).await;
    assert_eq!(server.get("/tables/posts/long").await.status, 200);
}

#[tokio::test]
async fn a_new_plugin_may_have_other_tables() {
    let server = Server::start().await.with_posts([json!({ "id": "a", "title": "t" })]).await;
    server
        .reload(Blog::new().redefined(|definition| definition.tables[0].name = "pages".into()))
        .await;
    server
        .check([
            case("the new one", ask("GET", "/tables/pages"), 200).has(&[r#"{"data":[]}"#]),
            case("the old one", ask("GET", "/tables/posts"), 404),
        ])
        .await;
    server.reload(Blog::new()).await;
    assert_eq!(server.get("/tables/posts/a").await.status, 200);
}

#[tokio::test]
async fn a_plugin_that_breaks_on_more_rows_does_not_replace_one_that_works() {
    let server = Server::start().await;
    server.synced("table:accounts", [entry("a", json!({ "id": "a", "note": "trap" }), 1)]).await;
    server.reload(Blog::new()).await;
    let broken = Blog::new().migrating("trap");
    server.synced("table:posts", [entry("old", json!({ "id": "old", "title": "t" }), 1)]).await;
    server.reload(broken).await;
    assert_eq!(server.get("/tables/posts/old").await.status, 200);
}

#[tokio::test]
async fn a_mutation_lists_a_table_that_was_emptied_before_the_reload() {
    let server = Server::start().await.with_posts([json!({ "id": "a", "title": "t" })]).await;
    server.check([case("emptied", ask("DELETE", "/tables/posts/a"), 200)]).await;
    server.reload(Blog::new()).await;
    server
        .check([case("counted", ask("POST", "/actions/posts/number"), 200).has(&[r#""id":"n1""#])])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_written_during_a_reload_means_what_the_new_plugin_says() {
    let server = Arc::new(Server::start().await);
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (server, done) = (server.clone(), done.clone());
            tokio::spawn(async move {
                let mut number = 0;
                while !done.load(Ordering::Relaxed) {
                    let row =
                        json!({ "id": format!("{writer}-{number}"), "title": "a longer title" });
                    let answer = server.ask(ask("POST", "/tables/posts").json(row)).await;
                    assert!(matches!(answer.status.as_u16(), 201 | 422), "{}", answer.text);
                    number += 1;
                }
            })
        })
        .collect();
    for _ in 0..20 {
        server.reload(Blog::new()).await;
        tokio::task::yield_now().await;
        server.reload(Blog::new().with_titles_up_to(5)).await;
    }
    done.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(server.get("/tables/posts").await.text, r#"{"data":[]}"#);
}

#[tokio::test]
async fn unmounting_keeps_the_data() {
    let server = Server::start().await.with_posts([json!({ "id": "a", "title": "t" })]).await;
    assert!(server.workspaces.unmount("blog").await);
    assert!(!server.workspaces.unmount("blog").await);
    assert_eq!(server.get("/tables/posts/a").await.status, 404);
    server.synced("table:posts", [entry("b", json!({ "id": "b", "title": "t" }), 1)]).await;
    server.reload(Blog::new()).await;
    for id in ["a", "b"] {
        assert_eq!(server.get(&format!("/tables/posts/{id}")).await.status, 200, "{id}");
    }
}

#[tokio::test]
async fn a_restart_finds_all_that_was_acknowledged() {
    let server = Server::start().await.with_posts([json!({ "id": "a", "title": "t" })]).await;
    server.ask(ask("POST", "/actions/theme/flip")).await;
    let server = server.restart(Blog::new()).await;
    assert_eq!(server.get("/tables/posts/a").await.status, 200);
    // The theme is dark; flipped again it is light, for which it must be known.
    server.ask(ask("POST", "/actions/theme/flip")).await;
    let kv = server.workspaces.get("blog").unwrap().snapshot().kv.clone();
    assert_eq!(&*kv["theme"].raw, "\"light\"");
}

#[tokio::test]
async fn only_what_changed_is_parsed() {
    let server = Server::start().await;
    let blog = Arc::new(Blog::new());
    let posts = (0..50).map(|n| json!({ "id": n.to_string(), "title": "t", "views": n }));
    let server = server.with_posts(posts).await;
    server.workspaces.mount(blog.clone()).await.unwrap();
    assert_eq!(blog.parsed.swap(0, Ordering::Relaxed), 50);
    server.with_posts([json!({ "id": "new", "title": "t", "views": 1 })]).await;
    assert_eq!(blog.parsed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_action_that_is_run_again_by_a_new_version_has_its_input_checked_by_that_version() {
    let server = Server::start().await;
    let takes = |schema: serde_json::Value| {
        Blog::new().redefined(|definition| {
            let action = definition.actions.iter_mut().find(|action| action.path == "posts/number");
            action.unwrap().input = Some(schema);
        })
    };
    let gate = Arc::new((Notify::new(), Notify::new()));
    let mut any = takes(json!({ "type": "object" }));
    any.gate = Some(gate.clone());
    server.reload(any).await;
    let call = ask("POST", "/actions/posts/number").json(json!({ "n": "text" })).request();
    let called = tokio::spawn(tower::ServiceExt::oneshot(server.router(), call));
    // The version that took the input is at work when it is replaced by one that does not take it.
    gate.0.notified().await;
    let strict = json!({ "type": "object", "properties": { "n": { "type": "integer" } } });
    server.reload(takes(strict)).await;
    gate.1.notify_one();
    assert_eq!(called.await.unwrap().unwrap().status(), 422);
    assert_eq!(server.get("/tables/posts").await.text, r#"{"data":[]}"#, "it did nothing");
}
