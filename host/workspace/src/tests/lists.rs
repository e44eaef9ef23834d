//! Lists with parameters, and their tags.

use serde_json::{Value, json};

use super::harness::{Blog, Server, ask, case, entry};

async fn server() -> Server {
    let posts = [
        json!({ "id": "a", "title": "Apples", "views": 3, "tags": ["fruit", "red"] }),
        json!({ "id": "b", "title": "Bread", "views": 10, "published": true }),
        json!({ "id": "c", "title": "Cherries, or pears", "views": 3, "tags": ["fruit"], "by": "me" }),
        json!({ "id": "d", "title": "Dates", "views": 25, "published": false }),
    ];
    Server::start().await.with_posts(posts).await
}

async fn ids(server: &Server, query: &str) -> String {
    let answer = server.get(&format!("/tables/posts?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    let rows = answer.data();
    rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn filters_are_typed_by_the_schema() {
    let server = server().await;
    for (query, expected) in [
        ("filter[views]=3", "ac"),
        ("filter[views][eq]=3.0", "ac"),
        ("filter[views][ne]=3", "bd"),
        ("filter[views][gt]=3", "bd"),
        ("filter[views][gte]=3", "abcd"),
        ("filter[views][lt]=25", "abc"),
        ("filter[views][lte]=3", "ac"),
        ("filter[views][in]=10,25", "bd"),
        ("filter[id][in]=a,d,z", "ad"),
        ("filter[title]=Dates", "d"),
        ("filter[title][contains]=rea", "b"),
        ("filter[title][prefix]=Ch", "c"),
        ("filter[title][gt]=B", "bcd"),
        ("filter[title]=Cherries,%20or%20pears", "c"),
        ("filter[published]=true", "b"),
        ("filter[published][exists]", "bd"),
        ("filter[published][exists]=false", "ac"),
        ("filter[tags][contains]=fruit", "ac"),
        ("filter[by]=me", "c"),
        ("filter[by]=null", "abd"),
        ("filter[by]=%22me%22", "c"),
        ("filter[by]=%22null%22", ""),
        ("filter[by][in]=null,me", "abcd"),
        ("filter[by][in]=[null,%22null%22]", "abd"),
        ("filter[title][in]=[%22Cherries,%20or%20pears%22,%22Dates%22]", "cd"),
        ("filter[title]=%22Dates%22", ""),
        ("filter[views][in]=[3.0]", "ac"),
        ("filter[tags]=[%22fruit%22]", "c"),
        ("filter[tags][ne]=[%22fruit%22]", "abd"),
        ("filter[tags][in]=[[%22fruit%22],[]]", "c"),
        ("filter[tags][exists]", "ac"),
        ("filter[views][gte]=3&filter[views][lt]=10&filter[tags][contains]=red", "a"),
        ("filter[_v][exists]=false", "abcd"),
        ("filter[title]=nothing", ""),
        ("token=secret", "abcd"),
    ] {
        assert_eq!(ids(&server, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn rows_are_sorted_cut_and_counted() {
    let server = server().await;
    for (query, expected) in [
        ("sort=title", "abcd"),
        ("sort=-title", "dcba"),
        ("sort=-views,title", "dbac"),
        ("sort=views,-title", "cabd"),
        ("sort=published", "acdb"),
        ("sort=-views&limit=2", "db"),
    ] {
        assert_eq!(ids(&server, query).await, expected, "{query}");
    }
    server
        .check([
            case("a page", ask("GET", "/tables/posts?limit=1"), 200)
                .has(&[r#"],"next":""#])
                .lacks(&["count"]),
            case("all of it", ask("GET", "/tables/posts?limit=4"), 200).lacks(&["next"]),
            case("only a count", ask("GET", "/tables/posts?limit=0&count"), 200)
                .has(&[r#"{"data":[],"count":4}"#]),
            case(
                "a count of what is selected",
                ask("GET", "/tables/posts?limit=1&count&filter[views]=3"),
                200,
            )
            .has(&[r#""count":2}"#]),
            case("fields", ask("GET", "/tables/posts?fields=title,id&filter[id]=b"), 200)
                .has(&[r#"{"data":[{"id":"b","title":"Bread"}]}"#]),
        ])
        .await;
}

#[tokio::test]
async fn what_is_unknown_is_named() {
    let server = server().await;
    let list = |query: &str| ask("GET", &format!("/tables/posts?{query}"));
    server
        .check([
            case("parameter", list("limt=1"), 400).has(&[
                "limt: is no parameter here; there are limit, cursor, sort",
                r#""path":["limt"]"#,
            ]),
            case("field", list("filter[veiws]=1"), 400)
                .has(&[r#"filter[veiws]: \"veiws\": table posts has no such field"#]),
            case("operator", list("filter[views][above]=1"), 400)
                .has(&["filter[views][above]: there is no such operator; there are eq, ne, gt"]),
            case("field to sort by", list("sort=-veiws"), 400).has(&["veiws"]),
            case("field to show", list("fields=id,veiws"), 400).has(&["veiws"]),
            case("no number", list("filter[views][gte]=many"), 400)
                .has(&[r#"must be a number, and is \"many\""#]),
            case("no boolean", list("filter[published]=maybe"), 400)
                .has(&["must be true or false"]),
            case("contains of a number", list("filter[views][contains]=1"), 400).has(&[
                r#"field \"views\" is integer, and contains compares string, array only"#,
                r#""path":["filter[views][contains]"]"#,
            ]),
            case("prefix of an array", list("filter[tags][prefix]=f"), 400)
                .has(&[r#"field \"tags\" is array, and prefix compares string only"#]),
            case("more than an array", list("filter[tags][gt]=[]"), 400)
                .has(&[r#"field \"tags\" is array, and gt compares string, number, boolean only"#]),
            case("a text as an array", list("filter[tags]=fruit"), 400).has(&[
                r#"must be array, and is \"fruit\"; arrays and objects are written as JSON"#,
            ]),
            case("half an array", list("filter[title][in]=[%22a%22"), 400)
                .has(&["begins as a JSON array, and is none"]),
            case("a list of another type", list("filter[views][in]=[1,%222%22]"), 400)
                .has(&[r#"must be a list of integer, and has \"2\" in it"#]),
            case("half a filter", list("filter=1"), 400)
                .has(&["write filter[field][operator]=value"]),
            case("limit", list("limit=-1"), 400).has(&["must be a number from 0 to 10000"]),
            case("too high a limit", list("limit=10001"), 400),
            case("cursor", list("cursor=xyz"), 400).has(&["cursor: is none that was given here"]),
            case("twice", list("limit=1&limit=2"), 400).has(&["limit: is given twice"]),
            case("two things", list("a=1&b=2"), 400).has(&[r#""path":["a"]"#, r#""path":["b"]"#]),
            case("invalid and sorted", list("invalid&sort=title"), 400),
        ])
        .await;
}

#[tokio::test]
async fn pages_are_stable_under_writes() {
    let server = server().await;
    for sort in ["", "&sort=-views,title"] {
        let first = server.get(&format!("/tables/posts?limit=2{sort}")).await.json();
        let shown: Vec<_> =
            first["data"].as_array().unwrap().iter().map(|row| row["id"].clone()).collect();
        // What was shown goes, and something comes before where the page ended.
        let gone = ask("DELETE", &format!("/tables/posts/{}", shown[0].as_str().unwrap()));
        server.ask(gone).await;
        let new = json!({ "id": "0", "title": "new", "views": 99 });
        server.ask(ask("POST", "/tables/posts").json(new)).await;
        let next = first["next"].as_str().unwrap();
        let rest = ids(&server, &format!("limit=10&cursor={next}{sort}")).await;
        assert_eq!(rest, if sort.is_empty() { "cd" } else { "bc" }, "after {shown:?}");
    }
}

#[tokio::test]
async fn a_cursor_goes_on_in_the_list_that_it_is_of() {
    let server = server().await;
    server.synced("table:posts", ["x", "y"].map(|id| entry(id, json!({ "id": id }), 1))).await;
    let lists = ["", "sort=title", "sort=-title", "filter[views]=3", "sort=title&filter[views]=3"];
    for list in lists.into_iter().chain(["invalid"]) {
        let first = server.get(&format!("/tables/posts?limit=1&{list}")).await.json();
        let next = first["next"].as_str().unwrap();
        for other in lists.into_iter().chain(["invalid"]) {
            let path = format!("/tables/posts?limit=1&cursor={next}&{other}");
            let answer = server.get(&path).await;
            let expected = if list == other { 200 } else { 400 };
            assert_eq!(answer.status, expected, "{list:?} then {other:?}: {}", answer.text);
            let says = "cursor: is of a list with another order or other filters";
            assert!(list == other || answer.text.contains(says), "{}", answer.text);
        }
        // What is shown of each row is not a matter of where the list goes on.
        let path = format!("/tables/posts?limit=3&cursor={next}&{list}&count");
        assert_eq!(server.get(&path).await.status, 200, "{list}");
    }
}

#[tokio::test]
async fn invalid_rows_are_listed_when_asked_for() {
    let server = Server::start().await;
    let rows = ["a", "b", "c"].map(|id| entry(id, json!({ "id": id, "title": "" }), 1));
    server.synced("table:posts", rows).await;
    server.synced("table:posts", [entry("good", json!({ "id": "good", "title": "t" }), 1)]).await;
    let answer = server.get("/tables/posts?invalid&limit=2&count").await.json();
    assert_eq!(answer["count"], 3);
    let first = json!({
        "id": "a",
        "issues": [{ "path": ["title"], "message": "must have 1 to 100 letters" }],
        "row": { "id": "a", "title": "" },
    });
    assert_eq!(answer["data"][0], first);
    let next = answer["next"].as_str().unwrap();
    assert_eq!(ids(&server, &format!("invalid&cursor={next}")).await, "c");
    assert_eq!(ids(&server, "invalid=false").await, "good");
}

#[tokio::test]
async fn a_list_that_did_not_change_is_not_sent_again() {
    let server = server().await;
    for path in ["/tables/posts", "/tables/posts?sort=title"] {
        let tag = server.get(path).await.tag();
        assert!(tag.starts_with('"'), "{tag}");
        let again = |tag: &str| ask("GET", path).header("if-none-match", tag);
        let answer = server.ask(again(&tag)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str(), answer.tag()),
            (304, "", tag.clone())
        );
        assert_eq!(server.ask(again(&format!("\"x\", W/{tag}"))).await.status, 304);
        server.ask(ask("PUT", "/tables/posts/a").json(json!({ "views": 4 }))).await;
        assert_eq!(server.ask(again(&tag)).await.status, 200);
    }
    let tag = server.get("/tables/posts").await.tag();
    server.reload(Blog::new()).await;
    assert_ne!(server.get("/tables/posts").await.tag(), tag, "another plugin may see it otherwise");
}

#[tokio::test]
async fn the_tag_of_a_row_outlives_a_restart_and_changes_with_the_migration() {
    let server = Server::start().await;
    server.synced("table:posts", [entry("old", json!({ "id": "old", "title": "t" }), 1)]).await;
    let server = server.with_posts([json!({ "id": "new", "title": "t", "views": 1 })]).await;
    let tag = async |server: &Server, id| server.get(&format!("/tables/posts/{id}")).await.tag();
    let (old, new) = (tag(&server, "old").await, tag(&server, "new").await);
    let server = server.restart(Blog::new()).await;
    assert_eq!((tag(&server, "old").await, tag(&server, "new").await), (old.clone(), new.clone()));
    server.reload(Blog::new().migrating("second")).await;
    assert_ne!(tag(&server, "old").await, old);
    assert_eq!(tag(&server, "new").await, new);
    let again = ask("GET", "/tables/posts/new").header("if-none-match", &new);
    assert_eq!(server.ask(again).await.status, 304);
}

#[tokio::test]
async fn a_list_of_everything_has_no_limit_unless_one_is_given() {
    let posts = (0..1500).map(|n| json!({ "id": format!("{n:05}"), "title": "t", "views": n }));
    let server = Server::start().await;
    let all = ask("POST", "/tables/posts").json(posts.collect::<Value>());
    assert_eq!(server.ask(all).await.status, 201);
    let answer = server.get("/tables/posts?sort=-views").await.json();
    assert_eq!(answer["data"].as_array().unwrap().len(), 1500);
    assert_eq!(answer["data"][0]["views"], 1499);
}

#[tokio::test]
async fn a_list_reads_the_same_in_pieces_and_as_a_whole() {
    let title = "x".repeat(90);
    let posts = (0..1500).map(|n| json!({ "id": format!("{n:05}"), "title": title, "views": 1 }));
    let server = Server::start().await;
    assert_eq!(
        server.ask(ask("POST", "/tables/posts").json(posts.collect::<Value>())).await.status,
        201
    );
    let whole = server.get("/tables/posts").await.json();
    assert_eq!(whole["data"].as_array().unwrap().len(), 1500);
    for query in ["sort=id", "limit=1500", "filter[views]=1"] {
        assert_eq!(server.get(&format!("/tables/posts?{query}")).await.json(), whole, "{query}");
    }
    let page = server.get("/tables/posts?fields=id,title&limit=1200&count").await.json();
    assert_eq!(page["data"].as_array().unwrap().len(), 1200);
    assert_eq!(page["data"][1199], json!({ "id": "01199", "title": title }));
    assert!(page["next"].is_string() && page["count"] == 1500);
    assert_eq!(server.get("/tables/posts?limit=0").await.json()["data"], json!([]));
}
