//! Keys and values of texts' beginnings that were read before: a text that begins alike need not be read again from the start.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ops::kv_cache::KvBlock;

/// Blocks of tokens as a tree: each stands behind those that lead to it, for what is computed of a token depends on all before it.
#[derive(Debug, Default)]
pub(super) struct PrefixCache {
    nodes: HashMap<Key, Node>,
    /// Number of the node that is added next; 0 is the beginning of a text.
    next: u64,
    /// Grows with each use.
    clock: u64,
    bytes: usize,
    /// Most bytes.
    limit: usize,
}

/// A block by what stands before it and by its own tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    parent: u64,
    tokens: [u32; KvBlock::TOKENS],
}

#[derive(Debug)]
struct Node {
    number: u64,
    block: Arc<KvBlock>,
    /// Nodes behind this one.
    children: usize,
    /// The one before it.
    parent: Option<Key>,
    used: u64,
}

impl PrefixCache {
    /// An empty one that keeps at most so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        PrefixCache {
            next: 1,
            limit,
            ..PrefixCache::default()
        }
    }

    /// Whether anything is ever kept.
    pub(super) fn is_off(&self) -> bool {
        self.limit == 0
    }

    /// The blocks that `ids` begin with, as far as they are known.
    pub(super) fn find(&mut self, ids: &[u32]) -> Vec<Arc<KvBlock>> {
        self.clock += 1;
        let mut found = Vec::new();
        let mut parent = 0;
        for tokens in ids.as_chunks().0 {
            let key = Key {
                parent,
                tokens: *tokens,
            };
            let Some(node) = self.nodes.get_mut(&key) else {
                break;
            };
            node.used = self.clock;
            parent = node.number;
            found.push(node.block.clone());
        }
        found
    }

    /// Keeps the blocks that `ids` begin with; `block` makes those that are not there yet, by their numbers.
    pub(super) fn keep(&mut self, ids: &[u32], mut block: impl FnMut(usize) -> KvBlock) {
        self.clock += 1;
        let (mut parent, mut before) = (0, None);
        for (number, tokens) in ids.as_chunks().0.iter().enumerate() {
            let key = Key {
                parent,
                tokens: *tokens,
            };
            if let Some(node) = self.nodes.get_mut(&key) {
                node.used = self.clock;
                (parent, before) = (node.number, Some(key));
                continue;
            }
            let block = block(number);
            if block.bytes() > self.limit {
                return;
            }
            self.bytes += block.bytes();
            let node = Node {
                number: self.next,
                block: Arc::new(block),
                children: 0,
                parent: before,
                used: self.clock,
            };
            self.nodes.insert(key, node);
            if let Some(before) = before.and_then(|before| self.nodes.get_mut(&before)) {
                before.children += 1;
            }
            (parent, before) = (self.next, Some(key));
            self.next += 1;
            if !self.make_room() {
                return;
            }
        }
    }

    /// Forgets what was not used for longest, but nothing of the last use. Whether there is room then.
    fn make_room(&mut self) -> bool {
        while self.bytes > self.limit {
            let leaves = self.nodes.iter().filter(|(_, node)| node.children == 0);
            let oldest = leaves.min_by_key(|(_, node)| node.used);
            let Some((key, used)) = oldest.map(|(key, node)| (*key, node.used)) else {
                return false;
            };
            // The one that was added just now is the last of its text.
            let is_newest = used == self.clock;
            if let Some(node) = self.nodes.remove(&key) {
                self.bytes -= node.block.bytes();
                if let Some(parent) = node.parent.and_then(|parent| self.nodes.get_mut(&parent)) {
                    parent.children -= 1;
                }
            }
            if is_newest {
                return false;
            }
        }
        true
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = PrefixCache::new(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: usize = KvBlock::TOKENS;

    /// A text of blocks, each of one token.
    fn text(blocks: &[u32]) -> Vec<u32> {
        blocks.iter().flat_map(|token| [*token; TOKENS]).collect()
    }

    #[test]
    fn what_begins_alike_is_found_and_what_is_old_is_forgotten() {
        let block = |_| KvBlock::of_numbers(10);
        let mut cache = PrefixCache::new(5 * 40);
        assert!(cache.find(&text(&[1, 2])).is_empty());
        cache.keep(&text(&[1, 2, 3]), block);
        let mut longer = text(&[1, 2, 9]);
        longer.truncate(3 * TOKENS - 1);
        assert_eq!(cache.find(&longer).len(), 2);
        assert_eq!(cache.find(&text(&[2, 1])).len(), 0);
        // The same tokens behind others are others.
        cache.keep(&text(&[7, 2]), block);
        assert_eq!((cache.nodes.len(), cache.bytes), (5, 200));
        assert!(!Arc::ptr_eq(
            &cache.find(&text(&[7, 2]))[1],
            &cache.find(&text(&[1, 2]))[1]
        ));
        // Room for one more: the end of what was used first goes, and its beginning stays while something is behind it.
        cache.find(&text(&[7, 2]));
        cache.keep(&text(&[1, 4]), block);
        assert_eq!(cache.find(&text(&[1, 2, 3])).len(), 2);
        assert_eq!(cache.find(&text(&[1, 4])).len(), 2);
        assert_eq!((cache.nodes.len(), cache.bytes), (5, 200));
        // More than there is room for: its beginning.
        cache.keep(&text(&[5, 5, 5, 5, 5, 5, 5]), block);
        assert_eq!(cache.find(&text(&[5, 5, 5, 5, 5, 5])).len(), 5);
        assert!(cache.bytes <= 200 && cache.nodes.len() == 5);
        cache.clear();
        assert!(cache.find(&text(&[5])).is_empty() && cache.bytes == 0);
        let mut off = PrefixCache::new(0);
        off.keep(&text(&[1]), block);
        assert!(off.is_off() && off.nodes.is_empty());
    }
}
