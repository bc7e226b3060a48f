//! Helpers that are not about maps: each by a program that calls it, and those of texts and checksums against the kernel.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use common::{code, kernel, random::Rng};
use skep_insn::{InsnIdx, helpers};
use skep_sys::bpf::MapCreate;
use skep_vm::{Block, Cpu, Event, Helpers, Image, LoadErrorKind, Machine, MapKind, MapSpec, Memory, Task, Trap};

const EFAULT: u64 = -14i64 as u64;
const EINVAL: u64 = -22i64 as u64;
const E2BIG: u64 = -7i64 as u64;

/// A task whose memory is one text at 0x1000 and a page without end at 0x2ff0.
#[derive(Debug)]
struct Fake;

impl Task for Fake {
    fn pid_tgid(&self) -> u64 {
        7 << 32 | 8
    }

    fn uid_gid(&self) -> u64 {
        3 << 32 | 4
    }

    fn comm(&self) -> Vec<u8> {
        b"a-name-that-is-too-long".to_vec()
    }

    fn user_stack(&self, max: usize) -> Option<Vec<u64>> {
        Some((0x100..0x100 + 5).take(max).collect())
    }
}

impl Memory for Fake {
    fn read(&self, addr: u64, to: &mut [u8]) -> Option<()> {
        let text = [&b"hello\0"[..], &[9; 0xffa]].concat();
        let pieces: [(u64, &[u8]); 2] = [(0x1000, &text), (0x2ff0, &[b'x'; 16])];
        let (start, bytes) =
            pieces.into_iter().find(|(start, bytes)| (*start..start + bytes.len() as u64).contains(&addr))?;
        let at = (addr - start) as usize;
        to.copy_from_slice(bytes.get(at..at + to.len())?);
        Some(())
    }

    fn write(&self, addr: u64, from: &[u8]) -> Option<()> {
        (addr == 0x1000 && from == [1, 2]).then_some(())
    }
}

struct Bench {
    machine: Arc<Machine>,
    cpu: Cpu,
    input: Block,
}

impl Bench {
    fn new() -> Bench {
        let machine = Machine::with_cpus(Helpers::all(), 4).expect("4 GiB of addresses");
        let mut cpu = Cpu::new(&machine).expect("a stack");
        cpu.set_task(Some(Arc::new(Fake)));
        cpu.set_memory(Some(Arc::new(Fake)));
        let input = machine.space().allocate(1024, true).expect("a block");
        Bench { machine, cpu, input }
    }

    /// Runs a program with this input; r1 and r6 are its address.
    fn run(&mut self, input: &[u8], asm: &str) -> Result<u64, Box<Trap>> {
        self.input.zero(0, 1024).expect("it fits");
        self.input.write(0, input).expect("it fits");
        let insns = code("program", &format!("r6 = r1\n{asm}\nexit"));
        let program = self.machine.load(&Image { insns: &insns, ..Image::default() }).expect("a good program");
        self.cpu.run(&program, [self.input.addr(), 0])
    }

    fn gives(&mut self, input: &[u8], asm: &str) -> u64 {
        self.run(input, asm).expect("it ends well")
    }

    fn after(&self, at: u64, len: usize) -> Vec<u8> {
        self.input.bytes(at, len)
    }

    /// What `bpf_snprintf` makes of a format and numbers, and what it returns.
    fn snprintf(&mut self, format: &str, args: &[u64], room: u32) -> (u64, String) {
        let mut input: Vec<u8> = args.iter().flat_map(|arg| arg.to_ne_bytes()).collect();
        input.resize(128, 0);
        input.extend(format.as_bytes());
        let len = args.len() * 8;
        let asm = format!(
            "r1 = r6\nr1 += 512\nr2 = {room}\nr3 = r6\nr3 += 128\nr4 = r6\nr5 = {len}\ncall {}",
            helpers::SNPRINTF
        );
        let returned = self.gives(&input, &asm);
        let text = self.after(512, 512);
        let end = text.iter().position(|byte| *byte == 0).expect("it has an end");
        (returned, String::from_utf8_lossy(&text[..end]).into_owned())
    }
}

#[test]
fn the_task_and_the_event_are_those_that_were_set() {
    let mut bench = Bench::new();
    bench.cpu.set_event(Event { cookie: 11, func_ip: 12, session: None });
    bench.cpu.set_number(3);
    for (id, wanted) in [
        (helpers::GET_CURRENT_PID_TGID, 7 << 32 | 8),
        (helpers::GET_CURRENT_UID_GID, 3 << 32 | 4),
        (helpers::GET_CURRENT_TASK, 7 << 32 | 8),
        (helpers::GET_ATTACH_COOKIE, 11),
        (helpers::GET_FUNC_IP, 12),
        (helpers::GET_SMP_PROCESSOR_ID, 3),
        (helpers::GET_NUMA_NODE_ID, 0),
    ] {
        assert_eq!(bench.gives(&[], &format!("call {id}")), wanted, "{id}");
    }
    assert_eq!(bench.gives(&[255; 24], "r2 = 16\ncall 16"), 0);
    assert_eq!(bench.after(0, 17), b"a-name-that-is-\0\xff");
    assert_eq!(bench.gives(&[255; 24], "r2 = 4\ncall 16"), 0);
    assert_eq!(bench.after(0, 5), b"a-n\0\xff");
    bench.cpu.set_task(None);
    assert_eq!(bench.gives(&[], "call 14"), EINVAL);
}

#[test]
fn clocks_go_forward_and_random_numbers_differ() {
    let mut bench = Bench::new();
    for id in [
        helpers::KTIME_GET_NS,
        helpers::KTIME_GET_BOOT_NS,
        helpers::KTIME_GET_COARSE_NS,
        helpers::KTIME_GET_TAI_NS,
        helpers::JIFFIES64,
    ] {
        let (one, two) = (bench.gives(&[], &format!("call {id}")), bench.gives(&[], &format!("call {id}")));
        assert!(0 < one && one <= two, "{id}: {one} {two}");
    }
    let random: std::collections::BTreeSet<u64> = (0..100).map(|_| bench.gives(&[], "call 7")).collect();
    assert!(random.len() > 95 && random.iter().all(|number| *number <= u64::from(u32::MAX)));
}

#[test]
fn memory_of_the_task_is_read_and_written() {
    let mut bench = Bench::new();
    let read = |id: u32, addr: u64, len: u64| format!("r2 = {len}\nr3 = {addr} ll\ncall {id}");
    assert_eq!(bench.gives(&[255; 8], &read(helpers::PROBE_READ_USER, 0x1001, 4)), 0);
    assert_eq!(bench.after(0, 5), b"ello\xff");
    assert_eq!(bench.gives(&[255; 8], &read(helpers::PROBE_READ_USER, 0x5000, 4)), EFAULT);
    assert_eq!(bench.after(0, 5), b"\0\0\0\0\xff");
    assert_eq!(bench.gives(&[255; 8], &read(helpers::PROBE_READ_KERNEL, 0x1000, 4)), EFAULT);
    assert_eq!(bench.gives(&[255; 8], &read(helpers::PROBE_READ, 0x1000, 4)), 0);
    // Its own memory is what the kernel's is there.
    let own = "r1 = r6\nr2 = 4\nr3 = r6\nr3 += 4\ncall 113";
    assert_eq!(bench.gives(b"....abcd", own), 0);
    assert_eq!(bench.after(0, 4), b"abcd");
    let text = helpers::PROBE_READ_USER_STR;
    assert_eq!(bench.gives(&[255; 16], &read(text, 0x1000, 10)), 6);
    assert_eq!(bench.after(0, 7), b"hello\0\xff");
    assert_eq!(bench.gives(&[255; 16], &read(text, 0x1000, 3)), 3);
    assert_eq!(bench.after(0, 4), b"he\0\xff");
    assert_eq!(bench.gives(&[255; 16], &read(text, 0x1005, 3)), 1, "an empty text");
    assert_eq!(bench.gives(&[255; 16], &read(text, 0x2ff8, 9)), 9, "up to the end of what is there");
    assert_eq!(bench.gives(&[255; 16], &read(text, 0x2ff8, 10)), EFAULT);
    assert_eq!(bench.gives(&[1, 2], "r1 = 0x1000\nr2 = r6\nr3 = 2\ncall 36"), 0);
    assert_eq!(bench.gives(&[1, 3], "r1 = 0x1000\nr2 = r6\nr3 = 2\ncall 36"), EFAULT);
    // Where it is put must be the program's.
    assert!(bench.run(&[], "r1 = 0x1000\nr2 = 4\nr3 = r6\ncall 112").is_err());
}

#[test]
fn formats_are_the_kernels() {
    let mut bench = Bench::new();
    let minus = -5i64 as u64;
    for (format, args, wanted) in [
        ("%d %i %u", &[minus, 7, minus][..], "-5 7 4294967291"),
        ("%ld %lu %llx", &[minus, minus, minus], "-5 18446744073709551611 fffffffffffffffb"),
        ("[%5d][%-5d][%05d][%+d][% d]", &[minus, minus, minus, 5, 5], "[   -5][-5   ][-0005][+5][ 5]"),
        ("%x %X %08x %lX", &[0xab, 0xab, 0xab, 1 << 40], "ab AB 000000ab 10000000000"),
        ("100%% %c%c", &[b'o'.into(), b'k'.into()], "100% ok"),
        ("%s, %10s|%-7s|", &[0x1000, 0x1000, 0x1000], "hello,      hello|hello  |"),
        ("%pus!%pks.", &[0x1000, 0x1000], "hello!."),
        ("%px %p", &[0x1234, 0x1234], "0000000000001234 0000000000001234"),
    ] {
        assert_eq!(bench.snprintf(format, args, 256), (wanted.len() as u64 + 1, wanted.to_owned()), "{format}");
    }
    assert_eq!(bench.snprintf("%d-%d", &[100, 200], 5), (8, "100-".to_owned()), "the length of the whole");
    for wrong in ["%d", "%y", "%5", "%", "%hd", "%sx", "%pI5", "%#x", "\u{1}"] {
        let args: &[u64] = if wrong == "%d" { &[] } else { &[0x1000] };
        assert_eq!(bench.snprintf(wrong, args, 256).0, EINVAL, "{wrong}");
    }
    let addr = bench.input.addr();
    let ip = |format: &str, bench: &mut Bench| bench.snprintf(format, &[addr, 0x0201_a8c0], 256).1;
    let at = format!("{addr:x}");
    assert_eq!(ip("%lx", &mut bench), at);
    let (low, high) = (addr.to_ne_bytes(), 0x0201_a8c0u64.to_ne_bytes());
    let dotted = format!("{}.{}.{}.{}", low[0], low[1], low[2], low[3]);
    assert_eq!(ip("%pI4", &mut bench), dotted);
    let hex: String = low.iter().chain(&high).map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(ip("%pi6", &mut bench), hex);
}

#[test]
fn printed_texts_wait_with_who_printed_them() {
    let mut bench = Bench::new();
    assert_eq!(bench.gives(b"n=%d %s\n\0", "r2 = 9\nr3 = 42\nr4 = 0x1000\nr5 = 0\ncall 6"), 11);
    let text = bench.machine.printed().take().expect("one");
    assert_eq!((text.text.as_slice(), text.pid_tgid, text.cpu), (&b"n=42 hello\n"[..], 7 << 32 | 8, 0));
    assert_eq!(bench.gives(b"no end", "r2 = 6\nr3 = 0\ncall 6"), EINVAL);
    let vprintk = "r1 = r6\nr1 += 16\nr2 = 16\nr3 = r6\nr4 = 16\ncall 177";
    let input = [&1u64.to_ne_bytes()[..], &2u64.to_ne_bytes(), b"%d+%d\0"].concat();
    assert_eq!(bench.gives(&input, vprintk), 3);
    assert_eq!(bench.machine.printed().take().expect("one").text, b"1+2");
    assert_eq!(bench.machine.printed().take(), None);
}

#[test]
fn dynptrs_stay_in_their_bounds() {
    let mut bench = Bench::new();
    let make = "r2 = 16\nr3 = 0\nr4 = r10\nr4 += -16\ncall 197\nif r0 != 0 goto out\n";
    let read = |off: u64, len: u64| {
        format!("{make}r1 = r6\nr1 += 32\nr2 = {len}\nr3 = r10\nr3 += -16\nr4 = {off}\nr5 = 0\ncall 201\nout:")
    };
    assert_eq!(bench.gives(b"0123456789abcdef", &read(4, 12)), 0);
    assert_eq!(bench.after(32, 13), b"456789abcdef\0");
    assert_eq!(bench.gives(&[], &read(4, 13)), E2BIG);
    assert_eq!(bench.gives(&[], &read(17, 0)), E2BIG);
    let write = format!("{make}r1 = r10\nr1 += -16\nr2 = 2\nr3 = r6\nr3 += 8\nr4 = 4\nr5 = 0\ncall 202\nout:");
    assert_eq!(bench.gives(b"0123456789abcdef", &write), 0);
    assert_eq!(bench.after(0, 8), b"0189ab67");
    let data = format!("{make}r1 = r10\nr1 += -16\nr2 = 8\nr3 = 8\ncall 203\nr0 -= r6\nout:");
    assert_eq!(bench.gives(&[], &data), 8);
    let too_long = "r2 = 0x1000000\nr3 = 0\nr4 = r10\nr4 += -16\ncall 197";
    assert_eq!(bench.gives(&[], too_long), E2BIG);
}

/// Every helper that does something here, by its number.
const HERE: &str = "\
    map_lookup_elem map_update_elem map_delete_elem probe_read ktime_get_ns trace_printk get_prandom_u32 \
    get_smp_processor_id skb_store_bytes l3_csum_replace l4_csum_replace tail_call clone_redirect \
    get_current_pid_tgid get_current_uid_gid get_current_comm skb_vlan_push skb_vlan_pop redirect \
    perf_event_output skb_load_bytes get_stackid csum_diff skb_change_proto skb_change_type get_hash_recalc get_current_task \
    probe_write_user skb_change_tail skb_pull_data csum_update set_hash_invalid get_numa_node_id skb_change_head \
    xdp_adjust_head probe_read_str set_hash skb_adjust_room redirect_map xdp_adjust_meta xdp_adjust_tail get_stack \
    skb_load_bytes_relative map_push_elem map_pop_elem map_peek_elem spin_lock spin_unlock strtol strtoul \
    send_signal probe_read_user probe_read_kernel probe_read_user_str probe_read_kernel_str jiffies64 \
    get_ns_current_pid_tgid ktime_get_boot_ns ringbuf_output ringbuf_reserve ringbuf_submit ringbuf_discard \
    ringbuf_query csum_level get_task_stack copy_from_user redirect_neigh redirect_peer task_storage_get \
    task_storage_delete get_current_task_btf ktime_get_coarse_ns for_each_map_elem snprintf timer_init timer_set_callback timer_start timer_cancel get_func_ip \
    get_attach_cookie trace_vprintk loop strncmp xdp_get_buff_len xdp_load_bytes xdp_store_bytes \
    copy_from_user_task map_lookup_percpu_elem dynptr_from_mem ringbuf_reserve_dynptr ringbuf_submit_dynptr \
    ringbuf_discard_dynptr dynptr_read dynptr_write dynptr_data ktime_get_tai_ns user_ringbuf_drain ";

/// Every helper that is refused by name when a program that calls it is loaded.
const NOT_HERE: &str = "\
    get_cgroup_classid skb_get_tunnel_key skb_set_tunnel_key perf_event_read get_route_realm skb_get_tunnel_opt \
    skb_set_tunnel_opt skb_under_cgroup current_task_under_cgroup get_socket_cookie \
    get_socket_uid setsockopt sk_redirect_map sock_map_update perf_event_read_value \
    perf_prog_read_value getsockopt override_return sock_ops_cb_flags_set msg_redirect_map msg_apply_bytes \
    msg_cork_bytes msg_pull_data bind skb_get_xfrm_state fib_lookup sock_hash_update msg_redirect_hash \
    sk_redirect_hash lwt_push_encap lwt_seg6_store_bytes lwt_seg6_adjust_srh lwt_seg6_action rc_repeat rc_keydown \
    skb_cgroup_id get_current_cgroup_id get_local_storage sk_select_reuseport skb_ancestor_cgroup_id sk_lookup_tcp \
    sk_lookup_udp sk_release msg_push_data msg_pop_data rc_pointer_rel sk_fullsock tcp_sock skb_ecn_set_ce \
    get_listener_sock skc_lookup_tcp tcp_check_syncookie sysctl_get_name sysctl_get_current_value \
    sysctl_get_new_value sysctl_set_new_value sk_storage_get sk_storage_delete tcp_gen_syncookie skb_output \
    tcp_send_ack send_signal_thread read_branch_records xdp_output get_netns_cookie get_current_ancestor_cgroup_id \
    sk_assign seq_printf seq_write sk_cgroup_id sk_ancestor_cgroup_id skc_to_tcp6_sock skc_to_tcp_sock \
    skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock load_hdr_opt store_hdr_opt reserve_hdr_opt \
    inode_storage_get inode_storage_delete d_path snprintf_btf seq_printf_btf skb_cgroup_classid per_cpu_ptr \
    this_cpu_ptr bprm_opts_set ima_inode_hash sock_from_file check_mtu sys_bpf btf_find_by_name_kind sys_close \
    task_pt_regs get_branch_snapshot skc_to_unix_sock \
    kallsyms_lookup_name find_vma get_func_arg get_func_ret get_func_arg_cnt get_retval set_retval skb_set_tstamp \
    ima_file_hash kptr_xchg skc_to_mptcp_sock tcp_raw_gen_syncookie_ipv4 tcp_raw_gen_syncookie_ipv6 \
    tcp_raw_check_syncookie_ipv4 tcp_raw_check_syncookie_ipv6 cgrp_storage_get cgrp_storage_delete ";

#[test]
fn other_helpers_are_refused_with_what_they_need() {
    let bench = Bench::new();
    let mut refused = 0;
    for id in 1..helpers::COUNT {
        let insns = code("program", &format!("call {id}\nexit"));
        match bench.machine.load(&Image { insns: &insns, ..Image::default() }) {
            Ok(_) => {}
            Err(error) => {
                refused += 1;
                assert!(
                    matches!(error.kind, LoadErrorKind::HelperNotHere { needs, .. } if !needs.is_empty()),
                    "{error}"
                );
            }
        }
    }
    assert_eq!(helpers::COUNT - 1 - refused, Helpers::all().len() as u32);
    let all = Helpers::all();
    let (here, not): (Vec<u32>, Vec<u32>) = (1..helpers::COUNT).partition(|id| all.get(*id).is_some());
    let names = |ids: &[u32]| -> Vec<String> {
        ids.iter().map(|id| helpers::name(*id).unwrap().trim_start_matches("bpf_").to_owned()).collect()
    };
    let listed = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
    assert_eq!(names(&here), listed(HERE));
    assert_eq!(names(&not), listed(NOT_HERE));
    let why = |id: u32| {
        let insns = code("program", &format!("call {id}\nexit"));
        bench.machine.load(&Image { insns: &insns, ..Image::default() }).expect_err("refused").to_string()
    };
    assert!(
        why(helpers::SKB_GET_TUNNEL_KEY).contains("`bpf_skb_get_tunnel_key`"),
        "{}",
        why(helpers::SKB_GET_TUNNEL_KEY)
    );
    for (id, needs) in [
        (helpers::SKB_GET_TUNNEL_KEY, "a tunnel of the kernel, which keeps its key beside the packet"),
        (helpers::SKB_OUTPUT, "`bpf_perf_event_output` takes that of the program"),
        (helpers::GET_FUNC_ARG, "whose arguments and result `fentry`"),
        (helpers::THIS_CPU_PTR, "a per-CPU variable of the kernel"),
        (helpers::PER_CPU_PTR, "a per-CPU variable of the kernel"),
        (helpers::SNPRINTF_BTF, "`bpf_snprintf` shows numbers and texts"),
        (helpers::SK_LOOKUP_TCP, "a socket of the kernel"),
        (helpers::GET_CURRENT_CGROUP_ID, "control groups"),
        (helpers::D_PATH, "a file that the kernel has open"),
        (helpers::INODE_STORAGE_GET, "storage that the kernel ties"),
    ] {
        assert!(why(id).contains(needs), "{}", why(id));
    }
}

/// A program of the kernel's with `mem` as its context, on both.
fn same(bench: &mut Bench, mem: &[u8], asm: &str, log: &mut [u8]) -> u64 {
    let insns = code("program", asm);
    let (theirs, after) = kernel::run(&insns, Some(mem), log).unwrap_or_else(|log| panic!("{asm}\n{log}"));
    bench.input.write(0, mem).expect("it fits");
    let program = bench.machine.load(&Image { insns: &insns, ..Image::default() }).expect("a good program");
    let ours = bench.cpu.run(&program, [bench.input.addr(), mem.len() as u64]).expect("it ends well");
    assert_eq!((ours, bench.after(0, mem.len())), (theirs, after), "{asm} of {}", String::from_utf8_lossy(mem));
    ours
}

#[test]
fn texts_become_numbers_as_in_the_kernel() {
    if kernel::version().is_none() {
        return;
    }
    let mut bench = Bench::new();
    let mut log = vec![0; 1 << 16];
    let texts = [
        "0",
        "12",
        "-12",
        " 7x",
        "0x1f",
        "0X1F",
        "-0x10",
        "017",
        "08",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "",
        "-",
        "x",
        "0x",
        "\t\n5",
        "+5",
        "ffff",
        "00000",
        "--1",
    ];
    let mut good = 0;
    for text in texts {
        for base in [0, 8, 10, 16, 7] {
            for id in [helpers::STRTOL, helpers::STRTOUL] {
                let mut mem = text.as_bytes().to_vec();
                mem.resize(32, 0);
                // From the stack, as the kernel's verifier wants it; the number goes to the end of the input.
                let mut asm = "r6 = r1\n".to_owned();
                for word in 0..4 {
                    asm += &format!("r2 = *(u64 *)(r6 + {})\n*(u64 *)(r10 - {}) = r2\n", word * 8, 40 - word * 8);
                }
                asm += &format!(
                    "*(u64 *)(r10 - 8) = 0\nr1 = r10\nr1 += -40\nr2 = 32\nr3 = {base}\nr4 = r10\nr4 += -8\ncall {id}\n\
                     r1 = *(u64 *)(r10 - 8)\n*(u64 *)(r6 + 24) = r1\nexit"
                );
                good += u32::from((same(&mut bench, &mem, &asm, &mut log) as i64) > 0);
            }
        }
    }
    assert!(good > 50, "{good}");
}

/// What the kernel's `bpf_snprintf` returns, and 64 bytes of text; `None` when its verifier refuses the format.
fn kernels_snprintf(format: &str, args: &[u64; 3], log: &mut [u8]) -> Option<(u64, Vec<u8>)> {
    let mut value = format.as_bytes().to_vec();
    value.resize(64, 0);
    let map = MapCreate {
        map_type: 2,
        key_size: 4,
        value_size: 64,
        max_entries: 1,
        map_flags: skep_vm::F_RDONLY_PROG,
        ..MapCreate::default()
    };
    let map = map.create().expect("the kernel makes it");
    map.update(&[0; 4], &value, 0).expect("room");
    map.freeze().expect("it can be frozen");
    let mut asm = "r6 = r1\n".to_owned();
    for word in 0..3 {
        asm += &format!("r2 = *(u64 *)(r6 + {})\n*(u64 *)(r10 - {}) = r2\n", word * 8, 24 - word * 8);
    }
    for word in 0..8 {
        asm += &format!("*(u64 *)(r10 - {}) = 0\n", 88 - word * 8);
    }
    let fd = map.as_fd().as_raw_fd();
    asm += &format!(
        "r1 = r10\nr1 += -88\nr2 = 64\nr3 = map[id:{fd}][0]+0\nr4 = r10\nr4 += -24\nr5 = 24\ncall {}\n",
        helpers::SNPRINTF
    );
    for word in 0..8 {
        asm += &format!("r2 = *(u64 *)(r10 - {})\n*(u64 *)(r6 + {}) = r2\n", 88 - word * 8, 24 + word * 8);
    }
    let mut mem: Vec<u8> = args.iter().flat_map(|arg| arg.to_ne_bytes()).collect();
    mem.resize(24 + 64, 0);
    let (returned, after) = kernel::run(&code("program", &(asm + "exit")), Some(&mem), log).ok()?;
    Some((returned, after[24..].to_vec()))
}

#[test]
fn formats_give_what_they_give_in_the_kernel() {
    if kernel::version().is_none() {
        return;
    }
    let mut bench = Bench::new();
    let mut log = vec![0; 1 << 16];
    let minus = -300i64 as u64;
    let (mut taken, mut refused) = (0, 0);
    let conversions =
        ["d", "i", "u", "x", "X", "ld", "lu", "lx", "llX", "lli", "c", "px", "hd", "o", "f", "lc", "n", "pI5", "lp"];
    for conversion in conversions {
        for flags in ["", "-", "0", "+", " ", "8", "-8", "08", "+8", "-08", "+-30", "0+30", "#", "8.3", "*"] {
            let format = format!("<%{flags}{conversion}> %%");
            for value in [0, 65, minus, 1 << 40 | 66] {
                let kernels = kernels_snprintf(&format, &[value, 0, 0], &mut log);
                let (returned, text) = bench.snprintf(&format, &[value, 0, 0], 64);
                match kernels {
                    Some((wanted, bytes)) => {
                        let end = bytes.iter().position(|byte| *byte == 0).expect("it has an end");
                        let wanted_text = String::from_utf8_lossy(&bytes[..end]).into_owned();
                        // Of both up to the first zero, which `%c` may print.
                        assert_eq!((returned, text), (wanted, wanted_text), "{format} of {value:#x}");
                        taken += 1;
                    }
                    None => {
                        assert_eq!(returned, EINVAL, "{format} of {value:#x}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(taken > 400 && refused > 100, "{taken} {refused}");
}

#[test]
fn checksums_differ_as_in_the_kernel() {
    let Some(running) = kernel::version() else { return };
    // Before, the result was not folded to 16 bits, and lengths were multiples of 4.
    if running < skep_sys::version::KernelVersion::new(6, 13, 0) {
        println!("skipped: needs kernel 6.13");
        return;
    }
    let mut bench = Bench::new();
    let rng = Rng::new(5);
    let mut log = vec![0; 1 << 16];
    for (from, to) in [(0, 0), (0, 8), (8, 0), (8, 16), (16, 8), (16, 16), (3, 4), (5, 0), (9, 6)] {
        for _ in 0..20 {
            let mem: Vec<u8> = (0..4).flat_map(|_| rng.number().to_ne_bytes()).collect();
            let seed = rng.number() as i32;
            let mut asm = String::new();
            for (word, bytes) in mem.chunks(8).enumerate() {
                let value = bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
                asm += &format!("r2 = {value:#x} ll\n*(u64 *)(r10 - {}) = r2\n", 32 - word * 8);
            }
            asm += &format!(
                "r1 = r10\nr1 += -32\nr2 = {from}\nr3 = r10\nr3 += -16\nr4 = {to}\nr5 = {seed}\ncall {}\nexit",
                helpers::CSUM_DIFF
            );
            let insns = code("program", &asm);
            let theirs = kernel::run_on_packet(&insns, &[0; 64], &mut log).expect("the kernel takes it");
            let program = bench.machine.load(&Image { insns: &insns, ..Image::default() }).expect("a good program");
            let ours = bench.cpu.run(&program, [0, 0]).expect("it ends well");
            assert_eq!(ours as u32, theirs, "{from} {to} {seed:#x} {mem:x?}");
        }
    }
}

#[test]
fn texts_are_compared() {
    let mut bench = Bench::new();
    let compare = |len: u32| format!("r2 = {len}\nr3 = r6\nr3 += 16\ncall 182");
    for (one, two, len, wanted) in
        [("abc", "abc", 8, 0), ("abc", "abd", 8, -1), ("abd", "abc", 8, 1), ("abd", "abc", 2, 0), ("ab", "abc", 8, -1)]
    {
        let mut input = one.as_bytes().to_vec();
        input.resize(16, 0);
        input.extend(two.as_bytes());
        assert_eq!(bench.gives(&input, &compare(len)) as i64, wanted, "{one} {two} {len}");
    }
}

const USER_STACK: u64 = 1 << 8;

#[test]
fn stacks_of_the_task_are_copied_and_those_of_the_kernel_are_not_to_be_had() {
    let mut bench = Bench::new();
    let mut get = |flags: u64, len: u32| {
        let asm = format!("r2 = r6\nr3 = {len}\nr4 = {flags}\ncall {}", helpers::GET_STACK);
        let returned = bench.gives(&[255; 64], &asm);
        let words: Vec<u64> = bench.after(0, 64).as_chunks().0.iter().map(|it| u64::from_ne_bytes(*it)).collect();
        (returned, words)
    };
    assert_eq!(get(USER_STACK, 24), (24, vec![0x100, 0x101, 0x102, !0, !0, !0, !0, !0]));
    // What is behind a short one is cleared, and the innermost frames can be left out.
    assert_eq!(get(USER_STACK | 2, 56), (24, vec![0x102, 0x103, 0x104, 0, 0, 0, 0, !0]));
    assert_eq!(get(USER_STACK | 6, 8), (EFAULT, vec![0, !0, !0, !0, !0, !0, !0, !0]));
    assert_eq!(get(USER_STACK, 12).0, EINVAL);
    assert_eq!(get(USER_STACK | 1 << 20, 8).0, EINVAL);
    assert_eq!(get(0, 16), (-95i64 as u64, vec![0, 0, !0, !0, !0, !0, !0, !0]));
    bench.cpu.set_task(None);
    assert_eq!(bench.gives(&[], &format!("r2 = r6\nr3 = 8\nr4 = 256\ncall {}", helpers::GET_STACK)), EFAULT);
}

#[test]
fn stacks_are_kept_by_number() {
    let mut bench = Bench::new();
    let spec = MapSpec {
        name: "stacks".into(),
        kind: MapKind::StackTrace,
        key_size: 4,
        value_size: 32,
        max_entries: 1,
        ..MapSpec::default()
    };
    let map = bench.machine.create_map(&spec).expect("a map");
    let mut stackid = |flags: u64| {
        let asm = format!("r2 = {:#x} ll\nr3 = {flags}\ncall {}", map.handle(), helpers::GET_STACKID);
        bench.gives(&[], &asm)
    };
    assert_eq!(stackid(USER_STACK), 0);
    assert_eq!(stackid(USER_STACK), 0, "the same one again");
    let words = |bytes: Vec<u8>| -> Vec<u64> { bytes.as_chunks().0.iter().map(|it| u64::from_ne_bytes(*it)).collect() };
    let key = 0u32.to_ne_bytes();
    assert_eq!(map.lookup(&key).unwrap().map(words), Some(vec![0x100, 0x101, 0x102, 0x103]));
    assert_eq!(stackid(USER_STACK | 1), -17i64 as u64, "another one is in its place");
    assert_eq!(stackid(USER_STACK | 1 << 10 | 2), 0);
    assert_eq!(map.lookup(&key).unwrap().map(words), Some(vec![0x102, 0x103, 0x104, 0]));
    assert_eq!(stackid(USER_STACK | 5), EFAULT);
    assert_eq!(stackid(0), -95i64 as u64);
    assert_eq!(stackid(1 << 12), EINVAL);
    assert_eq!(map.next_key(None).unwrap(), Some(key.to_vec()));
    assert!(map.delete(&key).is_ok() && map.lookup(&key).unwrap().is_none() && map.next_key(None).unwrap().is_none());
    assert_eq!(map.update(&key, &[0; 32], 0).unwrap_err().errno(), 22);
    for wrong in [MapSpec { value_size: 12, ..spec.clone() }, MapSpec { value_size: 128 * 8, ..spec.clone() }] {
        assert_eq!(bench.machine.create_map(&wrong).unwrap_err().errno(), 22);
    }
}

/// Loads a program that calls the kernel's functions by name: `kfunc` in its text stands for a call of the next name.
fn with_kfuncs(bench: &mut Bench, asm: &str, names: &[&str]) -> Result<u64, Box<Trap>> {
    let insns = code("program", &format!("r6 = r1\n{}\nexit", asm.replace("kfunc", "call kfunc#1")));
    let calls = (0u32..).zip(&insns).filter(|(_, insn)| insn.code == 0x85 && insn.src_reg == 2);
    let kfuncs: Vec<(InsnIdx, &str)> = calls.map(|(at, _)| InsnIdx(at)).zip(names.iter().copied()).collect();
    assert_eq!(kfuncs.len(), names.len(), "{asm}");
    let program = bench.machine.load(&Image { insns: &insns, kfuncs: &kfuncs, ..Image::default() });
    bench.cpu.run(&program.unwrap_or_else(|error| panic!("{error}")), [bench.input.addr(), 0])
}

#[test]
fn the_kernels_functions_iterate_over_numbers() {
    let mut bench = Bench::new();
    let mut sum = |start: i32, end: i32| {
        let asm = format!(
            "r1 = r10\nr1 += -8\nr2 = {start}\nr3 = {end}\nkfunc\nr7 = 0\nr8 = r0\nagain:\nr1 = r10\nr1 += -8\nkfunc\n\
             if r0 == 0 goto over\nr1 = *(s32 *)(r0 + 0)\nr7 += r1\nr7 += 1000\ngoto again\nover:\nr1 = r10\nr1 += -8\n\
             kfunc\nr0 = r7\nif r8 == 0 goto good\nr0 = r8\ngood:"
        );
        with_kfuncs(&mut bench, &asm, &["bpf_iter_num_new", "bpf_iter_num_next", "bpf_iter_num_destroy"]).unwrap()
    };
    assert_eq!(sum(-2, 3), 5000);
    assert_eq!(sum(3, 3), 0);
    assert_eq!(sum(4, 3), EINVAL);
    assert_eq!(sum(0, (8 << 20) + 1), E2BIG);
}

#[test]
fn the_kernels_functions_search_texts() {
    let mut bench = Bench::new();
    const ENOENT: u64 = -2i64 as u64;
    let mut call = |name: &str, one: &str, two: &str, third: u64| {
        let mut input = one.as_bytes().to_vec();
        input.resize(64, 0);
        input.extend(two.as_bytes());
        bench.input.zero(0, 1024).unwrap();
        bench.input.write(0, &input).unwrap();
        with_kfuncs(&mut bench, &format!("r2 = r6\nr2 += 64\nr3 = {third}\nkfunc"), &[name]).unwrap()
    };
    for (name, one, two, third, wanted) in [
        ("bpf_strcmp", "abc", "abc", 0, 0),
        ("bpf_strcmp", "abc", "abd", 0, !0),
        ("bpf_strcmp", "abcd", "abc", 0, 1),
        ("bpf_strcasecmp", "aBc", "Abc", 0, 0),
        ("bpf_strlen", "hello", "", 0, 5),
        ("bpf_strspn", "aabbc", "ab", 0, 4),
        ("bpf_strcspn", "xyab", "ba", 0, 2),
        ("bpf_strstr", "hello", "ll", 0, 2),
        ("bpf_strstr", "hello", "", 0, 0),
        ("bpf_strstr", "hello", "lx", 0, ENOENT),
        ("bpf_strnstr", "hello", "llo", 5, 2),
        ("bpf_strnstr", "hello", "llo", 4, ENOENT),
    ] {
        assert_eq!(call(name, one, two, third), wanted, "{name} {one} {two}");
    }
    let mut byte = |name: &str, asm: &str| {
        bench.input.zero(0, 1024).unwrap();
        bench.input.write(0, b"banana").unwrap();
        with_kfuncs(&mut bench, &format!("{asm}\nkfunc"), &[name]).unwrap()
    };
    assert_eq!(byte("bpf_strchr", "r2 = 110"), 2);
    assert_eq!(byte("bpf_strchr", "r2 = 0"), 6);
    assert_eq!(byte("bpf_strchr", "r2 = 1"), ENOENT);
    assert_eq!(byte("bpf_strrchr", "r2 = 110"), 4);
    assert_eq!(byte("bpf_strchrnul", "r2 = 1"), 6);
    assert_eq!(byte("bpf_strnchr", "r2 = 2\nr3 = 110"), ENOENT);
    assert_eq!(byte("bpf_strnchr", "r2 = 3\nr3 = 110"), 2);
    assert_eq!(byte("bpf_strnlen", "r2 = 4"), 4);
    assert_eq!(byte("bpf_strlen", "r1 = 5"), EFAULT);
    // The task's memory: a text at 0x1000.
    assert_eq!(byte("bpf_strlen", "r1 = 0x1000"), 5);
    assert_eq!(byte("bpf_copy_from_user_str", "r2 = 16\nr3 = 0x1000\nr4 = 1"), 6);
}

#[test]
fn an_arena_gives_pages_and_takes_them_back_empty() {
    let mut bench = Bench::new();
    let spec = MapSpec { kind: MapKind::Arena, max_entries: 4, flags: 1 << 10, ..MapSpec::default() };
    let arena = bench.machine.create_map(&spec).expect("an arena");
    arena.fill(&[7; 10]).expect("globals");
    let (handle, start) = (arena.handle(), arena.value_addr().expect("memory"));
    let mut alloc = |at: u64, count: u64| {
        let asm = format!(
            "r1 = {handle:#x} ll\nr2 = {at:#x} ll\nr3 = {count}\nr4 = -1\nr5 = 0\nkfunc\nif r0 == 0 goto end\n*(u64 *)(r0 + 8) = 5\nend:"
        );
        with_kfuncs(&mut bench, &asm, &["bpf_arena_alloc_pages"]).unwrap()
    };
    // The first page has the globals.
    assert_eq!(alloc(0, 1), start + 4096);
    assert_eq!(alloc(0, 3), 0);
    assert_eq!(alloc(start + 4096, 1), 0, "somebody has it");
    assert_eq!(alloc((start + 2 * 4096) & 0xffff_ffff, 2), start + 2 * 4096);
    assert_eq!(alloc(0, 1), 0);
    assert_eq!(alloc(0, 0), 0);
    let free = format!(
        "r1 = {handle:#x} ll\nr2 = {:#x} ll\nr3 = 9\nkfunc\nr1 = {:#x} ll\nr0 = *(u64 *)(r1 + 8)",
        start + 2 * 4096,
        start + 3 * 4096
    );
    assert_eq!(with_kfuncs(&mut bench, &free, &["bpf_arena_free_pages"]).unwrap(), 0);
    let mut again = |at: u64| {
        let asm = format!("r1 = {handle:#x} ll\nr2 = {at:#x} ll\nr3 = 2\nr4 = -1\nr5 = 0\nkfunc");
        with_kfuncs(&mut bench, &asm, &["bpf_arena_alloc_pages"]).unwrap()
    };
    assert_eq!(again(start + 1), 0, "not the start of a page");
    assert_eq!(again(0), start + 2 * 4096);
    assert_eq!(bench.machine.create_map(&MapSpec { flags: 0, ..spec }).unwrap_err().errno(), 22);
}

#[test]
fn a_lock_is_held_once_and_never_longer_than_a_run() {
    let mut bench = Bench::new();
    let (lock, unlock) = (helpers::SPIN_LOCK, helpers::SPIN_UNLOCK);
    assert_eq!(bench.gives(&[], &format!("call {lock}\nr7 = *(u32 *)(r6 + 0)\nr1 = r6\ncall {unlock}\nr0 = r7")), 1);
    assert_eq!(bench.after(0, 4), [0; 4]);
    let trap = bench.run(&[], &format!("call {lock}\nr1 = r6\nr1 += 4\ncall {lock}")).unwrap_err();
    assert!(trap.to_string().contains("the program holds a lock already"), "{trap}");
    assert_eq!(bench.after(0, 4), [0; 4], "a run that ends gives it back");
    let trap = bench.run(&[], &format!("call {unlock}")).unwrap_err();
    assert!(trap.to_string().contains("is no lock that the program holds"), "{trap}");
    // One that nobody gives back is waited for as long as there is fuel.
    bench.cpu.set_fuel(1 << 16);
    let trap = bench.run(&[1, 0, 0, 0], &format!("call {lock}")).unwrap_err();
    assert!(trap.to_string().contains("does a loop never end?"), "{trap}");
    let trap = bench.run(&[], &format!("r1 = 7\ncall {lock}")).unwrap_err();
    assert!(trap.to_string().contains("atomic access of 4 byte(s) at 0x7"), "{trap}");
}

#[test]
fn a_task_has_storage_until_it_ends() {
    let mut bench = Bench::new();
    let spec = MapSpec { kind: MapKind::TaskStorage, key_size: 4, value_size: 8, flags: 1, ..MapSpec::default() };
    let map = bench.machine.create_map(&spec).expect("a storage");
    let handle = map.handle();
    let get = |task: &str, flags: u64| {
        format!(
            "call {}\nr2 = r0\n{task}\nr1 = {handle:#x} ll\nr3 = r6\nr4 = {flags}\ncall {}\nif r0 == 0 goto none\n\
             r1 = *(u64 *)(r0 + 0)\nr1 += 1\n*(u64 *)(r0 + 0) = r1\nr0 = r1\nnone:",
            helpers::GET_CURRENT_TASK_BTF,
            helpers::TASK_STORAGE_GET
        )
    };
    let delete = format!(
        "call {}\nr2 = r0\nr1 = {handle:#x} ll\ncall {}",
        helpers::GET_CURRENT_TASK_BTF,
        helpers::TASK_STORAGE_DELETE
    );
    let first = 40u64.to_ne_bytes();
    assert_eq!(bench.gives(&first, &get("", 0)), 0);
    assert_eq!(bench.gives(&first, &get("", 1)), 41);
    assert_eq!(bench.gives(&first, &get("", 0)), 42);
    assert_eq!(bench.gives(&first, &get("r2 += 1", 1)), 0, "no other task is known");
    assert_eq!(map.lookup(&8u32.to_ne_bytes()).unwrap(), Some(42u64.to_ne_bytes().to_vec()));
    assert_eq!(bench.gives(&[], &delete), 0);
    assert_eq!(bench.gives(&[], &delete), -2i64 as u64);
    assert_eq!(bench.gives(&first, &get("", 1)), 41);
    bench.machine.forget_task(8);
    assert_eq!(map.entries().unwrap(), []);
}

#[test]
fn programs_drain_what_user_space_sends() {
    let mut bench = Bench::new();
    let spec = MapSpec { kind: MapKind::UserRingbuf, max_entries: 4096, ..MapSpec::default() };
    let map = bench.machine.create_map(&spec).expect("a ring");
    for number in [3u32, 4, 5] {
        map.send(&number.to_ne_bytes()).unwrap();
    }
    assert_eq!(map.send(&[0; 4090]).unwrap_err().errno(), 7);
    assert_eq!(map.send(&[0; 4080]).unwrap_err().errno(), 28);
    // The callback adds each number to the input, and stops behind 4.
    let drain = format!(
        "r1 = {:#x} ll\nr2 = subprog[f]\nr3 = r6\nr4 = 0\ncall {}\nexit\nf:\nr6 = r2\nr7 = r1\nr1 = r10\nr1 += -8\nr2 = 4\nr3 = r7\n\
         r4 = 0\nr5 = 0\ncall {}\nr1 = *(u32 *)(r10 - 8)\nr2 = *(u64 *)(r6 + 0)\nr2 += r1\n*(u64 *)(r6 + 0) = r2\nr0 = 0\n\
         if r1 != 4 goto +1\nr0 = 1",
        map.handle(),
        helpers::USER_RINGBUF_DRAIN,
        helpers::DYNPTR_READ
    );
    assert_eq!(bench.gives(&[], &drain), 2);
    assert_eq!(bench.after(0, 8), 7u64.to_ne_bytes());
    assert_eq!(bench.gives(&[], &drain), 1);
    assert_eq!(bench.after(0, 8), 5u64.to_ne_bytes());
    assert_eq!(bench.gives(&[], &drain), 0);
}

#[test]
fn callbacks_that_never_end_are_stopped() {
    let mut bench = Bench::new();
    bench.cpu.set_fuel(1 << 20);
    let repeat =
        |function: &str| format!("r1 = 8000000\nr2 = subprog[{function}]\nr3 = 0\nr4 = 0\ncall {}", helpers::LOOP);
    for body in ["goto -1".to_owned(), format!("{}\nr0 = 0\nexit\ng:\nr0 = 0", repeat("g"))] {
        let trap = bench.run(&[], &format!("{}\nexit\nf:\n{body}", repeat("f"))).unwrap_err();
        assert!(trap.to_string().contains("does a loop never end?"), "{trap}");
    }
}

#[test]
fn an_update_leaves_the_lock_of_a_value_alone_or_holds_it() {
    let mut bench = Bench::new();
    const F_LOCK: u64 = 4;
    for kind in [MapKind::Array, MapKind::Hash] {
        let spec =
            MapSpec { kind, key_size: 4, value_size: 12, max_entries: 2, lock_off: Some(4), ..MapSpec::default() };
        let map = bench.machine.create_map(&spec).expect("a map");
        let key = [0; 4];
        map.update(&key, &[9; 12], 0).unwrap();
        assert_eq!(map.lookup(&key).unwrap(), Some([[9; 4], [0; 4], [9; 4]].concat()));
        map.update(&key, &[8; 12], F_LOCK).unwrap();
        assert_eq!(map.lookup(&key).unwrap(), Some([[8; 4], [0; 4], [8; 4]].concat()));
        assert_eq!(map.update(&key, &[8; 12], F_LOCK | 1).unwrap_err().errno(), 17);
        // A program that holds the lock updates without it: an array's value keeps its lock, which is free when the run has ended.
        let asm = format!(
            "r1 = {0:#x} ll\nr2 = r6\ncall 1\nr7 = r0\nr1 = r7\nr1 += 4\ncall {1}\nr1 = {0:#x} ll\nr2 = r6\nr3 = r6\nr3 += 8\n\
             r4 = 0\ncall 2\nr0 = *(u32 *)(r7 + 4)",
            map.handle(),
            helpers::SPIN_LOCK
        );
        assert_eq!(bench.gives(&[0; 32], &asm), 1);
        map.update(&key, &[7; 12], F_LOCK).unwrap();
        // One that nobody gives back is not waited for without end.
        let spoil = format!("r1 = {:#x} ll\nr2 = r6\ncall 1\n*(u32 *)(r0 + 4) = 1\nr0 = 0", map.handle());
        bench.gives(&[], &spoil);
        assert_eq!(map.update(&key, &[7; 12], F_LOCK).unwrap_err().errno(), 11);
        assert_eq!(bench.machine.create_map(&MapSpec { lock_off: Some(10), ..spec }).unwrap_err().errno(), 22);
    }
    let plain = MapSpec { kind: MapKind::Array, key_size: 4, value_size: 12, max_entries: 2, ..MapSpec::default() };
    let plain = bench.machine.create_map(&plain).expect("a map");
    assert_eq!(plain.update(&[0; 4], &[8; 12], F_LOCK).unwrap_err().errno(), 22);
}
