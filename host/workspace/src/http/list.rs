//! Lists of rows: all of them, or those that parameters select.
//!
//! Without parameters a list is the whole table, built once per version. With parameters it is built for
//! the request, on a thread of its own: scanning every row of a large table takes longer than other
//! requests should wait. The text is produced piece by piece as the client reads it; until then only the
//! selected rows are held, not their text. The list of a whole table is kept for the next reader, as
//! long as the lists that readers hold are not too large together.

use std::convert::Infallible;
use std::num::NonZero;
use std::sync::{Arc, LazyLock};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

use super::parameters::Parameters;
use super::{
    Failure, Found, JSON, condition_of, context, json_body, live, refused, row_body, unless_known,
};
use crate::error::ActionError;
use crate::fields::{Fields, Members};
use crate::generation::{Row, Table};
use crate::query::{Query, count, select};
use crate::work::Work;
use crate::workspaces::Workspaces;

/// A piece of a list has at least this many bytes, and a shorter list is one.
const PIECE: usize = 64 * 1024;

/// Whose turn it is to make a list. It takes a core, and memory for each row that it sorts, so that more at
/// once than there are cores would take longer and hold more.
static MAKING: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(2, NonZero::get)));

pub(super) async fn list(
    State(workspaces): State<Workspaces>,
    Path((workspace, table)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let found = Found::table(&workspaces, &workspace, &table)?;
    let query = request.uri().query().unwrap_or_default();
    let definition = found.workspace.definition();
    if refused::is_wanted(query) {
        Parameters::read(definition.table(&table), query, &["refused"])?;
        return Ok(refused::list(&found.workspace, &table, &context(&request)));
    }
    if live::is_wanted(request.headers()) {
        let parameters = Parameters::read(definition.table(&table), query, &["filter", "fields"])?;
        return live::stream(&workspaces, found, table, parameters, &request);
    }
    let parameters = Parameters::read(definition.table(&table), query, Parameters::OF_LISTS)?;
    let tag = format!("\"{:x}-{:x}\"", found.snapshot.epoch, found.table.version);
    let condition = condition_of(request.headers());
    let kept = match parameters {
        _ if condition.known(&tag) => Some(Bytes::new()),
        Some(_) => None,
        None => found.table.list(),
    };
    let answer = match kept {
        Some(body) => json_body(StatusCode::OK, body),
        None => {
            let parameters = parameters.unwrap_or_default();
            // Only closing it could make it fail, and nobody does.
            let turn = MAKING.acquire().await;
            let made = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                parameters.list(&found.table)
            });
            let made = made.await.map_err(|error| {
                Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            })?;
            made.map_err(bad_query)?.into_response()
        }
    };
    let mut response = unless_known(&condition, &tag, || answer);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// Deletes the rows that a filter selects, or those that are invalid. Without either it is refused:
/// a request that merely lacks an id must not empty a table.
pub(super) async fn delete(
    State(workspaces): State<Workspaces>,
    Path((workspace, table)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Failure> {
    let found = Found::table(&workspaces, &workspace, &table)?.workspace;
    let query = request.uri().query().unwrap_or_default();
    let definition = found.definition();
    let parameters = Parameters::read(definition.table(&table), query, &["filter", "invalid"])?;
    let Parameters { query: Query { filters, .. }, invalid, .. } = parameters.unwrap_or_default();
    if filters.is_empty() && !invalid {
        let message = "say which rows to delete: filter[…], or invalid=true; \
                       filter[id][exists]=true is all that are valid";
        return Err(Failure::bad_request(message));
    }
    if condition_of(request.headers()).demands() {
        let message = "If-Match and If-None-Match are about one row, and this deletes many; \
                       delete a row by its id to demand a version of it";
        return Err(Failure::bad_request(message));
    }
    let work = match invalid {
        true => Work::DeleteInvalid { table: &table },
        false => Work::DeleteAll { table: &table, filters },
    };
    let done = found.transact(context(&request), work).await;
    Ok(row_body(StatusCode::OK, &done.map_err(|error| Failure::of(error, &table))?.text))
}

impl Parameters {
    /// The answer: `{"data":[…],"next":…,"count":…}`.
    fn list(self, table: &Table) -> Result<Listing, ActionError> {
        // Without a limit everything is listed, as it is without parameters.
        let limit = self.query.limit.map_or(usize::MAX, |limit| limit as usize);
        // An invalid row has no fields, and this list asks for none.
        let none = Members::default();
        let (selected, count) = if self.invalid {
            let rows = table.rows.iter().filter(|(_, row)| row.parsed.is_err());
            let rows = rows.map(|(id, row)| (&**id, Fields::new(&row.raw, &none)));
            let of = format!("{}?invalid", self.table);
            let selected = select(&self.query, &of, limit, rows)?;
            (selected, table.invalid)
        } else {
            let selected = select(&self.query, &self.table, limit, table.valid())?;
            let filters = &self.query.filters;
            (selected, if self.count { count(filters, table.valid()) } else { 0 })
        };
        let mut end = String::from("]");
        if let Some(next) = selected.next {
            end.push_str(&format!(",\"next\":\"{next}\""));
        }
        if self.count {
            end.push_str(&format!(",\"count\":{count}"));
        }
        end.push('}');
        let rows = selected.rows.into_iter().filter_map(|(id, _)| table.rows.get_key_value(id));
        let rows: Vec<_> = rows.map(|(id, row)| (id.clone(), row.clone())).collect();
        let fields = self.fields;
        let mut listing = Listing { text: String::new(), rows: rows.into_iter(), fields, end };
        listing.text.push_str("{\"data\":[");
        listing.fill();
        Ok(listing)
    }
}

/// The rows of an answer, of which only the next piece is text.
struct Listing {
    text: String,
    rows: std::vec::IntoIter<(Arc<str>, Arc<Row>)>,
    fields: Option<Vec<String>>,
    /// What comes after the rows; empty once it is in the text.
    end: String,
}

impl Listing {
    /// Appends rows until the piece is large enough.
    fn fill(&mut self) {
        while self.text.len() < PIECE {
            let Some((id, row)) = self.rows.next() else {
                self.text.push_str(&std::mem::take(&mut self.end));
                return;
            };
            match (row.fields(), &self.fields) {
                (Some(row), None) => self.text.push_str(row.text()),
                (Some(row), Some(fields)) => self.text.push_str(&row.project(fields)),
                (None, _) => self.text.push_str(&row.describe_invalid(&id).to_string()),
            }
            if self.rows.len() > 0 {
                self.text.push(',');
            }
        }
    }

    fn next(&mut self) -> Option<String> {
        if self.text.is_empty() {
            self.fill();
        }
        Some(std::mem::take(&mut self.text)).filter(|text| !text.is_empty())
    }
}

impl IntoResponse for Listing {
    fn into_response(self) -> Response {
        if self.end.is_empty() {
            return json_body(StatusCode::OK, self.text.into());
        }
        let pieces = futures_util::stream::unfold(self, async |mut listing| {
            let piece = listing.next()?;
            Some((Ok::<_, Infallible>(piece), listing))
        });
        ([(header::CONTENT_TYPE, JSON)], Body::from_stream(pieces)).into_response()
    }
}

/// A query that cannot be carried out means that the query string is wrong.
fn bad_query(error: ActionError) -> Failure {
    match error {
        ActionError::Invalid(issues) => Failure::parameters(issues),
        other => Failure::bad_request(other.to_string()),
    }
}
