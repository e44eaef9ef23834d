//! HTTP requests of plugins, within what their manifest grants.
//!
//! The manifest names the hosts that a plugin may contact. But a name is not an address: the owner
//! of `api.example.com` can point it at this machine, the network's router, or a cloud's metadata
//! service, and change it between two look-ups. So names are resolved here, once for each
//! connection. Addresses that are not public are dropped (unless the manifest allows them), and the
//! connection is made to one of the rest. A host that is an address is checked by the same rules
//! before anything is sent. Redirects are left to the plugin, each as a new request; proxies from
//! the host's environment are not used.
//!
//! Errors are those of `wasi:http`; [`super::fetch`] has messages for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http_body_util::{BodyExt, StreamBody};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url, redirect};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::manifest::{Grants, HttpGrant};
use crate::limits::Limits;

/// A plugin's HTTP client, shared by all of its instances.
#[derive(Clone)]
pub(crate) struct Outbound(Option<Arc<Sender>>);

struct Sender {
    grant: HttpGrant,
    client: Client,
    limits: Arc<Limits>,
    places: Arc<Semaphore>,
}

pub(crate) type Answer =
    Result<(http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl Outbound {
    /// Fails when TLS cannot be set up on this machine.
    pub(crate) fn new(grants: &Grants, limits: &Arc<Limits>) -> Result<Self, String> {
        let Some(grant) = &grants.http else { return Ok(Self(None)) };
        let client = Client::builder()
            .dns_resolver(Arc::new(Checked { allow_private: grant.allow_private }))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .connect_timeout(limits.http_connect)
            .timeout(limits.http_time)
            .pool_max_idle_per_host(2)
            .build()
            .map_err(|error| format!("its requests cannot be set up: {error}"))?;
        let places = Arc::new(Semaphore::new(limits.http_requests));
        let (grant, limits) = (grant.clone(), limits.clone());
        Ok(Self(Some(Arc::new(Sender { grant, client, limits, places }))))
    }

    /// The limits on requests, if any are allowed.
    pub(crate) fn limits(&self) -> Option<&Limits> {
        self.0.as_ref().map(|sender| &*sender.limits)
    }

    pub(crate) async fn send(
        &self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Answer {
        match &self.0 {
            Some(sender) => sender.send(request, options).await,
            None => Err(Error::HttpRequestDenied),
        }
    }
}

impl Sender {
    async fn send(
        &self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Answer {
        let (parts, body) = request.into_parts();
        // Parse the host as the connection will: `0x7f.1` is an address too.
        let url = Url::parse(&parts.uri.to_string()).map_err(|_| Error::HttpRequestUriInvalid)?;
        let host = url.host_str().ok_or(Error::HttpRequestUriInvalid)?;
        let port = url.port_or_known_default().ok_or(Error::HttpRequestUriInvalid)?;
        if !self.grant.allows(host, port) {
            return Err(Error::HttpRequestDenied);
        }
        if let Ok(address) = host.trim_matches(['[', ']']).parse()
            && !self.grant.allow_private
            && !is_public(address)
        {
            return Err(Error::DestinationIpProhibited);
        }
        let permit = self.places.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Error::ConnectionLimitReached)?;
        let limit = self.limits.http_request_bytes;
        let body = bounded(body.into_data_stream(), limit, Error::HttpRequestBodySize);
        let mut headers = parts.headers;
        // Derived from the address, so that both agree.
        headers.remove(http::header::HOST);
        let mut request = self
            .client
            .request(parts.method, url)
            .headers(headers)
            .body(reqwest::Body::wrap_stream(body.map_err(std::io::Error::other)));
        let options = options.unwrap_or_default();
        let first_byte = options.first_byte_timeout.unwrap_or(self.limits.http_time);
        request = request.timeout(self.limits.http_time);
        let response = tokio::time::timeout(first_byte, request.send()).await;
        let response = response.map_err(|_| Error::HttpResponseTimeout)?.map_err(error_of)?;
        let (parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
        let limit = self.limits.http_response_bytes;
        let body = body.into_data_stream().map_err(error_of);
        let body = bounded(body, limit, Error::HttpResponseBodySize);
        // The request counts as in flight until its response has been read or dropped.
        let body = Held { body: Box::pin(body), _place: permit };
        let body = StreamBody::new(body.map_ok(http_body::Frame::data));
        let finished = Box::new(async { Ok(()) });
        Ok((http::Response::from_parts(parts, body.boxed_unsync()), finished))
    }
}

/// A stream that fails when it exceeds its size limit.
fn bounded<S>(
    body: S,
    limit: usize,
    too_much: fn(Option<u64>) -> Error,
) -> impl futures_util::Stream<Item = Result<Bytes, Error>> + Send
where
    S: futures_util::Stream<Item = Result<Bytes, Error>> + Send,
{
    let mut carried = 0usize;
    body.map(move |chunk| {
        let chunk = chunk?;
        carried = carried.saturating_add(chunk.len());
        if carried > limit { Err(too_much(Some(limit as u64))) } else { Ok(chunk) }
    })
}

/// A body that holds its place.
struct Held<S> {
    body: std::pin::Pin<Box<S>>,
    _place: OwnedSemaphorePermit,
}

impl<S: futures_util::Stream> futures_util::Stream for Held<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.body.as_mut().poll_next(context)
    }
}

fn error_of(error: reqwest::Error) -> Error {
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(inner) = cause {
        if inner.is::<Prohibited>() {
            return Error::DestinationIpProhibited;
        }
        cause = inner.source();
    }
    if error.is_timeout() {
        if error.is_connect() { Error::ConnectionTimeout } else { Error::HttpResponseTimeout }
    } else if error.is_connect() {
        Error::ConnectionRefused
    } else if error.is_body() || error.is_decode() {
        Error::HttpResponseIncomplete
    } else {
        Error::HttpProtocolError
    }
}

/// Resolves names to allowed addresses.
struct Checked {
    allow_private: bool,
}

/// None of a name's addresses is public.
#[derive(Debug, thiserror::Error)]
#[error(
    "the name leads to addresses that are not public; allow-private in the manifest allows them"
)]
struct Prohibited;

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed: Vec<_> = found
                .into_iter()
                .filter(|address| allow_private || is_public(address.ip()))
                .collect();
            if allowed.is_empty() {
                return Err(Prohibited.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is on the public internet: in none of IANA's special-purpose registries (RFC
/// 6890 and its successors).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_documentation()
        || a == 0
        // Shared address space of providers.
        || (a == 100 && (64..128).contains(&b))
        // Protocol assignments, including those of translators.
        || (a == 192 && b == 0 && c == 0)
        // Relays from IPv6.
        || (a == 192 && b == 88 && c == 99)
        // Network benchmarks.
        || (a == 198 && (b == 18 || b == 19))
        // Reserved.
        || a >= 240)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        // IPv4-mapped.
        (0, 0) if [c, d, e] == [0, 0, 0] && f == 0xffff => embedded(g, h),
        // IPv4 behind a translator.
        (0x64, 0xff9b) if [c, d, e, f] == [0, 0, 0, 0] => embedded(g, h),
        // IPv4 in 6to4.
        (0x2002, _) => embedded(b, c),
        // Of the rest, only global unicast is public, except Teredo and other protocol assignments,
        // and documentation.
        (0x2001, b) => b >= 0x200 && b != 0xdb8,
        (0x3fff, b) => b >= 0x1000,
        (a, _) => (0x2000..0x4000).contains(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_public_are_known_in_all_their_spellings() {
        let private = [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
            "100::1",
            "5f00::1",
        ];
        for address in private {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "93.184.215.14",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "2001:4860:4860::8888",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }
}
