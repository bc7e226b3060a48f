//! What wakes readers of records: one bell for all buffers of a machine.
//!
//! It is a count of strokes. A reader looks at the count, then at the buffers, and if they are empty waits until the count is another
//! one; so no stroke is lost between looking and waiting. Who waits in another way, for a descriptor, listens.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// What is called at each stroke, by the thread that rings. It must be short, and not ring itself.
pub type Listener = dyn Fn() + Send + Sync;

/// A count that can be waited for.
#[derive(Default)]
pub struct Bell {
    /// Changed with `listeners` locked.
    strokes: AtomicU64,
    listeners: Mutex<Vec<Weak<Listener>>>,
    rung: Condvar,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Listener>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it was rung.
    pub fn strokes(&self) -> u64 {
        self.strokes.load(Ordering::Acquire)
    }

    /// Wakes who waits.
    pub fn ring(&self) {
        let listeners = self.lock();
        self.strokes.fetch_add(1, Ordering::Release);
        for listener in &*listeners {
            if let Some(listener) = listener.upgrade() {
                listener();
            }
        }
        drop(listeners);
        self.rung.notify_all();
    }

    /// Calls `listener` at each stroke from now on, as long as somebody else holds it.
    pub fn listen(&self, listener: &Arc<Listener>) {
        let mut listeners = self.lock();
        listeners.retain(|old| old.strong_count() != 0);
        listeners.push(Arc::downgrade(listener));
    }

    /// Waits until it was rung more than `seen` times, at most for `timeout`; how often it was then.
    pub fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        let waited = self.rung.wait_timeout_while(self.lock(), timeout, |_| self.strokes() == seen);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.strokes()
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("strokes", &self.strokes()).finish_non_exhaustive()
    }
}
