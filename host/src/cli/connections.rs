//! What connections may cost, and which proxies stand in front of the server.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use host_connections::Limits;

/// Bounds on connections; `Limits` of `host-connections` says why the defaults are what they are.
#[derive(Debug, Args)]
pub struct ConnectionArgs {
    /// Address of a proxy in front of the server, whose X-Forwarded-For or Forwarded is believed; give
    /// it again for more of them.
    #[arg(long = "trusted-proxy", value_name = "ADDRESS")]
    pub trusted_proxies: Vec<IpAddr>,
    /// Connections at once, of sockets and requests together. The default is as many as the limit on
    /// open files allows for, which is raised as far as may be.
    #[arg(long, value_name = "COUNT")]
    max_open_connections: Option<usize>,
    /// Of these, so many from one address. The default is half of all.
    #[arg(long, value_name = "COUNT")]
    max_open_connections_per_address: Option<usize>,
    /// Seconds in which a new connection has to send the head of its request.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().head.as_secs_f64())]
    head_timeout: f64,
    /// Seconds that a connection is kept for the next request.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().idle.as_secs_f64())]
    keep_alive: f64,
    /// Seconds that a client may stand still in the midst of sending or reading.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().patience.as_secs_f64())]
    stall_timeout: f64,
    /// Bytes per second that a client has to send or read so as not to use up --stall-timeout.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().bytes_per_second)]
    min_transfer_rate: u32,
}

impl ConnectionArgs {
    /// The bounds that the flags ask for. What is negative or no number counts as none.
    pub fn limits(&self) -> Limits {
        let seconds = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Limits {
            connections: self.max_open_connections,
            connections_per_address: self.max_open_connections_per_address,
            head: seconds(self.head_timeout),
            idle: seconds(self.keep_alive),
            patience: seconds(self.stall_timeout),
            bytes_per_second: self.min_transfer_rate,
        }
    }
}
