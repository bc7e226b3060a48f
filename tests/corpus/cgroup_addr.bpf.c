// Socket addresses of a cgroup, every hook.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

#define PROGRAM(name) SEC("cgroup/" #name) int name(struct bpf_sock_addr *ctx) { return 1; }

PROGRAM(bind4)
PROGRAM(bind6)
PROGRAM(connect4)
PROGRAM(connect6)
PROGRAM(connect_unix)
PROGRAM(sendmsg4)
PROGRAM(sendmsg6)
PROGRAM(sendmsg_unix)
PROGRAM(recvmsg4)
PROGRAM(recvmsg6)
PROGRAM(recvmsg_unix)
PROGRAM(getpeername4)
PROGRAM(getpeername6)
PROGRAM(getpeername_unix)
PROGRAM(getsockname4)
PROGRAM(getsockname6)
PROGRAM(getsockname_unix)
