//! A shop whose rules hold, whoever writes: by REST, in actions, and on devices that were offline for days.

use epicenter_workspace::*;

const PRODUCTS: Table<Product> = Table::new("products");
const CUSTOMERS: Table<Customer> = Table::new("customers");
const ORDERS: Table<Order> = Table::new("orders");
const LINES: Table<Line> = Table::new("lines");

#[derive(Serialize, Deserialize, JsonSchema)]
struct Product {
    id: String,
    /// What the label says; no two products share it.
    sku: String,
    /// In cents.
    price: i64,
    stock: i64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Customer {
    id: String,
    name: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Order {
    id: String,
    customer: String,
    #[serde(default)]
    paid: bool,
}

/// So many of a product, in an order.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Line {
    id: String,
    order: String,
    /// None once the product is gone.
    product: Option<String>,
    count: i64,
}

#[derive(Deserialize, JsonSchema)]
struct Buy {
    order: String,
    product: String,
    count: i64,
}

/// Only the owner sets prices. A server without accounts has one user, who owns everything.
fn check_product(ctx: &Context, change: Change<Product>) -> Result<()> {
    let is_owner = ctx.caller().is_none_or(|caller| caller.right == Right::Owner);
    match change {
        Change::Update { old: Some(old), new } if old.price != new.price && !is_owner => {
            Err(Error::denied("only the owner of the shop sets prices"))
        }
        _ => Ok(()),
    }
}

/// What was paid for stays as it is.
fn check_order(_: &Context, change: Change<Order>) -> Result<()> {
    match change {
        Change::Update { old: Some(old), new } if old.paid && !new.paid => {
            Err(Error::invalid(field!(Order.paid), "an order that is paid stays paid"))
        }
        Change::Delete { old: Some(old), .. } if old.paid => {
            Err(Error::denied("an order that is paid stays"))
        }
        _ => Ok(()),
    }
}

/// Takes products from the stock into an order.
fn buy(tx: &Transaction, Buy { order, product, count }: Buy) -> Result<Line> {
    if count < 1 {
        return Err(Error::invalid(field!(Buy.count), "must be at least 1"));
    }
    let known = PRODUCTS.find(tx, &product)?;
    let known = known.ok_or_else(|| Error::not_found(format!("we do not sell {product:?}")))?;
    if known.stock < count {
        return Err(Error::invalid(field!(Buy.count), format!("only {} are left", known.stock)));
    }
    PRODUCTS.modify(tx, &product, |product| product.stock -= count)?;
    let line = Line { id: tx.random_id(), order, product: Some(product), count };
    LINES.put(tx, &line)
}

fn workspace() -> Workspace {
    Workspace::new("shop")
        .title("Shop")
        .table(
            PRODUCTS
                .define()
                .rule(field!(Product.stock), "must not be negative", |product| product.stock >= 0)
                .rule(field!(Product.price), "must not be negative", |product| product.price >= 0)
                .unique(field!(Product.sku))
                .check(check_product)
                .enforce(),
        )
        .table(CUSTOMERS.define().enforce())
        .table(
            ORDERS
                .define()
                .references(field!(Order.customer), CUSTOMERS, OnDelete::Restrict)
                .check(check_order)
                .enforce(),
        )
        .table(
            LINES
                .define()
                .references(field!(Line.order), ORDERS, OnDelete::Cascade)
                .references(field!(Line.product), PRODUCTS, OnDelete::SetNull)
                .enforce(),
        )
        .mutation("buy", "Takes products from the stock into an order.", buy)
}

export!(workspace);
