// compilers: 19
// Whole types compared with the kernel: TYPE_MATCHES.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

struct path___mine {
	struct vfsmount *mnt;
	struct dentry *dentry;
} __attribute__((preserve_access_index));

struct path___wrong {
	struct dentry *mnt;
	int no_such_member;
} __attribute__((preserve_access_index));

enum bpf_attach_type___mine {
	BPF_CGROUP_INET_INGRESS___mine = 0,
};

SEC("raw_tp/sys_enter")
int matches(void *ctx)
{
	return bpf_core_type_matches(struct path___mine) + bpf_core_type_matches(struct path___wrong) * 2 +
	       bpf_core_type_matches(struct task_struct) * 4 +
	       bpf_core_type_matches(enum bpf_attach_type___mine) * 8;
}
