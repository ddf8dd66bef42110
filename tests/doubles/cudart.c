/* The CUDA runtime for tests: device memory is host memory, and every call is checked.
 *
 * What a wrong program would do on a GPU is an error code here: freeing what is not allocated, copying past an end,
 * a kind of copy that does not fit its addresses, a stream that does not exist. Copies to the host on a stream happen
 * when the stream is synchronized, not before. At the end a report is written to the file $CUDART_DOUBLE_REPORT:
 * "live_allocations live_bytes live_streams peak_bytes refused".
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 4096
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_HANDLE = 400 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { char *start; size_t size; } blocks[MOST];
static void *streams[MOST];
static struct { void *to; const void *from; size_t size; void *stream; } waiting[MOST];
static int block_count, stream_count, waiting_count;
static size_t live, peak, refused;

static int refuse(int code) { refused++; return code; }

static size_t number(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    return text ? (size_t)strtoull(text, NULL, 10) : otherwise;
}

/* Whether all of [address, address + size) lies in one allocation. */
int doubleOwns(const void *address, size_t size) {
    for (int i = 0; i < block_count; i++)
        if ((const char *)address >= blocks[i].start
            && (const char *)address + size <= blocks[i].start + blocks[i].size) return 1;
    return 0;
}

int doubleHasStream(const void *stream) {
    for (int i = 0; i < stream_count; i++) if (streams[i] == stream) return 1;
    return 0;
}

int cudaMalloc(void **address, size_t size) {
    if (!address || !size) return refuse(INVALID_VALUE);
    pthread_mutex_lock(&lock);
    int code = OK;
    char *block = NULL;
    if (block_count == MOST || live + size > number("CUDART_DOUBLE_TOTAL", (size_t)1 << 40)
        || posix_memalign((void **)&block, 256, size)) code = refuse(OUT_OF_MEMORY);
    else {
        memset(block, 0xCD, size);  /* device memory is never zero by luck */
        blocks[block_count].start = block;
        blocks[block_count++].size = size;
        live += size;
        if (live > peak) peak = live;
        *address = block;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

int cudaFree(void *address) {
    if (!address) return OK;
    pthread_mutex_lock(&lock);
    int code = INVALID_VALUE;
    for (int i = 0; i < block_count; i++)
        if (blocks[i].start == address) {
            live -= blocks[i].size;
            free(address);
            blocks[i] = blocks[--block_count];
            code = OK;
            break;
        }
    pthread_mutex_unlock(&lock);
    return code ? refuse(code) : OK;
}

static int copyable(const void *to, const void *from, size_t size, int kind) {
    int to_device = doubleOwns(to, size), from_device = doubleOwns(from, size);
    if (kind == 1) return to_device && !from_device;
    if (kind == 2) return !to_device && from_device;
    return kind == 3 && to_device && from_device;
}

int cudaMemcpy(void *to, const void *from, size_t size, int kind) {
    if (!copyable(to, from, size, kind)) return refuse(INVALID_VALUE);
    memmove(to, from, size);
    return OK;
}

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    if (!doubleHasStream(stream)) return refuse(INVALID_HANDLE);
    if (!copyable(to, from, size, kind)) return refuse(INVALID_VALUE);
    if (kind != 2) { memmove(to, from, size); return OK; }
    if (waiting_count == MOST) return refuse(INVALID_VALUE);
    waiting[waiting_count].to = to;
    waiting[waiting_count].from = from;
    waiting[waiting_count].size = size;
    waiting[waiting_count++].stream = stream;
    return OK;
}

int cudaStreamCreate(void **stream) {
    if (!stream || stream_count == MOST) return refuse(INVALID_VALUE);
    *stream = streams[stream_count++] = malloc(1);
    return OK;
}

int cudaStreamSynchronize(void *stream) {
    int kept = 0;
    if (!doubleHasStream(stream)) return refuse(INVALID_HANDLE);
    for (int i = 0; i < waiting_count; i++) {
        if (waiting[i].stream != stream) { waiting[kept++] = waiting[i]; continue; }
        if (!doubleOwns(waiting[i].from, waiting[i].size)) return refuse(INVALID_VALUE);
        memcpy(waiting[i].to, waiting[i].from, waiting[i].size);
    }
    waiting_count = kept;
    return OK;
}

int cudaStreamDestroy(void *stream) {
    for (int i = 0; i < stream_count; i++)
        if (streams[i] == stream) {
            free(stream);
            streams[i] = streams[--stream_count];
            return OK;
        }
    return refuse(INVALID_HANDLE);
}

int cudaMemGetInfo(size_t *available, size_t *total) {
    *total = number("CUDART_DOUBLE_TOTAL", (size_t)4 << 30);
    *available = *total - live;
    return OK;
}

/* $CUDART_DOUBLE_CAPABILITY is 53 for 5.3. */
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    int capability = (int)number("CUDART_DOUBLE_CAPABILITY", 53);
    if (!value || device != 0) return refuse(101);
    if (attribute == 75) *value = capability / 10;
    else if (attribute == 76) *value = capability % 10;
    else return refuse(INVALID_VALUE);
    return OK;
}

int cudaRuntimeGetVersion(int *version) { *version = (int)number("CUDART_DOUBLE_VERSION", 10020); return OK; }

const char *cudaGetErrorString(int code) {
    switch (code) {
    case OK: return "no error";
    case INVALID_VALUE: return "invalid argument";
    case OUT_OF_MEMORY: return "out of memory";
    case INVALID_HANDLE: return "invalid resource handle";
    case 101: return "invalid device ordinal";
    }
    return "unrecognized error code";
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("CUDART_DOUBLE_REPORT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "%d %zu %d %zu %zu\n", block_count, live, stream_count, peak, refused);
    fclose(file);
}
