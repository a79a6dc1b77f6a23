/* Makes file operations below one folder fail, for tests: LD_PRELOAD it.
 *
 * CALLSPAN_FAULTS names a file that is mapped into memory: the test writes there which calls fail, and reads how many
 * there were. A write that fails has written half of its bytes, as a full disk may do. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct control {
    _Atomic int error;  /* the errno that is returned; 0: nothing fails */
    _Atomic int first;  /* number of the first call that fails */
    _Atomic int count;  /* how many calls fail */
    _Atomic int seen;   /* calls so far */
    _Atomic int failed; /* calls that failed so far */
    char folder[1000];  /* only calls below it count */
    _Atomic int syncs;  /* calls of fsync and fdatasync so far */
    _Atomic int is_file; /* `folder` is the path of a file: only its syncs count and fail */
};

static struct control *control;
static _Atomic char counts[65536];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("CALLSPAN_FAULTS");
    int fd = path ? REAL(open)(path, O_RDWR) : -1;
    if (fd < 0) return;
    void *at = mmap(0, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED) control = at;
    close(fd);
}

static int is_below(const char *path) {
    if (!control || !path || !control->folder[0]) return 0;
    size_t length = strlen(control->folder);
    return !strncmp(path, control->folder, length) && (!control->is_file || !path[length]);
}

static int is_ours(int fd) { return control && fd >= 0 && fd < 65536 && counts[fd]; }

/* Counts a sync. Returns 1 and sets errno if it must fail. */
static int sync_fails(void) {
    int error = control->error, number = control->seen++, first = control->first;
    if (!error || number < first || number - first >= control->count) return 0;
    control->failed++;
    errno = error;
    return 1;
}

/* Counts another call, as for a sync. */
static int fails(void) { return !control->is_file && sync_fails(); }

static int opened(int fd, const char *path) {
    if (fd >= 0 && fd < 65536) counts[fd] = is_below(path);
    return fd;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        va_list list;                                                                                                  \
        va_start(list, flags);                                                                                         \
        mode_t mode = va_arg(list, mode_t);                                                                            \
        va_end(list);                                                                                                  \
        if (is_below(path) && fails()) return -1;                                                                      \
        return opened(REAL(name)(path, flags, mode), path);                                                            \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int fd, const void *bytes, size_t count) {
    if (is_ours(fd) && fails()) {
        int error = errno;
        if (count > 1) (void)!REAL(write)(fd, bytes, count / 2);
        errno = error;
        return -1;
    }
    return REAL(write)(fd, bytes, count);
}

#define ON_FD(type, name, parameters, arguments)                                                                       \
    type name parameters {                                                                                             \
        if (is_ours(fd) && fails()) return -1;                                                                         \
        return REAL(name) arguments;                                                                                   \
    }
ON_FD(ssize_t, writev, (int fd, const struct iovec *parts, int count), (fd, parts, count))
ON_FD(ssize_t, read, (int fd, void *bytes, size_t count), (fd, bytes, count))
ON_FD(ssize_t, pread64, (int fd, void *bytes, size_t count, off64_t at), (fd, bytes, count, at))
ON_FD(ssize_t, pwrite64, (int fd, const void *bytes, size_t count, off64_t at), (fd, bytes, count, at))
ON_FD(int, ftruncate64, (int fd, off64_t length), (fd, length))

#define SYNC(name)                                                                                                     \
    int name(int fd) {                                                                                                 \
        if (is_ours(fd)) control->syncs++;                                                                             \
        if (is_ours(fd) && sync_fails()) return -1;                                                                    \
        return REAL(name)(fd);                                                                                         \
    }
SYNC(fsync)
SYNC(fdatasync)

#define ON_PATH(type, name, parameters, arguments)                                                                     \
    type name parameters {                                                                                             \
        if (is_below(path) && fails()) return -1;                                                                      \
        return REAL(name) arguments;                                                                                   \
    }
ON_PATH(int, rename, (const char *path, const char *to), (path, to))
ON_PATH(int, unlink, (const char *path), (path))
ON_PATH(int, mkdir, (const char *path, mode_t mode), (path, mode))

int statx(int folder, const char *restrict path, int flags, unsigned mask, struct statx *restrict out) {
    /* The standard library of Rust asks with a null pointer whether the call is there; glibc declares it non-null. */
    const char *volatile name = path;
    if (!name) return REAL(statx)(folder, path, flags, mask, out);
    int is_fd = !name[0];
    if ((is_fd ? is_ours(folder) : is_below(path)) && fails()) return -1;
    return REAL(statx)(folder, path, flags, mask, out);
}

int close(int fd) {
    if (fd >= 0 && fd < 65536) counts[fd] = 0;
    return REAL(close)(fd);
}
