//! Memory that connections make us hold: what waits to be read by a peer, and what a peer has sent of
//! something that is not complete.
//!
//! Everything of some size is *charged* while it lives: to all connections together, to the address that
//! it is held for, and to the connection. What many share, such as a whole document, is charged once, and
//! to nobody. Small things are not charged; counts bound them.
//!
//! **Over budget.** A connection does not wait for others: when more is held than may be, whoever owes most
//! is ended, the address that owes most first, until enough is given up. So somebody who reads nothing, on
//! however many connections, ends themselves, and one who reads an ordinary document does not notice. Work
//! that can wait, such as telling a peer what it missed, waits for room first ([`Budget::room`]).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Bytes from which on something is charged. What is smaller is bounded by how many there are.
pub(crate) const CHARGED: usize = 64 * 1024;
/// How long work waits for room before it is done all the same, at the cost of whoever owes most.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that can be ended.
pub(crate) trait Debtor: Send + Sync {
    /// Bytes that wait for its peer.
    fn owes(&self) -> usize;
    /// Ends it, and lets go of what it owes.
    fn end(&self);
}

/// All that may be held. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Inner>);

struct Inner {
    /// Bytes in all, and for one address.
    limit: usize,
    per_address: usize,
    held: AtomicUsize,
    /// Notified when less is held.
    less: Notify,
    /// Plain mutexes: they are held while connections come and go and while one is picked to be ended,
    /// and never across an await.
    addresses: Mutex<HashMap<IpAddr, (usize, Arc<AtomicUsize>)>>,
    debtors: Mutex<Debtors>,
}

#[derive(Default)]
struct Debtors {
    next: u64,
    list: HashMap<u64, (Arc<Purse>, Weak<dyn Debtor>)>,
}

/// What is charged to one connection.
pub(crate) struct Purse {
    budget: Budget,
    address: Option<IpAddr>,
    of_address: Arc<AtomicUsize>,
    held: AtomicUsize,
}

/// Bytes that are charged until this is dropped.
pub(crate) struct Charge {
    /// None for what is charged to nobody.
    purse: Option<Arc<Purse>>,
    budget: Budget,
    bytes: usize,
}

/// A connection that may be ended, as long as this is held.
pub(crate) struct Registered {
    budget: Budget,
    id: u64,
}

impl Budget {
    pub fn new(limit: usize, per_address: usize) -> Self {
        Self(Arc::new(Inner {
            limit,
            per_address,
            held: AtomicUsize::new(0),
            less: Notify::new(),
            addresses: Mutex::default(),
            debtors: Mutex::default(),
        }))
    }

    /// A purse for a connection from an address.
    pub fn purse(&self, address: Option<IpAddr>) -> Arc<Purse> {
        let of_address = match address {
            Some(address) => {
                let mut addresses = self.0.addresses.lock();
                let (purses, held) = addresses.entry(address).or_default();
                *purses += 1;
                held.clone()
            }
            None => Arc::default(),
        };
        Arc::new(Purse { budget: self.clone(), address, of_address, held: AtomicUsize::new(0) })
    }

    /// Lets a connection be ended when too much is held.
    pub fn register(&self, purse: &Arc<Purse>, debtor: &Arc<impl Debtor + 'static>) -> Registered {
        let debtor = Arc::downgrade(debtor) as Weak<dyn Debtor>;
        let mut debtors = self.0.debtors.lock();
        let id = debtors.next;
        debtors.next += 1;
        debtors.list.insert(id, (purse.clone(), debtor));
        Registered { budget: self.clone(), id }
    }

    /// Bytes that are shared by whoever needs them.
    pub fn shared(&self, bytes: Bytes) -> Bytes {
        if bytes.len() < CHARGED {
            return bytes;
        }
        let mut charge = Charge { purse: None, budget: self.clone(), bytes: 0 };
        charge.set(bytes.len());
        Bytes::from_owner(Charged { bytes, _charge: charge })
    }

    /// Whether so much more may be held.
    pub fn has_room(&self, bytes: usize) -> bool {
        bytes < CHARGED || self.held().saturating_add(bytes) <= self.0.limit
    }

    /// Waits until so much more may be held, but not for ever.
    pub async fn room(&self, bytes: usize) {
        let room = async {
            loop {
                let less = self.0.less.notified();
                if self.has_room(bytes) {
                    return;
                }
                less.await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, room).await;
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Ends whoever owes most, until enough is given up: of an address that owes too much, or of all.
    fn settle(&self, address: Option<&Purse>) {
        let of_address = address.filter(|purse| {
            purse.address.is_some() && purse.of_address.load(Ordering::Relaxed) > self.0.per_address
        });
        let over = match of_address {
            Some(purse) => purse.of_address.load(Ordering::Relaxed) - self.0.per_address,
            None => self.held().saturating_sub(self.0.limit),
        };
        if over == 0 {
            return;
        }
        let debtors = self.0.debtors.lock();
        let mut owing: Vec<_> = debtors
            .list
            .values()
            .filter(|(purse, _)| of_address.is_none_or(|of| of.address == purse.address))
            .filter_map(|(purse, debtor)| {
                let debtor = debtor.upgrade()?;
                let owes = debtor.owes().max(purse.held.load(Ordering::Relaxed));
                (owes > 0).then_some((purse.address, owes, debtor))
            })
            .collect();
        drop(debtors);
        let mut by_address: HashMap<Option<IpAddr>, usize> = HashMap::new();
        for (address, owes, _) in &owing {
            *by_address.entry(*address).or_default() += owes;
        }
        // The address that owes most comes last, and in it who owes most.
        owing.sort_by_key(|(address, owes, _)| (by_address.get(address).copied(), *address, *owes));
        let mut given_up = 0;
        while given_up < over
            && let Some((address, owes, debtor)) = owing.pop()
        {
            debtor.end();
            given_up += owes;
            tracing::warn!(?address, owes, "a connection is ended: too much waits to be read");
        }
    }
}

impl Purse {
    /// Charges bytes. When too much is held then, whoever owes most is ended.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        let purse = Some(self.clone());
        let mut charge = Charge { purse, budget: self.budget.clone(), bytes: 0 };
        charge.set(bytes);
        charge
    }

    /// Bytes that are charged for as long as anything of them is held.
    pub fn own(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        if bytes.len() < CHARGED {
            return bytes;
        }
        let charge = self.charge(bytes.len());
        Bytes::from_owner(Charged { bytes, _charge: charge })
    }

    pub fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut addresses = self.budget.0.addresses.lock();
        if let Some((purses, _)) = addresses.get_mut(&address) {
            *purses -= 1;
            if *purses == 0 {
                addresses.remove(&address);
            }
        }
    }
}

impl Charge {
    /// Charges so many bytes from here on.
    pub fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let purse = self.purse.as_deref();
        let counts =
            [Some(&self.budget.0.held), purse.map(|p| &p.held), purse.map(|p| &*p.of_address)];
        if bytes <= before {
            for count in counts.into_iter().flatten() {
                count.fetch_sub(before - bytes, Ordering::Relaxed);
            }
            if bytes < before {
                self.budget.0.less.notify_waiters();
            }
            return;
        }
        for count in counts.into_iter().flatten() {
            count.fetch_add(bytes - before, Ordering::Relaxed);
        }
        let over = self.budget.held() > self.budget.0.limit;
        let of_address = purse.map_or(0, |purse| purse.of_address.load(Ordering::Relaxed));
        if over || of_address > self.budget.0.per_address {
            self.budget.settle(purse);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.budget.0.debtors.lock().list.remove(&self.id);
    }
}

struct Charged {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const KIB: usize = 1024;
    const HERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)));

    /// One who reads nothing.
    struct Stalled(Mutex<Vec<Bytes>>);

    impl Debtor for Stalled {
        fn owes(&self) -> usize {
            self.0.lock().iter().map(Bytes::len).sum()
        }

        fn end(&self) {
            self.0.lock().clear();
        }
    }

    struct Peer {
        purse: Arc<Purse>,
        stalled: Arc<Stalled>,
        _registered: Registered,
    }

    impl Peer {
        fn of(budget: &Budget, address: Option<IpAddr>) -> Self {
            let (purse, stalled) = (budget.purse(address), Arc::new(Stalled(Mutex::default())));
            let registered = budget.register(&purse, &stalled);
            Self { purse, stalled, _registered: registered }
        }

        fn owe(&self, kib: usize) {
            let bytes = self.purse.own(vec![0; kib * KIB].into());
            self.stalled.0.lock().push(bytes);
        }

        fn owes(&self) -> usize {
            self.stalled.owes() / KIB
        }
    }

    #[test]
    fn the_one_who_owes_most_is_ended_the_address_that_owes_most_first() {
        let budget = Budget::new(1000 * KIB, usize::MAX);
        let [one, two] = [(); 2].map(|()| Peer::of(&budget, HERE));
        let other = Peer::of(&budget, THERE);
        one.owe(300);
        two.owe(200);
        other.owe(400);
        assert_eq!(budget.held(), 900 * KIB);
        other.owe(90);
        assert_eq!([one.owes(), two.owes(), other.owes()], [300, 200, 490], "there is room");
        two.owe(80);
        assert_eq!([one.owes(), two.owes(), other.owes()], [0, 280, 490]);
        drop((one, two, other));
        assert_eq!(budget.held(), 0);
        assert!(budget.0.addresses.lock().is_empty() && budget.0.debtors.lock().list.is_empty());
    }

    #[test]
    fn an_address_that_owes_too_much_ends_its_own() {
        let budget = Budget::new(usize::MAX, 500 * KIB);
        let [one, two] = [(); 2].map(|()| Peer::of(&budget, HERE));
        let other = Peer::of(&budget, THERE);
        other.owe(500);
        one.owe(300);
        two.owe(250);
        assert_eq!([one.owes(), two.owes(), other.owes()], [0, 250, 500]);
    }

    #[test]
    fn what_is_shared_counts_once_and_small_things_do_not_count() {
        let budget = Budget::new(1000 * KIB, usize::MAX);
        let shared = budget.shared(vec![0; 600 * KIB].into());
        let peers: Vec<_> = (0..100).map(|_| Peer::of(&budget, HERE)).collect();
        for peer in &peers {
            peer.stalled.0.lock().push(shared.clone());
            peer.owe(1);
        }
        assert_eq!(budget.held(), 600 * KIB);
        drop(shared);
        assert_eq!(budget.held(), 600 * KIB);
        drop(peers);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_can_wait_waits_for_room_and_not_for_ever() {
        let budget = Budget::new(1000 * KIB, usize::MAX);
        let began = tokio::time::Instant::now();
        budget.room(900 * KIB).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        let held = budget.purse(None).charge(200 * KIB);
        let later = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            drop(held);
        };
        tokio::join!(budget.room(900 * KIB), later);
        assert_eq!(began.elapsed().as_secs(), 2);
        let _held = budget.purse(None).charge(200 * KIB);
        budget.room(900 * KIB).await;
        assert_eq!(began.elapsed().as_secs(), 7);
    }
}
