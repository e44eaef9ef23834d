//! The texts of documents that are attached to rows.

use host_sync::Update;
use serde_json::json;
use yrs::updates::decoder::Decode;
use yrs::{GetString, ReadTxn, Text, Transact};

use super::harness::*;
use crate::definition::DocumentDefinition;

const BODY: &str = "/tables/posts/a/documents/body";

/// Posts with a body.
fn blog() -> Blog {
    Blog::new().redefined(|definition| {
        definition.tables[0].documents.push(DocumentDefinition {
            name: "body".into(),
            guid_column: "body".into(),
            updated_at_column: "edited".into(),
        });
    })
}

async fn server() -> Server {
    let server = Server::start().await;
    server.reload(blog()).await;
    let post = json!({ "id": "a", "title": "t", "views": 1, "body": "body-of-a" });
    server.with_posts([post, json!({ "id": "b", "title": "t", "views": 1 })]).await
}

fn put(text: &str) -> Ask {
    ask("PUT", BODY).json(json!({ "text": text }))
}

/// What another implementation of Yjs reads in a room.
async fn content(server: &Server, room: &str) -> String {
    let document = server.rooms.open(room).unwrap().snapshot().await.unwrap();
    let doc = yrs::Doc::new();
    let text = doc.get_or_insert_text("content");
    let mut transaction = doc.transact_mut();
    transaction.apply_update(yrs::Update::decode_v1(&document).unwrap()).unwrap();
    text.get_string(&transaction)
}

#[tokio::test]
async fn a_text_is_read_and_written() {
    let server = server().await;
    let plain = |body: &str| ask("PUT", BODY).header("content-type", "text/plain").text(body);
    server
        .check([
            case("a text that was never written", ask("GET", BODY), 200)
                .has(&["\"text\":\"\"", "\"guid\":\"body-of-a\""]),
            case("a text", put("héllo 🙂"), 200).has(&["\"text\":\"héllo 🙂\""]),
            case("the text that was written", ask("GET", BODY), 200).has(&["héllo 🙂"]),
            case("as it is", ask("GET", BODY).header("accept", "text/plain"), 200)
                .headers(&[("content-type", "text/plain; charset=utf-8"), ("vary", "accept")]),
            case("its row says when", ask("GET", "/tables/posts/a"), 200).has(&["\"edited\":1"]),
            case("plain", plain("hello 🙂"), 200).has(&["\"text\":\"hello 🙂\""]),
            case("no row", ask("GET", "/tables/posts/x/documents/body"), 404),
            case("no document", ask("GET", "/tables/posts/a/documents/x"), 404),
            case("not a text", ask("PUT", BODY).json(json!({ "text": 1 })), 400),
            case("not even an object", ask("PUT", BODY).json(json!([])), 400),
            case("no type", ask("PUT", BODY).text("x"), 415),
        ])
        .await;
    let nobody = "/tables/posts/x/documents/body";
    let write = ask("PUT", nobody).json(json!({ "text": "x" }));
    server.check([case("no row to write to", write, 404)]).await;
    assert_eq!(content(&server, "body-of-a").await, "hello 🙂");
}

#[tokio::test]
async fn what_a_client_writes_meanwhile_is_kept() {
    let server = server().await;
    server.ask(put("one two three")).await;
    let room = server.rooms.open("body-of-a").unwrap();
    let doc = yrs::Doc::new();
    let text = doc.get_or_insert_text("content");
    let document = room.snapshot().await.unwrap();
    doc.transact_mut().apply_update(yrs::Update::decode_v1(&document).unwrap()).unwrap();
    // The client has not heard of this when it writes.
    server.ask(put("one 2 three")).await;
    text.push(&mut doc.transact_mut(), " four");
    let update = doc.transact().encode_diff_v1(&yrs::StateVector::default());
    room.apply(Update::scan(update.into()).unwrap(), host_sync::Author::server()).await.unwrap();
    let case = case("both", ask("GET", BODY), 200).has(&["one 2 three four"]);
    server.check([case]).await;
}

#[tokio::test]
async fn a_row_without_a_document_gets_one_with_its_first_text() {
    let server = server().await;
    let path = "/tables/posts/b/documents/body";
    server.check([case("none yet", ask("GET", path), 200).has(&["\"guid\":null"])]).await;
    let answer = server.ask(ask("PUT", path).json(json!({ "text": "text" }))).await;
    let data = answer.data();
    let guid = data["guid"].as_str().expect("a guid");
    assert_eq!(server.get("/tables/posts/b").await.data()["body"], guid);
    assert_eq!(content(&server, guid).await, "text");
}

#[tokio::test]
async fn a_text_has_a_tag_that_a_write_can_demand() {
    let server = server().await;
    let tag = server.ask(put("one")).await.tag();
    server
        .check([
            case("known", ask("GET", BODY).header("if-none-match", &tag), 304),
            case("as demanded", put("two").header("if-match", &tag), 200),
            case("somebody was faster", put("three").header("if-match", &tag), 412),
        ])
        .await;
    assert_eq!(content(&server, "body-of-a").await, "two");
}

#[tokio::test]
async fn a_row_may_not_pass_off_the_room_of_others_as_its_document() {
    let server = server().await;
    // Another workspace's row named it first; that workspace need not be served at the moment.
    let theirs = server.rooms.open("theirs").unwrap();
    server.rooms.claim(vec!["theirs".into(), "notes".into()], "notes").await.unwrap();
    for room in ["theirs", "notes", "blog", "_epicenter_discovery"] {
        let post = json!({ "id": "a", "title": "t", "views": 1, "body": room });
        let saved = server.ask(ask("POST", "/tables/posts").json(post)).await;
        assert!(saved.status.is_success(), "{}", saved.text);
        server
            .check([
                case("read", ask("GET", BODY), 422).has(&["is a room of others"]),
                case("write", put("x"), 422).has(&["is a room of others"]),
            ])
            .await;
    }
    // An id may begin with anything.
    let post = json!({ "id": "a", "title": "t", "views": 1, "body": "_Z-t2mk7oVY4jfpjgzgc9" });
    server.ask(ask("POST", "/tables/posts").json(post)).await;
    server.check([case("ours", put("x"), 200)]).await;
    let empty = theirs.snapshot().await.unwrap();
    assert_eq!(&empty[..], [0, 0], "nothing was written");
    // The first row of this workspace that names a room makes it this workspace's.
    assert_eq!(server.rooms.claim(vec!["body-of-a".into()], "notes").await.unwrap(), [false]);
}

#[tokio::test]
async fn an_action_writes_texts_with_its_rows() {
    let server = server().await;
    let run = |how: &str| ask("POST", "/actions/posts/half").json(json!({ "how": how }));
    server
        .check([
            case("one that fails writes none", run("text-fail"), 500),
            case("nothing was written", ask("GET", BODY), 200).has(&["\"text\":\"\""]),
            case("one that ends well", run("text"), 200).has(&["written"]),
            case("the text", ask("GET", BODY), 200).has(&["\"text\":\"written\""]),
        ])
        .await;
}
