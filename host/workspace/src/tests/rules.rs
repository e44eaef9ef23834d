//! Values that are unique and rows that refer to rows: asked by REST, and brought by sync.

use std::collections::{BTreeMap, HashSet};

use host_sync::Edit;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::harness::*;
use crate::definition::{OnDelete, Reference, TableDefinition};

/// A shop beside the blog: products by SKU, orders of a customer, lines of an order, and customers who
/// were brought by others.
fn shop() -> Blog {
    Blog::new().redefined(|definition| {
        let table = |name: &str, fields: &[&str], unique: &[&[&str]], references| TableDefinition {
            name: name.into(),
            versions: vec![json!({
                "type": "object",
                "properties": fields.iter().map(|f| ((*f).into(), json!({}))).collect::<serde_json::Map<_, _>>(),
            })],
            unique: unique.iter().map(|fields| fields.iter().map(|f| (*f).into()).collect()).collect(),
            references,
            ..TableDefinition::default()
        };
        let to = |field: &str, table: &str, on_delete| Reference {
            field: field.into(),
            table: table.into(),
            on_delete,
        };
        definition.tables.extend([
            table("products", &["id", "sku", "brand", "model"], &[&["sku"], &["brand", "model"]], vec![]),
            table("customers", &["id", "by"], &[], vec![to("by", "customers", OnDelete::SetNull)]),
            table("orders", &["id", "customer", "note"], &[], vec![to("customer", "customers", OnDelete::Restrict)]),
            table("lines", &["id", "order", "product"], &[], vec![
                to("order", "orders", OnDelete::Cascade),
                to("product", "products", OnDelete::Restrict),
            ]),
        ]);
    })
}

async fn server() -> Server {
    let server = Server::start().await;
    server.reload(shop()).await;
    server
}

fn post(table: &str, row: Value) -> Ask {
    ask("POST", &format!("/tables/{table}")).json(row)
}

fn put(table: &str, id: &str, fields: Value) -> Ask {
    ask("PUT", &format!("/tables/{table}/{id}")).json(fields)
}

fn delete(table: &str, id: &str) -> Ask {
    ask("DELETE", &format!("/tables/{table}/{id}"))
}

#[tokio::test]
async fn a_unique_value_is_refused_to_a_second_row_and_free_once_the_first_lets_it_go() {
    let product = |id: &str, sku: Value| post("products", json!({ "id": id, "sku": sku }));
    let pair = |id: &str, brand: &str, model: Value| {
        post("products", json!({ "id": id, "brand": brand, "model": model }))
    };
    server()
        .await
        .check([
            case("first", product("a", json!("x")), 201),
            case("second", product("b", json!("x")), 409)
                .has(&[r#""path":["sku"]"#, r#"row \"a\""#]),
            case("the same row again", product("a", json!("x")), 200),
            case("another value", product("b", json!("y")), 201),
            case("by an update", put("products", "b", json!({ "sku": "x" })), 409),
            case("case counts", product("c", json!("X")), 201),
            case("a number is no text", product("d", json!("1")), 201),
            case("nor a text a number", product("e", json!(1)), 201),
            case("1 is 1.0", product("f", json!(1.0)), 409),
            case("null is no value", product("g", json!(null)), 201),
            case("nor is that one", product("h", json!(null)), 201),
            case("let it go", put("products", "a", json!({ "sku": "z" })), 200),
            case("now it is free", put("products", "b", json!({ "sku": "x" })), 200),
            case("delete it", delete("products", "b"), 200),
            case("free again", product("i", json!("x")), 201),
            case("two fields together", pair("j", "ford", json!("t")), 201),
            case("one of them differs", pair("k", "ford", json!("a")), 201),
            case("both are taken", pair("l", "ford", json!("t")), 409)
                .has(&["brand and model together"]),
            case("one is null", pair("m", "ford", json!(null)), 201),
            case("so is this", pair("n", "ford", json!(null)), 201),
        ])
        .await;
}

#[tokio::test]
async fn of_many_rows_in_one_request_each_that_collides_is_named() {
    let rows = json!([
        { "id": "a", "sku": "x" },
        { "id": "b", "sku": "y" },
        { "id": "c", "sku": "x" },
        { "id": "d", "sku": "there" },
    ]);
    let server = server().await;
    server.ask(post("products", json!({ "id": "z", "sku": "there" }))).await;
    let answer = server.ask(post("products", rows)).await;
    assert_eq!(answer.status, 409, "{}", answer.text);
    let issues = answer.json()["error"]["issues"].clone();
    let paths: Vec<_> = issues.as_array().unwrap().iter().map(|i| i["path"].clone()).collect();
    assert_eq!(paths, [json!(["2", "sku"]), json!(["3", "sku"])]);
    assert_eq!(server.get("/tables/products").await.data().as_array().unwrap().len(), 1);
    // Values that change hands within one request.
    server
        .ask(post("products", json!([{ "id": "a", "sku": "1" }, { "id": "b", "sku": "2" }])))
        .await;
    let moved = json!([{ "id": "a", "sku": "3" }, { "id": "b", "sku": "1" }]);
    server.check([case("moved", post("products", moved), 200)]).await;
}

#[tokio::test]
async fn a_row_refers_only_to_rows_that_are_there() {
    let order =
        |id: &str, customer: Value| post("orders", json!({ "id": id, "customer": customer }));
    server()
        .await
        .check([
            case("no customer", order("o", json!("c")), 409)
                .has(&[r#""path":["customer"]"#, r#"no row \"c\" in table customers"#]),
            case("a customer", post("customers", json!({ "id": "c" })), 201),
            case("an order", order("o", json!("c")), 201),
            case("refers to nothing", order("p", json!(null)), 201),
            case("is no id", order("q", json!(5)), 409).has(&["must be the id of a row"]),
            case("by an update", put("orders", "p", json!({ "customer": "nobody" })), 409),
            case("to itself", post("customers", json!({ "id": "self", "by": "self" })), 201),
            case("itself can go", delete("customers", "self"), 200),
        ])
        .await;
}

#[tokio::test]
async fn deleting_a_row_keeps_deletes_or_frees_those_that_refer_to_it() {
    let server = server().await;
    server
        .check([
            case(
                "customers",
                post("customers", json!([{ "id": "c" }, { "id": "d", "by": "c" }])),
                201,
            ),
            case("product", post("products", json!({ "id": "p" })), 201),
            case("orders", post("orders", json!([{ "id": "o", "customer": "d" }])), 201),
            case(
                "lines",
                post(
                    "lines",
                    json!([
                        { "id": "1", "order": "o", "product": "p" },
                        { "id": "2", "order": "o", "product": null },
                    ]),
                ),
                201,
            ),
            case("restrict", delete("products", "p"), 409)
                .has(&[r#"row \"1\" of table lines refers to it by \"product\""#]),
            case("restrict, too", delete("customers", "d"), 409),
            case("set null", delete("customers", "c"), 200),
            case("it is null", ask("GET", "/tables/customers/d"), 200).has(&[r#""by":null"#]),
            case("cascade", delete("orders", "o"), 200),
            case("its lines are gone", ask("GET", "/tables/lines"), 200).has(&[r#"{"data":[]}"#]),
            case("nothing keeps it", delete("products", "p"), 200),
            case("nor this", delete("customers", "d"), 200),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_want_one_value_at_once_one_gets_it_and_no_other_write_fails() {
    let server = server().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200 {
        // Every tenth wants the same.
        let sku = if n % 10 == 0 { "same".to_owned() } else { format!("own-{n}") };
        let request = post("products", json!({ "id": format!("p{n}"), "sku": sku })).request();
        let sent = tower::ServiceExt::oneshot(server.router(), request);
        tasks.spawn(async move { (n % 10 == 0, sent.await.unwrap().status().as_u16()) });
    }
    let answers = tasks.join_all().await;
    let of = |same: bool, status| answers.iter().filter(|a| **a == (same, status)).count();
    assert_eq!((of(true, 201), of(true, 409), of(false, 201)), (1, 19, 180), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_row_and_what_refers_to_it_are_never_deleted_and_created_past_each_other() {
    for round in 0..20 {
        let server = server().await;
        server.ask(post("customers", json!({ "id": "c" }))).await;
        let send = |ask: Ask| {
            let sent = tower::ServiceExt::oneshot(server.router(), ask.request());
            tokio::spawn(async move { sent.await.unwrap().status().as_u16() })
        };
        let create = send(post("orders", json!({ "id": "o", "customer": "c" })));
        let remove = send(delete("customers", "c"));
        let change = send(put("customers", "c", json!({ "by": null })));
        let (created, removed) = (create.await.unwrap(), remove.await.unwrap());
        change.await.unwrap();
        let expected = [(201, 409), (409, 200)];
        assert!(expected.contains(&(created, removed)), "round {round}: {created} {removed}");
        assert_eq!(server.get("/tables/orders?invalid").await.data(), json!([]));
    }
}

#[tokio::test]
async fn what_sync_brings_against_a_rule_is_invalid_until_that_is_mended() {
    let server = server().await;
    let product = |id: &str, sku: &str| json!({ "id": id, "sku": sku });
    server.synced("table:products", [entry("a", product("a", "x"), 5)]).await;
    server.synced("table:products", [entry("b", product("b", "x"), 3)]).await;
    // The earlier counts, whichever came first.
    let invalid = server.get("/tables/products?invalid").await.data();
    assert_eq!(invalid[0]["id"], "a", "{invalid}");
    assert_eq!(invalid[0]["issues"][0]["path"], json!(["sku"]));
    assert!(invalid.as_array().unwrap().len() == 1);
    server
        .check([
            case("it is not listed", ask("GET", "/tables/products"), 200).lacks(&[r#""id":"a""#]),
            case("nor read", ask("GET", "/tables/products/a"), 422).has(&[r#"row \"b\""#]),
            case("it can be mended by its field", put("products", "a", json!({ "sku": "y" })), 200),
            case("now it is valid", ask("GET", "/tables/products/a"), 200),
        ])
        .await;
    // A child that comes before its parent.
    let order = json!({ "id": "o", "customer": "late" });
    server.synced("table:orders", [entry("o", order, 1)]).await;
    server
        .check([case("no parent", ask("GET", "/tables/orders/o"), 422).has(&[r#"["customer"]"#])])
        .await;
    let before = server.get("/tables/orders").await.tag();
    server.synced("table:customers", [entry("late", json!({ "id": "late" }), 1)]).await;
    server.check([case("it came", ask("GET", "/tables/orders/o"), 200)]).await;
    let after = server.get("/tables/orders").await.tag();
    assert_ne!(before, after, "the list has another tag, although its array did not change");
}

#[tokio::test]
async fn a_new_version_with_a_new_rule_lists_what_breaks_it() {
    let server = Server::start().await;
    let free = |definition: &mut crate::Definition| {
        definition.tables.push(TableDefinition {
            name: "products".into(),
            versions: vec![json!({})],
            ..TableDefinition::default()
        });
    };
    server.reload(Blog::new().redefined(free)).await;
    let rows = json!([{ "id": "a", "sku": "x" }, { "id": "b", "sku": "x" }]);
    server.check([case("free", post("products", rows), 201)]).await;
    server.reload(shop()).await;
    let invalid = server.get("/tables/products?invalid").await.data();
    assert_eq!(invalid[0]["id"], "b", "{invalid}");
    server.reload(Blog::new().redefined(free)).await;
    assert_eq!(server.get("/tables/products?invalid").await.data(), json!([]));
}

#[test]
fn a_definition_whose_rules_name_nothing_is_refused_by_what_is_wrong() {
    let mut definition = crate::Definition::clone(crate::Logic::definition(&shop()));
    definition.tables[2].unique =
        vec![vec!["skew".into()], vec![], vec!["sku".into(), "sku".into()]];
    definition.tables[4].references[0].table = "customer".into();
    let error = definition.check().unwrap_err().to_string();
    for says in [
        r#"names "skew", which is no field of the table; its fields are id, sku, brand, model"#,
        "names no field",
        "is declared twice",
        r#"refers by "customer" to table "customer", which the workspace does not have"#,
    ] {
        assert!(error.contains(says), "{says}\n{error}");
    }
}

/// What breaks a rule, worked out from all rows at once.
fn broken(rows: &BTreeMap<(String, String), (Value, i64)>) -> HashSet<(String, String)> {
    let there = |table: &str, id: &Value| {
        id.as_str().is_some_and(|id| rows.contains_key(&(table.to_owned(), id.to_owned())))
    };
    let mut broken = HashSet::new();
    for ((table, id), (row, ts)) in rows {
        let first = |fields: &[&str]| {
            fields.iter().any(|field| row[*field].is_null())
                || !rows.iter().any(|((of, other), (that, at))| {
                    of == table
                        && fields.iter().all(|field| that[*field] == row[*field])
                        && (at, other) < (ts, id)
                })
        };
        let fits = |field: &str, table: &str| row[field].is_null() || there(table, &row[field]);
        let valid = match table.as_str() {
            "products" => first(&["sku"]) && first(&["brand", "model"]),
            "customers" => fits("by", "customers"),
            "orders" => fits("customer", "customers"),
            _ => fits("order", "orders") && fits("product", "products"),
        };
        if !valid {
            broken.insert((table.clone(), id.clone()));
        }
    }
    broken
}

#[tokio::test]
async fn after_any_history_exactly_the_rows_that_break_a_rule_are_invalid() {
    let seed: u64 = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let tables = ["products", "customers", "orders", "lines"];
    for round in 0..30 {
        let mut server = server().await;
        for step in 0..40 {
            let table = *tables.choose(&mut random).unwrap();
            let id = random.random_range(0..5).to_string();
            let pick = |random: &mut StdRng| match random.random_range(0..6) {
                5 => json!(null),
                n => json!(n.to_string()),
            };
            let row = match table {
                "products" => json!({ "id": id, "sku": pick(&mut random),
                    "brand": pick(&mut random), "model": pick(&mut random) }),
                "customers" => json!({ "id": id, "by": pick(&mut random) }),
                "orders" => json!({ "id": id, "customer": pick(&mut random) }),
                _ => json!({ "id": id, "order": pick(&mut random), "product": pick(&mut random) }),
            };
            match random.random_range(0..10) {
                0..4 => {
                    let ts = random.random_range(1..50);
                    server.synced(&format!("table:{table}"), [entry(&id, row, ts)]).await;
                }
                4..7 => drop(server.ask(post(table, row)).await),
                7 => drop(server.ask(delete(table, &id)).await),
                8 => {
                    // A client deletes what it sees of a row.
                    let room = server.rooms.open("blog").unwrap();
                    let deletes = server.ids(&format!("table:{table}"), &id);
                    let deletes = deletes.into_iter().map(|id| (id, 1)).collect();
                    let edit = Edit { deletes, ..Edit::default() };
                    room.edit(host_sync::Author::server(), move |_| (edit, ())).await.unwrap();
                }
                _ if step % 2 == 0 => server.reload(shop()).await,
                _ => server = server.restart(shop()).await,
            }
            server.workspaces.get("blog").unwrap().generation().catch_up().await;
            let mut rows = BTreeMap::new();
            for table in tables {
                for entry in server.entries(table).await {
                    let place = (table.to_owned(), entry["key"].as_str().unwrap().to_owned());
                    let ts = entry["ts"].as_f64().unwrap() as i64;
                    rows.insert(place, (entry["val"].clone(), ts));
                }
            }
            let expected = broken(&rows);
            for table in tables {
                let ids = |list: Value| -> HashSet<_> {
                    let rows = list.as_array().unwrap().clone();
                    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
                };
                let of = |broken: bool| -> HashSet<_> {
                    let of = rows.keys().filter(|place| place.0 == table);
                    let of = of.filter(|place| expected.contains(*place) == broken);
                    of.map(|place| place.1.clone()).collect()
                };
                let said = format!("seed {seed}, round {round}, step {step}, table {table}");
                let invalid = server.get(&format!("/tables/{table}?invalid")).await.data();
                let valid = server.get(&format!("/tables/{table}")).await.data();
                assert_eq!(ids(invalid), of(true), "{said}");
                assert_eq!(ids(valid), of(false), "{said}");
            }
        }
    }
}
