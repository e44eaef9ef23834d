//! `wasi:http/outgoing-handler`, implemented on top of `reach`.

use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::log::{Level, Log};
use crate::reach::fetch;
use crate::reach::http::{Answer, Outbound};

/// The HTTP client of an instance. The error codes of `wasi:http` name neither host nor manifest,
/// so this logs them.
pub(crate) struct Hooks {
    pub(crate) outbound: Outbound,
    pub(crate) log: Arc<Mutex<Log>>,
}

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _done: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        let (outbound, log) = (self.outbound.clone(), self.log.clone());
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        Box::new(async move {
            let sent = outbound.send(request, options).await;
            if let Err(error) = &sent {
                let refusal = fetch::refusal(&host, error, outbound.limits());
                log.lock().write(Level::Error, &refusal.to_string());
            }
            sent
        })
    }
}
