// Opens an object with libbpf and lists what libbpf makes of it, in the words of tests/suite/libbpf.rs.
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char why[4096];

static int keep(enum libbpf_print_level level, const char *format, va_list args)
{
	if (level == LIBBPF_WARN && !why[0])
		vsnprintf(why, sizeof(why), format, args);
	return 0;
}

static void map_line(const char *word, const struct bpf_map *map)
{
	printf("%s %s type %u key %u value %u entries %u flags %#x extra %#llx numa %u types %u %u pin %d create %d\n", word,
	       bpf_map__name(map), bpf_map__type(map), bpf_map__key_size(map), bpf_map__value_size(map),
	       bpf_map__max_entries(map), bpf_map__map_flags(map), (unsigned long long)bpf_map__map_extra(map),
	       bpf_map__numa_node(map), bpf_map__btf_key_type_id(map), bpf_map__btf_value_type_id(map),
	       bpf_map__pin_path(map) != NULL,
	       // The shape of inner maps is never created itself, whatever it says.
	       word[0] == 'i' || bpf_map__autocreate(map));
}

int main(int argc, char **argv)
{
	libbpf_set_print(keep);
	for (int i = 1; i < argc; i++) {
		why[0] = 0;
		printf("object %s\n", argv[i]);
		struct bpf_object *object = bpf_object__open_file(argv[i], NULL);
		if (!object) {
			printf("refused %d %s\n", errno, why);
			continue;
		}
		struct bpf_program *program;
		bpf_object__for_each_program(program, object) {
			printf("program %s section %s type %u attach %u flags %#x load %d insns %zu\n", bpf_program__name(program),
			       bpf_program__section_name(program), bpf_program__type(program),
			       bpf_program__expected_attach_type(program), bpf_program__flags(program),
			       bpf_program__autoload(program), bpf_program__insn_cnt(program));
		}
		struct bpf_map *map;
		bpf_object__for_each_map(map, object) {
			map_line("map", map);
			struct bpf_map *inner = bpf_map__inner_map(map);
			if (inner)
				map_line("inner", inner);
			size_t size;
			const unsigned char *value = bpf_map__initial_value(map, &size);
			if (value && bpf_map__type(map) != BPF_MAP_TYPE_STRUCT_OPS) {
				unsigned long long hash = 0xcbf29ce484222325ull;
				for (size_t at = 0; at < size; at++)
					hash = (hash ^ value[at]) * 0x100000001b3ull;
				printf("bytes %zu %016llx\n", size, hash);
			}
		}
		bpf_object__close(object);
	}
	return 0;
}
