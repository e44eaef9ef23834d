//! Admission control: a rate and a concurrency limit for each user, and a concurrency limit for all
//! users together.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Users tracked before idle ones are forgotten.
const SWEEP: usize = 4096;

/// Admits users within the limits. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission(Arc<State>);

#[derive(Debug)]
struct State {
    per_minute: u32,
    per_user: usize,
    everyone: usize,
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    active: usize,
    by_name: HashMap<String, User>,
    sweep_at: usize,
}

#[derive(Debug)]
struct User {
    active: usize,
    /// The burst: how many may start at once. One is regained every `60 / per_minute` seconds.
    tokens: f64,
    counted: Instant,
}

/// A slot, held until it is dropped.
#[derive(Debug)]
pub struct Permit {
    state: Arc<State>,
    user: String,
}

/// Why a user is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The user starts too many.
    #[error("more than {per_minute} requests in a minute; try again in {} s", after.as_secs() + 1)]
    TooOften {
        /// The limit per minute.
        per_minute: u32,
        /// When the next one is allowed.
        after: Duration,
    },
    /// Too many of this user are running.
    #[error("{0} requests are running already; wait for one to end")]
    TooMany(usize),
    /// All slots are taken.
    #[error("the server runs as many requests as it can; try again later")]
    Full,
}

impl Admission {
    /// The limits: how often a user may start, and how many may run for one user and for all.
    pub fn new(per_minute: u32, per_user: usize, everyone: usize) -> Self {
        let users = Mutex::new(Users { sweep_at: SWEEP, ..Users::default() });
        Self(Arc::new(State { per_minute: per_minute.max(1), per_user, everyone, users }))
    }

    /// Takes a slot for `user`.
    pub fn enter(&self, user: &str) -> Result<Permit, NotAdmitted> {
        self.enter_at(user, Instant::now())
    }

    fn enter_at(&self, user: &str, now: Instant) -> Result<Permit, NotAdmitted> {
        let State { per_minute, per_user, everyone, .. } = *self.0;
        let mut users = self.0.users.lock();
        if users.active >= everyone {
            return Err(NotAdmitted::Full);
        }
        let full = f64::from(per_minute);
        if users.by_name.len() >= users.sweep_at {
            // A user whose quota is full again looks like a new one and need not be remembered.
            users.by_name.retain(|_, user| user.active > 0 || user.refill(full, now) < full);
            users.sweep_at = SWEEP.max(2 * users.by_name.len());
        }
        let fresh = || User { active: 0, tokens: full, counted: now };
        let entry = users.by_name.entry(user.to_owned()).or_insert_with(fresh);
        if entry.active >= per_user {
            return Err(NotAdmitted::TooMany(per_user));
        }
        if entry.refill(full, now) < 1.0 {
            let after = Duration::from_secs_f64((1.0 - entry.tokens) * 60.0 / full);
            return Err(NotAdmitted::TooOften { per_minute, after });
        }
        entry.tokens -= 1.0;
        entry.active += 1;
        users.active += 1;
        Ok(Permit { state: self.0.clone(), user: user.to_owned() })
    }
}

impl User {
    fn refill(&mut self, full: f64, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.counted).as_secs_f64();
        self.counted = now;
        self.tokens = (self.tokens + since * full / 60.0).min(full);
        self.tokens
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut users = self.state.users.lock();
        users.active -= 1;
        if let Some(user) = users.by_name.get_mut(&self.user) {
            user.active -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_may_start_as_many_as_a_minute_has_and_then_one_as_each_comes_back() {
        let admission = Admission::new(60, 100, 100);
        let start = Instant::now();
        for _ in 0..60 {
            drop(admission.enter_at("ann", start).expect("within the rate"));
        }
        let refused = admission.enter_at("ann", start).expect_err("more than the rate");
        assert!(matches!(refused, NotAdmitted::TooOften { after, .. } if after.as_secs() < 2));
        admission.enter_at("bob", start).expect("another user");
        admission.enter_at("ann", start + Duration::from_secs(1)).expect("a second later");
        admission.enter_at("ann", start + Duration::from_secs(1)).expect_err("only one");
    }

    #[test]
    fn places_are_taken_until_they_are_dropped() {
        let admission = Admission::new(1000, 2, 3);
        let first = admission.enter("ann").expect("one");
        let _second = admission.enter("ann").expect("two");
        assert_eq!(admission.enter("ann").expect_err("three"), NotAdmitted::TooMany(2));
        let _third = admission.enter("bob").expect("another user");
        assert_eq!(admission.enter("carol").expect_err("four in all"), NotAdmitted::Full);
        drop(first);
        admission.enter("ann").expect("her place is free again");
    }

    #[test]
    fn users_who_come_once_are_forgotten() {
        let admission = Admission::new(60, 1, usize::MAX);
        let start = Instant::now();
        for number in 0..3 * SWEEP as u64 {
            let now = start + Duration::from_secs(number);
            drop(admission.enter_at(&number.to_string(), now).expect("a new user"));
        }
        assert!(admission.0.users.lock().by_name.len() <= SWEEP);
    }
}
