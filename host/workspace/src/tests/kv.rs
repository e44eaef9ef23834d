//! Key-values and presence.

use std::future::IntoFuture;
use std::sync::Arc;

use futures_util::SinkExt;
use host_sync::lib0::{write_bytes, write_var};
use host_sync::protocol;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::harness::{Blog, Server, ask, case, entry};

#[tokio::test]
async fn keys_are_set_read_and_forgotten() {
    let server = Server::start().await;
    let put = |key: &str, value| ask("PUT", &format!("/kv/{key}")).json(value);
    server
        .check([
            case("nothing is set", ask("GET", "/kv"), 200).has(&[r#"{"data":{}}"#]),
            case("never set", ask("GET", "/kv/theme"), 404).has(&[r#"key \"theme\" has no value"#]),
            case("set", put("theme", json!("dark")), 200).has(&[r#"{"data":"dark"}"#]),
            case("read", ask("GET", "/kv/theme"), 200).has(&[r#"{"data":"dark"}"#]),
            case("any JSON", put("limits", json!({ "posts": [1, null] })), 200),
            case("all", ask("GET", "/kv"), 200)
                .has(&[r#"{"data":{"limits":{"posts":[1,null]},"theme":"dark"}}"#]),
            case("invalid", put("theme", json!("pink")), 422).has(&["must be light or dark"]),
            case("no such key", put("nope", json!(1)), 404)
                .has(&[r#"workspace blog has no key \"nope\""#]),
            case("no such key to read", ask("GET", "/kv/nope"), 404),
            case("no JSON", ask("PUT", "/kv/theme").text("dark"), 415),
            case("wrong method", ask("POST", "/kv/theme"), 405),
            case("an action sees it", ask("POST", "/actions/theme/flip"), 200),
            case("and sets it", ask("GET", "/kv/theme"), 200).has(&["light"]),
            case("forget", ask("DELETE", "/kv/theme"), 200).has(&[r#"{"data":{"key":"theme"}}"#]),
            case("forgotten", ask("GET", "/kv/theme"), 404),
            case("forget again", ask("DELETE", "/kv/theme"), 404),
            case("no such workspace", ask("GET", "/workspaces/wiki/kv"), 404),
        ])
        .await;
}

#[tokio::test]
async fn keys_have_tags_as_rows_have() {
    let server = Server::start().await;
    let put =
        |tag: &str, value: &str| ask("PUT", "/kv/theme").header("if-match", tag).json(json!(value));
    let first = server.ask(ask("PUT", "/kv/theme").json(json!("dark"))).await.tag();
    assert_eq!(server.get("/kv/theme").await.tag(), first);
    assert_eq!(
        server.ask(ask("GET", "/kv/theme").header("if-none-match", &first)).await.status,
        304
    );
    assert_eq!(server.ask(put(&first, "light")).await.status, 200);
    assert_eq!(server.ask(put(&first, "dark")).await.status, 412);
    assert_eq!(server.ask(ask("DELETE", "/kv/theme").header("if-match", &first)).await.status, 412);
}

#[tokio::test]
async fn an_invalid_value_is_kept_and_not_listed() {
    let server = Server::start().await;
    server.synced("kv", [entry("theme", json!("pink"), 1), entry("nope", json!(1), 1)]).await;
    server
        .check([
            case("all", ask("GET", "/kv"), 200).has(&[r#"{"data":{}}"#]),
            case("the invalid one", ask("GET", "/kv/theme"), 422)
                .has(&["must be light or dark", r#""row":"pink""#]),
            case("mended", ask("PUT", "/kv/theme").json(json!("dark")), 200),
        ])
        .await;
    let server = server.restart(Blog::new()).await;
    assert_eq!(server.get("/kv").await.data(), json!({ "theme": "dark" }));
}

#[tokio::test]
async fn presence_is_shown_as_far_as_it_is_valid() {
    let server = Server::start().await;
    assert_eq!(server.get("/awareness").await.text, r#"{"data":{}}"#);
    let router = host_sync::router("/rooms", server.rooms.clone(), Arc::new(host_sync::Open));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    let url = format!("ws://{address}/rooms/blog");
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let mut states = Vec::new();
    write_var(&mut states, 3);
    for (client, state) in [
        (1, json!({ "name": "Ann", "cursor": { "x": 1 }, "secret": 1 })),
        (2, json!({ "name": 7, "cursor": { "x": 2 } })),
        (3, json!({ "name": 7, "cursor": "here" })),
    ] {
        write_var(&mut states, client);
        write_var(&mut states, 1);
        write_bytes(&mut states, state.to_string().as_bytes());
    }
    socket.send(Message::Binary(protocol::awareness(&states))).await.unwrap();
    let mut seen = json!({});
    while seen == json!({}) {
        tokio::task::yield_now().await;
        seen = server.get("/awareness").await.data();
    }
    let valid =
        json!({ "1": { "name": "Ann", "cursor": { "x": 1 } }, "2": { "cursor": { "x": 2 } } });
    assert_eq!(seen, valid);
}
