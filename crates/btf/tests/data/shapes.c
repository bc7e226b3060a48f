// Types that are hard to write down, each kept alive by a variable.
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

// Names that meet.
typedef struct { int a; } anon_t;
typedef struct twin { int a; } twin;
typedef union { struct { int x, y; }; u64 both; } pair_t;
typedef enum { ONE = 1, TWO } numbers_t;
enum { LOOSE = 7 };

// Cycles.
struct b;
struct a { struct b *b; struct a *self; };
struct b { struct a a; struct b **list[3]; };
typedef struct node node_t;
struct node { node_t *next; void (*visit)(node_t *, const struct unknown *); };
struct later;
typedef int (*handler_t)(struct later *, u32);
struct later { handler_t handlers[4]; struct later *(*find)(struct later *, int (*)(const char *, ...)); };

// Declarations inside out.
typedef int matrix_t[2][3];
struct decls {
	int *pointers[4];
	int (*to_array)[4];
	int (*to_matrix)[2][3];
	matrix_t *to_typedef;
	void (*functions[2])(void);
	void (*(*returning)(int))(char);
	int (*(*table[2])[3])(u8, u64);
	const char *const *volatile *deep;
	const volatile int both;
	char *restrict alias;
	void *nothing;
	const void *const_nothing;
	int (*variadic)(const char *fmt, ...);
	int (*no_args)();
	const int fixed[3];
	struct { int in; } *to_anon;
	struct { int in; } anons[2];
	enum { IN_A, IN_B } kind;
	enum tagged { TAG_A = -1, TAG_B } tag;
	union unseen *unseen;
	enum hidden *hidden;
	_Bool flag;
	float f;
	double d;
	__int128 wide;
};

// Layouts.
struct packed { u8 a; u32 b; u64 c; } __attribute__((packed));
struct partly { u8 a; u32 b __attribute__((packed)); };
struct holder { u8 a; struct packed p; u32 z; };
struct aligned { u8 a; u32 b __attribute__((aligned(32))); };
struct tail { u8 a; } __attribute__((aligned(16)));
struct odd_bits { u32 a : 3; u32 : 5; u32 b : 8; u32 : 0; u32 c : 1; u64 d : 33; u8 e : 2; };
struct gap { u8 a; u64 : 0; u8 b; u32 c : 4; u8 d; };
struct bool_bits { _Bool x : 1; _Bool y : 1; enum tagged t : 4; };
struct empty {};
struct with_empty { struct empty e; int x; struct {} in; };
struct flex { int n; struct a items[]; };
union mixed { u8 bytes[8]; struct { u32 lo, hi; }; u64 all; struct packed p; };
enum big { BIG_A = 0x100000000ull, BIG_B = 1 };
enum negative { NEG_A = -0x100000000ll, NEG_B = 1 };
struct enums { enum big big; enum negative negative; };

#if __has_attribute(btf_type_tag)
#define __tag(x) __attribute__((btf_type_tag(x)))
#define __decl(x) __attribute__((btf_decl_tag(x)))
#else
#define __tag(x)
#define __decl(x)
#endif
struct tagged_pointers { int __tag("user") *p; int __tag("a") __tag("b") *q; const char __tag("rcu") *r __decl("member"); } __decl("whole");

anon_t v1; twin v2; pair_t v3; numbers_t v4; struct a *v5; struct b v6; node_t v7; struct later v8; struct decls v9;
struct packed v10; struct partly v11; struct holder v12; struct aligned v13; struct tail v14; struct odd_bits v15;
struct gap v16; struct bool_bits v17; struct with_empty v18; struct flex *v19; union mixed v20; struct enums v21;
struct tagged_pointers v22;
int (*v23[2])(struct twin *);
int loose(int x) { return x == LOOSE; }
