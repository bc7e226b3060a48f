//! The Linux engine: the live target, loading, attaching, maps and buffers.

pub mod attach;
pub mod features;
pub mod target;
pub mod uprobe;

mod near;

pub use features::Features;
pub use target::LiveTarget;
