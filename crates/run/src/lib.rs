//! One run from start to end: load, attach, pump records, stop.
