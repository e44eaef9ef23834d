//! Actions that reach out of the workspace, by WASI: to other servers, and to the host's environment.

use epicenter_workspace::*;
use wasip2::cli::environment::get_environment;
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{Fields, IncomingResponse, OutgoingRequest, Scheme};
use wasip2::io::streams::StreamError;

#[derive(Deserialize, JsonSchema)]
struct Fetch {
    host: String,
    path: String,
}

#[derive(Serialize, JsonSchema)]
struct Answer {
    status: u16,
    body: String,
}

/// Sends a request, and gives the error by its name in WASI.
fn fetch(_: &Context, Fetch { host, path }: Fetch) -> Result<Answer> {
    let request = OutgoingRequest::new(Fields::new());
    let set = request
        .set_scheme(Some(&Scheme::Http))
        .and_then(|()| request.set_authority(Some(&host)))
        .and_then(|()| request.set_path_with_query(Some(&path)));
    set.map_err(|()| Error::invalid("host", "is no host, or the path no path"))?;
    let refused = |error| Error::failed(format!("{error:?}"));
    let coming = handle(request, None).map_err(refused)?;
    coming.subscribe().block();
    match coming.get() {
        Some(Ok(Ok(response))) => Ok(Answer { status: response.status(), body: text(&response)? }),
        Some(Ok(Err(error))) => Err(refused(error)),
        _ => Err(Error::failed("no answer came")),
    }
}

fn text(response: &IncomingResponse) -> Result<String> {
    let unread = |_| Error::failed("the body was read already");
    let body = response.consume().map_err(unread)?;
    let stream = body.stream().map_err(unread)?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(more) => bytes.extend(more),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(Error::failed(error.to_string())),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The environment as it is seen from here.
fn environment(_: &Context, (): ()) -> Result<Vec<(String, String)>> {
    Ok(get_environment())
}

fn workspace() -> Workspace {
    Workspace::new("outward").query("fetch", "Sends a request.", fetch).query(
        "environment",
        "Lists the variables.",
        environment,
    )
}

export!(workspace);
