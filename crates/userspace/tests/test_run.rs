//! Test runs against the running kernel's (`BPF_PROG_TEST_RUN`): the same programs on the same packets and contexts give the same.

use std::path::{Path, PathBuf};

use skep_engine::{LoadOptions, Session, TestRun};
use skep_insn::text;
use skep_kernel::{KernelEngine, LiveTarget};
use skep_spec::{FuncId, Function, ProgId, ProgType, Program, Spec};
use skep_sys::caps::{Cap, Caps};
use skep_sys::version::KernelVersion;
use skep_userspace::UserEngine;

/// Whether this process may load programs. Says so if not, by the name of the capability.
fn may_load() -> bool {
    let may = Caps::effective().has(Cap::SYS_ADMIN);
    if !may {
        println!("skipped: needs CAP_SYS_ADMIN");
    }
    may
}

/// Whether this is a kernel whose test runs are those that the engine gives: of 6.18. Earlier ones differ here and there, in what a
/// context may say or what stays of a tag that was taken off.
fn is_the_model() -> bool {
    let is_it = KernelVersion::running() >= KernelVersion::new(6, 18, 0);
    if !is_it {
        println!("skipped: needs kernel 6.18");
    }
    is_it
}

/// An object with one program, in the kernel's spelling.
fn object(prog_type: ProgType, code: &str) -> Spec {
    let insns = text::assemble(code).unwrap_or_else(|errors| panic!("{code}: {errors:?}")).code;
    Spec {
        license: Some("GPL".into()),
        functions: vec![Function::new("it", "it", insns)],
        programs: vec![Program::new("it", FuncId(0), "it", prog_type)],
        ..Spec::new("hand_made")
    }
}

fn ethernet(to: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [to.as_slice(), &[2, 0, 0, 0, 0, 1], &ethertype.to_be_bytes(), payload].concat()
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = 20 + payload.len() as u16;
    let header = [0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0x12, 0x34, 10, 0, 0, 1, 10, 0, 0, 2];
    let mut packet = [header.as_slice(), payload].concat();
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet
}

fn tcp(port: u16) -> Vec<u8> {
    let mut segment = vec![0x12, 0x34, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0xab, 0xcd, 0, 0];
    segment[2..4].copy_from_slice(&port.to_be_bytes());
    segment.extend(0..20);
    segment
}

/// Packets of many kinds, some that no program takes.
fn packets() -> Vec<Vec<u8>> {
    let host = [0; 6];
    let mut ipv6 = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
    ipv6.extend((0..32).map(|at| at * 7));
    ipv6.extend(tcp(443));
    vec![
        ethernet(host, 0x0800, &ipv4(1, &[8; 64])),
        ethernet([2, 0, 0, 0, 0, 9], 0x0800, &ipv4(6, &tcp(80))),
        ethernet(host, 0x0800, &ipv4(6, &tcp(8080))),
        ethernet([0xff; 6], 0x0806, &[1; 46]),
        ethernet([0x33, 0x33, 0, 0, 0, 1], 0x86dd, &ipv6),
        ethernet(host, 0x8100, &[[0, 5, 8, 0].as_slice(), &ipv4(17, &[3; 30])].concat()),
        ethernet(host, 0x88a8, &[[0, 7, 0x81, 0, 0, 9, 8, 0].as_slice(), &ipv4(17, &[3; 30])].concat()),
        ethernet(host, 0x0800, &ipv4(17, &[9; 1400])),
        ethernet(host, 60, &[0xff; 60]),
        ethernet(host, 60, &[0xaa; 60]),
        ethernet(host, 60, &[]),
        ethernet([2, 0, 0, 0, 0, 9], 0x0806, &[]),
        ethernet(host, 0x0800, &[]),
        ethernet(host, 0x0800, &[0x45]),
        vec![1; 13],
        vec![],
    ]
}

/// What a run gave: r0, the data, the context.
type Given = Option<(u32, Vec<u8>, Vec<u8>)>;

fn given(session: &dyn Session, program: ProgId, data: &[u8], ctx: &[u8], repeat: u32) -> (Given, String) {
    match session.test_run(program, &TestRun { data, ctx, repeat, cpu: None }) {
        Ok(out) => (Some((out.retval, out.data, out.ctx)), String::new()),
        Err(error) => (None, error.to_string()),
    }
}

/// Both engines, and what is wrong.
struct Pair {
    kernel: KernelEngine,
    user: UserEngine,
    wrong: Vec<String>,
    same: usize,
}

impl Pair {
    fn new() -> Pair {
        let user = UserEngine::new(LiveTarget::shared());
        Pair { kernel: KernelEngine::new(), user, wrong: Vec::new(), same: 0 }
    }

    /// Runs the programs of an object that both engines take.
    fn run(&mut self, what: &str, spec: &Spec, inputs: &[(Vec<u8>, Vec<u8>, u32)]) {
        let options = LoadOptions::default();
        let kernel = self.kernel.load(spec.clone(), &options).unwrap_or_else(|error| panic!("{what}: {error}"));
        let user = self.user.load(spec.clone(), &options).unwrap_or_else(|error| panic!("{what}: {error}"));
        for loaded in kernel.programs() {
            let id = loaded.program;
            let program = spec.program(id);
            let what = format!("{what}, program `{}` ({})", program.name, program.prog_type);
            let here = user.programs().iter().find(|it| it.program == id).map(|it| &it.result);
            match (&loaded.result, here) {
                (Ok(_), Some(Ok(_))) => {}
                // What the verifier does not take, or this machine has not.
                _ => continue,
            }
            for (data, ctx, repeat) in inputs {
                let (wanted, why) = given(&kernel, id, data, ctx, *repeat);
                let (found, reason) = given(&user, id, data, ctx, *repeat);
                if wanted == found {
                    self.same += usize::from(wanted.is_some());
                    continue;
                }
                let len = data.len();
                self.wrong.push(format!(
                    "{what}: {len} bytes {data:02x?}, context {ctx:02x?}, {repeat} times:\n  kernel {wanted:02x?} {why}\n  \
                     user   {found:02x?} {reason}"
                ));
            }
        }
    }

    fn finish(self, least: usize) {
        let shown: Vec<&str> = self.wrong.iter().take(12).map(String::as_str).collect();
        assert!(self.wrong.is_empty(), "{} runs differ:\n{}", self.wrong.len(), shown.join("\n"));
        assert!(self.same >= least, "only {} runs were compared", self.same);
    }
}

/// Whether nothing stands behind the Ethernet header, or not the whole header of IP where it says so: older kernels answer otherwise.
fn is_cut(data: &[u8]) -> bool {
    data.len() == 14 || data.get(12..14) == Some(&[8, 0]) && data.len() < 34
}

fn plain() -> Vec<(Vec<u8>, Vec<u8>, u32)> {
    let new = KernelVersion::running() >= KernelVersion::new(6, 18, 0);
    packets().into_iter().filter(|data| new || !is_cut(data)).map(|data| (data, Vec::new(), 1)).collect()
}

/// A program that calls a helper with the context in r1 and the arguments behind it.
fn call(helper: &str, args: &[i64]) -> String {
    let mut code = String::from("r6 = r1\n");
    for (register, value) in (2..).zip(args) {
        code.push_str(&format!("r{register} = {value}\n"));
    }
    code + &format!("call {helper}\n")
}

#[test]
fn helpers_of_xdp_give_what_the_kernel_gives() {
    if !may_load() {
        return;
    }
    let mut pair = Pair::new();
    let mut run = |code: String| pair.run(&code, &object(ProgType::XDP, &code), &plain());
    for by in [-20, -216, -217, 0, 14, 40, 60, 1000] {
        run(call("bpf_xdp_adjust_head#44", &[by]) + "exit");
    }
    for by in [-20, -60, -1000, 0, 20, 3000, 4000] {
        run(call("bpf_xdp_adjust_tail#65", &[by]) + "exit");
    }
    for by in [-4, -8, -6, -216, -220, 0, 4] {
        // Older kernels have no more than 32 bytes of metadata.
        if by < -32 && KernelVersion::running() < KernelVersion::new(6, 18, 0) {
            continue;
        }
        run(call("bpf_xdp_adjust_meta#54", &[by]) + "exit");
        run(call("bpf_xdp_adjust_meta#54", &[by]) + "r1 = r6\nr2 = -12\ncall bpf_xdp_adjust_head#44\nexit");
        run(call("bpf_xdp_adjust_meta#54", &[by]) + "r1 = r6\nr2 = 16\ncall bpf_xdp_adjust_head#44\nexit");
    }
    run(call("bpf_redirect#23", &[0]) + "exit");
    for (ifindex, flags) in [(5, 0), (5, 1)] {
        run(format!("r1 = {ifindex}\nr2 = {flags}\ncall bpf_redirect#23\nexit"));
    }
    if KernelVersion::running() >= KernelVersion::new(5, 18, 0) {
        run(call("bpf_xdp_get_buff_len#188", &[]) + "exit");
        for (off, len) in [(0, 4), (12, 8), (30, 8), (60, 8), (100, 8), (70_000, 8)] {
            run(format!(
                "*(u64 *)(r10 - 8) = 0\nr2 = {off}\nr3 = r10\nr3 += -8\nr4 = {len}\ncall bpf_xdp_load_bytes#189\n\
                 if r0 != 0 goto +1\nr0 = *(u32 *)(r10 - 8)\nexit"
            ));
            run(format!(
                "*(u64 *)(r10 - 8) = 0x1234567\nr2 = {off}\nr3 = r10\nr3 += -8\nr4 = {len}\n\
                 call bpf_xdp_store_bytes#190\nexit"
            ));
        }
    }
    run("r2 = *(u32 *)(r1 + 0)\nr0 = *(u32 *)(r1 + 4)\nr0 -= r2\nexit".into());
    run("r2 = *(u32 *)(r1 + 8)\nr0 = *(u32 *)(r1 + 0)\nr0 -= r2\nexit".into());
    run("r0 = *(u32 *)(r1 + 12)\nexit".into());
    run("r0 = *(u32 *)(r1 + 16)\nexit".into());
    pair.finish(400);
}

/// As in the kernel, where they are gone when they are sent. Not held against it here: its copies would go over the machine's own interfaces.
#[test]
fn a_program_that_is_repeated_sends_a_copy_each_time() {
    let code = call("bpf_clone_redirect#13", &[1, 0]) + "exit";
    let session =
        UserEngine::new(LiveTarget::shared()).load(object(ProgType::SCHED_CLS, &code), &LoadOptions::default());
    let session = session.unwrap_or_else(|error| panic!("{error}"));
    for repeat in [1, 64, 65, 1000] {
        let (given, why) = given(&session, ProgId(0), &packets()[0], &[], repeat);
        assert_eq!(given.map(|(retval, ..)| retval), Some(0), "{repeat} times: {why}");
    }
}

/// Fields of `struct __sk_buff` whose values do not depend on the machine.
const SKB_FIELDS: &[u32] =
    &[0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 84, 160, 164, 176];

#[test]
fn helpers_of_the_network_stack_give_what_the_kernel_gives() {
    if !may_load() || !is_the_model() {
        return;
    }
    let mut pair = Pair::new();
    let mut run = |code: String| pair.run(&code, &object(ProgType::SCHED_CLS, &code), &plain());
    for field in SKB_FIELDS {
        run(format!("r0 = *(u32 *)(r1 + {field})\nexit"));
    }
    run("r2 = *(u32 *)(r1 + 76)\nr0 = *(u32 *)(r1 + 80)\nr0 -= r2\nexit".into());
    run("r2 = *(u32 *)(r1 + 140)\nr0 = *(u32 *)(r1 + 76)\nr0 -= r2\nexit".into());
    for (off, len) in [(0, 4), (12, 8), (30, 8), (60, 8), (100, 8), (70_000, 8), (-1, 4)] {
        run(format!(
            "*(u64 *)(r10 - 8) = 0\nr2 = {off}\nr3 = r10\nr3 += -8\nr4 = {len}\ncall bpf_skb_load_bytes#26\n\
             if r0 != 0 goto +1\nr0 = *(u32 *)(r10 - 8)\nexit"
        ));
        for from in [0, 1, 2] {
            run(format!(
                "*(u64 *)(r10 - 8) = 0\nr2 = {off}\nr3 = r10\nr3 += -8\nr4 = {len}\nr5 = {from}\n\
                 call bpf_skb_load_bytes_relative#68\nif r0 != 0 goto +1\nr0 = *(u32 *)(r10 - 8)\nexit"
            ));
        }
        for flags in [0, 1, 2, 3, 4] {
            run(format!(
                "*(u64 *)(r10 - 8) = 0x1234567\nr2 = {off}\nr3 = r10\nr3 += -8\nr4 = {len}\nr5 = {flags}\n\
                 call bpf_skb_store_bytes#9\nexit"
            ));
        }
    }
    for len in [0, 14, 60, 100, 5000] {
        run(call("bpf_skb_pull_data#39", &[len]) + "exit");
    }
    for (room, flags) in [(0, 0), (14, 0), (200, 0), (14, 1), (70_000, 0), (-1, 0)] {
        run(call("bpf_skb_change_head#43", &[room, flags]) + "exit");
    }
    for (len, flags) in [(0, 0), (14, 0), (13, 0), (40, 0), (200, 0), (200, 1), (70_000, 0)] {
        run(call("bpf_skb_change_tail#38", &[len, flags]) + "exit");
    }
    for to in [0, 1, 3, 4] {
        run(call("bpf_skb_change_type#32", &[to]) + "if r0 != 0 goto +1\nr0 = *(u32 *)(r6 + 4)\nexit");
    }
    // Words in network order, as programs give them.
    for (off, from, to, flags) in [
        (24, 0x3412, 0x7856, 2),
        (24, 0x0100_000a, 0x0200_000a, 4),
        (24, 0, 0x1234_5678, 0),
        (24, 1, 2, 0),
        (24, 1, 2, 3),
        (24, 1, 2, 0x12),
        (25, 1, 2, 2),
        (3000, 1, 2, 2),
        (24, 0xffff, 0, 2),
        (24, 0, 0xffff, 2),
    ] {
        run(call("bpf_l3_csum_replace#10", &[off, from, to, flags]) + "exit");
        for more in [0, 0x10, 0x20, 0x40, 0x60] {
            run(call("bpf_l4_csum_replace#11", &[off + 26, from, to, flags | more]) + "exit");
        }
    }
    let vlan = |proto: i64, tci: i64| call("bpf_skb_vlan_push#18", &[proto, tci]);
    let state = "if r0 != 0 goto +6\nr0 = *(u32 *)(r6 + 24)\nr0 <<= 16\nr1 = *(u32 *)(r6 + 28)\nr0 |= r1\n\
                 r1 = *(u32 *)(r6 + 20)\nr0 += r1\nexit";
    run(vlan(0x0081, 5) + state);
    run(vlan(0xa888, 5) + state);
    run(vlan(0, 5) + state);
    run(vlan(0x0081, 5) + "r1 = r6\nr2 = 0xa888\nr3 = 7\ncall bpf_skb_vlan_push#18\n" + state);
    run(vlan(0x0081, 5) + "r1 = r6\ncall bpf_skb_vlan_pop#19\n" + state);
    run(call("bpf_skb_vlan_pop#19", &[]) + state);
    run(call("bpf_skb_vlan_pop#19", &[]) + "r1 = r6\ncall bpf_skb_vlan_pop#19\n" + state);
    run(call("bpf_csum_update#40", &[5]) + "exit");
    for level in [0, 1, 3, 4] {
        run(call("bpf_csum_level#135", &[level]) + "exit");
    }
    run(call("bpf_set_hash#48", &[77]) + "r0 = *(u32 *)(r6 + 68)\nexit");
    run(call("bpf_set_hash#48", &[77])
        + "r1 = r6\ncall bpf_get_hash_recalc#34\nr1 = r6\n\
         call bpf_set_hash_invalid#41\nr0 = *(u32 *)(r6 + 68)\nexit");
    for (ifindex, flags) in [(5, 0), (5, 1), (5, 2)] {
        run(format!("r1 = {ifindex}\nr2 = {flags}\ncall bpf_redirect#23\nexit"));
    }
    // Room behind the headers, in packets that other packets carry and without.
    let after = "if r0 != 0 goto +8\nr0 = *(u32 *)(r6 + 16)\nr0 <<= 16\nr1 = *(u32 *)(r6 + 0)\nr0 |= r1\n\
                 r2 = *(u32 *)(r6 + 76)\nr1 = *(u32 *)(r6 + 80)\nr1 -= r2\nr0 += r1\nexit";
    let wide = |to: i64, mode: i64, flags: i64| {
        format!("r6 = r1\nr2 = {to}\nr3 = {mode}\nr4 = {flags} ll\ncall bpf_skb_adjust_room#50\n")
    };
    let encapsulations =
        [0x02, 0x04, 0x0a, 0x12, 0x06, 0x1a, 0x42, 0x0e00_0000_0000_0042, 0x0d00_0000_0000_0042, 0x2800_0000_0000_0004];
    for to in [0, 8, 20, 40, 0xfff, 0x1000, -8, -20, -28, -40, -100, -0xfff, -0x1000] {
        for mode in [0, 1, 2] {
            for flags in [0, 0x01, 0x20, 0x80, 0x100, 0x180, 0x200].into_iter().chain(encapsulations) {
                run(wide(to, mode, flags) + after);
            }
        }
    }
    for flags in [0, 0x02, 0x04] {
        let again = format!("r1 = r6\nr2 = 20\nr3 = 1\nr4 = {flags}\ncall bpf_skb_adjust_room#50\n");
        run(wide(40, 1, 0x04) + &again + after);
        let less = format!("r1 = r6\nr2 = -40\nr3 = 1\nr4 = {}\ncall bpf_skb_adjust_room#50\n", flags << 6);
        run(wide(40, 1, 0x04) + &less + after);
        run(wide(40, 1, 0x04) + &less + &again + after);
    }
    for (to, flags) in [(0xdd86, 0), (0x0008, 0), (0xdd86, 1), (0x0608, 0)] {
        run(call("bpf_skb_change_proto#31", &[to, flags]) + after);
        for back in [0xdd86, 0x0008] {
            let again = format!("r1 = r6\nr2 = {back}\nr3 = 0\ncall bpf_skb_change_proto#31\n");
            run(call("bpf_skb_change_proto#31", &[to, flags]) + &again + after);
        }
    }
    // What programs write into the context comes back with it.
    run("*(u32 *)(r1 + 8) = 7\n*(u32 *)(r1 + 32) = 8\n*(u32 *)(r1 + 48) = 9\nr0 = *(u32 *)(r1 + 8)\nexit".into());
    pair.finish(5000);
}

#[test]
fn packets_behind_their_ethernet_header_are_the_kernels() {
    if !may_load() {
        return;
    }
    let mut pair = Pair::new();
    let codes = [
        "r0 = *(u32 *)(r1 + 0)\nexit",
        "r0 = *(u32 *)(r1 + 4)\nexit",
        "r0 = *(u32 *)(r1 + 16)\nexit",
        "r0 = *(u32 *)(r1 + 40)\nexit",
        "r6 = r1\nr0 = *(u8 *)skb[0]\nexit",
        "r6 = r1\nr0 = *(u16 *)skb[2]\nexit",
        "r6 = r1\nr0 = *(u32 *)skb[12]\nexit",
        "r6 = r1\nr0 = *(u32 *)skb[-1048576]\nexit",
        "r6 = r1\nr0 = *(u32 *)skb[-2097152]\nexit",
        "r6 = r1\nr0 = *(u32 *)skb[60]\nexit",
        "*(u64 *)(r10 - 8) = 0\nr2 = 12\nr3 = r10\nr3 += -8\nr4 = 4\ncall bpf_skb_load_bytes#26\n\
         if r0 != 0 goto +1\nr0 = *(u32 *)(r10 - 8)\nexit",
    ];
    for code in codes {
        pair.run(code, &object(ProgType::SOCKET_FILTER, code), &plain());
    }
    // What else may be read from a cgroup's or a tunnel's packet.
    for code in [
        "r2 = *(u32 *)(r1 + 76)\nr0 = *(u32 *)(r1 + 80)\nr0 -= r2\nr0 &= 1\nexit",
        "r0 = *(u32 *)(r1 + 88)\nr0 &= 1\nexit",
        "r0 = *(u32 *)(r1 + 92)\nr0 >>= 24\nr0 &= 1\nexit",
        "r0 = *(u32 *)(r1 + 96)\nr0 >>= 24\nr0 &= 1\nexit",
        "r0 = *(u32 *)(r1 + 100)\nr0 >>= 24\nr0 &= 1\nexit",
        "r0 = *(u32 *)(r1 + 116)\nr0 >>= 24\nr0 &= 1\nexit",
    ] {
        pair.run(code, &object(ProgType::CGROUP_SKB, code), &plain());
    }
    pair.finish(120);
}

/// Contexts with one word set, and some with more.
fn contexts(len: usize, data: &[u8]) -> Vec<Vec<u8>> {
    let mut all = vec![vec![0; len], vec![0; len - 4], vec![0; len + 8], [vec![0; len], vec![1]].concat(), vec![0; 1]];
    for at in (0..len).step_by(4) {
        for value in [1, 4, 8, 14, 256, data.len() as u32, data.len() as u32 + 1, 0x10000] {
            let mut ctx = vec![0; len];
            ctx[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            all.push(ctx);
        }
    }
    all
}

#[test]
fn contexts_are_checked_and_given_back_as_the_kernel_does() {
    if !may_load() || !is_the_model() {
        return;
    }
    let mut pair = Pair::new();
    let data = packets().remove(1);
    let mut inputs = Vec::new();
    for mut ctx in contexts(24, &data) {
        inputs.push((data.clone(), ctx.clone(), 1));
        // With the data's end, which most need.
        if ctx.len() >= 24 {
            ctx[4..8].copy_from_slice(&(data.len() as u32).to_ne_bytes());
            inputs.push((data.clone(), ctx, 1));
        }
    }
    // Devices are the machine's own, and packets in pieces (kernel 6.18) are not to be had here.
    inputs.retain(|(data, ctx, _)| {
        let word = |at: usize| ctx.get(at..at + 4).map_or(0, |it| u32::from_ne_bytes([it[0], it[1], it[2], it[3]]));
        word(12) <= 1 && word(4) as usize >= data.len()
    });
    for code in [
        "r2 = *(u32 *)(r1 + 8)\nr0 = *(u32 *)(r1 + 0)\nr0 -= r2\nexit",
        "r0 = *(u32 *)(r1 + 16)\nexit",
        "r2 = -8\ncall bpf_xdp_adjust_meta#54\nexit",
        "r2 = 20\ncall bpf_xdp_adjust_head#44\nexit",
    ] {
        pair.run(code, &object(ProgType::XDP, code), &inputs);
    }
    let inputs: Vec<_> = contexts(192, &data)
        .into_iter()
        .filter(|ctx| ctx.get(40..44).is_none_or(|it| u32::from_ne_bytes([it[0], it[1], it[2], it[3]]) <= 1))
        // Packets in pieces, as above.
        .filter(|ctx| ctx.get(80..84).is_none_or(|it| it == [0; 4]))
        .map(|ctx| (data.clone(), ctx, 1))
        .collect();
    for code in ["r0 = *(u32 *)(r1 + 48)\nexit", "*(u32 *)(r1 + 8) = 7\nr0 = *(u32 *)(r1 + 160)\nexit"] {
        pair.run(code, &object(ProgType::SCHED_CLS, code), &inputs);
    }
    let code = "r0 = *(u32 *)(r1 + 8)\nexit";
    pair.run(code, &object(ProgType::SOCKET_FILTER, code), &inputs);
    pair.finish(300);
}

#[test]
fn a_packet_that_is_run_often_keeps_what_each_run_did() {
    if !may_load() {
        return;
    }
    let mut pair = Pair::new();
    let inputs: Vec<_> =
        plain().into_iter().flat_map(|(data, ..)| [2, 3, 7].map(|times| (data.clone(), vec![], times))).collect();
    for code in ["r2 = 4\ncall bpf_xdp_adjust_head#44\nexit", "r2 = -4\ncall bpf_xdp_adjust_head#44\nexit"] {
        pair.run(code, &object(ProgType::XDP, code), &inputs);
    }
    let code = "r2 = *(u32 *)(r1 + 8)\nr2 += 1\n*(u32 *)(r1 + 8) = r2\nr0 = r2\nexit";
    pair.run(code, &object(ProgType::SCHED_CLS, code), &inputs);
    pair.finish(80);
}

#[test]
fn programs_with_a_plain_context_give_what_the_kernel_gives() {
    if !may_load() {
        return;
    }
    let mut pair = Pair::new();
    let inputs: Vec<_> = [8, 16, 96].map(|len| (vec![], (0..len).collect::<Vec<u8>>(), 0)).to_vec();
    let code = "r0 = *(u64 *)(r1 + 0)\nexit";
    pair.run(code, &object(ProgType::RAW_TRACEPOINT, code), &inputs);
    let mut syscall = object(ProgType::SYSCALL, "r2 = *(u32 *)(r1 + 4)\n*(u32 *)(r1 + 0) = r2\nr0 = r2\nexit");
    syscall.programs[0].flags = 1 << 4; // BPF_F_SLEEPABLE
    pair.run("syscall", &syscall, &inputs);
    pair.finish(6);
}

/// Every compiled object of one kind of the corpus and the examples.
fn objects() -> Vec<PathBuf> {
    let dir = std::env::var_os("SKEP_TEST_OBJECTS").map(PathBuf::from).unwrap_or_default().join("clang19-el");
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "o") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&dir, &mut found);
    found.sort();
    found
}

/// Calls whose answers differ from machine to machine, or from call to call.
fn depends_on_the_moment(spec: &Spec) -> bool {
    const MOMENT: &[&str] =
        &["ktime", "random", "smp_processor", "pid_tgid", "uid_gid", "comm", "jiffies", "task", "cgroup"];
    spec.functions.iter().flat_map(|function| &function.insns).filter_map(|insn| insn.helper()).any(|helper| {
        let name = skep_insn::helpers::name(helper).unwrap_or_default();
        MOMENT.iter().any(|part| name.contains(part))
    })
}

#[test]
fn programs_of_the_corpus_give_what_the_kernel_gives() {
    if !may_load() {
        return;
    }
    let objects = objects();
    if objects.is_empty() {
        println!("skipped: needs the compiled corpus");
        return;
    }
    let mut pair = Pair::new();
    for path in objects {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        let Ok(mut spec) = Spec::parse(&bytes, name.split('.').next().unwrap_or_default()) else { continue };
        let mut wanted = false;
        for program in &mut spec.programs {
            let packets = matches!(
                program.prog_type,
                ProgType::XDP
                    | ProgType::SCHED_CLS
                    | ProgType::SCHED_ACT
                    | ProgType::SOCKET_FILTER
                    | ProgType::CGROUP_SKB
                    | ProgType::LWT_IN
                    | ProgType::LWT_OUT
                    | ProgType::LWT_XMIT
            );
            // The kernel runs no program that is for a device or a processor.
            program.autoload &= packets && !program.section.contains("map");
            wanted |= program.autoload;
        }
        if !wanted || depends_on_the_moment(&spec) {
            continue;
        }
        for map in &mut spec.maps {
            map.pinning = skep_spec::map::Pinning::None;
        }
        pair.run(&name, &spec, &plain());
    }
    pair.finish(100);
}
