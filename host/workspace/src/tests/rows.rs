//! Rows, one at a time.

use serde_json::json;

use super::harness::{Server, ask, case, entry};

#[tokio::test]
async fn rows_are_created_read_updated_and_deleted() {
    let server = Server::start().await;
    let post = json!({ "id": "a", "title": "Hello", "views": 3 });
    server
        .check([
            case("an empty table", ask("GET", "/tables/posts"), 200).has(&[r#"{"data":[]}"#]),
            case("create", ask("POST", "/tables/posts").json(post.clone()), 201)
                .has(&[r#"{"data":{"id":"a","title":"Hello","views":3}}"#])
                .headers(&[("content-type", "application/json")]),
            case("create again replaces", ask("POST", "/tables/posts").json(post), 200),
            case("read", ask("GET", "/tables/posts/a"), 200)
                .has(&[r#"{"data":{"id":"a","title":"Hello","views":3}}"#]),
            case("list", ask("GET", "/tables/posts"), 200)
                .has(&[r#"{"data":[{"id":"a","title":"Hello","views":3}]}"#]),
            case(
                "put sets fields",
                ask("PUT", "/tables/posts/a").json(json!({ "title": "New" })),
                200,
            )
            .has(&[r#"{"data":{"id":"a","title":"New","views":3}}"#]),
            case("patch is put", ask("PATCH", "/tables/posts/a").json(json!({ "views": 4 })), 200)
                .has(&[r#""title":"New","views":4"#]),
            case(
                "the id is that of the path",
                ask("PUT", "/tables/posts/a").json(json!({ "id": "b" })),
                200,
            )
            .has(&[r#""id":"a""#]),
            case("delete", ask("DELETE", "/tables/posts/a"), 200).has(&[r#"{"data":{"id":"a"}}"#]),
            case("it is gone", ask("GET", "/tables/posts/a"), 404)
                .has(&[r#"{"error":{"message":"table posts has no row \"a\""}}"#]),
            case("delete again", ask("DELETE", "/tables/posts/a"), 404),
            case("update after delete", ask("PUT", "/tables/posts/a").json(json!({})), 404),
            case(
                "an id is made up",
                ask("POST", "/tables/posts").json(json!({ "title": "x" })),
                201,
            )
            .has(&[r#""title":"x","id":""#]),
            case(
                "an id with a slash",
                ask("POST", "/tables/posts").json(json!({ "id": "a/b", "title": "x" })),
                201,
            ),
            case("is addressed encoded", ask("GET", "/tables/posts/a%2Fb"), 200),
            case("head", ask("HEAD", "/tables/posts/a%2Fb"), 200),
        ])
        .await;
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let server = Server::start().await.with_posts([json!({ "id": "a", "title": "Hello" })]).await;
    let posts = |body| ask("POST", "/tables/posts").json(body);
    let big = "x".repeat(2 * 1024 * 1024);
    server
        .check([
            case("no such workspace", ask("GET", "/workspaces/wiki/tables/posts"), 404)
                .has(&[r#"there is no workspace \"wiki\""#]),
            case("no such table", ask("GET", "/tables/nope"), 404)
                .has(&[r#"workspace blog has no table \"nope\""#]),
            case("no such row", ask("GET", "/tables/posts/nope"), 404),
            case("nothing of that kind", ask("GET", "/nope"), 404)
                .has(&[r#"{"error":{"message":"#]),
            case("wrong method on a table", ask("PATCH", "/tables/posts"), 405)
                .has(&["PATCH is not a method of"]),
            case("wrong method on a row", ask("POST", "/tables/posts/a"), 405),
            case("no JSON", posts(json!(0)).text("{"), 400).has(&["the body is not JSON"]),
            case("no content type", ask("POST", "/tables/posts").text("{}"), 415),
            case("a form", ask("POST", "/tables/posts").header("content-type", "text/plain"), 415),
            case(
                "a parameter of the type",
                ask("POST", "/tables/posts")
                    .header("content-type", "application/json; charset=utf-8")
                    .text(r#"{"title":"t"}"#),
                201,
            ),
            case("too large", posts(json!({ "title": big })), 413).has(&["1048576 bytes"]),
            case("no object", posts(json!("row")), 422).has(&["must be an object"]),
            case("no id", posts(json!({ "id": "", "title": "t" })), 422).has(&[r#""path":["id"]"#]),
            case("a number as id", posts(json!({ "id": 7, "title": "t" })), 422),
            case("invalid", posts(json!({ "title": "" })), 422).has(&[
                r#""message":"posts: not valid: title: must have 1 to 100 letters""#,
                r#""issues":[{"path":["title"],"message":"must have 1 to 100 letters"}]"#,
            ]),
            case("invalid update", ask("PUT", "/tables/posts/a").json(json!({ "title": 1 })), 422),
            case("fields are an object", ask("PUT", "/tables/posts/a").json(json!([1])), 422)
                .has(&["must be an object of fields"]),
            case("a broken plugin", posts(json!({ "title": "trap" })), 500)
                .has(&["plugin blog: parse-rows crashed: it was told to"]),
            case("nothing of it happened", ask("GET", "/tables/posts/a"), 200).has(&["Hello"]),
        ])
        .await;
}

#[tokio::test]
async fn what_was_acknowledged_is_read_back_as_it_was() {
    let server = Server::start().await;
    let exact = json!({
        "id": "a", "title": "t", "views": 9007199254740991i64,
        "numbers": [0, -1, 0.1, 1e300, -9007199254740991i64, 16777217, 3.5],
        "text": "\u{0}\n\u{1f600}", "nested": { "": [null, true, {}] },
    });
    let inexact = |value: serde_json::Value| {
        let row = json!({ "id": "b", "title": "t", "views": 1, "numbers": [0, { "n": value }] });
        ask("POST", "/tables/posts").json(row)
    };
    server
        .check([
            case("exact", ask("POST", "/tables/posts").json(exact.clone()), 201),
            case("too high", inexact(json!(9007199254740992i64)), 422)
                .has(&[r#"{"path":["numbers","1","n"],"message":"is beyond 9007199254740991"#]),
            case("too low", inexact(json!(-9007199254740992i64)), 422),
            case("far too high", inexact(json!(u64::MAX)), 422),
            case("in a key", ask("PUT", "/kv/limits").json(json!([u64::MAX])), 422),
        ])
        .await;
    let server = server.restart(super::harness::Blog::new()).await;
    let answer = server.get("/tables/posts/a").await;
    assert_eq!(answer.data(), exact, "{}", answer.text);
}

#[tokio::test]
async fn wrong_methods_are_told_the_right_ones() {
    let server = Server::start().await;
    let answer = server.ask(ask("POST", "/tables/posts/a")).await;
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        assert!(answer.header("allow").contains(method), "{}", answer.header("allow"));
    }
}

#[tokio::test]
async fn changes_are_checked_where_the_table_asks_for_it() {
    let server = Server::start().await;
    let accounts = |body| ask("POST", "/tables/accounts").json(body);
    server
        .check([
            case("create", accounts(json!({ "id": "bank", "balance": 10 })), 201),
            case("a bad create", accounts(json!({ "id": "a", "balance": -1 })), 422)
                .has(&[r#"{"path":["balance"],"message":"must not be negative"}"#]),
            case(
                "a bad update",
                ask("PUT", "/tables/accounts/bank").json(json!({ "balance": -1 })),
                422,
            ),
            case("a bad delete", ask("DELETE", "/tables/accounts/bank"), 403)
                .has(&["the bank stays"]),
            case("only the first happened", ask("GET", "/tables/accounts"), 200)
                .has(&[r#"{"data":[{"id":"bank","balance":10}]}"#]),
        ])
        .await;
}

#[tokio::test]
async fn invalid_rows_are_kept_and_not_listed() {
    let server = Server::start().await;
    let rows = [
        entry("good", json!({ "id": "good", "title": "t", "views": 1 }), 1),
        entry("bad", json!({ "id": "bad", "title": "" }), 2),
        entry("other", json!({ "id": "another", "title": "t" }), 3),
        entry("breaks", json!({ "id": "breaks", "title": "trap" }), 4),
        entry("text", json!("no object"), 5),
    ];
    server.synced("table:posts", rows).await;
    server
        .check([
            case("listed", ask("GET", "/tables/posts"), 200)
                .has(&[r#"{"data":[{"id":"good","title":"t","views":1}]}"#]),
            case("invalid", ask("GET", "/tables/posts/bad"), 422)
                .has(&[r#""issues":[{"path":["title"],"#, r#""row":{"id":"bad","title":""}"#]),
            case("under another id", ask("GET", "/tables/posts/other"), 422)
                .has(&[r#"must be \"other\", the key of the entry"#]),
            case("breaks the plugin", ask("GET", "/tables/posts/breaks"), 422).has(&["crashed"]),
            case("no object", ask("GET", "/tables/posts/text"), 422),
            case(
                "fields need a valid row",
                ask("PUT", "/tables/posts/bad").json(json!({ "title": "t" })),
                422,
            )
            .has(&[
                r#"row \"bad\" of table posts is not valid as it is stored"#,
                "POST replaces the whole row",
                r#""issues":[{"path":["title"]"#,
            ]),
            case(
                "replaced",
                ask("POST", "/tables/posts").json(json!({ "id": "bad", "title": "t" })),
                200,
            ),
            case("mended", ask("GET", "/tables/posts/bad"), 200),
            case("deleted", ask("DELETE", "/tables/posts/breaks"), 200),
            case("gone", ask("GET", "/tables/posts/breaks"), 404),
        ])
        .await;
}

#[tokio::test]
async fn a_row_that_is_no_object_is_not_valid_whatever_its_plugin_says() {
    let server = Server::start().await;
    server.synced("table:accounts", [entry("a", json!(["a"]), 1)]).await;
    server
        .check([
            case("read", ask("GET", "/tables/accounts/a"), 422).has(&["must be an object"]),
            case("update", ask("PUT", "/tables/accounts/a").json(json!({ "balance": 1 })), 422),
        ])
        .await;
}

#[tokio::test]
async fn old_rows_are_migrated_as_they_are_read_and_stay_as_they_are() {
    let server = Server::start().await;
    server.synced("table:posts", [entry("old", json!({ "id": "old", "title": "t" }), 1)]).await;
    let migrated = r#"{"id":"old","title":"t","views":0,"by":"first"}"#;
    assert_eq!(server.get("/tables/posts/old").await.text, format!(r#"{{"data":{migrated}}}"#));
    assert_eq!(server.get("/tables/posts").await.text, format!(r#"{{"data":[{migrated}]}}"#));
    let workspace = server.workspaces.get("blog").unwrap();
    let raw = workspace.snapshot().tables["posts"].rows["old"].raw.clone();
    assert_eq!(&*raw, r#"{"id":"old","title":"t"}"#);
}
