/* A clock of its own for one process: a library that is preloaded and moves the wall clock by what a small file says.
 *
 * The file (TEST_CLOCK) holds three numbers of 64 bits: an offset in nanoseconds, a drift in parts per million, and the
 * monotonic time in nanoseconds from which the drift counts. It is mapped, so a running process sees every change at once.
 * Monotonic and boot clocks are left alone: they are what the product may rely on.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

static const volatile int64_t *settings;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *map = mmap(NULL, 3 * sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED) settings = map;
}

static int ask(clockid_t id, struct timespec *now) {
    /* Other libraries may ask before this one has begun. */
    return real ? real(id, now) : (int)syscall(SYS_clock_gettime, id, now);
}

static int64_t moved(void) {
    if (!settings) return 0;
    int64_t drift = 0;
    if (settings[1]) {
        struct timespec now;
        ask(CLOCK_MONOTONIC, &now);
        int64_t since = now.tv_sec * SECOND + now.tv_nsec - settings[2];
        drift = since / 1000000 * settings[1];
    }
    return settings[0] + drift;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int failed = ask(id, now);
    if (failed || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE && id != CLOCK_TAI)) return failed;
    int64_t by = moved();
    now->tv_sec += by / SECOND;
    now->tv_nsec += by % SECOND;
    if (now->tv_nsec < 0) now->tv_nsec += SECOND, now->tv_sec--;
    if (now->tv_nsec >= SECOND) now->tv_nsec -= SECOND, now->tv_sec++;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec precise;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    if (!failed) *now = (struct timeval){precise.tv_sec, precise.tv_nsec / 1000};
    return failed;
}

time_t time(time_t *store) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now)) return (time_t)-1;
    if (store) *store = now.tv_sec;
    return now.tv_sec;
}
