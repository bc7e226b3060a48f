//! Both ends of every TCP connection that comes about, by a program that jumps into another one.
//!
//! ```console
//! # cargo run --example tail_call -- examples/tail_call.bpf.c
//! waiting for events...
//! 127.0.0.1:51262 -> 127.0.0.1:5599
//! 127.0.0.1:5599 -> 127.0.0.1:51262
//! ```
//!
//! `enter_tcp_set_state` watches connections change their state. On a new connection it jumps through slot 0 of the program
//! array `tail_jmp_map` to `output_socket_meta`, which sends a record. The slot is empty until this program fills it: that is
//! how an application chooses at run time what a BPF program does. Needs a kernel with kprobes.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;
use std::path::PathBuf;

use skep::zerocopy::{FromBytes, Immutable, KnownLayout};
use skep::{Object, Record};

/// `struct sock_meta` of the BPF program: 52 bytes, with the padding that C puts after the 16-bit ports.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SockMeta {
    af: i32,
    local_ip: [u32; 4],
    local_port: u16,
    _pad: [u8; 2],
    remote_ip: [u32; 4],
    remote_port: u16,
    _pad_too: [u8; 2],
    old_state: i32,
    new_state: i32,
}

const _: () = assert!(size_of::<SockMeta>() == 52);

/// `AF_INET`; the other family that the program reports is `AF_INET6`.
const AF_INET: i32 = 2;

impl SockMeta {
    fn local(&self) -> SocketAddr {
        SocketAddr::new(self.address(self.local_ip), self.local_port)
    }

    fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.address(self.remote_ip), self.remote_port)
    }

    /// The program keeps an IPv4 address in the last of the four words. Bytes lie as on the wire.
    fn address(&self, words: [u32; 4]) -> IpAddr {
        if self.af == AF_INET {
            return Ipv4Addr::from(words[3].to_ne_bytes()).into();
        }
        let mut bytes = [0; 16];
        for (part, word) in bytes.chunks_exact_mut(4).zip(words) {
            part.copy_from_slice(&word.to_ne_bytes());
        }
        Ipv6Addr::from(bytes).into()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: tail_call FILE.bpf.c|FILE.bpf.o")?);
    let is_source = path.extension().is_some_and(|extension| extension == "c");
    let object = if is_source { Object::from_source(path)? } else { Object::open(path)? };

    // Maps exist and both programs are verified, but nothing is attached.
    let loaded = object.load()?;
    loaded.map("tail_jmp_map")?.set_program(0, &loaded.program("output_socket_meta")?)?;
    // Its section says where: SEC("kprobe/tcp_set_state"). Dropping the link detaches.
    let _link = loaded.program("enter_tcp_set_state")?.attach()?;
    let mut events = loaded.events(&["events"])?;
    eprintln!("waiting for events...");

    events.for_each(|record| {
        match record {
            // A perf buffer rounds its records up to eight bytes: what follows ours is padding.
            Record::Event { data, .. } => match SockMeta::read_from_prefix(data) {
                Ok((meta, _)) => println!("{} -> {}", meta.local(), meta.remote()),
                Err(_) => eprintln!("a record of {} bytes is none of ours", data.len()),
            },
            Record::Lost { count, .. } => eprintln!("lost {count} events"),
            Record::Text { text, .. } => println!("{text}"),
        }
        ControlFlow::Continue(())
    })?;
    Ok(())
}
