//! The Linux engine: the live target, loading, attaching, maps and buffers.
