//! The waist of skep: what a BPF object is before any machine sees it, and how it is resolved for one.
