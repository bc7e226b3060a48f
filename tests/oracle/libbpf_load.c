// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * What libbpf makes of an object: every program is tried with only itself enabled, and one JSON line says how it went,
 * in the shape of `skep load --each --json`, so that both can be compared program by program.
 *
 *   libbpf_load [--fix-sizes] FILE...
 *
 * `insns` and `hash` describe the instructions that libbpf sent to the kernel. Whatever depends on this run is masked
 * before hashing: descriptors and addresses in wide loads, and the identifiers of kernel functions.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

/* The last complaint of libbpf: the nearest thing to a reason that it has. */
static char complaint[512];

static int keep_complaint(enum libbpf_print_level level, const char *format, va_list args)
{
	char line[512], *end;

	if (level != LIBBPF_WARN)
		return 0;
	vsnprintf(line, sizeof(line), format, args);
	end = strchr(line, '\n');
	if (end)
		*end = 0;
	/* The later ones only say that loading failed. */
	if (!complaint[0])
		strcpy(complaint, line);
	return 0;
}

static void print_string(const char *text)
{
	const unsigned char *c;

	putchar('"');
	for (c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			printf("\\%c", *c);
		else if (*c < 0x20 || *c >= 0x7f)
			printf("\\u%04x", *c);
		else
			putchar(*c);
	}
	putchar('"');
}

static uint64_t fnv1a(uint64_t hash, const unsigned char *bytes, size_t len)
{
	while (len--)
		hash = (hash ^ *bytes++) * 0x100000001b3ULL;
	return hash;
}

static uint64_t hash_of(const struct bpf_insn *insns, size_t count)
{
	uint64_t hash = 0xcbf29ce484222325ULL;
	size_t i;

	for (i = 0; i < count; i++) {
		struct bpf_insn insn = insns[i];

		if (insn.code == (BPF_LD | BPF_IMM | BPF_DW) && i + 1 < count) {
			struct bpf_insn second = insns[++i];

			if (insn.src_reg) {
				/* The second half is an offset into a value, and the same everywhere, for these two. */
				if (insn.src_reg != BPF_PSEUDO_MAP_VALUE && insn.src_reg != BPF_PSEUDO_MAP_IDX_VALUE)
					second.imm = 0;
				insn.imm = 0;
			}
			hash = fnv1a(hash, (unsigned char *)&insn, sizeof(insn));
			hash = fnv1a(hash, (unsigned char *)&second, sizeof(second));
			continue;
		}
		if (insn.code == (BPF_JMP | BPF_CALL) && insn.src_reg == BPF_PSEUDO_KFUNC_CALL) {
			insn.imm = 0;
			insn.off = 0;
		}
		hash = fnv1a(hash, (unsigned char *)&insn, sizeof(insn));
	}
	return hash;
}

/* The sizes that an application's main() would set. */
static void fix_sizes(struct bpf_object *obj)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, obj) {
		enum bpf_map_type type = bpf_map__type(map);

		switch (type) {
		case BPF_MAP_TYPE_ARRAY_OF_MAPS:
		case BPF_MAP_TYPE_HASH_OF_MAPS:
			if (!bpf_map__inner_map(map)) {
				int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "inner", 4, 4, 1, NULL);

				/* The map keeps the descriptor. */
				if (fd >= 0)
					bpf_map__set_inner_map_fd(map, fd);
			}
			break;
		default:
			break;
		}
		if (bpf_map__max_entries(map))
			continue;
		switch (type) {
		case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
		case BPF_MAP_TYPE_SK_STORAGE:
		case BPF_MAP_TYPE_INODE_STORAGE:
		case BPF_MAP_TYPE_TASK_STORAGE:
		case BPF_MAP_TYPE_CGRP_STORAGE:
			break;
		case BPF_MAP_TYPE_RINGBUF:
		case BPF_MAP_TYPE_USER_RINGBUF:
			bpf_map__set_max_entries(map, sysconf(_SC_PAGESIZE));
			break;
		default:
			bpf_map__set_max_entries(map, 1024);
		}
	}
}

static void report(const char *file, const char *program, const char *section, const char *type, int err, size_t insns,
		   uint64_t hash)
{
	printf("{\"object\":");
	print_string(file);
	printf(",\"program\":");
	print_string(program);
	printf(",\"section\":");
	print_string(section);
	printf(",\"type\":");
	print_string(type);
	printf(",\"loads\":%s,\"errno\":", err ? "false" : "true");
	if (err)
		/* 524 is the kernel's own ENOTSUPP, which libc does not know. */
		printf("\"%s\"", strerrorname_np(err) ?: err == 524 ? "ENOTSUPP" : "EUNKNOWN");
	else
		printf("null");
	printf(",\"reason\":");
	if (err)
		print_string(complaint);
	else
		printf("null");
	printf(",\"insns\":%zu,\"hash\":\"%016llx\"}\n", insns, (unsigned long long)hash);
	fflush(stdout);
}

/* Tries the program at this position; false if there is none. */
static bool try_program(const char *file, int position, bool sizes)
{
	struct bpf_object *obj;
	struct bpf_program *prog, *chosen = NULL;
	struct bpf_map *map;
	int i = 0, err;
	const char *type;

	complaint[0] = 0;
	obj = bpf_object__open_file(file, NULL);
	if (!obj) {
		err = errno;
		if (position == 0)
			report(file, "", "", "", err, 0, 0);
		return false;
	}
	bpf_object__for_each_program(prog, obj) {
		bpf_program__set_autoload(prog, i == position);
		if (i++ == position)
			chosen = prog;
	}
	if (!chosen) {
		bpf_object__close(obj);
		return false;
	}
	/* Loading must leave nothing behind. */
	bpf_object__for_each_map(map, obj)
		bpf_map__set_pin_path(map, NULL);
	if (sizes)
		fix_sizes(obj);
	type = libbpf_bpf_prog_type_str(bpf_program__type(chosen));
	err = -bpf_object__load(obj);
	report(file, bpf_program__name(chosen), bpf_program__section_name(chosen), type ?: "", err,
	       bpf_program__insn_cnt(chosen), hash_of(bpf_program__insns(chosen), bpf_program__insn_cnt(chosen)));
	bpf_object__close(obj);
	return true;
}

int main(int argc, char **argv)
{
	bool sizes = false;
	int i, position;

	libbpf_set_print(keep_complaint);
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--fix-sizes")) {
			sizes = true;
			continue;
		}
		for (position = 0; try_program(argv[i], position, sizes); position++)
			;
	}
	return 0;
}
