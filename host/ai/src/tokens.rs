//! Tokens, as providers count them.

/// What an answer took, as the provider counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// What was asked, with all that was cached of it.
    pub input: u64,
    /// What was answered.
    pub output: u64,
    /// Both; some providers count more into it.
    pub total: u64,
    /// Of the input, what the provider had at hand.
    pub cached_input: Option<u64>,
    /// What was thought.
    pub reasoning: Option<u64>,
}

impl Tokens {
    /// The same, as far as each count is not more than `most`.
    pub fn at_most(self, most: u64) -> Self {
        Self {
            input: self.input.min(most),
            output: self.output.min(most),
            total: self.total.min(most),
            cached_input: self.cached_input.map(|count| count.min(most)),
            reasoning: self.reasoning.map(|count| count.min(most)),
        }
    }
}

impl std::ops::AddAssign for Tokens {
    fn add_assign(&mut self, more: Self) {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        self.input = self.input.saturating_add(more.input);
        self.output = self.output.saturating_add(more.output);
        self.total = self.total.saturating_add(more.total);
        self.cached_input = sum(self.cached_input, more.cached_input);
        self.reasoning = sum(self.reasoning, more.reasoning);
    }
}
