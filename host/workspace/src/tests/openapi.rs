//! The OpenAPI document, and the page that shows it.

use std::collections::HashSet;

use serde_json::{Value, json};
use tower::ServiceExt;

use super::harness::{Blog, Server};
use crate::definition::DocumentDefinition;

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
async fn actions_whose_names_differ_in_a_mark_have_operations_of_different_names() {
    let server = Server::start().await;
    let names = async |paths: [&str; 3]| {
        let blog = Blog::new().redefined(|definition| {
            definition.actions.truncate(3);
            for (action, path) in definition.actions.iter_mut().zip(paths) {
                action.path = path.into();
            }
        });
        server.reload(blog).await;
        let api = document(&server).await;
        let mut named = std::collections::BTreeMap::new();
        for path in paths {
            let operations = &api["paths"][format!("/workspaces/blog/actions/{path}")];
            let operation = operations.as_object().unwrap().values().next().unwrap();
            named.insert(path.to_owned(), operation["operationId"].as_str().unwrap().to_owned());
        }
        named
    };
    let one = names(["a-b", "a_b", "c-d"]).await;
    assert_ne!(one["a-b"], one["a_b"]);
    assert_eq!(one["c-d"], "blog_c_d", "a name that is alone stays as it was");
    let other = names(["a_b", "c-d", "a-b"]).await;
    assert_eq!(one, other, "the order in which they are declared changes nothing");
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
async fn filters_know_the_operators_of_each_field() {
    let server = Server::start().await;
    let api = document(&server).await;
    for method in ["get", "delete"] {
        let parameters = &api["paths"]["/workspaces/blog/tables/posts"][method]["parameters"];
        let mut parameters = parameters.as_array().unwrap().iter();
        let filter = parameters.find(|parameter| parameter["name"] == "filter").unwrap();
        assert_eq!(filter["style"], "deepObject");
        let fields = &filter["schema"]["properties"];
        let operators = |field: &Value| -> String {
            let operators = field["anyOf"].get(1).unwrap_or(field)["properties"].as_object();
            operators.unwrap().keys().cloned().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(operators(&fields["views"]), "eq ne gt gte lt lte in exists");
        assert_eq!(operators(&fields["tags"]), "eq ne in contains exists");
        assert_eq!(operators(&fields["by"]), "eq ne gt gte lt lte in contains prefix exists");
        assert_eq!(fields["by"]["anyOf"][0]["type"], json!(["string", "null"]));
        assert_eq!(fields["tags"]["properties"]["contains"]["type"], json!(["string"]));
        let views = &fields["views"]["anyOf"][1]["properties"];
        assert_eq!(views["gte"]["type"], json!(["integer"]));
        assert_eq!(views["in"]["items"]["type"], json!(["integer"]));
    }
}

#[tokio::test]
async fn errors_are_named_where_they_occur() {
    let server = Server::start().await;
    let api = document(&server).await;
    let row = "/workspaces/blog/tables/posts/{id}";
    for (path, method, expected) in [
        ("/workspaces", "get", "200 401 503"),
        ("/workspaces/blog/tables/posts", "get", "200 304 400 401 404 503"),
        (
            "/workspaces/blog/tables/posts",
            "post",
            "200 201 400 401 403 404 409 412 413 415 422 500 503 504 507",
        ),
        (row, "get", "200 304 401 404 422 503"),
        (row, "patch", "200 400 401 403 404 409 412 413 415 422 500 503 504 507"),
        (row, "delete", "200 401 403 404 409 412 422 500 503 504 507"),
        ("/workspaces/blog/kv/theme", "get", "200 401 404 422 503"),
        ("/workspaces/blog/actions/posts/popular", "get", "200 400 401 403 404 422 500 503 504"),
    ] {
        let answers = api["paths"][path][method]["responses"].as_object().unwrap();
        let mut statuses: Vec<_> = answers.keys().cloned().collect();
        statuses.sort();
        assert_eq!(statuses.join(" "), expected, "{method} {path}");
    }
}

#[tokio::test]
async fn examples_are_of_their_format_and_have_no_document_and_no_id() {
    let server = Server::start().await;
    let text = |format: &str| json!({ "type": "string", "format": format });
    let schema = json!({
        "type": "object",
        "required": ["id", "body", "edited", "notes"],
        "properties": {
            "id": { "type": "string" },
            "day": text("date"), "at": text("date-time"), "mail": text("email"),
            "key": text("uuid"), "link": text("uri"),
            "code": { "type": "string", "minLength": 6 }, "short": { "type": "string", "maxLength": 2 },
            "some": { "type": "array", "items": { "type": "integer" }, "minItems": 2 },
            "body": { "type": "string" }, "edited": { "type": "number" },
            "notes": { "type": ["string", "null"] }, "noted": { "type": "integer" },
        },
    });
    let document_of = |name: &str, guid: &str, updated_at: &str| DocumentDefinition {
        name: name.into(),
        guid_column: guid.into(),
        updated_at_column: updated_at.into(),
    };
    let blog = Blog::new().redefined(|definition| {
        definition.tables[0].versions = vec![schema.clone()];
        definition.tables[0].documents =
            vec![document_of("body", "body", "edited"), document_of("notes", "notes", "noted")];
    });
    server.reload(blog).await;
    let api = document(&server).await;
    let expected = json!({
        "day": "2026-01-31", "at": "2026-01-31T12:00:00Z", "mail": "ada@example.com",
        "key": "123e4567-e89b-42d3-a456-426614174000", "link": "https://example.com/",
        "code": "textte", "short": "te", "some": [1, 1],
        // These must be there, and name no document.
        "body": "", "edited": 0, "notes": null,
    });
    let operations = &api["paths"]["/workspaces/blog/tables/posts"];
    let example = &operations["post"]["requestBody"]["content"]["application/json"]["example"];
    assert_eq!(example, &expected);
}

#[tokio::test]
async fn a_body_that_may_be_left_out_is_not_required() {
    let server = Server::start().await;
    let blog = Blog::new().redefined(|definition| {
        let number = definition.actions.iter_mut().find(|action| action.path == "posts/number");
        number.unwrap().input = Some(json!({ "type": "object" }));
    });
    server.reload(blog).await;
    let api = document(&server).await;
    for (action, required) in [("posts/number", false), ("posts/publish", true)] {
        let path = format!("/workspaces/blog/actions/{action}");
        assert_eq!(api["paths"][path]["post"]["requestBody"]["required"], required, "{action}");
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
