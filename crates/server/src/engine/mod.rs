//! What stands between the requests and the models: who is let in, who waits in which order, and what is computed together.

pub(crate) mod admission;
pub(crate) mod caller;
pub(crate) mod gather;
pub(crate) mod queue;
pub(crate) mod scheduler;
