//! Detects stalled peers.
//!
//! A peer has a budget of time for stalling. Waiting for it uses up the budget, and each byte that
//! it moves restores some of it, up to the full budget. So a peer that stops is dropped after the
//! full budget, one that moves a byte now and then somewhat later, and one that keeps the minimum
//! rate never, however much there is to transfer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::limits::Limits;

/// The patience with one direction of one connection; see the module's documentation.
#[derive(Debug)]
pub struct Pace {
    patience: Duration,
    bytes_per_second: u32,
    left: Duration,
    waiting_since: Option<Instant>,
    /// Created when the peer is first waited for, which for most never happens.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// A full budget with these limits.
    pub fn new(limits: &Limits) -> Self {
        Self {
            patience: limits.patience,
            bytes_per_second: limits.bytes_per_second.max(1),
            left: limits.patience,
            waiting_since: None,
            timer: None,
        }
    }

    /// A new, full budget with the same limits.
    pub fn anew(&self) -> Self {
        Self { left: self.patience, waiting_since: None, timer: None, ..*self }
    }

    /// Records bytes that the peer has moved.
    pub fn moved(&mut self, bytes: usize) {
        if self.waiting_since.is_none() && self.left == self.patience {
            return;
        }
        self.pause();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let earned = Duration::from_secs(1) * bytes / self.bytes_per_second;
        self.left = self.patience.min(self.left + earned);
    }

    /// Stops waiting for the peer, although it moved nothing.
    pub fn pause(&mut self) {
        if let Some(since) = self.waiting_since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
    }

    /// Starts or continues waiting for the peer. Ready when the budget is used up.
    pub fn poll_spent(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timer = match (&mut self.timer, self.waiting_since) {
            (Some(timer), Some(_)) => timer,
            (timer, _) => {
                let now = Instant::now();
                self.waiting_since = Some(now);
                let end = now + self.left;
                let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
                timer.as_mut().reset(end);
                timer
            }
        };
        timer.as_mut().poll(context)
    }

    /// Waits for the peer until the budget is used up.
    pub async fn spent(&mut self) {
        std::future::poll_fn(|context| self.poll_spent(context)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        let patience = Duration::from_secs(30);
        Pace::new(&Limits { patience, bytes_per_second: 1000, ..Limits::default() })
    }

    /// Waits for this long. Returns whether the budget ran out before.
    async fn wait(pace: &mut Pace, seconds: u64) -> bool {
        tokio::time::timeout(Duration::from_secs(seconds), pace.spent()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_stands_still_is_given_up_after_all_patience() {
        let began = Instant::now();
        pace().spent().await;
        assert_eq!(began.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_does_not_help() {
        let mut pace = pace();
        for _ in 0..2 {
            assert!(!wait(&mut pace, 10).await);
            pace.moved(1);
        }
        assert!(wait(&mut pace, 11).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_rate_is_enough_for_ever() {
        let mut pace = pace();
        for _ in 0..1000 {
            assert!(!wait(&mut pace, 20).await);
            pace.moved(20_000);
        }
        pace.moved(usize::MAX);
        assert!(wait(&mut pace, 31).await, "nobody saves patience up");
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_waits_does_not_count() {
        let mut pace = pace();
        assert!(!wait(&mut pace, 20).await);
        pace.pause();
        tokio::time::advance(Duration::from_secs(1000)).await;
        assert!(!wait(&mut pace, 9).await);
        assert!(wait(&mut pace, 2).await);
    }
}
