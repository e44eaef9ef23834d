//! Token counts as reported by providers.

/// The token counts of one answer, as the provider reports them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Input tokens, including cached ones.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// The total; some providers include more.
    pub total: u64,
    /// Input tokens that were served from the provider's cache.
    pub cached_input: Option<u64>,
    /// Reasoning tokens.
    pub reasoning: Option<u64>,
}

impl Tokens {
    /// The same, with each count capped at `most`.
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
