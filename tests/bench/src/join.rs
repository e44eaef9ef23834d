//! Clients that have nothing and join a room with much in it: what it costs to send it to them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use yrs::updates::decoder::Decode;
use yrs::{Doc, Map, ReadTxn, StateVector, Transact, Update};

use crate::client::Client;
use crate::report::Sample;
use crate::server::{Running, Usage};

/// The map that is filled.
const MAP: &str = "entries";
/// Joins before anything is measured.
const FIRST: usize = 3;
/// No more joins than this, however fast they are.
const MOST: usize = 2000;

/// Fills a map and joins its room again and again, one client at a time, for so long. Each join is
/// a connection, the handshake and the whole document, and ends when the document is there.
pub async fn measure(server: &Running, entries: usize, duration: Duration) -> Result<Sample> {
    let room = "join";
    let (writer, _) = Client::join(server, room).await?;
    let update = map(entries);
    writer.socket.writer.send(&writer.dialect.update(room, &update)).await?;
    // A server may answer others before it has read this.
    let began = Instant::now();
    let document = loop {
        let (_client, document) = Client::join(server, room).await?;
        if document.len() >= update.len() / 2 {
            break document;
        }
        ensure!(began.elapsed() < Duration::from_secs(30), "the map does not arrive in 30 s");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    ensure!(
        read(&document)? == read(&update)?,
        "a new client is given another document than was written"
    );
    for _ in 0..FIRST {
        Client::join_only(server, room).await?;
    }
    let mut times = Vec::new();
    let mut bytes = 0;
    let (before, own_before) = (server.usage()?, Usage::of("self")?);
    let began = Instant::now();
    while began.elapsed() < duration && times.len() < MOST {
        let joining = Instant::now();
        let (_client, received) = Client::join_only(server, room).await?;
        times.push(joining.elapsed().as_secs_f64() * 1000.0);
        ensure!(received >= document.len(), "a new client is given less than the others");
        bytes = received;
    }
    let (after, own_after) = (server.usage()?, Usage::of("self")?);
    let joins = times.len() as f64;
    times.sort_by(f64::total_cmp);
    Ok(Sample::from([
        ("cpu_ms_per_join", (after.cpu_ms - before.cpu_ms) / joins),
        ("p50_ms", times[times.len() / 2]),
        ("p99_ms", times[(times.len() - 1) * 99 / 100]),
        ("mib_per_join", bytes as f64 / 1024.0 / 1024.0),
        ("joins", joins),
        ("generator_cpu_ms_per_join", (own_after.cpu_ms - own_before.cpu_ms) / joins),
        ("rss_mib", after.rss_kib / 1024.0),
    ]))
}

/// A map of strings, each entry set on its own as an application would, as one update.
fn map(entries: usize) -> Vec<u8> {
    let doc = Doc::with_client_id(0x9000_0000);
    let map = doc.get_or_insert_map(MAP);
    for entry in 0..entries {
        map.insert(&mut doc.transact_mut(), format!("key-{entry}"), format!("value-{entry}"));
    }
    doc.transact().encode_diff_v1(&StateVector::default())
}

fn read(update: &[u8]) -> Result<yrs::Any> {
    use yrs::types::ToJson;
    let doc = Doc::new();
    let map = doc.get_or_insert_map(MAP);
    doc.transact_mut().apply_update(Update::decode_v1(update)?)?;
    Ok(map.to_json(&doc.transact()))
}
