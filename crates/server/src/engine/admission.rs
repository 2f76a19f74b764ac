//! Who may come in: work is bounded in tokens, and whoever must wait is told for how long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the pace is remembered, in seconds.
const MEMORY: f64 = 30.0;
/// Until something is measured, tokens a second.
const FIRST_PACE: f64 = 1000.0;

/// Bounds what is under way, and measures how fast it gets done.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Most tokens under way.
    most: usize,
    load: Mutex<Load>,
}

#[derive(Debug)]
struct Load {
    tokens: usize,
    requests: usize,
    /// Tokens that were done, and the seconds in which there was something to do, both fading.
    done: f64,
    seconds: f64,
    /// Up to when `seconds` counts.
    since: Instant,
}

/// Room for a request; it is free again once this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    tokens: usize,
}

/// Why there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// There will be some.
    Until(Duration),
    /// More than there ever is.
    Never { most: usize },
}

impl Admission {
    /// Nothing is under way, and at most so many tokens may be.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let load = Load {
            tokens: 0,
            requests: 0,
            done: 0.0,
            seconds: 0.0,
            since: Instant::now(),
        };
        Arc::new(Admission {
            most,
            load: Mutex::new(load),
        })
    }

    /// Lets in a request of about so many tokens.
    ///
    /// # Errors
    /// There is no room.
    pub(crate) fn enter(self: &Arc<Self>, tokens: usize) -> Result<Permit, NoRoom> {
        if tokens > self.most {
            return Err(NoRoom::Never { most: self.most });
        }
        let mut load = self.load();
        if load.tokens + tokens > self.most {
            return Err(NoRoom::Until(load.until_free(self.most - tokens)));
        }
        load.count_time();
        load.tokens += tokens;
        load.requests += 1;
        Ok(Permit {
            admission: self.clone(),
            tokens,
        })
    }

    /// Tokens and requests under way.
    pub(crate) fn under_way(&self) -> (usize, usize) {
        let load = self.load();
        (load.tokens, load.requests)
    }

    fn load(&self) -> MutexGuard<'_, Load> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Load {
    /// Counts the time since the last count, where there was something to do, and lets older counts fade.
    fn count_time(&mut self) {
        let now = Instant::now();
        let seconds = now.duration_since(self.since).as_secs_f64();
        self.since = now;
        if self.requests > 0 {
            let kept = (-seconds / MEMORY).exp();
            self.done *= kept;
            self.seconds = self.seconds * kept + seconds;
        }
    }

    /// How long until at most `tokens` are under way, at the pace of late; whole seconds, one at least.
    fn until_free(&self, tokens: usize) -> Duration {
        let pace = match self.done > 0.0 && self.seconds > 0.0 {
            true => self.done / self.seconds,
            false => FIRST_PACE,
        };
        let seconds = (self.tokens.saturating_sub(tokens) as f64 / pace).ceil();
        Duration::from_secs(seconds.clamp(1.0, 3600.0) as u64)
    }
}

impl Permit {
    /// Tells how many tokens it is in truth, once they are counted.
    pub(crate) fn counted(&mut self, tokens: usize) {
        let mut load = self.admission.load();
        load.tokens = load.tokens - self.tokens + tokens;
        self.tokens = tokens;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut load = self.admission.load();
        load.count_time();
        load.tokens -= self.tokens;
        load.requests -= 1;
        load.done += self.tokens as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_bounded_in_tokens() {
        let admission = Admission::new(100);
        assert_eq!(
            admission.enter(101).unwrap_err(),
            NoRoom::Never { most: 100 }
        );
        let mut first = admission.enter(60).unwrap();
        assert!(matches!(admission.enter(41).unwrap_err(), NoRoom::Until(_)));
        let second = admission.enter(40).unwrap();
        assert_eq!(admission.under_way(), (100, 2));
        first.counted(20);
        assert_eq!(admission.under_way(), (60, 2));
        drop((first, second));
        assert_eq!(admission.under_way(), (0, 0));
    }

    #[test]
    fn the_time_to_wait_is_that_of_the_pace_of_late() {
        let now = Instant::now();
        let mut load = Load {
            tokens: 5000,
            requests: 3,
            done: 400.0,
            seconds: 2.0,
            since: now,
        };
        // 200 a second.
        assert_eq!(load.until_free(1000), Duration::from_secs(20));
        assert_eq!(load.until_free(5000), Duration::from_secs(1));
        load.done = 0.0;
        assert_eq!(load.until_free(1000), Duration::from_secs(4));
        load.tokens = usize::MAX;
        assert_eq!(load.until_free(0), Duration::from_secs(3600));
    }
}
