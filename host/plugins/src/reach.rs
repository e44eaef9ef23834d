//! What a plugin reaches beyond its own workspace, as far as its manifest allows: HTTP requests,
//! models, and values of the environment. Components and scripts share this.

pub mod ai;
pub(crate) mod fetch;
pub(crate) mod http;
pub(crate) mod manifest;

use std::sync::Arc;

use host_workspace::ActionError;

use self::ai::{Asking, Models, Reply};
use self::fetch::{Request, Response};
use self::http::Outbound;
use self::manifest::Grants;
use crate::call::Call;
use crate::limits::Limits;
use crate::log;

/// Shared by all calls of a plugin.
#[derive(Clone)]
pub(crate) struct Reach {
    pub(crate) grants: Arc<Grants>,
    pub(crate) outbound: Outbound,
    asking: Asking,
}

impl Reach {
    /// Fails when TLS cannot be set up on this machine.
    pub(crate) fn new(
        grants: &Grants,
        models: Option<&Arc<dyn Models>>,
        limits: &Arc<Limits>,
    ) -> Result<Self, String> {
        let asking = Asking::new(grants, models, limits);
        let outbound = Outbound::new(grants, limits)?;
        Ok(Self { grants: Arc::new(grants.clone()), outbound, asking })
    }

    /// Starts a model's answer for a call, which must be that of an action.
    pub(crate) fn ask(
        &self,
        call: &Call,
        request: ai::Request,
    ) -> impl Future<Output = Result<Reply, ActionError>> + Send + use<> {
        self.asking.ask(call, request)
    }

    /// Sends a request for a call, which must be that of an action, and reads the whole response.
    pub(crate) fn fetch(
        &self,
        call: &Call,
        request: Request,
    ) -> impl Future<Output = Result<Response, ActionError>> + Send + use<> {
        let (outbound, in_action) = (self.outbound.clone(), call.is_action());
        async move {
            if !in_action {
                return Err(ActionError::Denied("requests can be sent in actions only".into()));
            }
            fetch::fetch(&outbound, request).await
        }
    }

    /// A value of the host's environment.
    pub(crate) fn variable(&self, name: &str) -> Result<Option<String>, ActionError> {
        if self.grants.env.iter().any(|granted| granted == name) {
            // A value that is not Unicode cannot be passed as text and counts as missing.
            return Ok(std::env::var(name).ok());
        }
        let name = log::one_line(name, 64);
        Err(ActionError::Denied(format!(
            "this plugin may not read {name}; `env = [\"{name}\"]` in its manifest allows it"
        )))
    }
}
