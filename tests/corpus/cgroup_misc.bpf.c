// The other programs of a cgroup.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("cgroup/sock")
int sock(struct bpf_sock *ctx)
{
	return ctx->family != 0;
}

SEC("cgroup/sock_create")
int create(struct bpf_sock *ctx)
{
	return 1;
}

SEC("cgroup/sock_release")
int release(struct bpf_sock *ctx)
{
	return 1;
}

SEC("cgroup/post_bind4")
int bind4(struct bpf_sock *ctx)
{
	return ctx->src_port != 22;
}

SEC("cgroup/post_bind6")
int bind6(struct bpf_sock *ctx)
{
	return 1;
}

SEC("cgroup/sysctl")
int sysctl(struct bpf_sysctl *ctx)
{
	return !ctx->write;
}

SEC("cgroup/getsockopt")
int get(struct bpf_sockopt *ctx)
{
	return 1;
}

SEC("cgroup/setsockopt")
int set(struct bpf_sockopt *ctx)
{
	return ctx->optlen >= 0;
}

SEC("cgroup/dev")
int device(struct bpf_cgroup_dev_ctx *ctx)
{
	return ctx->major == 1;
}
