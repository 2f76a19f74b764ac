//! Work that waits, in fair order: whoever has asked for fewer tokens is served before whoever has asked for more
//! (start-time fair queueing, Goyal et al. 1996).

use std::collections::{BTreeMap, HashMap};

/// Whose work it is: an access key, or an address.
pub(crate) type Client = u64;

/// Work that waits.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// By when its turn is, counted in tokens, and in the order of coming.
    waiting: BTreeMap<(u64, u64), Waiting<T>>,
    /// When the turn of a client's next work is, where that is later than now.
    next: HashMap<Client, u64>,
    /// The turn of what was taken last.
    now: u64,
    added: u64,
    tokens: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    tokens: usize,
    work: T,
}

impl<T> Queue<T> {
    /// Nothing.
    pub(crate) fn new() -> Self {
        Queue {
            waiting: BTreeMap::new(),
            next: HashMap::new(),
            now: 0,
            added: 0,
            tokens: 0,
        }
    }

    /// Tokens of all that waits.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// How much waits.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds work of so many tokens, behind all that `client` has waiting.
    pub(crate) fn push(&mut self, client: Client, tokens: usize, work: T) {
        let turn = self.next.get(&client).copied().unwrap_or(0).max(self.now);
        self.next.insert(client, turn + tokens as u64);
        self.waiting
            .insert((turn, self.added), Waiting { tokens, work });
        self.added += 1;
        self.tokens += tokens;
    }

    /// The next work, and its tokens.
    pub(crate) fn pop(&mut self) -> Option<(usize, T)> {
        let ((turn, _), Waiting { tokens, work }) = self.waiting.pop_first()?;
        self.now = self.now.max(turn);
        self.tokens -= tokens;
        // Where nobody waits nobody owes anything; whoever is not ahead is as one who was never here.
        if self.waiting.is_empty() {
            self.next.clear();
        }
        if self.next.len() > 2 * self.waiting.len() {
            self.next.retain(|_, next| *next > self.now);
        }
        Some((tokens, work))
    }

    /// Tokens of the next work.
    pub(crate) fn peek(&self) -> Option<usize> {
        self.waiting.first_key_value().map(|(_, next)| next.tokens)
    }

    /// The next work.
    pub(crate) fn first(&self) -> Option<&T> {
        self.waiting.first_key_value().map(|(_, next)| &next.work)
    }

    /// Lets go of work that is not to be kept.
    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.waiting.retain(|_, waiting| keep(&waiting.work));
        self.tokens = self.waiting.values().map(|waiting| waiting.tokens).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_client_does_not_wait_for_a_large_one() {
        let mut queue = Queue::new();
        for number in 0..100 {
            queue.push(1, 50, (1, number));
        }
        assert_eq!(queue.pop(), Some((50, (1, 0))));
        queue.push(2, 10, (2, 0));
        queue.push(2, 10, (2, 1));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, w)| w).collect();
        // Its first is the next but one at most, and its second follows while the other has its share.
        assert!(
            order.iter().position(|w| *w == (2, 0)).unwrap() <= 1,
            "{order:?}"
        );
        assert!(
            order.iter().position(|w| *w == (2, 1)).unwrap() <= 2,
            "{order:?}"
        );
        // Nobody's own order changes.
        let own: Vec<_> = order.iter().filter(|w| w.0 == 1).map(|w| w.1).collect();
        assert!(own.is_sorted() && own.len() == 99);
        assert_eq!((queue.tokens(), queue.len()), (0, 0));
    }

    #[test]
    fn two_that_always_ask_share_by_tokens() {
        let mut queue = Queue::new();
        for number in 0..300 {
            queue.push(1, 30, (1, number));
        }
        for number in 0..300 {
            queue.push(2, 10, (2, number));
        }
        let mut tokens = [0; 3];
        for _ in 0..200 {
            let (cost, (client, _)) = queue.pop().unwrap();
            tokens[client] += cost;
        }
        assert!(tokens[1].abs_diff(tokens[2]) <= 40, "{tokens:?}");
    }

    #[test]
    fn who_was_away_saves_nothing_up_and_owes_nothing() {
        let mut queue = Queue::new();
        queue.push(1, 1000, 'a');
        queue.pop();
        queue.push(2, 10, 'b');
        while queue.pop().is_some() {}
        for _ in 0..50 {
            queue.push(2, 10, 'b');
            queue.pop();
        }
        assert!(queue.next.len() <= 2, "{:?}", queue.next);
        queue.push(3, 5, 'c');
        queue.push(2, 5, 'd');
        queue.retain(|work| *work != 'c');
        assert_eq!((queue.len(), queue.tokens(), queue.peek()), (1, 5, Some(5)));
    }
}
