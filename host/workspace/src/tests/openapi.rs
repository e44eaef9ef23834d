//! The OpenAPI document, and the page that shows it.

use std::collections::HashSet;

use serde_json::{Value, json};
use tower::ServiceExt;

use super::harness::{Blog, Server};

async fn fetch(server: &Server, path: &str) -> String {
    let request = axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
    let response = server.workspaces.openapi_router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn document(server: &Server) -> Value {
    serde_json::from_str(&fetch(server, "/openapi/json").await).unwrap()
}

fn walk(value: &Value, see: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| {
            see(key, value);
            walk(value, see);
        }),
        Value::Array(list) => list.iter().for_each(|value| walk(value, see)),
        _ => {}
    }
}

#[tokio::test]
async fn every_table_key_and_action_has_its_operations() {
    let server = Server::start().await;
    let api = document(&server).await;
    assert_eq!(api["openapi"], "3.1.0");
    for (path, methods, tags) in [
        ("/workspaces", "get", json!(["workspaces"])),
        ("/workspaces/blog", "get", json!(["blog"])),
        ("/workspaces/blog/tables/posts", "get post delete", json!(["blog", "tables"])),
        ("/workspaces/blog/tables/posts/{id}", "get put patch delete", json!(["blog", "tables"])),
        ("/workspaces/blog/kv", "get", json!(["blog", "kv"])),
        ("/workspaces/blog/kv/theme", "get put delete", json!(["blog", "kv"])),
        ("/workspaces/blog/awareness", "get", json!(["blog", "awareness"])),
        ("/workspaces/blog/actions/posts/popular", "get", json!(["posts", "query"])),
        ("/workspaces/blog/actions/posts/publish", "post", json!(["posts", "mutation"])),
        ("/workspaces/blog/actions/size", "post", json!(["blog", "mutation"])),
    ] {
        let operations = api["paths"][path].as_object().unwrap_or_else(|| panic!("no {path}"));
        assert_eq!(operations.keys().cloned().collect::<Vec<_>>().join(" "), methods, "{path}");
        assert!(operations.values().all(|operation| operation["tags"] == tags), "{path}");
    }
}

#[tokio::test]
async fn references_and_names_are_sound() {
    let server = Server::start().await;
    let api = document(&server).await;
    let mut names = HashSet::new();
    walk(&api, &mut |key, value| match (key, value.as_str()) {
        ("$ref", Some(target)) => {
            let pointer = target.strip_prefix('#').unwrap_or_else(|| panic!("{target}"));
            assert!(api.pointer(pointer).is_some(), "{target} leads nowhere");
        }
        ("operationId", Some(name)) => assert!(names.insert(name.to_owned()), "{name} twice"),
        _ => {}
    });
    for (name, schema) in api["components"]["schemas"].as_object().unwrap() {
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{name}");
        assert!(schema.get("$defs").is_none(), "{name}");
    }
    let post = &api["components"]["schemas"]["blog.posts"]["properties"];
    assert_eq!(post["by"]["$ref"], "#/components/schemas/blog.posts.author");
}

#[tokio::test]
async fn a_schema_may_say_little() {
    let server = Server::start().await;
    for little in [
        json!(true),
        json!({}),
        json!({ "type": "object" }),
        json!({ "$ref": "#/$defs/a", "$defs": { "a": true } }),
    ] {
        let blog = Blog::new().redefined(|definition| {
            definition.tables[0].versions = vec![little.clone()];
            definition.kv[0].versions = vec![little.clone()];
            definition.awareness[0].schema = little.clone();
            definition.actions[0].input = Some(little.clone());
            definition.actions[1].input = Some(little.clone());
        });
        server.reload(blog).await;
        let api = document(&server).await;
        for name in ["blog.posts", "blog.posts.new", "blog.posts.fields", "blog.kv.theme"] {
            let schema = &api["components"]["schemas"][name];
            assert!(schema.is_boolean() || schema.is_object(), "{name} of {little}");
            let nothing = |member: &str| schema.get(member).is_some_and(Value::is_null);
            assert!(!nothing("required") && !nothing("properties"), "{name} of {little}");
        }
        let list = server.get("/tables/posts?sort=any&filter[any]=1").await;
        assert_eq!(list.status, 200, "{}", list.text);
    }
}

#[tokio::test]
async fn a_reload_changes_the_document() {
    let server = Server::start().await;
    let pages = Blog::new().redefined(|definition| definition.tables[0].name = "pages".into());
    server.reload(pages).await;
    let api = document(&server).await;
    assert!(api["paths"]["/workspaces/blog/tables/pages"].is_object());
    assert!(api["paths"]["/workspaces/blog/tables/posts"].is_null());
    server.workspaces.unmount("blog").await;
    assert_eq!(document(&server).await["paths"].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn the_page_needs_no_network() {
    let server = Server::start().await;
    let page = fetch(&server, "/openapi").await;
    assert!(page.starts_with("<!doctype html>"));
    for outside in ["http://", "https://", "src=", "@import", "innerHTML"] {
        assert!(!page.contains(outside), "{outside}");
    }
}
