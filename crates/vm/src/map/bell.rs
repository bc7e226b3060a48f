//! What wakes readers of records: one bell for all buffers of a machine.
//!
//! It is a count of strokes. A reader looks at the count, then at the buffers, and if they are empty waits until the count is another
//! one; so no stroke is lost between looking and waiting.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A count that can be waited for.
#[derive(Debug, Default)]
pub struct Bell {
    strokes: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    /// How often it was rung.
    pub fn strokes(&self) -> u64 {
        *self.strokes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes who waits.
    pub fn ring(&self) {
        *self.strokes.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.rung.notify_all();
    }

    /// Waits until it was rung more than `seen` times, at most for `timeout`; how often it was then.
    pub fn wait(&self, seen: u64, timeout: Duration) -> u64 {
        let strokes = self.strokes.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.rung.wait_timeout_while(strokes, timeout, |strokes| *strokes == seen);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
