/* NVIDIA's management library for tests: one card, as far as it is used, and every call is checked.
 *
 * It refuses what the real one refuses: calls before nvmlInit_v2 and after nvmlShutdown, null pointers, cards that are
 * not there, handles of its own making only, a process list that is too short. Set by the environment, read at each
 * call:
 *   NVML_DOUBLE_WATTS        what it draws (default 100); "none": not supported
 *   NVML_DOUBLE_ENERGY       "none": it does not count its energy; else it counts WATTS since it was loaded
 *   NVML_DOUBLE_USED_MIB     of its 8 GB (default 1232)
 *   NVML_DOUBLE_PROCESSES    "pid:MiB pid:MiB ..."; MiB of -1: the driver does not tell
 *   NVML_DOUBLE_INIT         an error that nvmlInit_v2 gives
 * Compiled with -DOLD_PROCESSES it has only the first process list, whose entries are shorter.
 * At the end a report is written to $NVML_DOUBLE_REPORT: "initialized refused".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
static int card, initialized, refused;

static int refuse(int code) { refused++; return code; }

static int check(const void *device, const void *pointer) {
    if (initialized < 1) return refuse(UNINITIALIZED);
    return device == &card && pointer ? OK : refuse(INVALID_ARGUMENT);
}

static const char *text(const char *name) { const char *found = getenv(name); return found ? found : ""; }

static double watts(void) { const char *found = text("NVML_DOUBLE_WATTS"); return *found ? atof(found) : 100; }

int nvmlInit_v2(void) {
    int code = atoi(text("NVML_DOUBLE_INIT"));
    if (!code) initialized++;
    return code;
}

int nvmlShutdown(void) {
    if (initialized < 1) return refuse(UNINITIALIZED);
    initialized--;
    return OK;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    if (check(&card, count)) return INVALID_ARGUMENT;
    *count = 1;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index != 0) return refuse(INVALID_ARGUMENT);
    if (check(&card, device)) return INVALID_ARGUMENT;
    *device = &card;
    return OK;
}

int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    int code = check(device, name);
    if (code) return code;
    if (length < 64) return refuse(INSUFFICIENT_SIZE);
    strcpy(name, "NVIDIA GeForce RTX 3070 Laptop GPU");
    return OK;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    int code = check(device, milliwatts);
    if (code) return code;
    if (!strcmp(text("NVML_DOUBLE_WATTS"), "none")) return NOT_SUPPORTED;
    *milliwatts = (unsigned)(watts() * 1000);
    return OK;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    struct timespec now;
    int code = check(device, millijoules);
    if (code) return code;
    if (!strcmp(text("NVML_DOUBLE_ENERGY"), "none")) return NOT_SUPPORTED;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *millijoules = 5000000000ULL + (unsigned long long)(watts() * (now.tv_sec * 1e3 + now.tv_nsec / 1e6));
    return OK;
}

int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory) {
    int code = check(device, memory);
    if (code) return code;
    memory[0] = 8ULL << 30;
    const char *used = text("NVML_DOUBLE_USED_MIB");
    memory[2] = (*used ? strtoull(used, NULL, 10) : 1232) << 20;
    memory[1] = memory[0] - memory[2];
    return OK;
}

struct short_entry { unsigned pid; unsigned long long used; };
struct long_entry { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; };

static int processes(void *device, unsigned *count, char *list, size_t entry_size) {
    int code = check(device, count);
    unsigned known = 0, pid;
    long long mib;
    const char *at = text("NVML_DOUBLE_PROCESSES");
    if (code) return code;
    for (int read; sscanf(at, " %u:%lld%n", &pid, &mib, &read) == 2; at += read, known++) {
        struct short_entry entry = { pid, mib < 0 ? ~0ULL : (unsigned long long)mib << 20 };
        if (known >= *count) continue;
        if (!list) return refuse(INVALID_ARGUMENT);
        memset(list + known * entry_size, 0xFF, entry_size);  /* no MIG: all ones */
        memcpy(list + known * entry_size, &entry, sizeof entry);
    }
    code = known > *count ? INSUFFICIENT_SIZE : OK;
    *count = known;
    return code;
}

#ifdef OLD_PROCESSES
int nvmlDeviceGetComputeRunningProcesses(void *device, unsigned *count, void *list) {
    return processes(device, count, list, sizeof(struct short_entry));
}
#else
int nvmlDeviceGetComputeRunningProcesses_v2(void *device, unsigned *count, void *list) {
    return processes(device, count, list, sizeof(struct long_entry));
}
#endif

const char *nvmlErrorString(int code) {
    switch (code) {
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case 9: return "Driver Not Loaded";
    }
    return "Unknown Error";
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("NVML_DOUBLE_REPORT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file) return;
    fprintf(file, "%d %d\n", initialized, refused);
    fclose(file);
}
