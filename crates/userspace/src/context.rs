//! Packets with the context that a caller gives: what `BPF_PROG_TEST_RUN` takes and gives back (net/bpf/test_run.c, Linux 6.18).
//!
//! A context may be shorter than the structure (the rest counts as zeros) and longer (the rest must be zeros). Fields that the kernel makes
//! up must be zero; the error names the one that is not.

use skep_engine::Error;
use skep_sys::Errno;
use skep_vm::offsets::{sk_buff as skb, xdp_md as xdp};
use skep_vm::{PacketBuffer, PacketKind, SK_BUFF_BYTES, XDP_MD_BYTES};

/// Bytes of an Ethernet header: the least that a packet has.
pub(crate) const ETH_HLEN: usize = 14;
/// The loopback device, which packets come from when nobody says otherwise.
const LOOPBACK: u32 = 1;

/// Fields of `struct __sk_buff` that a caller may set: where they start and how long they are.
const SKB_INPUT: &[(usize, usize)] = &[
    (skb::MARK, 4),
    (skb::PRIORITY, 4),
    (skb::INGRESS_IFINDEX, 4),
    (skb::IFINDEX, 4),
    (skb::CB, 20),
    (skb::TSTAMP, 8),
    (skb::WIRE_LEN, 4),
    (skb::GSO_SEGS, 4),
    (skb::GSO_SIZE, 4),
    (skb::HWTSTAMP, 8),
];

/// Most bytes and segments of a packet that a device will cut (`GSO_LEGACY_MAX_SIZE`, `GSO_MAX_SEGS`).
const GSO_MAX_SIZE: u32 = 65536;
const GSO_MAX_SEGS: u32 = 65535;

fn invalid(message: impl Into<String>) -> Error {
    Error::new(message).with_source(Errno::EINVAL)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.first_chunk().copied()).map_or(0, u32::from_ne_bytes)
}

/// The context in the structure's length; `None` when the caller gives none.
fn whole(ctx: &[u8], len: usize, name: &str) -> Result<Option<Vec<u8>>, Error> {
    if ctx.is_empty() {
        return Ok(None);
    }
    if ctx.iter().skip(len).any(|byte| *byte != 0) {
        let text = format!("the context has {} bytes, and `struct {name}` has {len}", ctx.len());
        return Err(Error::new(text).with_source(Errno::E2BIG));
    }
    let mut whole = ctx[..ctx.len().min(len)].to_vec();
    whole.resize(len, 0);
    Ok(Some(whole))
}

fn put(buffer: &PacketBuffer, at: usize, bytes: &[u8]) {
    let written = buffer.ctx().write(at as u64, bytes);
    debug_assert!(written.is_some(), "the context has these bytes");
}

/// Puts a packet and its context in. What is given back later takes the context, too.
pub(crate) fn enter(buffer: &mut PacketBuffer, data: &[u8], ctx: &[u8]) -> Result<(), Error> {
    if data.len() < ETH_HLEN {
        return Err(invalid(format!("the packet has {} bytes, and an Ethernet header alone has 14", data.len()))
            .with_hint("give it with `--data FILE|HEX`"));
    }
    match buffer.kind() {
        PacketKind::Xdp => enter_xdp(buffer, data, ctx),
        _ => enter_skb(buffer, data, ctx),
    }
}

fn set(buffer: &mut PacketBuffer, data: &[u8], meta_len: u32) -> Result<(), Error> {
    match buffer.set(data, meta_len) {
        true => Ok(()),
        false => {
            Err(Error::new(format!("the packet has {} bytes, more than 64 KiB", data.len())).with_source(Errno::EINVAL))
        }
    }
}

fn enter_xdp(buffer: &mut PacketBuffer, data: &[u8], ctx: &[u8]) -> Result<(), Error> {
    let ctx = whole(ctx, XDP_MD_BYTES, "xdp_md")?;
    let field = |at| ctx.as_deref().map_or(0, |ctx| word(ctx, at));
    let meta_len = field(xdp::DATA);
    if let Some(ctx) = &ctx {
        let end = word(ctx, xdp::DATA_END);
        if word(ctx, xdp::DATA_META) != 0 {
            return Err(invalid("`data_meta` of the context is not 0: metadata start the data, and end at `data`"));
        }
        if end as usize != data.len() {
            return Err(invalid(format!("`data_end` of the context is {end}, and the data have {} bytes", data.len())));
        }
        if meta_len > end || meta_len % 4 != 0 || meta_len > 255 {
            return Err(invalid(format!("`data` of the context is {meta_len}, which no metadata are long")));
        }
        if word(ctx, xdp::EGRESS_IFINDEX) != 0 {
            return Err(invalid("`egress_ifindex` of the context is not 0: the packet goes nowhere yet"));
        }
        if word(ctx, xdp::INGRESS_IFINDEX) == 0 && word(ctx, xdp::RX_QUEUE_INDEX) != 0 {
            return Err(invalid("`rx_queue_index` of the context is not 0, but `ingress_ifindex` is"));
        }
        if data.len() - (meta_len as usize) < ETH_HLEN {
            return Err(invalid("the packet behind the metadata is shorter than an Ethernet header"));
        }
    }
    set(buffer, data, meta_len)?;
    let from = match field(xdp::INGRESS_IFINDEX) {
        0 => LOOPBACK,
        ifindex => ifindex,
    };
    put(buffer, xdp::INGRESS_IFINDEX, &from.to_ne_bytes());
    put(buffer, xdp::RX_QUEUE_INDEX, &field(xdp::RX_QUEUE_INDEX).to_ne_bytes());
    put(buffer, xdp::EGRESS_IFINDEX, &[0; 4]);
    Ok(())
}

fn enter_skb(buffer: &mut PacketBuffer, data: &[u8], ctx: &[u8]) -> Result<(), Error> {
    let given = !ctx.is_empty();
    let ctx = whole(ctx, SK_BUFF_BYTES, "__sk_buff")?.unwrap_or_else(|| vec![0; SK_BUFF_BYTES]);
    let settable = |at: usize| SKB_INPUT.iter().any(|(start, len)| (*start..start + len).contains(&at));
    if let Some(at) = (0..SK_BUFF_BYTES).find(|at| ctx[*at] != 0 && !settable(*at)) {
        return Err(invalid(format!(
            "byte {at} of the context is not 0: of `struct __sk_buff` one may set mark, priority, ingress_ifindex, ifindex, cb, \
             tstamp, wire_len, gso_segs, gso_size and hwtstamp"
        )));
    }
    set(buffer, data, 0)?;
    let header = match data.get(12..14) {
        Some([0x08, 0x00]) => 20,
        Some([0x86, 0xdd]) => 40,
        _ => 0,
    };
    let content = data.len() - ETH_HLEN;
    if content < header {
        return Err(invalid(format!(
            "the packet says that it is IP, whose header has {header} bytes, and it has {content}"
        )));
    }
    for (start, len) in SKB_INPUT {
        put(buffer, *start, &ctx[*start..start + len]);
    }
    let len = buffer.len();
    match word(&ctx, skb::WIRE_LEN) {
        0 if given => put(buffer, skb::WIRE_LEN, &len.to_ne_bytes()),
        0 => {}
        wire_len if wire_len < len || wire_len > GSO_MAX_SIZE => {
            return Err(invalid(format!("`wire_len` of the context is {wire_len}, and the packet has {len} bytes")));
        }
        _ => {}
    }
    let segments = word(&ctx, skb::GSO_SEGS);
    if segments > GSO_MAX_SEGS {
        return Err(invalid(format!("`gso_segs` of the context is {segments}, more than 65535")));
    }
    if word(&ctx, skb::IFINDEX) == 0 {
        put(buffer, skb::IFINDEX, &LOOPBACK.to_ne_bytes());
    }
    socket(buffer, data);
    Ok(())
}

/// A packet that just came in from a device, as [`enter`] takes one without a context. Its length was checked.
pub(crate) fn arrive(buffer: &mut PacketBuffer, data: &[u8]) {
    let set = buffer.set(data, 0);
    debug_assert!(set, "the length was checked");
    if buffer.kind() == PacketKind::Xdp {
        put(buffer, xdp::INGRESS_IFINDEX, &LOOPBACK.to_ne_bytes());
        return;
    }
    put(buffer, skb::WIRE_LEN, &buffer.len().to_ne_bytes());
    put(buffer, skb::INGRESS_IFINDEX, &LOOPBACK.to_ne_bytes());
    put(buffer, skb::IFINDEX, &LOOPBACK.to_ne_bytes());
}

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// The addresses that the socket of a test run has: those of the packet.
fn socket(buffer: &PacketBuffer, data: &[u8]) {
    let (Some(ethertype), Some(header)) = (data.get(12..14), data.get(ETH_HLEN..)) else { return };
    match ethertype {
        [0x08, 0x00] => {
            put(buffer, skb::FAMILY, &AF_INET.to_ne_bytes());
            if let Some(header) = header.first_chunk::<20>() {
                put(buffer, skb::LOCAL_IP4, &header[12..16]);
                put(buffer, skb::REMOTE_IP4, &header[16..20]);
            }
        }
        [0x86, 0xdd] => {
            put(buffer, skb::FAMILY, &AF_INET6.to_ne_bytes());
            if let Some(header) = header.first_chunk::<40>() {
                put(buffer, skb::LOCAL_IP6, &header[8..24]);
                put(buffer, skb::REMOTE_IP6, &header[24..40]);
            }
        }
        _ => {}
    }
}

/// The packet after a run, as the kernel gives it: metadata in front for XDP, and zeros for the link layer's header where programs do not
/// see it.
pub(crate) fn data_out(buffer: &PacketBuffer) -> Vec<u8> {
    match buffer.kind() {
        PacketKind::Xdp => buffer.with_meta(),
        PacketKind::Link => buffer.bytes(),
        PacketKind::Network | PacketKind::Socket => [vec![0; ETH_HLEN], buffer.bytes()].concat(),
    }
}

/// The context after a run, in the form in which it is given; empty when none was given.
pub(crate) fn ctx_out(buffer: &PacketBuffer, given: &[u8]) -> Vec<u8> {
    if given.is_empty() {
        return Vec::new();
    }
    if buffer.kind() == PacketKind::Xdp {
        let mut ctx = given[..given.len().min(XDP_MD_BYTES)].to_vec();
        ctx.resize(XDP_MD_BYTES, 0);
        let (meta, all) = (buffer.meta_len(), buffer.meta_len() + buffer.len());
        ctx[xdp::DATA..xdp::DATA + 4].copy_from_slice(&meta.to_ne_bytes());
        ctx[xdp::DATA_END..xdp::DATA_END + 4].copy_from_slice(&all.to_ne_bytes());
        return ctx;
    }
    let mut ctx = given[..given.len().min(SK_BUFF_BYTES)].to_vec();
    ctx.resize(SK_BUFF_BYTES, 0);
    let now = buffer.ctx().bytes(0, SK_BUFF_BYTES);
    for (start, len) in SKB_INPUT {
        // What a device would cut it into, the kernel does not tell.
        if *start != skb::GSO_SIZE {
            ctx[*start..start + len].copy_from_slice(&now[*start..start + len]);
        }
    }
    ctx
}
