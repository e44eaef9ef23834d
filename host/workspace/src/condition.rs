//! Which version of a row a request requires (RFC 9110, 13.1), by entity tags.
//!
//! The tag of a row is the id of its entry in the document. Every write makes a new id, and a restart
//! keeps it. Where the plugin migrates a row, the entry alone does not determine the result, so the tag
//! adds a hash of it: a plugin that migrates the row differently changes the tag. The tag of a list is
//! the version of its table plus a random number, since versions start afresh with each version of the
//! plugin.

/// Which version a request requires.
#[derive(Debug, Clone, Default)]
pub(crate) struct Condition {
    /// The version has to be one of these.
    pub matches: Option<Tags>,
    /// The version may be none of these.
    pub matches_none: Option<Tags>,
}

/// Versions.
#[derive(Debug, Clone)]
pub(crate) enum Tags {
    /// Any version, as long as there is one.
    Any,
    /// Those with one of these tags.
    Some(Vec<String>),
}

impl Condition {
    /// Whether a write may proceed, given the tag of the current version.
    pub fn holds(&self, tag: Option<&str>) -> bool {
        self.matches.as_ref().is_none_or(|tags| tags.contain(tag))
            && !self.matches_none.as_ref().is_some_and(|tags| tags.contain(tag))
    }

    /// Whether the request requires anything.
    pub fn demands(&self) -> bool {
        self.matches.is_some() || self.matches_none.is_some()
    }

    /// Whether a request that writes many rows requires that none of them exist. The tag of one row says
    /// nothing about the others, so it can require nothing else.
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
    fn contain(&self, tag: Option<&str>) -> bool {
        match (self, tag) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Some(tags), Some(tag)) => tags.iter().any(|one| one == tag),
        }
    }
}
