//! The flags of connections: what they may cost, and which proxies are in front of the server.

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use host_connections::Limits;

/// Limits of connections. `host_connections::Limits` gives the reason for each default.
#[derive(Debug, Args)]
pub struct ConnectionArgs {
    /// Address of a proxy in front of the server, whose X-Forwarded-For or Forwarded is believed; repeat it for
    /// more than one.
    #[arg(long = "trusted-proxy", value_name = "ADDRESS")]
    pub trusted_proxies: Vec<IpAddr>,
    /// Most connections open at once, of sockets and requests together. By default as many as the system's limit on
    /// open files allows, which the server raises as far as it may.
    #[arg(long, value_name = "COUNT")]
    max_open_connections: Option<usize>,
    /// Most connections open at once from one address. By default half of all.
    #[arg(long, value_name = "COUNT")]
    max_open_connections_per_address: Option<usize>,
    /// Seconds that a new connection may take to send the head of its request.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().head.as_secs_f64())]
    head_timeout: f64,
    /// Seconds that an idle connection is kept open for the next request.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().idle.as_secs_f64())]
    keep_alive: f64,
    /// Seconds that a client may stall in the middle of sending or reading.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().patience.as_secs_f64())]
    stall_timeout: f64,
    /// Bytes per second that a client has to send or read to not count as stalled.
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().bytes_per_second)]
    min_transfer_rate: u32,
}

impl ConnectionArgs {
    /// The limits that these flags describe. A negative number, or one that is too large for a duration, counts as
    /// zero.
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
