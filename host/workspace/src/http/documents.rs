//! The texts of documents that are attached to rows.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{
    Failure, Found, MAX_BODY, bytes_of, condition_of, context, data, is_json, parse, tagged,
    unless_known,
};
use crate::definition::Issue;
use crate::documents::{guid, tag};
use crate::error::ActionError;
use crate::error::Error;
use crate::work::Work;
use crate::workspaces::Workspaces;

type Place = (String, String, String, String);

pub(super) async fn read(
    State(workspaces): State<Workspaces>,
    Path((workspace, table, id, name)): Path<Place>,
    request: Request,
) -> Result<Response, Failure> {
    let found = Found::table(&workspaces, &workspace, &table)?;
    let definition = found.workspace.definition();
    let document = definition.table(&table).and_then(|table| table.document(&name));
    let document = document.ok_or_else(|| unknown(&table, &name))?;
    let row = found.table.rows.get(id.as_str()).ok_or_else(|| Failure::row(&table, &id))?;
    let row = row.parsed.as_ref().map_err(|issues| {
        let message = format!("row {id:?} of table {table} is not valid");
        Failure::invalid(message, issues.to_vec())
    })?;
    let row: Value = serde_json::from_str(row).unwrap_or_default();
    let guid = guid(document, &row);
    let text = match &guid {
        Some(guid) => found.workspace.documents().read(guid).await,
        None => Ok(String::new()),
    };
    let text = text.map_err(|error| Failure::of(error, &name))?;
    let condition = condition_of(request.headers());
    let plain = wants_plain(request.headers());
    let mut answer = unless_known(&condition, &tag(&text), || match plain {
        true => text.clone().into_response(),
        false => data(json!({ "text": text, "guid": guid })),
    });
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(answer)
}

/// Replaces the text, changing only the part that differs.
pub(super) async fn write(
    State(workspaces): State<Workspaces>,
    Path((workspace, table, id, name)): Path<Place>,
    request: Request,
) -> Result<Response, Failure> {
    let found = Found::table(&workspaces, &workspace, &table)?.workspace;
    let definition = found.definition();
    let document = definition.table(&table).and_then(|table| table.document(&name));
    document.ok_or_else(|| unknown(&table, &name))?;
    let (context, condition) = (context(&request), condition_of(request.headers()));
    let text = text(request).await?;
    let tag = tag(&text);
    let work = Work::SetText { table: &table, id: &id, document: &name, text, condition };
    let done = found.transact(context, work).await.map_err(|error| match error {
        Error::Action(ActionError::NotFound) => Failure::row(&table, &id),
        error => Failure::of(error, &name),
    })?;
    Ok(tagged(super::row_body(StatusCode::OK, &done.text), Some(&tag)))
}

/// The text that a request carries: plain, or `{"text": …}`. A browser sends a preflight
/// request before it sends either with PUT from another site.
async fn text(request: Request) -> Result<String, Failure> {
    let json = is_json(request.headers());
    if !json && kind(request.headers(), header::CONTENT_TYPE) != "text/plain" {
        let message = "send text/plain, or application/json with {\"text\": …}";
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let bytes = bytes_of(request, MAX_BODY).await?;
    if !json {
        let text = String::from_utf8(bytes.into());
        return text.map_err(|_| Failure::bad_request("the body is not UTF-8"));
    }
    match parse(&bytes)? {
        Value::Object(mut body) => match body.remove("text") {
            Some(Value::String(text)) => Ok(text),
            _ => Err(Failure::parameters(vec![Issue::at("text", "must be a string")])),
        },
        _ => Err(Failure::bad_request("send {\"text\": …}")),
    }
}

fn wants_plain(headers: &HeaderMap) -> bool {
    kind(headers, header::ACCEPT) == "text/plain"
}

/// The first media type of a header, in lower case.
fn kind(headers: &HeaderMap, name: header::HeaderName) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = value.split([';', ',']).next().unwrap_or_default();
    first.trim().to_ascii_lowercase()
}

fn unknown(table: &str, name: &str) -> Failure {
    let message = format!("rows of table {table} have no document {name:?}");
    Failure::new(StatusCode::NOT_FOUND, message)
}
