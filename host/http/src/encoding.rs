//! Bodies of requests that come compressed.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use tower::ServiceBuilder;
use tower_http::decompression::RequestDecompressionLayer;

/// What is decoded. Not zstd: a few bytes can demand a window of 128 MiB.
const TAKEN: [&str; 3] = ["gzip", "deflate", "br"];

/// Decodes the bodies of requests as they are read, so that a route's limit is one of decoded bytes, and
/// refuses with 415 and by name those that cannot be decoded.
pub fn decoded<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    let decode = RequestDecompressionLayer::new().pass_through_unaccepted(true);
    routes.layer(
        ServiceBuilder::new()
            .layer(from_fn(refuse_others))
            .map_response(|response: Response<_>| response.map(Body::new))
            .layer(decode)
            .map_request(|request: Request<_>| request.map(Body::new)),
    )
}

async fn refuse_others(mut request: Request, next: Next) -> Response {
    match unknown(request.headers()) {
        Ok(false) => next.run(request).await,
        Ok(true) => {
            // The one that changes nothing.
            request.headers_mut().remove(header::CONTENT_ENCODING);
            next.run(request).await
        }
        Err(encoding) => {
            let taken = TAKEN.join(", ");
            let message = format!(
                "a body with content-encoding {encoding:?} cannot be read; send it in one of {taken}, or as it is"
            );
            let mut answer = crate::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
            let taken = HeaderValue::from_static("gzip, deflate, br");
            answer.headers_mut().insert(header::ACCEPT_ENCODING, taken);
            answer
        }
    }
}

/// Whether the body is said to be encoded in a way that changes nothing; the error is an encoding that
/// is not known.
fn unknown(headers: &HeaderMap) -> Result<bool, String> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(first) = values.next() else { return Ok(false) };
    let text = String::from_utf8_lossy(first.as_bytes()).into_owned();
    match (values.next(), text.as_str()) {
        (None, encoding) if TAKEN.contains(&encoding) => Ok(false),
        (None, encoding) if encoding.eq_ignore_ascii_case("identity") => Ok(true),
        _ => Err(text),
    }
}
