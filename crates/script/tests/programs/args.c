/* Functions with every kind of argument, for the tests of debugging information. Line numbers matter: add at the end. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum color { RED, GREEN = 5, BLUE };

struct opaque;

typedef struct point {
	int x, y;
} point_t;

typedef struct {
	unsigned char tag;
	struct opaque *hidden;
} unnamed_t;

union either {
	int number;
	void *address;
};

struct foo {
	int a;
	char name[16];
	int matrix[2][3];
	unsigned low : 3, high : 5;
	long wide : 40;
	enum color color;
	struct point at;
	union {
		int inner;
		short half;
	};
	struct foo *next;
	union either either;
	bool set;
	double weight;
};

struct large {
	long numbers[4];
};

__attribute__((noipa)) int numbers(int a, unsigned char b, uint64_t c, bool set, enum color color, point_t *p)
{
	return a + b + (int)c + set + color + p->x;
}

__attribute__((noipa)) struct foo *pointers(struct foo *foo, const char *text, char **list, unnamed_t *unnamed,
					       void (*call)(int))
{
	foo->a += text[0] + list[0][0] + unnamed->tag + (call != 0);
	return foo;
}

__attribute__((noipa)) long values(struct point small, struct large large, double weight, int seventh, int a, int b,
				      int c, int d, struct point last)
{
	return small.x + large.numbers[3] + (long)weight + seventh + a + b + c + d + last.y;
}

__attribute__((noipa)) struct large returned(int n)
{
	return (struct large){ { n, n + 1, n + 2, n + 3 } };
}

static void nothing(void)
{
	putchar('\n');
}

int main(void)
{
	struct point point = { 3, 4 };
	struct large large = { { 10, 20, 30, 40 } };
	unnamed_t unnamed = { 7, 0 };
	char *list[] = { "first", "second", 0 };
	struct foo foo = { .a = 1, .name = "a name", .matrix = { { 1, 2, 3 }, { 4, 5, 6 } }, .low = 5, .high = 17,
			   .wide = -123456, .color = BLUE, .at = { 8, 9 }, .inner = 11, .set = true };
	long sum = numbers(-1, 200, 1ull << 40, true, GREEN, &point);
	foo.next = &foo;
	sum += pointers(&foo, "some text", list, &unnamed, 0)->a;
	sum += values(point, large, 2.5, 7, 1, 2, 3, 4, (struct point){ 50, 60 });
	sum += returned(5).numbers[0];
	nothing();
	return sum == 0;
}
