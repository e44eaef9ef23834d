//! Which rows of a table, in which order.

use std::any::TypeId;
use std::cell::RefCell;
use std::collections::HashMap;
use std::marker::PhantomData;

use serde::Serialize;

use crate::__bindings::epicenter::workspace::tables as host;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::issue::FieldPath;
use crate::schema;
use crate::table::{Row, Table};
use crate::versions::read_current;

/// A member of the row type `R` with values of type `V`; made by [`field!`](crate::field).
pub struct Field<R, V> {
    name: &'static str,
    types: PhantomData<fn(&R) -> V>,
}

/// A member of a row type, checked by the compiler: `field!(Post.views)`.
///
/// The name is the Rust one. Where serde renames the member, say how it is written:
/// `field!(Post.updated_at as "updatedAt")`; a query with a name that the rows do not have is
/// refused, and says which names there are.
#[macro_export]
macro_rules! field {
    ($row:ident . $field:ident) => {
        $crate::field!($row.$field as stringify!($field))
    };
    ($row:ident . $field:ident as $name:expr) => {
        $crate::Field::of($name, |row: &$row| &row.$field)
    };
}

impl<R, V> Field<R, V> {
    /// What [`field!`](crate::field) stands for; the function serves for its types only.
    #[doc(hidden)]
    pub const fn of(name: &'static str, _: fn(&R) -> &V) -> Field<R, V> {
        Field { name, types: PhantomData }
    }

    /// The name as it is written in rows.
    pub fn name(&self) -> &'static str {
        self.name.strip_prefix("r#").unwrap_or(self.name)
    }

    /// Smallest first.
    pub fn ascending(self) -> Order<R> {
        Order::new(self.name(), false)
    }

    /// Largest first.
    pub fn descending(self) -> Order<R> {
        Order::new(self.name(), true)
    }

    /// Rows that have the member, or rows that do not. `null` counts as a value.
    pub fn exists(self, exists: bool) -> Filter<R> {
        Filter::new(self.name(), host::Operator::Exists, &exists)
    }
}

impl<R, V: Serialize> Field<R, V> {
    /// Equal to `value`.
    pub fn eq(self, value: V) -> Filter<R> {
        Filter::new(self.name(), host::Operator::Eq, &value)
    }

    /// Not equal to `value`.
    pub fn ne(self, value: V) -> Filter<R> {
        Filter::new(self.name(), host::Operator::Ne, &value)
    }

    /// Greater than `value`.
    pub fn gt(self, value: V) -> Filter<R> {
        Filter::new(self.name(), host::Operator::Gt, &value)
    }

    /// Greater than or equal to `value`.
    pub fn gte(self, value: V) -> Filter<R> {
        Filter::new(self.name(), host::Operator::Gte, &value)
    }

    /// Less than `value`.
    pub fn lt(self, value: V) -> Filter<R> {
        Filter::new(self.name(), host::Operator::Lt, &value)
    }

    /// Less than or equal to `value`.
    pub fn lte(self, value: V) -> Filter<R> {
        Filter::new(self.name(), host::Operator::Lte, &value)
    }

    /// Equal to one of `values` (the contract's `in`).
    pub fn one_of(self, values: impl IntoIterator<Item = V>) -> Filter<R> {
        let values: Vec<V> = values.into_iter().collect();
        Filter::new(self.name(), host::Operator::In, &values)
    }
}

impl<R> Field<R, String> {
    /// Has `text` in it.
    pub fn contains(self, text: &str) -> Filter<R> {
        Filter::new(self.name(), host::Operator::Contains, text)
    }

    /// Begins with `text`.
    pub fn prefix(self, text: &str) -> Filter<R> {
        Filter::new(self.name(), host::Operator::Prefix, text)
    }
}

impl<R, T: Serialize> Field<R, Vec<T>> {
    /// Has `member` among its members.
    pub fn contains(self, member: T) -> Filter<R> {
        Filter::new(self.name(), host::Operator::Contains, &member)
    }
}

impl<R, V> From<Field<R, V>> for FieldPath {
    fn from(field: Field<R, V>) -> FieldPath {
        FieldPath::from(field.name())
    }
}

impl<R, V> From<Field<R, V>> for Order<R> {
    fn from(field: Field<R, V>) -> Order<R> {
        field.ascending()
    }
}

/// One condition on the rows of type `R`; made by the comparisons of [`Field`].
pub struct Filter<R> {
    field: &'static str,
    operator: host::Operator,
    /// The JSON text, or why the value has none.
    value: Result<String, String>,
    row: PhantomData<fn(&R)>,
}

impl<R> Filter<R> {
    fn new<V: Serialize + ?Sized>(
        field: &'static str,
        operator: host::Operator,
        value: &V,
    ) -> Filter<R> {
        Filter {
            field,
            operator,
            value: serde_json::to_string(value).map_err(|error| error.to_string()),
            row: PhantomData,
        }
    }
}

/// One key of the sort order of rows of type `R`; made by [`Field::ascending`] and
/// [`Field::descending`].
pub struct Order<R> {
    field: &'static str,
    descending: bool,
    row: PhantomData<fn(&R)>,
}

impl<R> Order<R> {
    fn new(field: &'static str, descending: bool) -> Order<R> {
        Order { field, descending, row: PhantomData }
    }
}

/// Which rows of a table, in which order; made by [`Table::select`].
///
/// All filters must hold. Without an order the rows come by id.
#[must_use = "a selection does nothing until it is listed or counted"]
pub struct Select<R> {
    table: Table<R>,
    filters: Vec<Filter<R>>,
    sort: Vec<Order<R>>,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// A part of the rows that a [`Select`] stands for.
#[derive(Debug)]
pub struct Page<R> {
    /// The rows, in order.
    pub rows: Vec<R>,
    /// For [`Select::after`], to go on; `None` on the last page.
    pub next: Option<String>,
}

impl<R: Row> Select<R> {
    pub(crate) fn new(table: Table<R>) -> Select<R> {
        Select { table, filters: Vec::new(), sort: Vec::new(), limit: None, cursor: None }
    }

    /// Only rows for which this holds, too.
    pub fn filter(mut self, filter: Filter<R>) -> Select<R> {
        self.filters.push(filter);
        self
    }

    /// Sorts by this, after what was named before. A bare field sorts ascending.
    pub fn sort(mut self, order: impl Into<Order<R>>) -> Select<R> {
        self.sort.push(order.into());
        self
    }

    /// At most so many rows; 1,000 unless said, and 10,000 is the most.
    pub fn limit(mut self, rows: u32) -> Select<R> {
        self.limit = Some(rows);
        self
    }

    /// Goes on after a page before, at its [`next`](Page::next).
    pub fn after(mut self, cursor: impl Into<String>) -> Select<R> {
        self.cursor = Some(cursor.into());
        self
    }

    /// The rows, up to the limit.
    pub fn list(self, ctx: &Context) -> Result<Vec<R>> {
        Ok(self.page(ctx)?.rows)
    }

    /// The first row, if there is any.
    pub fn first(self, ctx: &Context) -> Result<Option<R>> {
        Ok(self.limit(1).list(ctx)?.pop())
    }

    /// The rows, up to the limit, and where they go on.
    pub fn page(self, _: &Context) -> Result<Page<R>> {
        let (table, query) = self.into_query()?;
        let page = host::list(table, &query).map_err(Error::from_host)?;
        let rows = page.rows.iter().map(|row| Ok(read_current(row)?));
        Ok(Page { rows: rows.collect::<Result<_>>()?, next: page.next })
    }

    /// How many rows there are, whatever the limit and the cursor say.
    pub fn count(self, _: &Context) -> Result<u64> {
        let (table, query) = self.into_query()?;
        host::count(table, &query.filters).map_err(Error::from_host)
    }

    fn into_query(self) -> Result<(&'static str, host::Query)> {
        let table = self.table.name();
        let fields = self.filters.iter().map(|filter| filter.field);
        for field in fields.chain(self.sort.iter().map(|order| order.field)) {
            require_member::<R>(table, field)?;
        }
        let filter = |filter: Filter<R>| {
            let value = filter
                .value
                .map_err(|error| Error::failed(format!("filter on {}: {error}", filter.field)))?;
            Ok(host::Filter { field: filter.field.to_owned(), operator: filter.operator, value })
        };
        let order = |order: Order<R>| host::Order {
            field: order.field.to_owned(),
            descending: order.descending,
        };
        let query = host::Query {
            filters: self.filters.into_iter().map(filter).collect::<Result<_>>()?,
            sort: self.sort.into_iter().map(order).collect(),
            limit: self.limit,
            cursor: self.cursor,
        };
        Ok((table, query))
    }
}

/// Refuses a member that rows of this type do not have. The compiler has checked the Rust name; this
/// catches one that serde writes differently, which would otherwise quietly match no row.
fn require_member<R: Row>(table: &str, field: &str) -> Result<()> {
    type Members = Option<Vec<String>>;
    thread_local! {
        // By row type; a schema is costly next to a query.
        static MEMBERS: RefCell<HashMap<TypeId, Members>> = RefCell::default();
    }
    MEMBERS.with_borrow_mut(|cache| {
        let members = cache
            .entry(TypeId::of::<R>())
            .or_insert_with(|| schema::members(&schema::produced::<R>()));
        let Some(members) = members else {
            return Ok(());
        };
        if members.iter().any(|member| member == field) {
            return Ok(());
        }
        Err(Error::failed(format!(
            "rows of {table} have no member {field}, only {}",
            members.join(", ")
        )))
    })
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Post {
        id: String,
        views: u64,
        tags: Vec<String>,
        r#type: String,
        #[serde(rename = "updatedAt")]
        updated_at: u64,
    }

    const POSTS: Table<Post> = Table::new("posts");

    #[test]
    fn a_selection_becomes_the_contracts_query() {
        let (table, query) = POSTS
            .select()
            .filter(field!(Post.views).gte(10))
            .filter(field!(Post.tags).contains("tea".to_owned()))
            .filter(field!(Post.id).prefix("2026-"))
            .filter(field!(Post.r#type).one_of(["note".to_owned()]))
            .sort(field!(Post.updated_at as "updatedAt").descending())
            .sort(field!(Post.id))
            .limit(5)
            .after("next")
            .into_query()
            .expect("every name is a member");
        assert_eq!(table, "posts");
        let filters: Vec<String> = query
            .filters
            .iter()
            .map(|filter| format!("{} {:?} {}", filter.field, filter.operator, filter.value))
            .collect();
        assert_eq!(
            filters,
            [
                "views Operator::Gte 10",
                "tags Operator::Contains \"tea\"",
                "id Operator::Prefix \"2026-\"",
                "type Operator::In [\"note\"]",
            ]
        );
        let sort: Vec<_> =
            query.sort.iter().map(|order| (order.field.as_str(), order.descending)).collect();
        assert_eq!(sort, [("updatedAt", true), ("id", false)]);
        assert_eq!((query.limit, query.cursor.as_deref()), (Some(5), Some("next")));
    }

    #[test]
    fn a_member_that_serde_writes_differently_is_refused_with_the_names_there_are() {
        let refused = POSTS.select().sort(field!(Post.updated_at)).into_query().err();
        assert_eq!(
            refused,
            Some(Error::failed(
                "rows of posts have no member updated_at, only id, views, tags, type, updatedAt"
            ))
        );
    }
}
