//! Presence: the latest state of each client, as JSON text.
//!
//! A state belongs to the connection that last wrote it. When a connection ends, its states are
//! removed and the removal is sent to the others. Clients pass on the states of others, too (the
//! common provider echoes all that it hears), so hearing a state again does not make it one's own.
//!
//! Removed clients are remembered with their clock for a while, so that a late echo does not bring
//! them back, and so that a reader that fell behind learns of the removal.

use std::collections::{HashMap, HashSet};

use crate::lib0::{Malformed, Reader, write_bytes, write_var};

/// The connection that owns a state.
pub type Owner = u64;

/// The presence of one room.
#[derive(Debug, Default)]
pub struct Awareness {
    states: HashMap<u64, State>,
    live: usize,
}

#[derive(Debug)]
struct State {
    clock: u64,
    /// JSON text; none when it was removed.
    json: Option<Box<str>>,
    owner: Owner,
}

/// Bounds on presence; `Limits` has their defaults.
#[derive(Debug, Clone, Copy)]
pub struct AwarenessBounds {
    /// States in a room.
    pub states: usize,
    /// Bytes of one state.
    pub state_bytes: usize,
}

/// Why presence was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AwarenessError {
    /// Not the format.
    #[error("malformed awareness: {0}")]
    Malformed(#[from] Malformed),
    /// A state is not JSON.
    #[error("an awareness state is not JSON")]
    Json,
    /// A state is too large.
    #[error("an awareness state has {size} bytes, and {limit} is the limit")]
    Size {
        /// What it has.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The room has too many.
    #[error("the room has {limit} awareness states already, and that is the limit")]
    States {
        /// The limit.
        limit: usize,
    },
}

impl Awareness {
    /// Takes in the states that a connection sent. Returns the clients whose state changed.
    pub fn apply(
        &mut self,
        owner: Owner,
        bytes: &[u8],
        bounds: &AwarenessBounds,
        is_open: impl Fn(Owner) -> bool,
    ) -> Result<Vec<u64>, AwarenessError> {
        let mut reader = Reader::new(bytes);
        let mut changed = Vec::new();
        for _ in 0..reader.count(3)? {
            let client = reader.var()?;
            let clock = reader.var()?;
            // A removal is one later, and must still be a number that others can read.
            if clock + 1 >= 1 << 53 {
                return Err(Malformed::Number.into());
            }
            let json = reader.string()?;
            if json.len() > bounds.state_bytes {
                return Err(AwarenessError::Size { size: json.len(), limit: bounds.state_bytes });
            }
            // Others parse it as it comes; what is not JSON would break them.
            if serde_json::from_str::<serde::de::IgnoredAny>(json).is_err() {
                return Err(AwarenessError::Json);
            }
            let json = (json.trim() != "null").then(|| Box::<str>::from(json));
            if self.set(client, clock, json, owner, bounds, &is_open)? {
                changed.push(client);
            }
        }
        reader.end()?;
        Ok(changed)
    }

    fn set(
        &mut self,
        client: u64,
        clock: u64,
        json: Option<Box<str>>,
        owner: Owner,
        bounds: &AwarenessBounds,
        is_open: impl Fn(Owner) -> bool,
    ) -> Result<bool, AwarenessError> {
        match self.states.get_mut(&client) {
            Some(state) => {
                // A removal counts at the same clock, too: that is how clients drop one who fell
                // silent. Who is connected is known better here, so that takes the owner.
                let removes = json.is_none() && state.json.is_some() && clock == state.clock;
                if clock <= state.clock && !removes {
                    return Ok(false);
                }
                if json.is_none() && owner != state.owner && is_open(state.owner) {
                    return Ok(false);
                }
                if json.is_some() && state.json.is_none() && self.live >= bounds.states {
                    return Err(AwarenessError::States { limit: bounds.states });
                }
                self.live += json.is_some() as usize;
                self.live -= state.json.is_some() as usize;
                *state = State { clock, json, owner };
            }
            None if json.is_none() => return Ok(false),
            None => {
                if self.live >= bounds.states {
                    return Err(AwarenessError::States { limit: bounds.states });
                }
                if self.states.len() >= bounds.states * 2 {
                    self.states.retain(|_, state| state.json.is_some());
                }
                self.live += 1;
                self.states.insert(client, State { clock, json, owner });
            }
        }
        Ok(true)
    }

    /// Removes what a connection owned. Returns those clients.
    pub fn leave(&mut self, owner: Owner) -> Vec<u64> {
        let mut left = Vec::new();
        for (client, state) in &mut self.states {
            if state.owner == owner && state.json.take().is_some() {
                state.clock += 1;
                left.push(*client);
            }
        }
        self.live -= left.len();
        left
    }

    /// Whether nobody is present.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// All states, for one who joins.
    pub fn encode_present(&self) -> Vec<u8> {
        self.encode(self.states.iter().filter(|(_, state)| state.json.is_some()))
    }

    /// All states and the removals that are remembered, for one who fell behind.
    pub fn encode_all(&self) -> Vec<u8> {
        self.encode(self.states.iter())
    }

    /// The states of some clients.
    pub fn encode_of(&self, clients: &HashSet<u64>) -> Vec<u8> {
        self.encode(clients.iter().filter_map(|client| self.states.get_key_value(client)))
    }

    fn encode<'a>(&self, states: impl Iterator<Item = (&'a u64, &'a State)>) -> Vec<u8> {
        let mut body = Vec::new();
        let mut count = 0;
        for (client, state) in states {
            count += 1;
            write_var(&mut body, *client);
            write_var(&mut body, state.clock);
            write_bytes(&mut body, state.json.as_deref().unwrap_or("null").as_bytes());
        }
        let mut out = Vec::with_capacity(body.len() + 4);
        write_var(&mut out, count);
        out.extend_from_slice(&body);
        out
    }

    /// The states as JSON, by client.
    pub fn present(&self) -> impl Iterator<Item = (u64, &str)> {
        self.states.iter().filter_map(|(id, state)| Some((*id, state.json.as_deref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: AwarenessBounds = AwarenessBounds { states: 4, state_bytes: 64 };

    fn states(states: &[(u64, u64, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        write_var(&mut out, states.len() as u64);
        for (client, clock, json) in states {
            write_var(&mut out, *client);
            write_var(&mut out, *clock);
            write_bytes(&mut out, json.as_bytes());
        }
        out
    }

    #[test]
    fn newer_clocks_win_and_echoes_change_nothing() {
        let mut awareness = Awareness::default();
        let mut apply =
            |owner, list: &[_]| awareness.apply(owner, &states(list), &BOUNDS, |_| true).unwrap();
        assert_eq!(apply(1, &[(10, 1, "{}")]), [10]);
        assert_eq!(apply(2, &[(10, 1, "{}")]), [0u64; 0]);
        assert_eq!(apply(2, &[(10, 1, "null")]), [0u64; 0], "another may not remove it");
        assert_eq!(apply(1, &[(10, 1, "null")]), [10]);
        assert_eq!(apply(2, &[(10, 1, "{}")]), [0u64; 0], "a late echo does not bring it back");
        assert_eq!(apply(2, &[(10, 2, "{\"a\":1}")]), [10]);
        assert_eq!(apply(2, &[(11, 1, " null ")]), [0u64; 0], "that is nobody, too");
        assert_eq!(awareness.leave(1), [0u64; 0]);
        assert_eq!(awareness.leave(2), [10]);
        assert!(awareness.is_empty());
        assert_eq!(awareness.encode_all(), states(&[(10, 3, "null")]));
    }

    #[test]
    fn hostile_states_are_refused() {
        let mut awareness = Awareness::default();
        let mut apply = |bytes: &[u8]| awareness.apply(1, bytes, &BOUNDS, |_| true);
        assert!(matches!(apply(&[200, 1]), Err(AwarenessError::Malformed(_))));
        assert_eq!(apply(&states(&[(1, 1, "{oops")])), Err(AwarenessError::Json));
        let large = format!("\"{}\"", "x".repeat(64));
        assert!(matches!(apply(&states(&[(1, 1, &large)])), Err(AwarenessError::Size { .. })));
        let many: Vec<_> = (0..5).map(|id| (id, 1, "{}")).collect();
        assert_eq!(apply(&states(&many)), Err(AwarenessError::States { limit: 4 }));
    }
}
