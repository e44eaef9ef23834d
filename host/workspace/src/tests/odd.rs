//! Honest clients that are odd: what they send is taken, or refused by its name.

use std::io::Write;

use axum::body::Body;
use axum::http::Request;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use host_sync::{Any, Edit, Update};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use yrs::{ReadTxn, Transact, WriteTxn, XmlFragment};

use super::harness::*;
use crate::definition::DocumentDefinition;

#[tokio::test]
async fn an_entry_without_a_time_is_an_invalid_row_until_it_is_written_again() {
    let server = Server::start().await;
    let post = |id: &str| json!({ "id": id, "title": "t", "views": 1 });
    let untimed = |id: &str, ts: Value| json!({ "key": id, "val": post(id), "ts": ts });
    let missing = json!({ "key": "missing", "val": post("missing") });
    let entries = [missing, untimed("text", json!("5")), untimed("null", json!(null))];
    server.synced("table:posts", entries).await;
    server
        .synced("table:posts", [entry("both", post("both"), 1), untimed("both", json!({}))])
        .await;
    let invalid = server.get("/tables/posts?invalid").await.data();
    let ids: Vec<_> = invalid.as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
    assert_eq!(ids, ["missing", "null", "text"], "{invalid}");
    assert_eq!(invalid[0]["issues"][0]["path"], json!(["ts"]));
    assert_eq!(invalid[0]["row"], post("missing"));
    server
        .check([
            case("it is not listed", ask("GET", "/tables/posts"), 200).lacks(&["missing"]),
            case("nor read", ask("GET", "/tables/posts/text"), 422).has(&[r#"["ts"]"#]),
            case("one that has a time counts", ask("GET", "/tables/posts/both"), 200),
            case("write it", ask("POST", "/tables/posts").json(post("text")), 200),
            case("now it is a row", ask("GET", "/tables/posts/text"), 200),
        ])
        .await;
    let entries = server.entries("posts").await;
    let of = |id: &str| entries.iter().filter(|entry| entry["key"] == id).count();
    assert_eq!((of("text"), of("both"), of("missing")), (1, 2, 1), "{entries:?}");
    server.ask(ask("POST", "/tables/posts").json(post("both"))).await;
    let entries = server.entries("posts").await;
    let both = entries.iter().filter(|entry| entry["key"] == "both").count();
    assert_eq!(both, 1, "a write over them leaves one: {entries:?}");
}

#[tokio::test]
async fn a_row_whose_id_no_url_can_hold_is_invalid() {
    let server = Server::start().await;
    let row = |id: &str| json!({ "id": id, "title": "t", "views": 1 });
    let long = "x".repeat(513);
    for id in ["", ".", "..", &long] {
        server.synced("table:posts", [entry(id, row(id), 1)]).await;
        let answer = server.ask(ask("POST", "/tables/posts").json(row(id))).await;
        assert_eq!(answer.status, 422, "{id:?}: {}", answer.text);
        assert_eq!(answer.json()["error"]["issues"][0]["path"], json!(["id"]));
    }
    let invalid = server.get("/tables/posts?invalid").await.data();
    assert_eq!(invalid.as_array().unwrap().len(), 4, "{invalid}");
    assert_eq!(invalid[0]["issues"][0]["path"], json!(["id"]));
    // All others can be written with percent signs.
    for (id, path) in [("a/b", "a%2Fb"), ("...", "..."), ("%", "%25"), ("ä?#", "%C3%A4%3F%23")] {
        server.synced("table:posts", [entry(id, row(id), 1)]).await;
        let answer = server.get(&format!("/tables/posts/{path}")).await;
        assert_eq!(answer.data()["id"], id, "{}", answer.text);
    }
}

#[tokio::test]
async fn a_list_is_at_its_path_with_a_slash_at_the_end_too() {
    let server = Server::start().await.with_posts([json!({ "id": "a", "title": "t" })]).await;
    for (with, without) in [
        ("/tables/posts/", "/tables/posts"),
        ("/tables/posts/?limit=1", "/tables/posts?limit=1"),
        ("/kv/", "/kv"),
        ("/", ""),
    ] {
        let (with, without) = (server.get(with).await, server.get(without).await);
        assert_eq!((with.status, &with.text), (without.status, &without.text));
        assert_eq!(with.status, 200);
    }
    let post = ask("POST", "/tables/posts/").json(json!({ "id": "b", "title": "t" }));
    server.check([case("written", post, 201)]).await;
}

#[tokio::test]
async fn bodies_are_decoded_or_refused_by_name() {
    let server = Server::start().await;
    let row = |id: &str| json!({ "id": id, "title": "t" }).to_string().into_bytes();
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zlib = |bytes: &[u8]| {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
    let mut cut = gzip(&row("cut"));
    cut.truncate(cut.len() - 12);
    let cases = [
        ("gzip", gzip(&row("a")), 201, ""),
        ("deflate", zlib(&row("b")), 201, ""),
        ("identity", row("c"), 201, ""),
        ("zstd", row("d"), 415, "zstd"),
        ("gzip, br", row("e"), 415, "gzip, br"),
        ("gzip", row("f"), 400, "cannot be read"),
        ("gzip", cut, 400, "cannot be read"),
        ("gzip", bomb, 413, "larger than"),
    ];
    for (encoding, body, status, says) in cases {
        let request = Request::post("/workspaces/blog/tables/posts")
            .header("content-type", "application/json")
            .header("content-encoding", encoding)
            .body(Body::from(body));
        let answer = server.send(request.unwrap()).await;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&body);
        assert_eq!(parts.status, status, "{encoding}: {text}");
        assert!(text.contains(says), "{encoding}: {text}");
        if parts.status == 415 {
            assert_eq!(parts.headers["accept-encoding"], "gzip, deflate, br");
        }
    }
}

#[tokio::test]
async fn a_byte_order_mark_before_json_is_skipped() {
    let server = Server::start().await;
    let post = |text: &str| {
        let ask = ask("POST", "/tables/posts").header("content-type", "application/json");
        ask.text(&format!("\u{feff}{text}"))
    };
    server
        .check([
            case("a row", post(r#"{"id":"a","title":"t"}"#), 201),
            case("rows", post(r#"[{"id":"b","title":"t"}]"#), 201),
            case("two marks", post("\u{feff}{}"), 400),
        ])
        .await;
}

#[tokio::test]
async fn a_document_that_is_no_plain_text_says_so() {
    let server = Server::start().await;
    server
        .reload(Blog::new().redefined(|definition| {
            definition.tables[0].documents.push(DocumentDefinition {
                name: "body".into(),
                guid_column: "body".into(),
                updated_at_column: "edited".into(),
            });
        }))
        .await;
    let server = server
        .with_posts([json!({ "id": "a", "title": "t", "views": 1, "body": "body-of-a" })])
        .await;
    let doc = yrs::Doc::new();
    let mut transaction = doc.transact_mut();
    let fragment = transaction.get_or_insert_xml_fragment("content");
    fragment.push_back(&mut transaction, yrs::XmlElementPrelim::empty("p"));
    let update = transaction.encode_diff_v1(&yrs::StateVector::default());
    let room = server.rooms.open("body-of-a").unwrap();
    room.apply(Update::scan(update.into()).unwrap(), host_sync::Author::server()).await.unwrap();
    let body = "/tables/posts/a/documents/body";
    server
        .check([
            case("read", ask("GET", body), 409).has(&["not plain text"]),
            case("write", ask("PUT", body).json(json!({ "text": "x" })), 409)
                .has(&["not plain text"]),
        ])
        .await;
}

#[tokio::test]
async fn formats_of_an_action_s_input_are_checked() {
    let server = Server::start().await;
    let string = |format: &str| json!({ "type": "string", "format": format });
    server
        .reload(Blog::new().redefined(|definition| {
            let action = definition.actions.iter_mut().find(|a| a.path == "size").unwrap();
            action.input = Some(json!({ "type": "object", "properties": {
                "text": { "type": "string" },
                "at": string("date-time"),
                "day": string("date"),
                "mail": string("email"),
                "uuid": string("uuid"),
                "link": string("uri"),
            }}));
        }))
        .await;
    let call = |member: &str, value: &str| {
        ask("POST", "/actions/size").json(json!({ "text": "abc", member: value }))
    };
    let good = [
        ("at", "2024-02-29T10:00:00+02:00"),
        ("day", "2024-02-29"),
        ("mail", "a@example.org"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000"),
        ("link", "https://example.org/a?b#c"),
    ];
    let bad = [
        ("at", "2024-02-29"),
        ("at", "yesterday"),
        ("day", "2023-02-29"),
        ("mail", "nobody"),
        ("uuid", "123"),
        ("link", "a b"),
    ];
    for (member, value) in good {
        let answer = server.ask(call(member, value)).await;
        assert_eq!(answer.status, 200, "{member} {value}: {}", answer.text);
    }
    for (member, value) in bad {
        let answer = server.ask(call(member, value)).await;
        assert_eq!(answer.status, 422, "{member} {value}: {}", answer.text);
        assert_eq!(answer.json()["error"]["issues"][0]["path"], json!([member]));
    }
}

#[tokio::test]
async fn an_entry_whose_value_is_no_row_is_invalid_and_not_passed_over() {
    let server = Server::start().await;
    let edit = Edit {
        pushes: vec![("table:posts".into(), Any::of(&entry("n", json!(5), 1)))],
        ..Edit::default()
    };
    let room = server.rooms.open("blog").unwrap();
    room.edit(host_sync::Author::server(), move |_| (edit, ())).await.unwrap();
    server.workspaces.get("blog").unwrap().generation().catch_up().await;
    let invalid = server.get("/tables/posts?invalid").await.data();
    assert_eq!(invalid[0]["id"], "n", "{invalid}");
}
