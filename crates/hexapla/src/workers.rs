//! The threads that run a model, and the buffers that they keep between calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::ThreadPool;

use crate::tensor::Arena;

/// Threads and buffers.
#[derive(Debug, Default)]
pub struct Workers {
    /// Buffers of batches that are done, for those to come.
    arenas: Mutex<Vec<Arena>>,
    /// Whose threads do the work; rayon's own where absent.
    threads: Option<Arc<ThreadPool>>,
}

impl Workers {
    /// The same on the threads of `pool`.
    #[must_use]
    pub fn with_thread_pool(self, pool: Arc<ThreadPool>) -> Self {
        Workers {
            threads: Some(pool),
            ..self
        }
    }

    /// Frees the memory that calls before this one left behind for those to come.
    pub fn trim(&self) {
        self.arenas().clear();
    }

    /// Does `work` on the threads.
    pub fn on_threads<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.threads {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Does `work` with an arena that nobody else uses meanwhile.
    pub fn with_arena<T>(&self, work: impl FnOnce(&Arena) -> T) -> T {
        let arena = self.arenas().pop().unwrap_or_default();
        let result = work(&arena);
        self.arenas().push(arena);
        result
    }

    fn arenas(&self) -> MutexGuard<'_, Vec<Arena>> {
        // A panic cannot have left the list half-changed.
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
