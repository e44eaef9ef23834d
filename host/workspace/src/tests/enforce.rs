//! Rules that hold for sync as well.

use std::sync::Arc;

use host_caller::{Account, Right};
use host_sync::{Author, Edit};
use serde_json::{Value, json};

use super::harness::*;
use crate::definition::{OnDelete, Reference, TableDefinition};

/// A shop: products with a SKU of their own, customers, orders of a customer, lines of an order and a product.
/// `accounts` of the blog may not have a negative balance. All of them enforce their rules.
pub(super) fn shop() -> Blog {
    Blog::new().redefined(|definition| {
        let table = |name: &str, fields: &[&str], unique: &[&str], references| TableDefinition {
            name: name.into(),
            versions: vec![json!({
                "type": "object",
                "properties": fields.iter().map(|f| ((*f).into(), json!({}))).collect::<serde_json::Map<_, _>>(),
            })],
            unique: unique.iter().map(|field| vec![(*field).into()]).collect(),
            references,
            enforce: true,
            ..TableDefinition::default()
        };
        let to = |field: &str, table: &str, on_delete| Reference {
            field: field.into(),
            table: table.into(),
            on_delete,
        };
        for table in &mut definition.tables {
            table.enforce = table.name == "accounts" || table.name == "posts";
        }
        definition.tables.extend([
            table("products", &["id", "sku"], &["sku"], vec![]),
            table("customers", &["id"], &[], vec![]),
            table("orders", &["id", "customer"], &[], vec![to("customer", "customers", OnDelete::Restrict)]),
            table("lines", &["id", "order", "product"], &[], vec![
                to("order", "orders", OnDelete::Cascade),
                to("product", "products", OnDelete::SetNull),
            ]),
        ]);
    })
}

async fn server() -> Server {
    let server = Server::start().await;
    server.reload(shop()).await;
    server
}

/// Waits until nothing waits to be judged.
async fn judged(server: &Server) {
    let workspace = server.workspaces.get("blog").unwrap();
    for _ in 0..2_000 {
        let waits = workspace.index().lock().pending().places().next().is_some();
        if !waits {
            workspace.generation().catch_up().await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("something waits for good");
}

/// Entries of a table by their keys: row and `ts`.
async fn rows(server: &Server, table: &str) -> Value {
    let entries = server.entries(table).await.into_iter();
    entries.map(|e| json!([e["key"], e["val"], e["ts"]])).collect()
}

async fn refused(server: &Server, table: &str) -> Value {
    server.get(&format!("/tables/{table}?refused")).await.data()
}

async fn deleted(server: &Server, table: &str, ids: &[&str]) {
    let room = server.rooms.open("blog").unwrap();
    let deletes = ids.iter().flat_map(|id| server.ids(&format!("table:{table}"), id));
    let edit = Edit { deletes: deletes.map(|id| (id, 1)).collect(), ..Edit::default() };
    room.edit(Author::server(), move |_| (edit, ())).await.unwrap();
}

#[tokio::test]
async fn what_breaks_a_rule_is_undone_and_kept_apart_and_what_is_good_stays() {
    let server = server().await;
    server.ask(ask("POST", "/tables/products").json(json!({ "id": "a", "sku": "x" }))).await;
    let ts = server.entries("products").await[0]["ts"].clone();
    // It claims to be older, which counts for nothing.
    let second = entry("b", json!({ "id": "b", "sku": "x" }), 1);
    let good = entry("c", json!({ "id": "c", "sku": "y" }), 2);
    server.synced("table:products", [second, good]).await;
    judged(&server).await;
    let expected =
        json!([["a", { "id": "a", "sku": "x" }, ts], ["c", { "id": "c", "sku": "y" }, 2]]);
    assert_eq!(rows(&server, "products").await, expected);
    let refused = refused(&server, "products").await;
    assert_eq!(refused.as_array().unwrap().len(), 1, "{refused}");
    assert_eq!(refused[0]["row"], json!({ "id": "b", "sku": "x" }));
    assert_eq!(refused[0]["issues"][0]["path"], json!(["sku"]));
    assert_eq!(server.get("/tables/products").await.data().as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_update_that_is_refused_gives_way_to_what_counted_with_its_own_time() {
    let server = server().await;
    server.synced("table:accounts", [entry("a", json!({ "id": "a", "balance": 5 }), 100)]).await;
    judged(&server).await;
    server.synced("table:accounts", [entry("a", json!({ "id": "a", "balance": -1 }), 200)]).await;
    judged(&server).await;
    assert_eq!(
        rows(&server, "accounts").await,
        json!([["a", { "id": "a", "balance": 5 }, 100]]),
        "with its own time"
    );
    // An honest write that was made in between still wins.
    server.synced("table:accounts", [entry("a", json!({ "id": "a", "balance": 7 }), 150)]).await;
    judged(&server).await;
    assert_eq!(rows(&server, "accounts").await, json!([["a", { "id": "a", "balance": 7 }, 150]]));
    // A row that its plugin does not understand.
    server.synced("table:posts", [entry("p", json!({ "id": "p", "title": "" }), 1)]).await;
    judged(&server).await;
    assert_eq!(rows(&server, "posts").await, json!([]));
    assert_eq!(refused(&server, "posts").await[0]["issues"][0]["path"], json!(["title"]));
    assert_eq!(
        refused(&server, "accounts").await[0]["reason"],
        "accounts: not valid: balance: must not be negative"
    );
}

#[tokio::test]
async fn deletions_are_restricted_cascade_and_set_null() {
    let server = server().await;
    let one = |table: &'static str, row: Value| ask("POST", &format!("/tables/{table}")).json(row);
    server
        .check([
            case("customer", one("customers", json!({ "id": "c" })), 201),
            case("product", one("products", json!({ "id": "p", "sku": "s" })), 201),
            case("order", one("orders", json!({ "id": "o", "customer": "c" })), 201),
            case("line", one("lines", json!({ "id": "l", "order": "o", "product": "p" })), 201),
        ])
        .await;
    let ts = server.entries("lines").await[0]["ts"].clone();
    deleted(&server, "customers", &["c"]).await;
    judged(&server).await;
    assert_eq!(server.entries("customers").await.len(), 1, "restricted");
    assert_eq!(refused(&server, "customers").await[0]["deleted"], true);
    deleted(&server, "products", &["p"]).await;
    judged(&server).await;
    let line = json!([["l", { "id": "l", "order": "o", "product": null }, ts]]);
    assert_eq!(rows(&server, "lines").await, line, "it keeps its time");
    deleted(&server, "orders", &["o"]).await;
    judged(&server).await;
    assert_eq!(server.entries("lines").await.len(), 0, "cascaded");
    deleted(&server, "customers", &["c"]).await;
    judged(&server).await;
    assert_eq!(server.entries("customers").await.len(), 0, "nobody refers to it any more");
}

#[tokio::test]
async fn a_row_and_those_that_refer_to_it_may_be_deleted_at_once() {
    let server = server().await;
    for round in 0..8 {
        let id = format!("{round}");
        server.synced("table:customers", [entry(&id, json!({ "id": id }), 1)]).await;
        server.synced("table:orders", [entry(&id, json!({ "id": id, "customer": id }), 1)]).await;
        judged(&server).await;
        let room = server.rooms.open("blog").unwrap();
        let both = ["table:customers", "table:orders"].map(|table| server.ids(table, &id)[0]);
        let edit = Edit { deletes: both.iter().map(|id| (*id, 1)).collect(), ..Edit::default() };
        room.edit(Author::server(), move |_| (edit, ())).await.unwrap();
        judged(&server).await;
        assert_eq!(refused(&server, "customers").await, json!([]));
        assert_eq!(server.entries("customers").await.len(), 0);
    }
}

#[tokio::test]
async fn a_child_may_come_before_its_parent_and_is_invalid_until_then() {
    let server = server().await;
    let order = entry("o", json!({ "id": "o", "customer": "late" }), 1);
    server.synced("table:orders", [order]).await;
    judged(&server).await;
    server
        .check([case("no parent", ask("GET", "/tables/orders/o"), 422).has(&[r#"["customer"]"#])])
        .await;
    server.synced("table:customers", [entry("late", json!({ "id": "late" }), 1)]).await;
    judged(&server).await;
    server.check([case("it came", ask("GET", "/tables/orders/o"), 200)]).await;
    assert_eq!(refused(&server, "orders").await, json!([]));
}

#[tokio::test]
async fn a_check_that_breaks_neither_accepts_nor_refuses_and_is_asked_again() {
    let mut server = server().await;
    server.synced("table:posts", [entry("a", json!({ "id": "a", "title": "first" }), 1)]).await;
    judged(&server).await;
    server.synced("table:posts", [entry("a", json!({ "id": "a", "title": "trap" }), 2)]).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let there = server.get("/tables/posts/a").await;
    assert_eq!(there.data()["title"], "first", "what counted counts");
    assert_eq!(refused(&server, "posts").await, json!([]));
    let seen = server.entries("posts").await;
    assert!(seen.iter().any(|e| e["val"]["title"] == "trap"), "clients see theirs: {seen:?}");
    // Another version does not break on it. Nothing was forgotten over the restart.
    server = server.restart(shop().with_titles_up_to(3)).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(
        server.get("/tables/posts/a").await.status,
        422,
        "the new version refuses the old row, too"
    );
    // Whoever writes the row by REST does not wait for that.
    let put = ask("POST", "/tables/posts").json(json!({ "id": "a", "title": "abc", "views": 1 }));
    server.check([case("over it", put, 200)]).await;
    judged(&server).await;
    assert_eq!(server.get("/tables/posts/a").await.data()["title"], "abc");
}

#[tokio::test]
async fn of_two_at_once_the_loser_counts_where_the_winner_is_refused() {
    let server = server().await;
    let low = entry("a", json!({ "id": "a", "balance": 1 }), 10);
    let high = entry("a", json!({ "id": "a", "balance": -1 }), 20);
    server.synced("table:accounts", [low, high]).await;
    judged(&server).await;
    assert_eq!(rows(&server, "accounts").await, json!([["a", { "id": "a", "balance": 1 }, 10]]));
    assert_eq!(refused(&server, "accounts").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn whoever_wrote_it_and_the_owner_see_what_was_refused_and_may_settle_it() {
    let server = server().await;
    server.ask(ask("POST", "/tables/products").json(json!({ "id": "a", "sku": "x" }))).await;
    for (id, who) in [("b", "ann"), ("c", "bob")] {
        let account = Some(Arc::new(Account::of_id(who)));
        let author = Author::new(account, Right::Write, "socket");
        let row = entry(id, json!({ "id": id, "sku": "x" }), 1);
        server.synced_by(author, "table:products", [row]).await;
    }
    judged(&server).await;
    let all = refused(&server, "products").await;
    assert_eq!(all.as_array().unwrap().len(), 2, "the owner sees both");
    let workspace = server.workspaces.get("blog").unwrap();
    let ann = crate::Context {
        delivered_by: Some(Arc::new(Account::of_id("ann"))),
        right: Right::Write,
        ..crate::Context::default()
    };
    let hers = workspace.refused("products", &ann);
    assert_eq!(hers.iter().map(|r| &*r.id).collect::<Vec<_>>(), ["b"]);
    let name = |id: &str| {
        let found = all.as_array().unwrap().iter().find(|r| r["id"] == id).unwrap();
        found["refusal"].as_str().unwrap().to_owned()
    };
    let settle = |body: Value| ask("POST", "/tables/products?refused").json(body);
    server
        .check([
            case("still taken", settle(json!({ "retry": [name("b")] })), 200)
                .has(&["\"refused\":[{"]),
            case("let it go", ask("DELETE", "/tables/products/a"), 200),
            case("again", settle(json!({ "retry": [name("b")], "discard": [name("c")] })), 200)
                .has(&["\"accepted\":[\""]),
            case("gone", settle(json!({ "retry": [name("b")] })), 404),
            case("it is there", ask("GET", "/tables/products/b"), 200),
            case("no such thing", settle(json!({ "drop": [] })), 400),
        ])
        .await;
    assert_eq!(refused(&server, "products").await, json!([]));
    let server = server.restart(shop()).await;
    assert_eq!(refused(&server, "products").await, json!([]), "for good");
}

#[tokio::test]
async fn rest_does_not_run_over_what_waits_and_the_first_to_be_accepted_has_a_value() {
    let server = server().await;
    for round in 0..20 {
        let sku = format!("s{round}");
        let by_sync =
            entry(&format!("s{round}"), json!({ "id": format!("s{round}"), "sku": sku }), 1);
        let rest = json!({ "id": format!("r{round}"), "sku": sku });
        let (answer, ()) = tokio::join!(
            server.ask(ask("POST", "/tables/products").json(rest)),
            server.synced("table:products", [by_sync])
        );
        judged(&server).await;
        let rows = server.get("/tables/products").await.data();
        let with: Vec<_> =
            rows.as_array().unwrap().iter().filter(|row| row["sku"] == *sku).collect();
        assert_eq!(with.len(), 1, "{rows}");
        assert_eq!(with[0]["id"] == format!("r{round}"), answer.status == 201, "{}", answer.text);
        assert_eq!(server.get("/tables/products?invalid").await.data(), json!([]));
    }
}
