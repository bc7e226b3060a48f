//! The Linux engine: the live target, loading, attaching, maps and buffers.

pub mod features;
pub mod target;

pub use features::Features;
pub use target::LiveTarget;
