//! Clients that are connected and do nothing: what each costs in memory, and to let in.

use std::time::Duration;

use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt};

use crate::client::Client;
use crate::report::Sample;
use crate::server::{Running, Usage};

/// Connections in each room.
const ROOM: usize = 100;
/// Connections before memory is first looked at, so that what a server sets up for the first
/// ones is not counted for each.
const FIRST: usize = 100;
/// Clients that connect at the same time.
const AT_ONCE: usize = 16;
/// After this long, memory counts as what it stays at.
const SETTLE: Duration = Duration::from_secs(2);

/// Connects so many clients, each of which syncs an empty document and then waits.
pub async fn measure(server: &Running, connections: usize) -> Result<Sample> {
    let base = server.usage()?;
    let _first = connect(server, 0, FIRST).await?;
    tokio::time::sleep(SETTLE).await;
    let (before, own_before) = (server.usage()?, Usage::of("self")?);
    let _others = connect(server, FIRST, connections).await?;
    let (connected, own_connected) = (server.usage()?, Usage::of("self")?);
    tokio::time::sleep(SETTLE).await;
    let after = server.usage()?;
    let each = |value: f64| value / connections as f64;
    Ok(Sample::from([
        ("kib_each", each(after.rss_kib - before.rss_kib)),
        ("cpu_ms_per_connect", each(connected.cpu_ms - before.cpu_ms)),
        ("generator_cpu_ms_per_connect", each(own_connected.cpu_ms - own_before.cpu_ms)),
        ("base_mib", base.rss_kib / 1024.0),
        ("rss_mib", after.rss_kib / 1024.0),
    ]))
}

async fn connect(server: &Running, first: usize, count: usize) -> Result<Vec<Client>> {
    let joining = (first..first + count).map(async |nth| {
        let (client, _) = Client::join_only(server, &format!("idle-{}", nth / ROOM)).await?;
        anyhow::Ok(client)
    });
    futures_util::stream::iter(joining).buffer_unordered(AT_ONCE).try_collect().await
}
