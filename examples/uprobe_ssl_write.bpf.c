// A function of a library: what programs send through OpenSSL, before it is
// encrypted.
//
//     sudo skep run examples/uprobe_ssl_write.bpf.c
//     curl -s https://localhost/ -o /dev/null
//
//     TIME      PID   COMM  LEN  DATA
//     11:02:07  1234  curl  73   GET / HTTP/1.1\r\nHost: localhost\r\n...
//
// int SSL_write(SSL *ssl, const void *buf, int num). The library is searched where
// the dynamic linker would search it; `--bin PATH` names another file.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define MAX_DATA 256

struct event {
	int pid;
	char comm[16];
	int len;
	char data[MAX_DATA];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

SEC("uprobe/libssl.so.3:SSL_write")
int BPF_UPROBE(ssl_write, void *ssl, const void *buf, int num)
{
	struct event *e;
	unsigned int size = num;

	if (num <= 0)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	e->len = num;
	if (size > MAX_DATA - 1)
		size = MAX_DATA - 1;
	// Clears the rest: a place in the buffer holds what was there before.
	__builtin_memset(e->data, 0, sizeof(e->data));
	bpf_probe_read_user(e->data, size, buf);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
