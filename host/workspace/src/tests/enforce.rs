//! Rules that hold for sync as well.

use std::sync::Arc;

use host_caller::{Account, Right};
use host_sync::testing::MemoryStorage;
use host_sync::{Author, Edit};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use yrs::types::ToJson;
use yrs::updates::decoder::Decode;
use yrs::{Array, ReadTxn, Transact};

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

#[tokio::test]
async fn what_is_refused_is_bounded_for_each_account_and_the_newest_stays() {
    let server = server().await;
    let by = |who: &str| Author::new(Some(Arc::new(Account::of_id(who))), Right::Write, "socket");
    let debt = |id: String| entry(&id, json!({ "id": id, "balance": -1 }), 1);
    server.synced_by(by("bob"), "table:accounts", [debt("bob's".into())]).await;
    for batch in 0..6 {
        let rows = (0..200).map(|number| debt(format!("{batch}-{number}")));
        server.synced_by(by("ann"), "table:accounts", rows).await;
        judged(&server).await;
    }
    let kept = refused(&server, "accounts").await;
    let kept = kept.as_array().unwrap();
    assert_eq!(kept.len(), 1_001, "a thousand of hers, and his");
    let has = |id: &str| kept.iter().any(|refused| refused["id"] == id);
    assert!(has("5-199") && has("bob's"));
    // Long ones by their bytes.
    let long = "x".repeat(900_000);
    for number in 0..12 {
        let row = json!({ "id": format!("long {number}"), "balance": -1, "note": long });
        let row = entry(&format!("long {number}"), row, 1);
        server.synced_by(by("eve"), "table:accounts", [row]).await;
    }
    judged(&server).await;
    let hers = refused(&server, "accounts").await;
    let hers =
        hers.as_array().unwrap().iter().filter(|refused| refused["account"] == "eve").count();
    assert_eq!(hers, 9, "of 8 MiB");
}

#[tokio::test]
async fn a_key_has_a_bounded_number_of_entries_that_wait() {
    let server = server().await;
    // Nothing of it can be judged, so everything waits.
    for number in 0..40 {
        let row = entry("a", json!({ "id": "a", "title": "trap", "n": number }), 1_000 + number);
        server.synced("table:posts", [row]).await;
    }
    assert!(server.entries("posts").await.len() <= 17, "{}", server.entries("posts").await.len());
}

#[tokio::test]
async fn while_nobody_could_judge_it_a_document_takes_no_changes() {
    let storage = Arc::new(MemoryStorage::default());
    let folder = || tempfile::tempdir().unwrap();
    let server = Server::start_on(storage.clone(), folder(), shop()).await;
    server.synced("table:products", [entry("a", json!({ "id": "a", "sku": "x" }), 1)]).await;
    judged(&server).await;
    // A start at which the plugin is not there yet.
    let image = Arc::new(storage.image());
    let rooms = host_sync::Rooms::new(image.clone(), host_sync::Limits::default(), Arc::new(()));
    let room = rooms.open("blog").unwrap();
    let client = Client::new(1);
    client.put("products", "b", &json!({ "id": "b", "sku": "x" }), 1, false);
    let update = client.doc.transact().encode_state_as_update_v1(&yrs::StateVector::default());
    let update = || host_sync::Update::scan(update.clone().into()).unwrap();
    let error = room.apply(update(), client.author.clone()).await.unwrap_err();
    assert!(matches!(error, host_sync::RoomError::Unfollowed { .. }), "{error}");
    assert!(error.to_string().contains("once its plugin is loaded"), "{error}");
    drop(room);
    rooms.shutdown().await;
    // Once it is, the same is judged.
    let server = Server::start_on(image, folder(), shop()).await;
    client.sync(&server).await;
    judged(&server).await;
    assert_eq!(refused(&server, "products").await[0]["id"], "b");
    // Who removes the plugin gives its rules up.
    assert!(server.workspaces.unmount("blog").await);
    let room = server.rooms.open("blog").unwrap();
    room.apply(update(), client.author.clone()).await.unwrap();
}

/// A client with a copy of the document, in the layout of tables, which syncs now and then.
struct Client {
    doc: yrs::Doc,
    author: Arc<Author>,
}

/// An entry in a client's array: position, key, value and `ts`.
type Found = (u32, String, Value, f64);

impl Client {
    fn new(number: u64) -> Self {
        let account = Some(Arc::new(Account::of_id(&format!("client {number}"))));
        let right = if number == 0 { Right::Owner } else { Right::Write };
        Self {
            doc: yrs::Doc::with_client_id(number + 1),
            author: Author::new(account, right, "socket"),
        }
    }

    fn entries(&self, table: &str) -> Vec<Found> {
        let array = self.doc.get_or_insert_array(format!("table:{table}"));
        let transaction = self.doc.transact();
        let values = array.iter(&transaction).enumerate();
        let found = values.filter_map(|(at, value)| {
            let value = serde_json::to_value(value.to_json(&transaction)).unwrap();
            let ts = value["ts"].as_f64()?;
            Some((at as u32, value["key"].as_str()?.to_owned(), value["val"].clone(), ts))
        });
        found.collect()
    }

    fn delete(&self, table: &str, mut positions: Vec<u32>) {
        let array = self.doc.get_or_insert_array(format!("table:{table}"));
        let mut transaction = self.doc.transact_mut();
        positions.sort_unstable();
        for at in positions.into_iter().rev() {
            array.remove(&mut transaction, at);
        }
    }

    /// Writes a row; one that is `careless` leaves the entries that were there.
    fn put(&self, table: &str, id: &str, row: &Value, ts: u64, careless: bool) {
        if !careless {
            self.remove(table, id);
        }
        let array = self.doc.get_or_insert_array(format!("table:{table}"));
        let mut transaction = self.doc.transact_mut();
        let entry = json!({ "key": id, "val": row, "ts": ts }).to_string();
        array.push_back(&mut transaction, yrs::Any::from_json(&entry).unwrap());
    }

    fn remove(&self, table: &str, id: &str) {
        let all = self.entries(table).into_iter().filter(|(_, key, ..)| key == id);
        self.delete(table, all.map(|(at, ..)| at).collect());
    }

    /// Sends what the server lacks and takes what it has, then deletes entries that lost. Says whether
    /// anything was new to either.
    async fn sync(&self, server: &Server) -> bool {
        let room = server.rooms.open("blog").unwrap();
        let whole = room.snapshot().await.unwrap();
        let theirs = yrs::Update::decode_v1(&whole).unwrap();
        let before = self.state();
        // What the server knows of deletions cannot be asked for by a state vector, so all of them go along.
        let mine = self.doc.transact().encode_state_as_update_v1(&theirs.state_vector());
        let update = host_sync::Update::scan(mine.into()).unwrap();
        room.apply(update, self.author.clone()).await.unwrap();
        self.doc.transact_mut().apply_update(theirs).unwrap();
        for table in TABLES {
            let entries = self.entries(table);
            let lost = entries.iter().filter(|(at, key, _, ts)| {
                entries.iter().any(|(other, of, _, that)| {
                    of == key && (*that > *ts || (*that == *ts && other > at))
                })
            });
            self.delete(table, lost.map(|(at, ..)| *at).collect());
        }
        self.state() != before || room.snapshot().await.unwrap() != whole
    }

    fn state(&self) -> Vec<u8> {
        self.doc.transact().encode_state_as_update_v1(&yrs::StateVector::default())
    }

    fn rows(&self, table: &str) -> std::collections::BTreeMap<String, (Value, u64)> {
        let entries = self.entries(table).into_iter();
        entries.map(|(_, key, value, ts)| (key, (value, ts as u64))).collect()
    }
}

const TABLES: [&str; 6] = ["posts", "accounts", "products", "customers", "orders", "lines"];

/// Rows of all tables, some of which break a rule by themselves or beside others.
fn some_row(random: &mut StdRng, table: &str, id: &str) -> Value {
    let mut pick = |most: u32| match random.random_range(0..=most) {
        0 => json!(null),
        n => json!(n.to_string()),
    };
    match table {
        "posts" => json!({ "id": id, "title": pick(4).as_str().unwrap_or_default(), "views": 1 }),
        "accounts" => json!({ "id": id, "balance": random.random_range(-2..6) }),
        "products" => json!({ "id": id, "sku": pick(4) }),
        "customers" => json!({ "id": id }),
        "orders" => json!({ "id": id, "customer": pick(5) }),
        _ => json!({ "id": id, "order": pick(5), "product": pick(5) }),
    }
}

/// What is wrong with the rows that count, worked out from all of them. A row may refer to one that is not there;
/// it is the second.
fn broken(rows: &Value) -> (Vec<String>, std::collections::BTreeSet<(String, String)>) {
    let of = |table: &str| rows[table].as_object().unwrap();
    let mut wrong = Vec::new();
    let mut dangling = std::collections::BTreeSet::new();
    for (id, row) in of("accounts") {
        if row["balance"].as_i64().is_some_and(|balance| balance < 0) {
            wrong.push(format!("account {id}: {row}"));
        }
    }
    for (id, row) in of("posts") {
        if row["title"] == "" {
            wrong.push(format!("post {id}: {row}"));
        }
    }
    for (id, row) in of("products") {
        let same = |(other, that): (&String, &Value)| other != id && that["sku"] == row["sku"];
        if !row["sku"].is_null() && of("products").iter().any(same) {
            wrong.push(format!("product {id}: {row}"));
        }
    }
    for (table, field, to) in [
        ("orders", "customer", "customers"),
        ("lines", "order", "orders"),
        ("lines", "product", "products"),
    ] {
        for (id, row) in of(table) {
            if row[field].as_str().is_some_and(|target| !of(to).contains_key(target)) {
                dangling.insert((table.to_owned(), id.clone()));
            }
        }
    }
    (wrong, dangling)
}

#[tokio::test]
async fn whatever_clients_do_what_counts_keeps_the_rules_and_all_come_to_the_same() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("RULES_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    for seed in first..first + number("RULES_HISTORIES").unwrap_or(100) {
        history(seed).await;
    }
}

async fn history(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut storage = Arc::new(MemoryStorage::default());
    let folder = || tempfile::tempdir().unwrap();
    let mut server = Server::start_on(storage.clone(), folder(), shop()).await;
    let clients: Vec<_> = (0..3).map(Client::new).collect();
    let mut written = std::collections::HashSet::new();
    for step in 0..random.random_range(10..60) {
        let table = *TABLES.choose(&mut random).unwrap();
        let id = random.random_range(1..6).to_string();
        let client = clients.choose(&mut random).unwrap();
        match random.random_range(0..20) {
            0..8 => {
                let row = some_row(&mut random, table, &id);
                let ts = random.random_range(1..2_000_000_000_000);
                client.put(table, &id, &row, ts, random.random_range(0..4) == 0);
                written.insert(text_of(table, &row));
            }
            8 => client.remove(table, &id),
            9..13 => drop(client.sync(&server).await),
            13..16 => {
                let row = some_row(&mut random, table, &id);
                written.insert(text_of(table, &row));
                drop(server.ask(ask("POST", &format!("/tables/{table}")).json(row)).await);
            }
            16 => drop(server.ask(ask("DELETE", &format!("/tables/{table}/{id}"))).await),
            17 => {
                // The power goes, with whatever waits.
                let image = Arc::new(storage.image());
                let next = Server::start_on(image.clone(), folder(), shop()).await;
                drop(std::mem::replace(&mut server, next));
                storage = image;
            }
            18 => server.reload(shop()).await,
            _ => judged(&server).await,
        }
        if step % 4 == 0 {
            tokio::task::yield_now().await;
        }
        hold(&server, seed).await;
    }
    // Everybody is online until nothing is new to anybody.
    for round in 0.. {
        let mut news = false;
        for client in &clients {
            judged(&server).await;
            news |= client.sync(&server).await;
        }
        judged(&server).await;
        if !news {
            break;
        }
        assert!(round < 30, "seed {seed}: they never come to the same");
    }
    hold(&server, seed).await;
    for table in TABLES {
        let entries = server.entries(table).await;
        let theirs: std::collections::BTreeMap<_, _> = entries
            .iter()
            .map(|e| {
                let key = e["key"].as_str().unwrap().to_owned();
                (key, (e["val"].clone(), e["ts"].as_f64().unwrap() as u64))
            })
            .collect();
        assert_eq!(entries.len(), theirs.len(), "seed {seed}: one entry for each row of {table}");
        for client in &clients {
            assert_eq!(client.rows(table), theirs, "seed {seed}: {table} of {:?}", client.author);
        }
        let counts = counting(&server).await;
        assert_eq!(counts[table].as_object().unwrap().len(), theirs.len(), "seed {seed}: {table}");
        for (id, (row, _)) in &theirs {
            assert_eq!(counts[table][id], *row, "seed {seed}: {table} {id}");
            // Nobody invents a row, but a reference may have been set to null.
            let was = written.contains(&text_of(table, row)) || table == "lines";
            assert!(was, "seed {seed}: {table} {row}");
        }
        for refused in refused(&server, table).await.as_array().unwrap() {
            assert!(refused["account"].as_str().unwrap().starts_with("client "), "{refused}");
            assert!(!refused["reason"].as_str().unwrap().is_empty());
        }
    }
}

/// A row as one text, whatever the order of its members.
fn text_of(table: &str, row: &Value) -> String {
    let members = row.as_object().unwrap().iter();
    let mut members: Vec<_> = members.map(|(name, value)| format!("{name}={value}")).collect();
    members.sort();
    format!("{table} {}", members.join(" "))
}

/// The rows that count, invalid ones as well, by table and id.
async fn counting(server: &Server) -> Value {
    let mut all = json!({});
    for table in TABLES {
        let mut rows = serde_json::Map::new();
        let valid = server.get(&format!("/tables/{table}")).await.data();
        let invalid = server.get(&format!("/tables/{table}?invalid")).await.data();
        for row in valid.as_array().unwrap() {
            rows.insert(row["id"].as_str().unwrap().to_owned(), row.clone());
        }
        for row in invalid.as_array().unwrap() {
            rows.insert(row["id"].as_str().unwrap().to_owned(), row["row"].clone());
        }
        all[table] = Value::Object(rows);
    }
    all
}

/// What counts keeps the rules, at any moment.
async fn hold(server: &Server, seed: u64) {
    server.workspaces.get("blog").unwrap().generation().catch_up().await;
    // One snapshot, which no judge changes in between.
    let snapshot = server.workspaces.get("blog").unwrap().snapshot();
    let mut all = json!({});
    let mut invalid = std::collections::BTreeSet::new();
    for table in TABLES {
        let rows = &snapshot.tables[table].rows;
        let read = |(id, row): (&Arc<str>, &Arc<crate::generation::Row>)| {
            (id.to_string(), serde_json::from_str::<Value>(&row.raw).unwrap())
        };
        all[table] = Value::Object(rows.iter().map(read).collect());
        let broken = rows.iter().filter(|(_, row)| row.parsed.is_err());
        invalid.extend(broken.map(|(id, _)| (table.to_owned(), id.to_string())));
    }
    let (wrong, dangling) = broken(&all);
    assert!(wrong.is_empty(), "seed {seed}: {wrong:?}");
    assert_eq!(invalid, dangling, "seed {seed}");
}
