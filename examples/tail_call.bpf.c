// Established TCP connections, by two programs: one fills in a record, the other
// sends it. The first calls the second by a tail call.
//
//     sudo skep run examples/tail_call.bpf.c
//
//     TIME      AF  LOCAL_IP   LOCAL_PORT  REMOTE_IP  REMOTE_PORT  OLD_STATE  NEW_STATE
//     11:02:07  2   127.0.0.1  51262       127.0.0.1  5599         2          1
//
// A tail call jumps into the program in a slot of a map and does not come back. The
// slot is filled here, in the map's definition; a program in user space can put
// another one into it at any time. Needs a kernel with kprobes.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#define AF_INET 2
#define AF_INET6 10

struct sock_meta {
	__s32 af;
	__u32 local_ip[4]; // an IPv4 address is in the last one
	__u16 local_port;
	__u32 remote_ip[4];
	__u16 remote_port;
	__s32 old_state;
	__s32 new_state;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(int));
	__uint(value_size, sizeof(__u32));
} events SEC(".maps");

// The record on its way from one program to the other, by thread.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct sock_meta);
} sock_meta_map SEC(".maps");

// A program without a place after the slash is attached nowhere: it only waits for
// the tail call.
SEC("kprobe")
int BPF_KPROBE(output_socket_meta)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct sock_meta *meta = bpf_map_lookup_elem(&sock_meta_map, &id);

	if (!meta)
		return 0;
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, meta, sizeof(*meta));
	bpf_map_delete_elem(&sock_meta_map, &id);
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__array(values, int(struct pt_regs *));
} tail_jmp_map SEC(".maps") = {
	.values = { [0] = (void *)&output_socket_meta },
};

// void tcp_set_state(struct sock *sk, int state)
SEC("kprobe/tcp_set_state")
int BPF_KPROBE(enter_tcp_set_state, struct sock *sk, int new_state)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct sock_meta meta = {};

	if (new_state != TCP_ESTABLISHED)
		return 0;

	meta.af = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (meta.af == AF_INET) {
		meta.local_ip[3] = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		meta.remote_ip[3] = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	} else if (meta.af == AF_INET6) {
		BPF_CORE_READ_INTO(meta.local_ip, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32);
		BPF_CORE_READ_INTO(meta.remote_ip, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
	} else {
		return 0;
	}
	meta.local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	meta.remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	meta.old_state = BPF_CORE_READ(sk, __sk_common.skc_state);
	meta.new_state = new_state;

	bpf_map_update_elem(&sock_meta_map, &id, &meta, BPF_ANY);
	bpf_tail_call(ctx, &tail_jmp_map, 0);

	// Only reached if the slot is empty.
	bpf_map_delete_elem(&sock_meta_map, &id);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
