/* What stands between the service and its disk in the tests of faults: preloaded, it sees every
 * call that changes a file below one directory, numbers it by its site, writes it down, and does to
 * it what a rule says. The service is the one that ships: nothing of this is in it.
 *
 * FAULTS_ROOT   the directory that is watched
 * FAULTS_RULES  a file of rules, read before each call: `ACTION FROM TO SITE`, one a line. SITE is a
 *               pattern, FROM and TO say which of the calls that fit it, counted from 1 since the
 *               file last changed. ACTION is kill (before the call), torn:N (N bytes of the write,
 *               then kill), errno:N, slow:MS, hold (until the rules change), or clock:SECONDS (no
 *               call needed; FROM, TO and SITE are there for the form).
 * FAULTS_TRACE  a file of what happened: `OP ERROR OFFSET LENGTH PATH<tab>PATH`, one a line, then LENGTH
 *               bytes and a line break; `! ACTION SITE` where a rule did something
 * FAULTS_BOOT   a file that is read in place of the boot's id
 * FAULTS_BROKER the port of a Kafka broker, requests to which are sites too: `kafka end`
 *
 * A site is what is done to what kind of file: `fsync log/clicks/#.log`. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { PATH = 4096, RULES = 16, TEXT = 4096 };

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
/* The address is looked up once: dlsym is not cheap, and these are called a lot. */
#define FIND(name)                                                                                 \
    static __typeof__(&name) real;                                                                 \
    if (real == NULL) real = REAL(name)

/* One call at a time: so the trace is the order in which things happened, and none is under way
 * when the process is killed. */
static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
static char rules[TEXT];
static long counts[RULES];
static atomic_long clock_offset;

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value == NULL ? "" : value;
}

static int real_open(const char *path, int flags, mode_t mode) {
    FIND(open64);
    return real(path, flags, mode);
}

static ssize_t real_write(int fd, const void *bytes, size_t length) {
    FIND(write);
    return real(fd, bytes, length);
}

/* The part of a path below the root; NULL for a path that is elsewhere. */
static const char *below_root(const char *path) {
    const char *root = setting("FAULTS_ROOT");
    size_t length = strlen(root);
    if (length == 0 || strncmp(path, root, length) != 0) return NULL;
    if (path[length] == '\0') return path + length;
    return path[length] == '/' ? path + length + 1 : NULL;
}

static int path_of(int fd, char path[PATH]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH - 1);
    if (length < 0) return -1;
    path[length] = '\0';
    return 0;
}

/* The operation and the path, with each number as `#`. */
static void site_of(const char *op, const char *path, char site[PATH + 32]) {
    char *to = site + snprintf(site, PATH + 32, "%s ", op);
    for (const char *from = path; *from != '\0'; from++) {
        int digit = *from >= '0' && *from <= '9';
        if (digit && to[-1] == '#') continue;
        *to++ = digit ? '#' : *from;
    }
    *to = '\0';
}

static void read_rules(void) {
    char text[TEXT];
    int fd = real_open(setting("FAULTS_RULES"), O_RDONLY | O_CLOEXEC, 0);
    ssize_t length = fd < 0 ? 0 : pread(fd, text, TEXT - 1, 0);
    if (fd >= 0) close(fd);
    text[length < 0 ? 0 : length] = '\0';
    if (strcmp(text, rules) == 0) return;
    strcpy(rules, text);
    memset(counts, 0, sizeof counts);
    long seconds = 0;
    const char *at = strstr(rules, "clock:");
    if (at != NULL) sscanf(at, "clock:%ld", &seconds);
    atomic_store(&clock_offset, seconds);
}

static void note(const char *head, const void *bytes, size_t length) {
    int fd = real_open(setting("FAULTS_TRACE"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return;
    struct iovec parts[3] = {
        {(void *)head, strlen(head)}, {(void *)bytes, length}, {"\n", length > 0 ? 1 : 0}};
    ssize_t (*real)(int, const struct iovec *, int) = REAL(writev);
    if (real(fd, parts, 3) < 0) abort();
    close(fd);
}

static void note_call(const char *op, int failure, long offset, const char *path, const char *other,
                      const void *bytes, size_t length) {
    char head[2 * PATH + 128];
    snprintf(head, sizeof head, "%s %d %ld %zu %s\t%s\n", op, failure, offset, length, path,
             other);
    note(head, bytes, length);
}

/* Waits until the rules are others. Who waits holds nobody up. */
static void hold(void) {
    char before[TEXT];
    strcpy(before, rules);
    while (strcmp(before, rules) == 0) {
        pthread_mutex_unlock(&one);
        usleep(1000);
        pthread_mutex_lock(&one);
        read_rules();
    }
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* What the rules do to a call: 0 to let it pass, an error to fail with, or -1-N to write only N
 * bytes and die. */
static long meddle(const char *op, const char *path) {
    char site[PATH + 32], action[32], pattern[256];
    long from, to, number, result = 0;
    site_of(op, path, site);
    read_rules();
    const char *line = rules;
    for (int i = 0; i < RULES && *line != '\0'; i++) {
        int fields = sscanf(line, "%31s %ld %ld %255[^\n]", action, &from, &to, pattern);
        line += strcspn(line, "\n");
        line += *line == '\n';
        if (fields != 4 || fnmatch(pattern, site, FNM_EXTMATCH) != 0) continue;
        number = ++counts[i];
        if (number < from || number > to) continue;
        char head[PATH + 128];
        snprintf(head, sizeof head, "! %s %s\n", action, site);
        note(head, NULL, 0);
        if (strcmp(action, "kill") == 0) die();
        if (strcmp(action, "hold") == 0) {
            hold();
            break;
        }
        if (sscanf(action, "errno:%ld", &number) == 1) result = number;
        if (sscanf(action, "torn:%ld", &number) == 1) result = -1 - number;
        if (sscanf(action, "slow:%ld", &number) == 1) {
            /* A slow disk is slow to who asks it, not to others. */
            pthread_mutex_unlock(&one);
            usleep((useconds_t)number * 1000);
            pthread_mutex_lock(&one);
        }
    }
    return result;
}

/* A call on an open file, done by `CALL`; `op` may be read or fsync. */
#define ON_FILE(op, fd, CALL)                                                                      \
    char path[PATH];                                                                               \
    const char *name = path_of(fd, path) == 0 ? below_root(path) : NULL;                           \
    if (name == NULL) return CALL;                                                                 \
    pthread_mutex_lock(&one);                                                                      \
    long fault = meddle(op, name);                                                                 \
    int result = fault > 0 ? -1 : (int)(CALL);                                                     \
    int failure = fault > 0 ? (int)fault : result < 0 ? errno : 0;

#define LEAVE(result)                                                                              \
    pthread_mutex_unlock(&one);                                                                    \
    errno = failure;                                                                               \
    return result

static int synced(int fd, int (*real)(int)) {
    struct stat status;
    const char *op = fstat(fd, &status) == 0 && S_ISDIR(status.st_mode) ? "syncdir" : "fsync";
    ON_FILE(op, fd, real(fd));
    note_call(op, failure, 0, name, "", NULL, 0);
    LEAVE(result);
}

int fsync(int fd) {
    FIND(fsync);
    return synced(fd, real);
}

int fdatasync(int fd) {
    FIND(fdatasync);
    return synced(fd, real);
}

int ftruncate64(int fd, off_t length) {
    FIND(ftruncate64);
    ON_FILE("truncate", fd, real(fd, length));
    note_call("truncate", failure, (long)length, name, "", NULL, 0);
    LEAVE(result);
}

/* An answer that says yes leaves through a socket. */
static void answering(const void *bytes, size_t length) {
    static const char yes[] = "HTTP/1.1 2";
    if (length < sizeof yes || memcmp(bytes, yes, sizeof yes - 1) != 0) return;
    pthread_mutex_lock(&one);
    meddle("answer", "");
    note_call("answer", 0, 0, "", "", NULL, 0);
    pthread_mutex_unlock(&one);
}

/* Writes at an offset, or where the file stands (-1). */
static ssize_t put(int fd, const void *bytes, size_t length, off_t offset) {
    FIND(pwrite64);
    char path[PATH];
    if (path_of(fd, path) != 0) path[0] = '\0';
    const char *name = below_root(path);
    if (name == NULL) {
        if (offset < 0 && strncmp(path, "socket:", 7) == 0) answering(bytes, length);
        return offset < 0 ? real_write(fd, bytes, length) : real(fd, bytes, length, offset);
    }
    pthread_mutex_lock(&one);
    long fault = meddle("write", name);
    size_t wanted = fault < 0 && (size_t)(-1 - fault) < length ? (size_t)(-1 - fault) : length;
    ssize_t result = -1;
    if (fault <= 0 && offset < 0) result = real_write(fd, bytes, wanted);
    if (fault <= 0 && offset >= 0) result = real(fd, bytes, wanted, offset);
    int failure = fault > 0 ? (int)fault : result < 0 ? errno : 0;
    long at = offset < 0 && result >= 0 ? (long)(lseek(fd, 0, SEEK_CUR) - result) : (long)offset;
    note_call("write", failure, at, name, "", bytes, result < 0 ? 0 : (size_t)result);
    if (fault < 0) die();
    LEAVE(result);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    return put(fd, bytes, length, -1);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
    return put(fd, bytes, length, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    FIND(writev);
    char path[PATH];
    if (count == 0 || path_of(fd, path) != 0) return real(fd, parts, count);
    /* To write less than all is allowed, and one part is enough of a file. */
    if (below_root(path) != NULL) return put(fd, parts[0].iov_base, parts[0].iov_len, -1);
    if (strncmp(path, "socket:", 7) == 0) answering(parts[0].iov_base, parts[0].iov_len);
    return real(fd, parts, count);
}

/* A request to the broker that makes a transaction what it is; its kind is in bytes 4 and 5. */
static void requesting(int fd, const unsigned char *bytes, size_t length) {
    static const struct { int kind; const char *name; } requests[] = {
        {0, "produce"}, {22, "init"}, {24, "add"}, {26, "end"}};
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    int port = atoi(setting("FAULTS_BROKER"));
    if (port == 0 || length < 8 || getpeername(fd, (struct sockaddr *)&peer, &size) != 0) return;
    if (ntohs(peer.sin_port) != port) return;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        if (requests[i].kind != (bytes[4] << 8 | bytes[5])) continue;
        pthread_mutex_lock(&one);
        meddle("kafka", requests[i].name);
        pthread_mutex_unlock(&one);
    }
}

ssize_t send(int fd, const void *bytes, size_t length, int flags) {
    FIND(send);
    answering(bytes, length);
    requesting(fd, bytes, length);
    return real(fd, bytes, length, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    FIND(sendmsg);
    if (message->msg_iovlen > 0) {
        answering(message->msg_iov[0].iov_base, message->msg_iov[0].iov_len);
        requesting(fd, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len);
    }
    return real(fd, message, flags);
}

ssize_t read(int fd, void *bytes, size_t length) {
    FIND(read);
    ON_FILE("read", fd, real(fd, bytes, length));
    LEAVE(result);
}

ssize_t pread64(int fd, void *bytes, size_t length, off_t offset) {
    FIND(pread64);
    ON_FILE("read", fd, real(fd, bytes, length, offset));
    LEAVE(result);
}

static int opened(const char *path, int flags, mode_t mode) {
    const char *name = below_root(path);
    if (name == NULL) {
        const char *boot = setting("FAULTS_BOOT");
        int asks = boot[0] != '\0' && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0;
        return real_open(asks ? boot : path, flags, mode);
    }
    pthread_mutex_lock(&one);
    struct stat before;
    int is_there = stat(path, &before) == 0;
    int creates = (flags & O_CREAT) != 0 && !is_there;
    int empties = (flags & O_TRUNC) != 0 && is_there && before.st_size > 0;
    const char *op = creates ? "create" : empties ? "truncate" : "open";
    long fault = meddle(op, name);
    int fd = fault > 0 ? -1 : real_open(path, flags, mode);
    int failure = fault > 0 ? (int)fault : fd < 0 ? errno : 0;
    if (creates || empties) note_call(op, failure, 0, name, "", NULL, 0);
    LEAVE(fd);
}

#define MODE(flags)                                                                                \
    mode_t mode = 0;                                                                               \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                         \
        va_list more;                                                                              \
        va_start(more, flags);                                                                     \
        mode = va_arg(more, mode_t);                                                               \
        va_end(more);                                                                              \
    }

int open64(const char *path, int flags, ...) {
    MODE(flags);
    return opened(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    MODE(flags);
    return opened(path, flags, mode);
}

/* A call on a name, done by `CALL`. */
#define ON_NAME(op, path, other, CALL)                                                             \
    const char *name = below_root(path), *second = below_root(other);                              \
    if (name == NULL) return CALL;                                                                 \
    pthread_mutex_lock(&one);                                                                      \
    long fault = meddle(op, name);                                                                 \
    int result = fault > 0 ? -1 : CALL;                                                            \
    int failure = fault > 0 ? (int)fault : result < 0 ? errno : 0;                                 \
    note_call(op, failure, 0, name, second == NULL ? "" : second, NULL, 0);                        \
    LEAVE(result)

int rename(const char *from, const char *to) {
    FIND(rename);
    ON_NAME("rename", from, to, real(from, to));
}

int link(const char *from, const char *to) {
    FIND(link);
    ON_NAME("link", from, to, real(from, to));
}

int unlink(const char *path) {
    FIND(unlink);
    ON_NAME("unlink", path, "", real(path));
}

int rmdir(const char *path) {
    FIND(rmdir);
    ON_NAME("rmdir", path, "", real(path));
}

int mkdir(const char *path, mode_t mode) {
    FIND(mkdir);
    ON_NAME("mkdir", path, "", real(path, mode));
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    FIND(clock_gettime);
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += atomic_load(&clock_offset);
    return result;
}
