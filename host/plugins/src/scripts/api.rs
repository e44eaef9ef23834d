//! What scripts can use besides the language: `tables`, `kv`, `documents`, `log`, `context`, `ai`,
//! `http` and `environment`, the same as the contract's interfaces, and the four errors that an
//! action can end with.
//!
//! Queries have the same shape as in URLs:
//! `#{ filter: #{ views: #{ gte: 10 }, published: true }, sort: "-views", limit: 20 }`.

use std::sync::Arc;

use host_workspace::query::{Filter, Operator, Order, Query};
use host_workspace::{ActionError, Data, Issue};
use rhai::{Array, Dynamic, Engine, EvalAltResult, INT, Map, Module, NativeCallContext, Position};
use serde_json::{Value, json};

use super::current;
use super::errors::{error, issue_of, json_of, misuse, thrown};
use super::value::{read, to_script};
use crate::call::Access;
use crate::log::Level;
use crate::random::{random_id, random_u64};
use crate::reach::fetch;

type Answer<T = Dynamic> = Result<T, Box<EvalAltResult>>;

/// Registers the whole API.
pub(super) fn register(engine: &mut Engine) {
    engine.register_static_module("tables", tables().into());
    engine.register_static_module("kv", kv().into());
    engine.register_static_module("documents", documents().into());
    engine.register_static_module("log", logs().into());
    engine.register_static_module("context", context().into());
    engine.register_static_module("ai", ai().into());
    engine.register_static_module("http", http().into());
    engine.register_static_module("environment", environment().into());
    engine.register_fn("not_found", || error(ActionError::NotFound));
    engine.register_fn("denied", |text: &str| error(ActionError::Denied(text.into())));
    engine.register_fn("failed", |text: &str| error(ActionError::Failed(text.into())));
    engine
        .register_fn("invalid", |text: &str| error(ActionError::Invalid(vec![Issue::whole(text)])));
    engine.register_fn("invalid", |field: &str, text: &str| {
        error(ActionError::Invalid(vec![Issue::at(field, text)]))
    });
    engine.register_fn("invalid", |issues: Array| -> Answer {
        let issues = issues.into_iter().map(issue).collect::<Result<_, _>>()?;
        Ok(error(ActionError::Invalid(issues)))
    });
    engine.on_print(|text| current::log(Level::Info, text));
    engine
        .on_debug(|text, _, position| current::log(Level::Debug, &format!("{text} ({position})")));
}

/// The call's transaction, for an existing table. A misspelt name is the script's fault, not its
/// caller's.
fn known(table: &str, access: Access) -> Answer<Arc<dyn Data>> {
    let transaction = current::transaction(access)?;
    if let Err(tables) = transaction.find_table(table) {
        let there_is = if tables.is_empty() { "none".into() } else { tables.join(", ") };
        return Err(misuse(format!("there is no table {table:?}; there is {there_is}")));
    }
    Ok(transaction)
}

/// Adds a function to a module. Its errors carry the position of the call, which rhai omits for
/// functions of modules.
macro_rules! offer {
    ($module:ident, $name:expr, || $body:expr) => {
        offer!(@ $module, $name, () $body)
    };
    ($module:ident, $name:expr, |$($argument:ident: $type:ty),*| $body:expr) => {
        offer!(@ $module, $name, ($($argument: $type),*) $body)
    };
    (@ $module:ident, $name:expr, ($($argument:ident: $type:ty),*) $body:expr) => {
        $module.set_native_fn($name, move |at: NativeCallContext<'_> $(, $argument: $type)*| {
            placed(at.call_position(), move || $body)
        })
    };
}

fn placed<T>(at: Position, ask: impl FnOnce() -> Answer<T>) -> Answer<T> {
    ask().map_err(|mut error| {
        if error.position().is_none() {
            error.set_position(at);
        }
        error
    })
}

fn tables() -> Module {
    let mut module = Module::new();
    offer!(module, "get", |table: &str, id: &str| {
        let row = known(table, Access::Read)?.get(table, id).map_err(thrown)?;
        row.map_or(Ok(Dynamic::UNIT), |row| read_one(&row))
    });
    offer!(module, "list", |table: &str| rows(table, Map::new()));
    offer!(module, "list", |table: &str, query: Map| rows(table, query));
    offer!(module, "page", |table: &str, query: Map| {
        let page = known(table, Access::Read)?.list(table, &query_of(query)?).map_err(thrown)?;
        let mut answer = Map::new();
        answer.insert("rows".into(), read_rows(&page.rows)?);
        answer.insert("next".into(), page.next.map_or(Dynamic::UNIT, Dynamic::from));
        Ok(Dynamic::from(answer))
    });
    offer!(module, "count", |table: &str| count(table, Map::new()));
    offer!(module, "count", |table: &str, filter: Map| count(table, filter));
    offer!(module, "put", |table: &str, row: Map| {
        let row = json_of(row.into())?.to_string();
        current::check_written(&row)?;
        let transaction = known(table, Access::Write)?;
        read_one(&current::park(transaction.put(table, &row))?)
    });
    offer!(module, "update", |table: &str, id: &str, fields: Map| {
        let fields = json_of(fields.into())?.to_string();
        current::check_written(&fields)?;
        let transaction = known(table, Access::Write)?;
        read_one(&current::park(transaction.update(table, id, &fields))?)
    });
    offer!(module, "delete", |table: &str, id: &str| {
        let transaction = known(table, Access::Write)?;
        current::park(transaction.delete(table, id))
    });
    module
}

fn kv() -> Module {
    let mut module = Module::new();
    offer!(module, "get", |key: &str| {
        let value = current::transaction(Access::Read)?.kv_get(key).map_err(thrown)?;
        value.map_or(Ok(Dynamic::UNIT), |value| read_one(&value))
    });
    offer!(module, "set", |key: &str, value: Dynamic| {
        let value = json_of(value)?.to_string();
        current::check_written(&value)?;
        let transaction = current::transaction(Access::Write)?;
        current::park(transaction.kv_set(key, &value))
    });
    offer!(module, "delete", |key: &str| {
        let transaction = current::transaction(Access::Write)?;
        current::park(transaction.kv_delete(key))
    });
    module
}

/// The texts of documents that are attached to rows.
fn documents() -> Module {
    let mut module = Module::new();
    offer!(module, "get_text", |table: &str, id: &str, document: &str| {
        let transaction = known(table, Access::Read)?;
        current::park(transaction.text(table, id, document))
    });
    offer!(module, "set_text", |table: &str, id: &str, document: &str, text: &str| {
        let transaction = known(table, Access::Write)?;
        current::park(transaction.set_text(table, id, document, text))
    });
    module
}

fn logs() -> Module {
    let mut module = Module::new();
    let levels = [
        ("debug", Level::Debug),
        ("info", Level::Info),
        ("warn", Level::Warn),
        ("error", Level::Error),
    ];
    for (name, level) in levels {
        offer!(module, name, |text: Dynamic| {
            let text = text.to_string();
            current::host(|call| call.log.write(level, &text))
        });
    }
    module
}

fn context() -> Module {
    let mut module = Module::new();
    offer!(module, "caller", || {
        let caller = current::host(|call| call.call.caller().cloned())?;
        Ok(caller.map_or(Dynamic::UNIT, |caller| to_script(json!(caller))))
    });
    offer!(module, "now", || {
        current::host(|call| INT::try_from(call.call.now).unwrap_or(INT::MAX))
    });
    offer!(module, "random_id", || Ok(random_id()));
    // From 0 to below the limit. The bias is at most the limit divided by 2^64.
    offer!(module, "random", |limit: INT| {
        let limit = u64::try_from(limit).ok().filter(|limit| *limit > 0);
        let limit = limit.ok_or_else(|| misuse("random needs a limit of at least 1"))?;
        Ok(INT::try_from(random_u64() % limit).unwrap_or(INT::MAX))
    });
    offer!(module, "request_id", || current::host(|call| call.call.request_id.to_string()));
    module
}

/// `ai::chat(#{ provider: "openai", model: "gpt-5", messages: [#{ user: "Hi" }] })`, with the members
/// of the contract's `request`; gives the contract's `answer`.
fn ai() -> Module {
    let mut module = Module::new();
    offer!(module, "chat", |request: Map| {
        let request = serde_json::from_value(json_of(request.into())?);
        let request = request.map_err(|error| misuse(format!("ai::chat: {error}")))?;
        Ok(to_script(json!(current::ask(request)?)))
    });
    module
}

/// `http::send(#{ method: "POST", url: "https://…", headers: #{ accept: "text/plain" }, body: "…" })` gives
/// `#{ status, headers, body }`, the body as text; `http::get(url)` is the shortest. A body that is no text
/// is sent as JSON, with a content type that says so.
fn http() -> Module {
    let mut module = Module::new();
    offer!(module, "send", |request: Map| send(request));
    offer!(module, "get", |url: &str| {
        let mut request = Map::new();
        request.insert("url".into(), url.into());
        send(request)
    });
    module
}

fn send(request: Map) -> Answer {
    let mut sent = fetch::Request {
        method: "GET".into(),
        url: String::new(),
        headers: Vec::new(),
        body: Default::default(),
    };
    let Value::Object(members) = json_of(request.into())? else { return Ok(Dynamic::UNIT) };
    for (name, value) in members {
        match (&*name, value) {
            ("method", Value::String(method)) => sent.method = method,
            ("url", Value::String(url)) => sent.url = url,
            ("headers", Value::Object(headers)) => {
                let text = |value: Value| match value {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                sent.headers.extend(headers.into_iter().map(|(name, value)| (name, text(value))));
            }
            ("body", Value::String(text)) => sent.body = text.into(),
            ("body", json) => {
                sent.body = json.to_string().into();
                let json = "application/json".to_owned();
                sent.headers.insert(0, ("content-type".into(), json));
            }
            (other, value) => {
                return Err(misuse(format!(
                    "a request has method, url, headers and body; {other:?}: {value} is none"
                )));
            }
        }
    }
    let fetch::Response { status, headers, body } = current::fetch(sent)?;
    let mut fields = serde_json::Map::new();
    for (name, value) in headers {
        match fields.get_mut(&name) {
            // A recipient may join them (RFC 9110, section 5.3).
            Some(Value::String(before)) => *before += &format!(", {value}"),
            _ => drop(fields.insert(name, value.into())),
        }
    }
    let body = String::from_utf8_lossy(&body);
    Ok(to_script(json!({ "status": status, "headers": fields, "body": body })))
}

/// `environment::get("WEATHER_KEY")`: the text, or `()` if the variable is not set.
fn environment() -> Module {
    let mut module = Module::new();
    offer!(module, "get", |name: &str| {
        let value = current::host(|call| call.reach.variable(name))?.map_err(thrown)?;
        Ok(value.map_or(Dynamic::UNIT, Dynamic::from))
    });
    module
}

fn rows(table: &str, query: Map) -> Answer {
    let page = known(table, Access::Read)?.list(table, &query_of(query)?).map_err(thrown)?;
    read_rows(&page.rows)
}

fn read_rows(rows: &[String]) -> Answer {
    let rows = rows.iter().map(|row| read_one(row)).collect::<Result<Array, _>>()?;
    Ok(rows.into())
}

fn read_one(text: &str) -> Answer {
    read(text).map_err(misuse)
}

fn count(table: &str, filter: Map) -> Answer<INT> {
    let filters = filters_of(json_of(filter.into())?)?;
    let count = known(table, Access::Read)?.count(table, &filters).map_err(thrown)?;
    Ok(INT::try_from(count).unwrap_or(INT::MAX))
}

fn issue(value: Dynamic) -> Answer<Issue> {
    Ok(issue_of(&json_of(value)?))
}

fn query_of(query: Map) -> Answer<Query> {
    let mut made = Query::default();
    let Value::Object(members) = json_of(query.into())? else { return Ok(made) };
    for (name, value) in members {
        match (&*name, value) {
            ("filter", value) => made.filters = filters_of(value)?,
            ("sort", Value::String(text)) => {
                made.sort = text.split(',').filter(|key| !key.is_empty()).map(order_of).collect();
            }
            ("limit", Value::Number(limit)) => {
                let limit = limit.as_u64().and_then(|limit| u32::try_from(limit).ok());
                made.limit = Some(limit.ok_or_else(|| misuse("limit must be a number of rows"))?);
            }
            ("cursor", Value::String(cursor)) => made.cursor = Some(cursor),
            ("cursor" | "sort" | "limit", Value::Null) => {}
            (other, value) => {
                return Err(misuse(format!(
                    "a query may have filter, sort, limit and cursor; {other:?}: {value} is none"
                )));
            }
        }
    }
    Ok(made)
}

fn order_of(key: &str) -> Order {
    let key = key.trim();
    match key.strip_prefix('-') {
        Some(field) => Order::new(field, true),
        None => Order::new(key, false),
    }
}

/// `#{ views: #{ gte: 10 }, published: true }`: a bare value must be equal.
fn filters_of(filter: Value) -> Answer<Vec<Filter>> {
    let Value::Object(fields) = filter else {
        return Err(misuse("a filter must be a map of fields"));
    };
    let mut filters = Vec::new();
    for (field, condition) in fields {
        let Value::Object(condition) = condition else {
            filters.push(Filter::new(field, Operator::Eq, condition));
            continue;
        };
        for (name, value) in condition {
            let found = Operator::NAMED.iter().find(|(known, _)| *known == name);
            let Some((_, operator)) = found else {
                let known: Vec<_> = Operator::NAMED.iter().map(|(known, _)| *known).collect();
                return Err(misuse(format!(
                    "{name:?} compares nothing; filters know {}",
                    known.join(", ")
                )));
            };
            filters.push(Filter::new(field.clone(), *operator, value));
        }
    }
    Ok(filters)
}
