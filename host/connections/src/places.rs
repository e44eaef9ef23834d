//! The places of connections, and which give way when there are too many.
//!
//! Each connection records whether it is *at work*, which lasts from the head of a request to the
//! end of its response, or since when it has been waiting for a request. That is all that happens
//! per request. Only when all places are taken are the connections scanned. Those that have waited
//! longest give way, several at once, so that a flood of newcomers does not cause a scan for each.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits::Maximum;

/// A connection that has waited for less than this does not give way: its request may be on its
/// way.
const SETTLED: Duration = Duration::from_millis(500);
/// The share of the waiting connections that give way at once: one in 32.
const SHARE: usize = 32;
/// After a scan found everybody at work, there is no new one for this long.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// All places. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    maximum: Maximum,
    began: Instant,
    /// A plain mutex: it is held while connections come and go, and never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: HashMap<u64, Open>,
    by_address: HashMap<IpAddr, HashSet<u64>>,
    /// Requests in flight that came through a proxy, by client.
    asking: HashMap<IpAddr, usize>,
    /// The addresses where everybody was at work, and when that was found.
    busy: Option<(Option<IpAddr>, u64)>,
}

#[derive(Debug)]
struct Open {
    address: Option<IpAddr>,
    activity: Arc<Activity>,
}

/// The state of a connection.
#[derive(Debug)]
struct Activity {
    /// Since when it has been waiting for a request, by [`Inner::now`]; 0 while it is at work.
    waits_since: AtomicU64,
    /// Whether it has received its first request.
    has_asked: AtomicBool,
    /// Whether part of a response waits for the peer.
    blocked: AtomicBool,
    gives_way: Notify,
}

/// All places are taken, and no connection can give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{limit} connections are open{}, and that is the limit; try again later", if *.from_address { " from this address" } else { "" })]
pub(crate) struct Full {
    pub limit: usize,
    pub from_address: bool,
}

impl Places {
    pub fn new(maximum: Maximum) -> Self {
        Self(Arc::new(Inner { maximum, began: Instant::now(), state: Mutex::default() }))
    }

    /// Takes a place for a connection. Without an address, as for a proxy, only the total is
    /// limited.
    pub fn take(&self, address: Option<IpAddr>) -> Result<Place, Full> {
        let Inner { maximum, state, .. } = &*self.0;
        let now = self.0.now();
        let mut state = state.lock();
        if let Some(address) = address
            && state.by_address.get(&address).map_or(0, HashSet::len) >= maximum.per_address
            && !state.make_room(Some(address), now)
        {
            return Err(Full { limit: maximum.per_address, from_address: true });
        }
        if state.open.len() >= maximum.connections && !state.make_room(None, now) {
            return Err(Full { limit: maximum.connections, from_address: false });
        }
        let id = state.next;
        state.next += 1;
        let activity = Arc::new(Activity {
            waits_since: AtomicU64::new(now),
            has_asked: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            gives_way: Notify::new(),
        });
        state.open.insert(id, Open { address, activity: activity.clone() });
        if let Some(address) = address {
            state.by_address.entry(address).or_default().insert(id);
        }
        Ok(Place { id, activity, places: self.0.clone(), asked: OnceLock::new() })
    }

    /// Counts a request that a proxy forwards for a client, until the returned value is dropped.
    pub fn ask(&self, client: IpAddr) -> Result<Asked, Full> {
        let limit = self.0.maximum.per_address;
        let mut state = self.0.state.lock();
        let count = state.asking.entry(client).or_insert(0);
        if *count >= limit {
            return Err(Full { limit, from_address: true });
        }
        *count += 1;
        Ok(Asked { client, places: self.0.clone() })
    }
}

impl Inner {
    /// Milliseconds since the start, never 0.
    fn now(&self) -> u64 {
        1 + self.began.elapsed().as_millis() as u64
    }
}

impl State {
    /// Closes the connections that have waited longest, of one address or of all. Returns false if
    /// none was waiting.
    fn make_room(&mut self, address: Option<IpAddr>, now: u64) -> bool {
        let recently = now.saturating_sub(LOOK_AGAIN.as_millis() as u64);
        if self.busy.is_some_and(|(whose, when)| whose == address && when > recently) {
            return false;
        }
        let settled = now.saturating_sub(SETTLED.as_millis() as u64);
        let since = |id: &u64| {
            let since = self.open.get(id)?.activity.waits_since(settled)?;
            Some((since, *id))
        };
        let mut waiting: Vec<_> = match address {
            Some(address) => {
                let ids = self.by_address.get(&address);
                ids.into_iter().flatten().filter_map(since).collect()
            }
            None => self.open.keys().filter_map(since).collect(),
        };
        if waiting.is_empty() {
            self.busy = Some((address, now));
            return false;
        }
        let count = waiting.len().div_ceil(SHARE);
        waiting.select_nth_unstable(count - 1);
        for (_, id) in waiting.into_iter().take(count) {
            if let Some(open) = self.remove(id) {
                open.activity.gives_way.notify_one();
            }
        }
        true
    }

    fn remove(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        if let Some(address) = open.address
            && let Some(ids) = self.by_address.get_mut(&address)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_address.remove(&address);
            }
        }
        Some(open)
    }
}

impl Activity {
    /// Since when the connection has been waiting, if since `settled` or longer.
    fn waits_since(&self, settled: u64) -> Option<u64> {
        let since = self.waits_since.load(Ordering::Relaxed);
        let waits = since != 0 && since <= settled && !self.blocked.load(Ordering::Relaxed);
        waits.then_some(since)
    }
}

/// The place of a connection, held until it is dropped.
#[derive(Debug)]
pub struct Place {
    id: u64,
    activity: Arc<Activity>,
    places: Arc<Inner>,
    /// The proxied request that took over the connection.
    asked: OnceLock<Asked>,
}

impl Place {
    /// Records a request: the connection is at work until the returned value is dropped.
    pub(crate) fn work(self: &Arc<Self>) -> Working {
        self.activity.has_asked.store(true, Ordering::Relaxed);
        self.activity.waits_since.store(0, Ordering::Relaxed);
        Working { place: self.clone(), for_good: false }
    }

    /// Counts a request for its client for as long as the connection lives.
    pub(crate) fn keep(&self, asked: Asked) {
        let _ = self.asked.set(asked);
    }

    pub(crate) fn has_asked(&self) -> bool {
        self.activity.has_asked.load(Ordering::Relaxed)
    }

    pub(crate) fn blocked(&self, blocked: bool) {
        self.activity.blocked.store(blocked, Ordering::Relaxed);
    }

    /// Resolves when the place was given to another connection.
    pub(crate) async fn gives_way(&self) {
        self.activity.gives_way.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.state.lock().remove(self.id);
    }
}

/// A request in flight on a connection.
#[derive(Debug)]
pub(crate) struct Working {
    place: Arc<Place>,
    for_good: bool,
}

impl Working {
    /// Keeps the connection at work for the rest of its life: no more requests follow.
    pub fn for_good(mut self) {
        self.for_good = true;
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.for_good {
            let now = self.place.places.now();
            self.place.activity.waits_since.store(now, Ordering::Relaxed);
        }
    }
}

/// A request in flight that a proxy forwarded.
#[derive(Debug)]
pub(crate) struct Asked {
    client: IpAddr,
    places: Arc<Inner>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let asking = &mut self.places.state.lock().asking;
        if let Some(count) = asking.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                asking.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    fn places(connections: usize, per_address: usize) -> Places {
        Places::new(Maximum { connections, per_address })
    }

    fn has_given_way(place: &Place) -> bool {
        let gives_way = std::pin::pin!(place.gives_way());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        gives_way.poll(&mut context).is_ready()
    }

    async fn settle() {
        tokio::time::advance(SETTLED * 2).await;
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_longest_give_way_and_those_at_work_never_do() {
        let places = places(3, 3);
        let take = || Arc::new(places.take(HERE).expect("a place"));
        let at_work = take();
        let working = at_work.work();
        let mut waiting = Vec::new();
        for _ in 0..2 {
            settle().await;
            waiting.push(take());
        }
        settle().await;
        let newcomer = take();
        assert!(!has_given_way(&at_work) && has_given_way(&waiting[0]));
        assert!(!has_given_way(&waiting[1]) && !has_given_way(&newcomer));
        drop(working);
        settle().await;
        let _newest = take();
        assert!(
            has_given_way(&waiting[1]),
            "it waits for longer than the one that has just worked"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_is_refused_when_all_are_at_work_or_just_came() {
        let places = places(2, 2);
        let first = Arc::new(places.take(HERE).expect("a place"));
        let second = Arc::new(places.take(HERE).expect("a place"));
        let full = Full { limit: 2, from_address: true };
        assert_eq!(places.take(HERE).map(drop), Err(full), "their requests may be on their way");
        first.work().for_good();
        second.blocked(true);
        settle().await;
        assert_eq!(places.take(HERE).map(drop), Err(full));
        let full = Full { limit: 2, from_address: false };
        assert_eq!(places.take(THERE).map(drop), Err(full));
        drop(second);
        places.take(THERE).expect("a place");
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_leaves_room_for_others_and_gives_way_to_itself() {
        let places = places(4, 2);
        let take = |address| Arc::new(places.take(address).expect("a place"));
        let here: Vec<_> = (0..2).map(|_| take(HERE)).collect();
        let there = take(THERE);
        settle().await;
        let _newcomer = take(HERE);
        assert_eq!(here.iter().filter(|place| has_given_way(place)).count(), 1);
        assert!(!has_given_way(&there));
        let _proxies: Vec<_> = (0..1).map(|_| take(None)).collect();
        settle().await;
        let _more = take(None);
        assert_eq!(places.0.state.lock().open.len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_through_a_proxy_count_for_their_client() {
        let places = places(4, 2);
        let [here, there] = [HERE, THERE].map(|address| address.expect("an address"));
        let asked: Vec<_> = (0..2).map(|_| places.ask(here).expect("a place")).collect();
        assert!(places.ask(here).is_err());
        places.ask(there).expect("a place");
        drop(asked);
        places.ask(here).expect("a place");
        assert!(places.0.state.lock().asking.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_those_who_went() {
        let places = places(100, 100);
        let all: Vec<_> = (0..100).map(|_| places.take(HERE).expect("a place")).collect();
        settle().await;
        let newcomer = places.take(HERE).expect("a place");
        assert_eq!(places.0.state.lock().open.len(), 97, "a few give way at once");
        drop((all, newcomer));
        let state = places.0.state.lock();
        assert!(state.open.is_empty() && state.by_address.is_empty());
    }
}
