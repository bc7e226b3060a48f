//! Files of packets: pcap with micro- and nanoseconds in both byte orders, and pcapng, are read; pcap with nanoseconds is written.
//!
//! Programs look at Ethernet frames. Packets of files without link layer, or with Linux' own made-up one, get an Ethernet header whose addresses are
//! zero. Nothing that a file says is believed: lengths have limits, and an error names the packet and the byte at which the file goes wrong.

mod link;
mod read;
mod write;

pub use read::{Packet, Reader};
pub use write::Writer;

/// The longest packet that a file may have, in bytes (`MAXIMUM_SNAPLEN` of libpcap).
pub const MAX_PACKET: u32 = 262_144;

/// Ethernet (`LINKTYPE_ETHERNET`).
const ETHERNET: u32 = 1;

/// The first word of a file with microseconds, and of one with nanoseconds.
const MAGIC_MICROS: u32 = 0xa1b2_c3d4;
const MAGIC_NANOS: u32 = 0xa1b2_3c4d;
