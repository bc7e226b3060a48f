//! The engine without privileges: real events for the machine in user space.

pub mod process;
