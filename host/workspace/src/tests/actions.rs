//! Actions: their inputs, what they may do, and that they happen entirely or not at all.

use serde_json::json;
use tokio::task::JoinSet;

use super::harness::{Blog, Server, ask, case};

#[tokio::test]
async fn queries_are_got_and_mutations_posted() {
    let posts = [
        json!({ "id": "a", "title": "A", "views": 1 }),
        json!({ "id": "b", "title": "B", "views": 5 }),
    ];
    let server = Server::start().await.with_posts(posts).await;
    let publish = |body| ask("POST", "/actions/posts/publish").json(body);
    server
        .check([
            case("query", ask("GET", "/actions/posts/popular?min=2"), 200)
                .has(&[r#"{"data":[{"id":"b","title":"B","views":5}]}"#]),
            case("input that is no number", ask("GET", "/actions/posts/popular?min=x"), 422)
                .has(&[r#"{"path":["min"],"message":"must be a number"#]),
            case("input that is missing", ask("GET", "/actions/posts/popular"), 422)
                .has(&[r#""issues":[{"path":["min"],"message":"is required"}]"#]),
            case("a posted query", ask("POST", "/actions/posts/popular"), 405)
                .has(&["posts/popular is a query: call it with GET, not POST"])
                .headers(&[("allow", "GET")]),
            case("mutation", publish(json!({ "id": "a" })), 200).has(&[r#""published":true"#]),
            case("it happened", ask("GET", "/tables/posts/a"), 200).has(&[r#""published":true"#]),
            case("of no row", publish(json!({ "id": "nope" })), 404),
            case("invalid input", publish(json!({ "id": 1 })), 422)
                .has(&["the input of posts/publish is not valid", r#""path":["id"]"#]),
            case("a mutation that is got", ask("GET", "/actions/posts/publish"), 405)
                .headers(&[("allow", "POST")]),
            case("no input", ask("POST", "/actions/posts/number"), 200).has(&[r#""id":"n3""#]),
            case("an input that must have members", ask("POST", "/actions/posts/publish"), 415),
            case("and an empty one", publish(json!(0)).text(""), 400).has(&["not JSON"]),
            case("no such action", ask("POST", "/actions/posts/nope"), 404)
                .has(&[r#"workspace blog has no action \"posts/nope\""#]),
            case("a query that writes", ask("GET", "/actions/posts/sneak"), 403)
                .has(&["a query may not write"]),
            case("it did not", ask("GET", "/tables/posts/sneaked"), 404),
        ])
        .await;
}

#[tokio::test]
async fn an_input_that_may_be_without_members_need_not_be_sent() {
    let server = Server::start().await;
    let optional = json!({ "type": "object", "properties": { "some": { "type": "integer" } } });
    let blog = Blog::new().redefined(|definition| {
        let number = definition.actions.iter_mut().find(|action| action.path == "posts/number");
        number.unwrap().input = Some(optional);
    });
    server.reload(blog).await;
    let number = || ask("POST", "/actions/posts/number");
    let json = "application/json";
    server
        .check([
            case("nothing", number(), 200).has(&[r#""id":"n1""#]),
            case("nothing, as JSON", number().header("content-type", json), 200)
                .has(&[r#""id":"n2""#]),
            case("an object", number().json(json!({})), 200).has(&[r#""id":"n3""#]),
            case("a member", number().json(json!({ "some": 1 })), 200),
            case("not valid", number().json(json!({ "some": "x" })), 422).has(&["some"]),
            case("something of no type", number().text("{}"), 415),
            case("a form", number().header("content-type", "text/plain"), 415),
            case("no JSON", number().header("content-type", json).text("{"), 400),
        ])
        .await;
}

#[tokio::test]
async fn a_mutation_that_does_not_end_well_has_not_happened() {
    let server = Server::start().await;
    for (how, status) in [("fail", 500), ("deny", 403), ("trap", 500), ("be invalid", 422)] {
        let half = ask("POST", "/actions/posts/half").json(json!({ "how": how }));
        assert_eq!(server.ask(half).await.status, status, "{how}");
        assert_eq!(server.get("/tables/posts").await.text, r#"{"data":[]}"#, "{how}");
    }
}

#[tokio::test]
async fn an_input_may_have_eight_megabytes() {
    let server = Server::start().await;
    let size =
        |bytes: usize| ask("POST", "/actions/size").json(json!({ "text": "x".repeat(bytes) }));
    server
        .check([
            case("three", size(3 << 20), 200).has(&[r#"{"data":3145728}"#]),
            case("nine", size(9 << 20), 413).has(&["8388608 bytes"]),
        ])
        .await;
}

/// Sends a request many times at once; all must succeed.
async fn at_once(server: &Server, times: usize, request: impl Fn(usize) -> super::harness::Ask) {
    let mut tasks = JoinSet::new();
    for number in 0..times {
        let router = server.router();
        let request = request(number).request();
        tasks.spawn(async move { tower::ServiceExt::oneshot(router, request).await.unwrap() });
    }
    while let Some(response) = tasks.join_next().await {
        assert!(response.unwrap().status().is_success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mutations_at_the_same_time_do_not_lose_each_others_writes() {
    let server = Server::start().await;
    for (id, balance) in [("a", 1000), ("b", 0)] {
        let account = json!({ "id": id, "balance": balance });
        server.ask(ask("POST", "/tables/accounts").json(account)).await;
    }
    let transfer = |_| ask("POST", "/actions/accounts/transfer").json(json!({ "amount": 10 }));
    at_once(&server, 40, transfer).await;
    let accounts = r#"{"data":[{"id":"a","balance":600},{"id":"b","balance":400}]}"#;
    assert_eq!(server.get("/tables/accounts").await.text, accounts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mutations_that_count_rows_see_all_that_came_before() {
    let server = Server::start().await;
    at_once(&server, 30, |_| ask("POST", "/actions/posts/number")).await;
    assert_eq!(server.get("/tables/posts").await.data().as_array().unwrap().len(), 30);
    assert_eq!(server.get("/tables/posts/n30").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_of_different_fields_at_the_same_time_are_all_kept() {
    let server = Server::start().await.with_posts([json!({ "id": "a", "title": "t" })]).await;
    let update = |number: usize| {
        ask("PATCH", "/tables/posts/a").json(json!({ format!("field{number}"): number }))
    };
    at_once(&server, 20, update).await;
    let row = server.get("/tables/posts/a").await.data();
    for number in 0..20 {
        assert_eq!(row[format!("field{number}")], number, "{row}");
    }
}
