//! The queues that this process reads. They only ever become more.

use std::sync::{Arc, PoisonError, RwLock};

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    pub(crate) id: i32,
    pub(crate) name: Arc<str>,
}

/// All of them.
pub(crate) struct Queues(RwLock<Arc<[Queue]>>);

impl Queues {
    pub(crate) fn new(queues: Vec<Queue>) -> Self {
        Self(RwLock::new(queues.into()))
    }

    /// As they are now.
    pub(crate) fn all(&self) -> Arc<[Queue]> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn ids(&self) -> Vec<i32> {
        self.all().iter().map(|queue| queue.id).collect()
    }

    /// From now on these as well.
    pub(crate) fn add(&self, more: &[Queue]) {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *queues = queues.iter().chain(more).cloned().collect();
    }
}
