//! Live lists.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::harness::{Ask, Blog, Server, ask, case, entry};

/// One who reads a live list, and what was told and not read yet.
struct Reader {
    body: Body,
    text: String,
    /// The id of the last event that had one.
    last: String,
}

impl Reader {
    async fn open(server: &Server, request: Ask) -> Self {
        let response = server.send(request.header("accept", "text/event-stream").request()).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new(), last: String::new() }
    }

    async fn posts(server: &Server) -> Self {
        Self::open(server, ask("GET", "/tables/posts")).await
    }

    /// The next event and its data; none at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (mut event, mut data) = (String::new(), Value::Null);
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("event", name)) => event = name.to_owned(),
                        Some(("data", text)) => data = serde_json::from_str(text).unwrap(),
                        Some(("id", id)) => self.last = id.to_owned(),
                        _ => assert!(line.starts_with(':'), "{line}"),
                    }
                }
                self.text = rest.to_owned();
                if event.is_empty() {
                    continue;
                }
                return Some((event, data));
            }
            let frame =
                timeout(Duration::from_secs(10), self.body.frame()).await.expect("no event");
            let frame = frame?.unwrap().into_data().unwrap();
            self.text.push_str(std::str::from_utf8(&frame).unwrap());
        }
    }

    /// All events until the next `ready`, each as its name and the row's id.
    async fn until_ready(&mut self) -> String {
        let mut told = Vec::new();
        loop {
            let (event, data) = self.next().await.expect("the stream ended");
            match event.as_str() {
                "ready" => return told.join(" "),
                "reset" => told.push(event),
                _ => told.push(format!("{event}:{}", data["id"].as_str().unwrap())),
            }
        }
    }
}

fn post(id: &str, views: u64) -> Value {
    json!({ "id": id, "title": "t", "views": views })
}

fn put(id: &str, views: u64) -> Ask {
    ask("POST", "/tables/posts").json(post(id, views))
}

#[tokio::test]
async fn the_rows_come_first_and_then_what_changes() {
    let server = Server::start().await.with_posts([post("a", 1), post("b", 2)]).await;
    server.synced("table:posts", [entry("bad", json!({ "id": "bad" }), 1)]).await;
    let mut reader = Reader::posts(&server).await;
    assert_eq!(reader.next().await.unwrap(), ("reset".into(), json!({})));
    assert_eq!(reader.next().await.unwrap(), ("put".into(), post("a", 1)));
    assert_eq!(reader.next().await.unwrap(), ("put".into(), post("b", 2)));
    let (event, data) = reader.next().await.unwrap();
    assert_eq!((event.as_str(), &data["id"]), ("invalid", &json!("bad")));
    assert_eq!(data["issues"][0]["path"], json!(["title"]));
    assert_eq!(data["row"], json!({ "id": "bad" }));
    assert_eq!(reader.until_ready().await, "");
    server.ask(ask("DELETE", "/tables/posts/bad")).await;
    assert_eq!(reader.until_ready().await, "delete:bad");
    server.ask(put("c", 3)).await;
    assert_eq!(reader.until_ready().await, "put:c");
    server.ask(ask("DELETE", "/tables/posts/a")).await;
    assert_eq!(reader.until_ready().await, "delete:a");
    server.synced("table:posts", [entry("b", json!({ "id": "b", "title": "" }), 1 << 45)]).await;
    let (event, data) = reader.next().await.unwrap();
    assert_eq!(event, "invalid");
    assert_eq!(data["issues"][0]["path"], json!(["title"]));
    assert_eq!(data["row"], json!({ "id": "b", "title": "" }));
    assert_eq!(reader.until_ready().await, "");
    server.ask(put("b", 4)).await;
    assert_eq!(reader.until_ready().await, "put:b");
    server.ask(ask("POST", "/tables/posts").json(json!([post("d", 1), post("c", 9)]))).await;
    assert_eq!(reader.until_ready().await, "put:c put:d");
}

#[tokio::test]
async fn a_filter_tells_what_comes_into_it_and_what_leaves_it() {
    let server = Server::start().await.with_posts([post("a", 1), post("b", 20)]).await;
    server.synced("table:posts", [entry("bad", json!({ "id": "bad" }), 1)]).await;
    let list = ask("GET", "/tables/posts?filter[views][gte]=10&fields=id");
    let mut reader = Reader::open(&server, list).await;
    assert_eq!(reader.until_ready().await, "reset put:b");
    server.ask(put("a", 2)).await;
    server.ask(put("a", 11)).await;
    assert_eq!(reader.next().await.unwrap(), ("put".into(), json!({ "id": "a" })));
    assert_eq!(reader.until_ready().await, "");
    server.ask(put("b", 3)).await;
    assert_eq!(reader.until_ready().await, "delete:b");
    let broken = |id: &str| entry(id, json!({ "id": id, "title": "" }), 1 << 45);
    server.synced("table:posts", [broken("b"), broken("a")]).await;
    assert_eq!(reader.until_ready().await, "invalid:a");
}

#[tokio::test]
async fn who_comes_back_is_told_what_was_missed() {
    let server = Server::start().await.with_posts([post("a", 1), post("b", 2), post("c", 3)]).await;
    let mut reader = Reader::posts(&server).await;
    reader.until_ready().await;
    let last = reader.last.clone();
    drop(reader);
    server.ask(put("a", 10)).await;
    server.ask(ask("DELETE", "/tables/posts/b")).await;
    server.synced("table:posts", [entry("d", json!({ "id": "d" }), 1)]).await;
    let back = |last: &str| ask("GET", "/tables/posts").header("last-event-id", last);
    let mut reader = Reader::open(&server, back(&last)).await;
    let told = reader.until_ready().await;
    let mut told: Vec<_> = told.split(' ').collect();
    told.sort_unstable();
    assert_eq!(told, ["delete:b", "invalid:d", "put:a"]);
    let mut again = Reader::open(&server, back(&reader.last)).await;
    assert_eq!(again.until_ready().await, "");
    for unknown in ["", "nonsense", "1-2", &format!("{}9999", reader.last)] {
        let mut reader = Reader::open(&server, back(unknown)).await;
        assert_eq!(reader.until_ready().await, "reset put:a put:c invalid:d", "{unknown:?}");
    }
    // Another plugin may see all rows otherwise.
    server.reload(Blog::new()).await;
    let mut reader = Reader::open(&server, back(&reader.last)).await;
    assert_eq!(reader.until_ready().await, "reset put:a put:c invalid:d");
}

#[tokio::test]
async fn who_missed_more_than_the_table_remembers_starts_anew() {
    let server = Server::start().await.with_posts([post("a", 1)]).await;
    let mut reader = Reader::posts(&server).await;
    reader.until_ready().await;
    let many: Value = (0..5000).map(|n| post(&format!("{n:04}"), n)).collect();
    server.ask(ask("POST", "/tables/posts").json(many)).await;
    let back = ask("GET", "/tables/posts").header("last-event-id", &reader.last);
    let mut anew = Reader::open(&server, back).await;
    assert_eq!(anew.until_ready().await.split(' ').count(), 5002);
    // Who stayed need not.
    assert_eq!(reader.until_ready().await.split(' ').count(), 5000);
}

#[tokio::test]
async fn a_slow_reader_is_told_only_how_it_ended() {
    let server = Server::start().await.with_posts([post("a", 1)]).await;
    let mut reader = Reader::posts(&server).await;
    reader.until_ready().await;
    for views in 0..200 {
        server.ask(put("a", views)).await;
        server.ask(put("b", views)).await;
    }
    server.ask(ask("DELETE", "/tables/posts/b")).await;
    assert_eq!(reader.next().await.unwrap(), ("put".into(), post("a", 199)));
    assert_eq!(reader.until_ready().await, "");
}

#[tokio::test]
async fn a_reload_tells_what_the_new_plugin_sees_otherwise() {
    let server = Server::start().await.with_posts([post("same", 1)]).await;
    let rows = [
        entry("old", json!({ "id": "old", "title": "t" }), 1),
        entry("long", json!({ "id": "long", "title": "a longer title", "views": 1 }), 1),
    ];
    server.synced("table:posts", rows).await;
    let mut reader = Reader::posts(&server).await;
    reader.until_ready().await;
    server.reload(Blog::new().migrating("second").with_titles_up_to(5)).await;
    assert_eq!(reader.until_ready().await, "invalid:long put:old");
    server.ask(put("new", 1)).await;
    assert_eq!(reader.until_ready().await, "put:new");
    let other = Blog::new().redefined(|definition| definition.tables[0].name = "pages".into());
    server.reload(other).await;
    assert_eq!(reader.next().await, None);
}

#[tokio::test]
async fn a_stream_ends_with_its_workspace_and_with_the_server() {
    let server = Server::start().await.with_posts([post("a", 1)]).await;
    let mut reader = Reader::posts(&server).await;
    reader.until_ready().await;
    server.workspaces.unmount("blog").await;
    assert_eq!(reader.next().await, None);
    server.reload(Blog::new()).await;
    let mut reader = Reader::posts(&server).await;
    reader.until_ready().await;
    server.rooms.shutdown().await;
    assert_eq!(reader.next().await, None);
}

#[tokio::test]
async fn a_stream_on_which_nothing_happens_says_so() {
    let server = Server::start().await.with_posts([post("a", 1)]).await;
    let list = ask("GET", "/tables/posts?filter[views][gte]=10");
    let mut reader = Reader::open(&server, list).await;
    reader.until_ready().await;
    let first = reader.last.clone();
    let frame = reader.body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&frame[..], b": nothing new\n\n");
    // What it does not want to know of still moves it on.
    server.ask(put("a", 2)).await;
    assert_eq!(reader.until_ready().await, "");
    assert_ne!(reader.last, first);
}

#[tokio::test]
async fn what_a_stream_cannot_do_is_refused() {
    let server = Server::start().await;
    let live = |path: &str| ask("GET", path).header("accept", "text/event-stream");
    server
        .check([
            case("sorted", live("/tables/posts?sort=title"), 400)
                .has(&["sort: is no parameter here; there are filter, fields"]),
            case("no such table", live("/tables/nope"), 404),
            case("any type will do", ask("GET", "/tables/posts").header("accept", "*/*"), 200)
                .has(&[r#"{"data":[]}"#]),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_told_adds_up_to_the_list() {
    let server = Server::start().await;
    let mut reader = Reader::posts(&server).await;
    let mut rows = std::collections::BTreeMap::new();
    let writes = async {
        for _ in 0..300 {
            let id = (rand::random::<u8>() % 40).to_string();
            match rand::random::<u8>() % 4 {
                0 => server.ask(ask("DELETE", &format!("/tables/posts/{id}"))).await,
                1 => server.ask(ask("DELETE", "/tables/posts?filter[views][lt]=10")).await,
                _ => server.ask(put(&id, (rand::random::<u8>() % 100) as u64)).await,
            };
        }
        server.ask(put("last", 0)).await;
    };
    let read = async {
        while !rows.contains_key("last") {
            let (event, data) = reader.next().await.unwrap();
            let id = data["id"].as_str().unwrap_or_default().to_owned();
            match event.as_str() {
                "put" => drop(rows.insert(id, data)),
                "delete" => drop(rows.remove(&id)),
                _ => {}
            }
        }
    };
    tokio::join!(writes, read);
    reader.until_ready().await;
    let list = server.get("/tables/posts").await.data();
    assert_eq!(rows.into_values().collect::<Value>(), list);
}
