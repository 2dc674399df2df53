/* An echo server by hand on epoll, level-triggered: the limit that the others
 * are measured against. It waits, reads once for each event, and sends. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct connection {
    int fd;
    size_t len; /* of what is unsent */
    char *unsent;
};

static char buffer[64 * 1024];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int epoll, int how, struct connection *c, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, how, c->fd, &event) < 0) fail("epoll_ctl");
}

static void close_connection(struct connection *c) {
    close(c->fd);
    free(c->unsent);
    free(c);
}

static void accept_all(int epoll, int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *c = calloc(1, sizeof *c);
        if (!c) fail("calloc");
        c->fd = fd;
        watch(epoll, EPOLL_CTL_ADD, c, EPOLLIN);
    }
}

/* Sends the rest of an echo, and then listens to the peer again. */
static void go_on_sending(int epoll, struct connection *c) {
    ssize_t sent = send(c->fd, c->unsent, c->len, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        close_connection(c);
    } else if (sent > 0) {
        c->len -= sent;
        memmove(c->unsent, c->unsent + sent, c->len);
        if (!c->len) watch(epoll, EPOLL_CTL_MOD, c, EPOLLIN);
    }
}

static void echo(int epoll, struct connection *c) {
    ssize_t len = recv(c->fd, buffer, sizeof buffer, 0);
    if (len < 0 && errno == EAGAIN) return;
    if (len <= 0) {
        close_connection(c);
        return;
    }
    ssize_t sent = send(c->fd, buffer, len, MSG_NOSIGNAL);
    if (sent == len) return;
    if (sent < 0 && errno != EAGAIN) {
        close_connection(c);
        return;
    }
    if (sent < 0) sent = 0;
    if (!c->unsent && !(c->unsent = malloc(sizeof buffer))) fail("malloc");
    c->len = len - sent;
    memcpy(c->unsent, buffer + sent, c->len);
    watch(epoll, EPOLL_CTL_MOD, c, EPOLLOUT);
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: epoll PORT\n"), 2;

    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&addr, sizeof addr) < 0) fail("bind");
    if (listen(listener, 4096) < 0) fail("listen");
    int epoll = epoll_create1(0);
    struct connection l = {.fd = listener};
    watch(epoll, EPOLL_CTL_ADD, &l, EPOLLIN);
    printf("Listening on 127.0.0.1:%s\n", argv[1]);
    fflush(stdout);

    static struct epoll_event events[1024];
    for (;;) {
        int count = epoll_wait(epoll, events, 1024, -1);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == &l) accept_all(epoll, listener);
            else if (c->len) go_on_sending(epoll, c);
            else echo(epoll, c);
        }
    }
}
