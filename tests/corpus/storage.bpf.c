// Maps that hang their values on tasks, sockets, inodes and cgroups.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

#define STORAGE(name, map_type)				\
	struct {					\
		__uint(type, BPF_MAP_TYPE_##map_type);	\
		__uint(map_flags, BPF_F_NO_PREALLOC);	\
		__type(key, int);			\
		__type(value, __u64);			\
	} name SEC(".maps")

STORAGE(tasks, TASK_STORAGE);
STORAGE(sockets, SK_STORAGE);
STORAGE(inodes, INODE_STORAGE);
STORAGE(cgroups, CGRP_STORAGE);

SEC("tp_btf/sched_switch")
int BPF_PROG(task, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u64 *v = bpf_task_storage_get(&tasks, next, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (v)
		*v += 1;
	return 0;
}

SEC("cgroup_skb/egress")
int socket(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	__u64 *v;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	v = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (v)
		*v += skb->len;
	return 1;
}

SEC("lsm/file_open")
int BPF_PROG(inode, struct file *file)
{
	__u64 *v = bpf_inode_storage_get(&inodes, file->f_inode, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (v)
		*v += 1;
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup, struct cgroup *cgrp, const char *path)
{
	bpf_cgrp_storage_get(&cgroups, cgrp, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	return 0;
}
