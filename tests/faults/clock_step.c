/* Moves the clock of one process: adds the nanoseconds in a file, which is mapped, to CLOCK_REALTIME. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static int (*system_clock)(clockid_t, struct timespec *);
static volatile long long *offset;

__attribute__((constructor)) static void map_offset(void) {
	const char *path = getenv("CLOCK_STEP_FILE");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *map = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
	offset = map == MAP_FAILED ? NULL : map;
	system_clock = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t clock, struct timespec *time) {
	int result = system_clock(clock, time);
	if (result == 0 && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
		long long sum = time->tv_sec * 1000000000LL + time->tv_nsec + *offset;
		time->tv_sec = sum / 1000000000LL;
		time->tv_nsec = sum % 1000000000LL;
	}
	return result;
}
