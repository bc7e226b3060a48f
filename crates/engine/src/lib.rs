//! The contract between what runs programs and what uses them.
