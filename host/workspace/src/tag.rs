//! Entity tags: which version of something a client has seen.
//!
//! The tag of a row is the id of its entry in the document, which every write makes anew, and
//! which is the same after a restart. Where the plugin migrates the row, what it makes of it is no
//! longer told by the entry alone, so a hash of that is added: another version of the plugin that
//! migrates otherwise changes the tag. The tag of a list is the version of its table, which counts
//! from the start of one version of the plugin, so that carries a random number.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::http::{HeaderMap, HeaderName, header};

use crate::generation::Row;

impl Row {
    /// The tag of a valid row's current form, or of what is in the document.
    pub fn tag(&self) -> String {
        let entry = format!("{:x}.{:x}", self.entry.client, self.entry.clock);
        match &self.parsed {
            Ok(text) if **text != *self.raw => {
                let mut hasher = DefaultHasher::new();
                text.hash(&mut hasher);
                format!("\"{entry}-{:x}\"", hasher.finish())
            }
            _ => format!("\"{entry}\""),
        }
    }
}

/// What a request demands of the version that is there (RFC 9110, 13.1).
#[derive(Debug, Clone, Default)]
pub(crate) struct Condition {
    matches: Option<Tags>,
    matches_none: Option<Tags>,
}

#[derive(Debug, Clone)]
enum Tags {
    Any,
    Some(Vec<String>),
}

impl Condition {
    /// Reads `If-Match` and `If-None-Match`.
    pub fn of(headers: &HeaderMap) -> Self {
        Self {
            matches: Tags::of(headers, header::IF_MATCH),
            matches_none: Tags::of(headers, header::IF_NONE_MATCH),
        }
    }

    /// Whether a write may go on, given the tag of what is there.
    pub fn holds(&self, tag: Option<&str>) -> bool {
        self.matches.as_ref().is_none_or(|tags| tags.contain(tag))
            && !self.matches_none.as_ref().is_some_and(|tags| tags.contain(tag))
    }

    /// Whether a write may replace one version only.
    pub fn demands(&self) -> bool {
        self.matches.is_some() || self.matches_none.is_some()
    }

    /// What a request that writes many rows demands: whether none of them may be there yet. The
    /// tag of one row says nothing of the others, so it can demand nothing else.
    pub fn of_many(&self) -> Result<bool, &'static str> {
        match (&self.matches, &self.matches_none) {
            (None, None) => Ok(false),
            (None, Some(Tags::Any)) => Ok(true),
            _ => Err("many rows can be written only whatever is there, or with If-None-Match: * \
                      where none of them is; tags are for one row"),
        }
    }

    /// Whether a reader has this version already.
    pub fn known(&self, tag: &str) -> bool {
        self.matches_none.as_ref().is_some_and(|tags| tags.contain(Some(tag)))
    }
}

impl Tags {
    fn of(headers: &HeaderMap, name: HeaderName) -> Option<Self> {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        // A proxy that compresses makes a tag weak; for us there is one text of one version.
        let tag = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let tags: Vec<_> = values.flat_map(|value| value.split(',')).map(tag).collect();
        match tags.as_slice() {
            [] => None,
            [one] if one == "*" => Some(Self::Any),
            _ => Some(Self::Some(tags)),
        }
    }

    fn contain(&self, tag: Option<&str>) -> bool {
        match (self, tag) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Some(tags), Some(tag)) => tags.iter().any(|one| one == tag),
        }
    }
}
