//! What a request demands of the version that is there (RFC 9110, 13.1), by entity tags.
//!
//! The tag of a row is the id of its entry in the document, which every write makes anew, and
//! which is the same after a restart. Where the plugin migrates the row, what it makes of it is no
//! longer told by the entry alone, so a hash of that is added: another version of the plugin that
//! migrates otherwise changes the tag. The tag of a list is the version of its table, which counts
//! from the start of one version of the plugin, so that carries a random number.

/// What a request demands of the version that is there.
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
    /// Every version, but there has to be one.
    Any,
    /// Those with one of these tags.
    Some(Vec<String>),
}

impl Condition {
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
    fn contain(&self, tag: Option<&str>) -> bool {
        match (self, tag) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Some(tags), Some(tag)) => tags.iter().any(|one| one == tag),
        }
    }
}
