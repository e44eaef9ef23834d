//! Presence: the latest state of each client, as JSON text.
//!
//! A state belongs to the connection that last wrote it. When a connection ends, its states are
//! removed and the removal is sent to the others. Clients pass on the states of others, too (the
//! common provider echoes all that it hears), so hearing a state again does not make it one's own.
//!
//! Removed clients are remembered with their clock for a while, so that a late echo does not bring
//! them back, and so that a reader that fell behind learns of the removal.
//!
//! **One who returns.** A removal has a clock of its own, one higher than what it removes. A client
//! that was cut off does not know of it: it comes back with the state that it had, which is no newer
//! than the removal and cannot be told from an echo. So whoever says such a state is answered with the
//! removal. The client itself never lets itself be removed: it says its state again with a clock
//! above the removal's, and is seen. One that only echoed the state learns that it is gone.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::lib0::check_json;
use crate::lib0::{Malformed, Reader, write_bytes, write_var};

/// The connection that owns a state.
pub type Owner = u64;

/// The presence of one room.
#[derive(Debug, Default)]
pub struct Awareness {
    states: HashMap<u64, State>,
    live: usize,
    /// Bytes of the states that are live.
    bytes: usize,
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
    /// Bytes of all states in a room.
    pub bytes: usize,
}

/// Why a state was not taken in. The others that came with it were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
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
    /// The room's states are too large together.
    #[error("the awareness states of the room would take more than {limit} bytes")]
    Bytes {
        /// The limit.
        limit: usize,
    },
}

/// States that a connection sent, whose form was checked.
#[derive(Debug, Clone)]
pub struct States(Bytes);

impl States {
    /// Checks the form of states. Others parse them as they come: what is not JSON would break them.
    pub fn scan(bytes: Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(&bytes);
        for _ in 0..reader.count(3)? {
            let (_, clock, json) = said(&mut reader)?;
            // A removal is one later, and must still be a number that others can read.
            if clock + 1 >= 1 << 53 {
                return Err(Malformed::Number);
            }
            check_json(json)?;
        }
        reader.end()?;
        Ok(Self(bytes))
    }

    /// Each client with its clock, and its state unless it is gone.
    fn iter(&self) -> impl Iterator<Item = (u64, u64, Option<&str>)> {
        let mut reader = Reader::new(&self.0);
        let count = reader.count(3).unwrap_or_default();
        std::iter::repeat_with(move || said(&mut reader))
            .take(count)
            .map_while(Result::ok)
            .map(|(client, clock, json)| (client, clock, (json.trim() != "null").then_some(json)))
    }
}

fn said<'a>(reader: &mut Reader<'a>) -> Result<(u64, u64, &'a str), Malformed> {
    Ok((reader.var()?, reader.var()?, reader.string()?))
}

/// What came of states that a connection sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Clients whose state changed.
    pub changed: Vec<u64>,
    /// Clients that were removed, and whose state was no newer than that.
    pub outdated: Vec<u64>,
    /// Why some were not taken in.
    pub refused: Option<Refused>,
}

/// What came of one state.
enum Outcome {
    Changed,
    Known,
    Outdated,
}

impl Awareness {
    /// Takes in the states that a connection sent.
    pub fn apply(
        &mut self,
        owner: Owner,
        states: &States,
        bounds: &AwarenessBounds,
        is_open: impl Fn(Owner) -> bool,
    ) -> Applied {
        let mut applied = Applied::default();
        for (client, clock, json) in states.iter() {
            match self.set(client, clock, json, owner, bounds, &is_open) {
                Ok(Outcome::Changed) => applied.changed.push(client),
                Ok(Outcome::Outdated) => applied.outdated.push(client),
                Ok(Outcome::Known) => {}
                Err(refused) => applied.refused = Some(refused),
            }
        }
        applied
    }

    fn set(
        &mut self,
        client: u64,
        clock: u64,
        json: Option<&str>,
        owner: Owner,
        bounds: &AwarenessBounds,
        is_open: impl Fn(Owner) -> bool,
    ) -> Result<Outcome, Refused> {
        let before = self.states.get(&client);
        match (before, json) {
            (None, None) => return Ok(Outcome::Known),
            (Some(state), Some(_)) if clock <= state.clock => {
                return Ok(if state.json.is_none() { Outcome::Outdated } else { Outcome::Known });
            }
            // A removal counts at the same clock, too: that is how clients drop one who fell silent.
            // Who is connected is known better here, so that takes the owner.
            (Some(state), None)
                if clock < state.clock
                    || clock == state.clock && state.json.is_none()
                    || owner != state.owner && is_open(state.owner) =>
            {
                return Ok(Outcome::Known);
            }
            _ => {}
        }
        let replaced = before.and_then(|state| state.json.as_deref());
        let (live, bytes) =
            (self.live - replaced.is_some() as usize, self.bytes - replaced.map_or(0, str::len));
        if let Some(json) = json {
            let size = json.len();
            if size > bounds.state_bytes {
                return Err(Refused::Size { size, limit: bounds.state_bytes });
            }
            if live >= bounds.states {
                return Err(Refused::States { limit: bounds.states });
            }
            if bytes + size > bounds.bytes {
                return Err(Refused::Bytes { limit: bounds.bytes });
            }
        }
        if before.is_none() && self.states.len() >= bounds.states * 2 {
            self.states.retain(|_, state| state.json.is_some());
        }
        self.live = live + json.is_some() as usize;
        self.bytes = bytes + json.map_or(0, str::len);
        self.states.insert(client, State { clock, json: json.map(Box::from), owner });
        Ok(Outcome::Changed)
    }

    /// Removes what a connection owned. Returns those clients.
    pub fn leave(&mut self, owner: Owner) -> Vec<u64> {
        let mut left = Vec::new();
        for (client, state) in &mut self.states {
            if state.owner == owner
                && let Some(json) = state.json.take()
            {
                self.bytes -= json.len();
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

    const BOUNDS: AwarenessBounds = AwarenessBounds { states: 4, state_bytes: 64, bytes: 128 };

    fn encode(states: &[(u64, u64, &str)]) -> Bytes {
        let mut out = Vec::new();
        write_var(&mut out, states.len() as u64);
        for (client, clock, json) in states {
            write_var(&mut out, *client);
            write_var(&mut out, *clock);
            write_bytes(&mut out, json.as_bytes());
        }
        out.into()
    }

    fn apply(awareness: &mut Awareness, owner: Owner, states: &[(u64, u64, &str)]) -> Applied {
        let states = States::scan(encode(states)).unwrap();
        let applied = awareness.apply(owner, &states, &BOUNDS, |_| true);
        let live: Vec<_> = awareness.present().map(|(_, json)| json.len()).collect();
        assert_eq!((awareness.live, awareness.bytes), (live.len(), live.iter().sum()));
        applied
    }

    #[test]
    fn newer_clocks_win_and_echoes_change_nothing() {
        let mut awareness = Awareness::default();
        let mut changed = |owner, list: &[_]| apply(&mut awareness, owner, list).changed;
        assert_eq!(changed(1, &[(10, 1, "{}")]), [10]);
        assert_eq!(changed(2, &[(10, 1, "{}")]), [0u64; 0]);
        assert_eq!(changed(2, &[(10, 1, "null")]), [0u64; 0], "another may not remove it");
        assert_eq!(changed(1, &[(10, 1, "null")]), [10]);
        assert_eq!(changed(2, &[(10, 1, "{}")]), [0u64; 0], "a late echo does not bring it back");
        assert_eq!(changed(2, &[(10, 2, "{\"a\":1}")]), [10]);
        assert_eq!(changed(2, &[(11, 1, " null ")]), [0u64; 0], "that is nobody, too");
        assert_eq!(awareness.leave(1), [0u64; 0]);
        assert_eq!(awareness.leave(2), [10]);
        assert!(awareness.is_empty());
        assert_eq!(awareness.encode_all(), encode(&[(10, 3, "null")]));
    }

    #[test]
    fn a_state_that_is_no_newer_than_its_removal_is_outdated() {
        let mut awareness = Awareness::default();
        apply(&mut awareness, 1, &[(10, 5, "{}")]);
        assert_eq!(awareness.leave(1), [10]);
        let outdated = Applied { outdated: vec![10], ..Applied::default() };
        for clock in [0, 5, 6] {
            assert_eq!(apply(&mut awareness, 2, &[(10, clock, "{}")]), outdated);
            let removal = &[(10, clock, "null")];
            assert_eq!(apply(&mut awareness, 2, removal), Applied::default(), "nothing to answer");
        }
        assert_eq!(apply(&mut awareness, 2, &[(10, 7, "{}")]).changed, [10]);
        let known = apply(&mut awareness, 3, &[(10, 6, "{}")]);
        assert_eq!(known, Applied::default(), "an echo of one who is there");
    }

    #[test]
    fn what_is_malformed_is_refused_as_a_whole() {
        assert_eq!(States::scan(vec![200, 1].into()).unwrap_err(), Malformed::Count);
        let cases = [
            (encode(&[(1, 1, "{}"), (2, 1, "{oops")]), Malformed::Json),
            (encode(&[(1, (1 << 53) - 1, "{}")]), Malformed::Number),
            ([&encode(&[(1, 1, "{}")])[..], &[0]].concat().into(), Malformed::Trailing),
        ];
        for (bytes, expected) in cases {
            assert_eq!(States::scan(bytes).unwrap_err(), expected);
        }
    }

    #[test]
    fn what_is_over_a_limit_is_left_out_and_the_rest_is_taken_in() {
        let mut awareness = Awareness::default();
        let text = |size: usize| format!("\"{}\"", "x".repeat(size - 2));
        let large = text(65);
        let applied = apply(&mut awareness, 1, &[(1, 1, "{}"), (2, 1, &large), (3, 1, "{}")]);
        assert_eq!(applied.changed, [1, 3]);
        assert_eq!(applied.refused, Some(Refused::Size { size: 65, limit: 64 }));
        let many: Vec<_> = (1..7).map(|id| (id, 2, "{}")).collect();
        let applied = apply(&mut awareness, 1, &many);
        assert_eq!(applied.changed, [1, 2, 3, 4]);
        assert_eq!(applied.refused, Some(Refused::States { limit: 4 }));
        let wide = text(60);
        let applied = apply(&mut awareness, 1, &[(1, 3, &wide), (2, 3, &wide), (3, 3, &wide)]);
        assert_eq!(applied.changed, [1, 2]);
        assert_eq!(applied.refused, Some(Refused::Bytes { limit: 128 }));
        assert_eq!(awareness.leave(1).len(), 4);
        assert_eq!(apply(&mut awareness, 1, &[(3, 9, &wide)]).changed, [3], "what left makes room");
    }
}
