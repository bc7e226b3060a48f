// One global per way in which a value can be laid out; `values.txt` has what they read as.
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef char letter;

enum color { RED, GREEN = 5, BLUE = -3 };
enum wide { SMALL = 1, LARGE = 0x100000000ull };

struct bits {
	u32 one : 1;
	u32 three : 3;
	int minus : 5;
	u64 far : 40;
	enum color color : 4;
	_Bool yes : 1;
};

struct inner {
	short a;
	union {
		u32 whole;
		u8 parts[4];
	};
};

struct all {
	char c;
	signed char sc;
	u8 uc;
	_Bool yes, no;
	short s;
	long l;
	u64 u;
	enum color color, other;
	enum wide wide;
	char name[16];
	letter letters[4];
	char full[4];
	u8 raw[3];
	const char *ptr;
	void (*fn)(int);
	struct inner inner[2];
	int matrix[2][3];
	struct bits bits;
	float f;
	double d;
	__int128 big;
	struct {
	} nothing;
};

struct flexible {
	int len;
	struct inner items[];
};

struct texts {
	int len;
	char text[];
};

struct all all = {
	.c = 'x', .sc = -1, .uc = 200, .yes = 1, .s = -2, .l = -3, .u = 0xfffffffffffffffeull,
	.color = GREEN, .other = 9, .wide = LARGE, .name = "it's \"a\\b\"", .letters = "abc", .full = "full",
	.raw = { 1, 2, 255 }, .inner = { { .a = 1, .whole = 0x01020304 }, { .a = -1 } }, .matrix = { { 1, 2, 3 }, { 4, 5, 6 } },
	.bits = { .one = 1, .three = 5, .minus = -7, .far = 0x123456789aull, .color = GREEN, .yes = 1 },
	.f = 1.5f, .d = -0.1, .big = ((__int128)1 << 100) + 7,
};
enum color minus = BLUE;
struct { int in; struct { int deep; }; } anonymous = { 1, { 2 } };
const volatile int setting = 42;
