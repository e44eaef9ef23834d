//! Writes that depend on what is there, and writes of many rows.

use serde_json::{Value, json};

use super::harness::{Server, ask, case, entry};

#[tokio::test]
async fn a_write_that_demands_a_version_is_refused_when_another_is_there() {
    let server =
        Server::start().await.with_posts([json!({ "id": "a", "title": "A", "views": 1 })]).await;
    let seen = server.get("/tables/posts/a").await.tag();
    let put = |tag: &str, title: &str| {
        ask("PUT", "/tables/posts/a").header("if-match", tag).json(json!({ "title": title }))
    };
    let mine = server.ask(put(&seen, "mine")).await;
    assert_eq!(mine.status, 200);
    assert_eq!(mine.tag(), server.get("/tables/posts/a").await.tag());
    let theirs = server.ask(put(&seen, "theirs")).await;
    assert_eq!(theirs.status, 412);
    assert!(theirs.text.contains(r#"\"a\" is not the version"#), "{}", theirs.text);
    let post = |id: &str, header: &str, tag: &str| {
        ask("POST", "/tables/posts").header(header, tag).json(json!({ "id": id, "title": "t" }))
    };
    server
        .check([
            case("nothing happened", ask("GET", "/tables/posts/a"), 200).has(&["mine"]),
            case("delete", ask("DELETE", "/tables/posts/a").header("if-match", &seen), 412),
            case("replace", post("a", "if-match", &seen), 412),
            case("create, but it is there", post("a", "if-none-match", "*"), 412),
            case("create what is not there", post("b", "if-none-match", "*"), 201),
            case("replace what is not there", post("c", "if-match", "*"), 412),
            case("any version", put("*", "any"), 200),
            case("one of several", put(&format!("\"x\", {seen}"), "t"), 412),
            case("of no row", ask("DELETE", "/tables/posts/z").header("if-match", &seen), 404),
        ])
        .await;
    let now = server.get("/tables/posts/a").await.tag();
    let gone = ask("DELETE", "/tables/posts/a").header("if-match", &now);
    assert_eq!(server.ask(gone).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_demand_the_same_version_one_succeeds() {
    let server =
        Server::start().await.with_posts([json!({ "id": "a", "title": "A", "views": 1 })]).await;
    let seen = server.get("/tables/posts/a").await.tag();
    let mut tasks = tokio::task::JoinSet::new();
    for views in 0..20 {
        let request = ask("PUT", "/tables/posts/a").header("if-match", &seen);
        let request = request.json(json!({ "views": views })).request();
        tasks.spawn(tower::ServiceExt::oneshot(server.router(), request));
    }
    let answers = tasks.join_all().await;
    let statuses = answers.into_iter().map(|answer| answer.unwrap().status().as_u16());
    let (done, refused): (Vec<_>, Vec<_>) = statuses.partition(|status| *status == 200);
    assert_eq!(done.len(), 1);
    assert!(refused.iter().all(|status| *status == 412), "{refused:?}");
}

#[tokio::test]
async fn many_rows_are_written_all_or_none() {
    let server = Server::start().await;
    let posts = |rows: Value| ask("POST", "/tables/posts").json(rows);
    let accounts = |rows: Value| ask("POST", "/tables/accounts").json(rows);
    server
        .check([
            case(
                "created",
                posts(json!([{ "id": "a", "title": "A" }, { "id": "b", "title": "B" }])),
                201,
            )
            .has(&[r#"{"data":[{"id":"a","title":"A","views":0"#, r#"{"id":"b""#]),
            case("an id is made up", posts(json!([{ "title": "A" }])), 201),
            case(
                "some were there",
                posts(json!([{ "id": "a", "title": "A2" }, { "id": "c", "title": "C" }])),
                200,
            ),
            case("none", posts(json!([])), 200).has(&[r#"{"data":[]}"#]),
            case(
                "some are invalid",
                posts(json!([
                    { "id": "d", "title": "D" }, { "id": "e", "title": "" }, { "id": "f" },
                ])),
                422,
            )
            .has(&[r#"{"path":["1","title"]"#, r#"{"path":["2","title"]"#])
            .lacks(&[r#"["0""#]),
            case("no rows", posts(json!([1, { "id": 2 }])), 422)
                .has(&[r#"{"path":["0"],"message":"must be an object"}"#, r#"{"path":["1","id"]"#]),
            case(
                "all that is wrong",
                posts(json!([{ "id": "d", "title": "" }, 7, { "id": "e" }, { "id": "d", "title": "" }])),
                422,
            )
            .has(&[
                r#"{"path":["0","title"]"#,
                r#"{"path":["1"],"message":"must be an object"}"#,
                r#"{"path":["2","title"]"#,
                r#"{"path":["3","id"],"message":"is also that of row 0"}"#,
                r#"{"path":["3","title"]"#,
            ]),
            case(
                "one id twice",
                posts(json!([{ "id": "g", "title": "G" }, { "id": "g", "title": "H" }])),
                422,
            )
            .has(&[r#"{"path":["1","id"],"message":"is also that of row 0"}"#]),
            case(
                "refused by the check",
                accounts(json!([
                    { "id": "a", "balance": 1 }, { "id": "b", "balance": -1 },
                ])),
                422,
            )
            .has(&[r#"{"path":["1","balance"]"#]),
            case(
                "refused by the check, more than one",
                accounts(json!([{ "id": "a", "balance": -1 }, { "id": "b", "balance": -1 }])),
                422,
            )
            .has(&[r#"{"path":["0","balance"]"#, r#"{"path":["1","balance"]"#]),
            case(
                "a broken plugin",
                posts(json!([{ "id": "d", "title": "D" }, { "title": "trap" }])),
                500,
            ),
            case(
                "nothing of those",
                ask("GET", "/tables/posts?filter[id][in]=d,e,f,g&count&limit=0"),
                200,
            )
            .has(&[r#""count":0"#]),
            case("nor of the accounts", ask("GET", "/tables/accounts"), 200)
                .has(&[r#"{"data":[]}"#]),
            case("too many", posts((0..10_001).map(|_| json!({ "title": "t" })).collect()), 413)
                .has(&["10001 rows are too many for one request, which may write 10000"]),
        ])
        .await;
}

#[tokio::test]
async fn many_rows_may_be_demanded_to_be_new_and_nothing_else() {
    let server = Server::start().await.with_posts([json!({ "id": "b", "title": "B" })]).await;
    server.synced("table:posts", [entry("bad", json!({ "id": "bad" }), 1)]).await;
    let posts = |ids: &[&str], header: &str, value: &str| {
        let rows = ids.iter().map(|id| json!({ "id": id, "title": "new" })).collect();
        ask("POST", "/tables/posts").header(header, value).json(rows)
    };
    let delete =
        |header: &str| ask("DELETE", "/tables/posts?filter[title]=B").header(header, "\"1.2\"");
    server
        .check([
            case("some are there", posts(&["a", "b", "bad"], "if-none-match", "*"), 412)
                .has(&[
                    r#"{"path":["1","id"],"message":"row \"b\" is there already"}"#,
                    r#"{"path":["2","id"],"message":"row \"bad\" is there already"}"#,
                ])
                .lacks(&[r#"["0""#]),
            case("none was written", ask("GET", "/tables/posts/a"), 404),
            case("nor replaced", ask("GET", "/tables/posts/b"), 200).has(&[r#""title":"B""#]),
            case("all are new", posts(&["a", "c"], "if-none-match", "*"), 201),
            case("a tag", posts(&["b"], "if-match", "\"1.2\""), 400).has(&["tags are for one row"]),
            case("any version", posts(&["b"], "if-match", "*"), 400),
            case("not this version", posts(&["b"], "if-none-match", "\"1.2\""), 400),
            case("delete a version", delete("if-match"), 400)
                .has(&["If-Match and If-None-Match are about one row"]),
            case("delete another version", delete("if-none-match"), 400),
            case("it is as it was", ask("GET", "/tables/posts/b"), 200).has(&[r#""title":"B""#]),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_demand_that_their_rows_are_new_one_succeeds() {
    let server = Server::start().await;
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..12 {
        // All of them write the row "same", and one of their own.
        let rows =
            json!([{ "id": format!("own-{at}"), "title": "t" }, { "id": "same", "title": "t" }]);
        let request =
            ask("POST", "/tables/posts").header("if-none-match", "*").json(rows).request();
        tasks.spawn(tower::ServiceExt::oneshot(server.router(), request));
    }
    let answers = tasks.join_all().await;
    let statuses = answers.into_iter().map(|answer| answer.unwrap().status().as_u16());
    let (done, refused): (Vec<_>, Vec<_>) = statuses.partition(|status| *status == 201);
    assert_eq!(done.len(), 1);
    assert!(refused.iter().all(|status| *status == 412), "{refused:?}");
    assert_eq!(server.get("/tables/posts").await.data().as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn invalid_rows_are_deleted_when_that_is_asked_for() {
    let server = Server::start().await.with_posts([json!({ "id": "good", "title": "t" })]).await;
    server.synced("table:posts", ["a", "b"].map(|id| entry(id, json!({ "id": id }), 1))).await;
    server
        .check([
            case("with a filter", ask("DELETE", "/tables/posts?invalid&filter[id]=a"), 400)
                .has(&["invalid: goes without filter"]),
            case("not really", ask("DELETE", "/tables/posts?invalid=false"), 400)
                .has(&["say which rows to delete"]),
            case("all of them", ask("DELETE", "/tables/posts?invalid=true"), 200)
                .has(&[r#"{"data":{"deleted":2}}"#]),
            case("none is left", ask("GET", "/tables/posts?invalid&count"), 200)
                .has(&[r#"{"data":[],"count":0}"#]),
            case("the other one is", ask("GET", "/tables/posts/good"), 200),
            case("again", ask("DELETE", "/tables/posts?invalid=true"), 200)
                .has(&[r#"{"data":{"deleted":0}}"#]),
        ])
        .await;
    assert_eq!(server.entries("posts").await.len(), 1);
}

#[tokio::test]
async fn many_rows_are_written_at_one_time() {
    let server = Server::start().await;
    let rows: Value = (0..1000).map(|n| json!({ "id": n.to_string(), "title": "t" })).collect();
    server.ask(ask("POST", "/tables/posts").json(rows)).await;
    let entries = server.entries("posts").await;
    assert_eq!(entries.len(), 1000);
    assert!(entries.iter().all(|entry| entry["ts"] == entries[0]["ts"]));
    let gone = server.ask(ask("DELETE", "/tables/posts?filter[id][exists]=true")).await;
    assert_eq!(gone.data()["deleted"], 1000);
    assert_eq!(server.entries("posts").await.len(), 0);
}

#[tokio::test]
async fn rows_are_deleted_by_a_filter() {
    let posts = (1..=5).map(|n| json!({ "id": n.to_string(), "title": "t", "views": n }));
    let server = Server::start().await.with_posts(posts).await;
    for (id, balance) in [("bank", 1), ("a", 1)] {
        let account = json!({ "id": id, "balance": balance });
        server.ask(ask("POST", "/tables/accounts").json(account)).await;
    }
    server
        .check([
            case("no filter", ask("DELETE", "/tables/posts"), 400)
                .has(&["say which rows to delete"]),
            case("a limit", ask("DELETE", "/tables/posts?filter[views]=1&limit=1"), 400)
                .has(&["limit: is no parameter here; there are filter, invalid"]),
            case("an unknown field", ask("DELETE", "/tables/posts?filter[x]=1"), 400),
            case("some", ask("DELETE", "/tables/posts?filter[views][gte]=3"), 200)
                .has(&[r#"{"data":{"deleted":3}}"#]),
            case("none", ask("DELETE", "/tables/posts?filter[views][gte]=3"), 200)
                .has(&[r#"{"data":{"deleted":0}}"#]),
            case("one may not", ask("DELETE", "/tables/accounts?filter[balance]=1"), 403)
                .has(&["the bank stays"]),
            case("so none is", ask("GET", "/tables/accounts?count&limit=0"), 200)
                .has(&[r#""count":2"#]),
            case("the others are there", ask("GET", "/tables/posts?count&limit=0"), 200)
                .has(&[r#""count":2"#]),
        ])
        .await;
}

#[tokio::test]
async fn a_row_reads_as_the_document_has_it_now_and_after_a_restart() {
    let server = Server::start().await;
    let row = r#"{"id":"z","b":1.0,"a":-0.0,"exact":9007199254740991,"part":0.1,"big":1e300}"#;
    let posted =
        ask("POST", "/tables/accounts").header("content-type", "application/json").text(row);
    let posted = server.ask(posted).await;
    assert_eq!(posted.status, 201, "{}", posted.text);
    let stored = r#"{"id":"z","b":1,"a":0,"exact":9007199254740991,"part":0.1,"big":1e+300}"#;
    let before = server.get("/tables/accounts/z").await;
    assert_eq!(before.text, format!("{{\"data\":{stored}}}"));
    let entries = server.entries("accounts").await;
    let expected: Value = serde_json::from_str(stored).unwrap();
    let same = |(name, value): (&String, &Value)| {
        let there = &entries[0]["val"][name];
        there == value || there.as_f64() == value.as_f64()
    };
    assert!(expected.as_object().unwrap().iter().all(same), "{entries:?}");
    let server = server.restart(super::harness::Blog::new()).await;
    let again = server.get("/tables/accounts/z").await;
    assert_eq!((&again.text, again.tag()), (&before.text, before.tag()));
}
