/* Preloaded into a process and its children: writes every name that is looked up and every internet address that is
   connected or sent to into the file $NETWORK_LOG, and refuses all but this machine itself. Libraries in C++ are seen
   as Python is: both call the C library's functions, which are these. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *call, const char *host, int port) {
    char line[512];
    const char *path = getenv("NETWORK_LOG");
    int length = snprintf(line, sizeof line, "%s %s %d\n", call, host, port);
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    if (file < 0)
        abort(); /* what cannot be recorded must not look like nothing */
    if (write(file, line, length) != length)
        abort();
    close(file);
}

static int is_here(const char *host) {
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0;
}

/* Whether the call may go on; what is no internet address always may. */
static int allows(const char *call, const struct sockaddr *address) {
    char host[INET6_ADDRSTRLEN] = "";
    int port;
    if (address == NULL || (address->sa_family != AF_INET && address->sa_family != AF_INET6))
        return 1;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &four->sin_addr, host, sizeof host);
        port = ntohs(four->sin_port);
    } else {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof host);
        port = ntohs(six->sin6_port);
    }
    note(call, host, port);
    if (is_here(host))
        return 1;
    errno = ENETUNREACH;
    return 0;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    if (node != NULL) {
        note("getaddrinfo", node, service ? atoi(service) : 0);
        if (!is_here(node))
            return EAI_FAIL;
    }
    return real(node, service, hints, found);
}

struct hostent *gethostbyname(const char *name) {
    note("gethostbyname", name, 0);
    return NULL;
}

int connect(int handle, const struct sockaddr *address, socklen_t length) {
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    return allows("connect", address) ? real(handle, address, length) : -1;
}

ssize_t sendto(int handle, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
    ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "sendto");
    return allows("sendto", address) ? real(handle, data, size, flags, address, length) : -1;
}

ssize_t sendmsg(int handle, const struct msghdr *message, int flags) {
    ssize_t (*real)(int, const struct msghdr *, int) = dlsym(RTLD_NEXT, "sendmsg");
    return allows("sendmsg", message->msg_name) ? real(handle, message, flags) : -1;
}
