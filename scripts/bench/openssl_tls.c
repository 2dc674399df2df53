/* An echo server with TLS by hand on epoll and OpenSSL, level-triggered. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct connection {
    int fd;
    SSL *ssl;
    size_t len; /* of what is unsent */
    char *unsent;
};

static char buffer[16 * 1024];
static SSL_CTX *tls;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int epoll, int how, struct connection *c, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, how, c->fd, &event) < 0) fail("epoll_ctl");
}

static void close_connection(struct connection *c) {
    SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    close(c->fd);
    free(c->unsent);
    free(c);
}

static void accept_all(int epoll, int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *c = calloc(1, sizeof *c);
        if (!c || !(c->ssl = SSL_new(tls)) || !SSL_set_fd(c->ssl, fd)) fail("SSL_new");
        SSL_set_accept_state(c->ssl);
        c->fd = fd;
        watch(epoll, EPOLL_CTL_ADD, c, EPOLLIN);
    }
}

/* Waits for what `result` says is missing. Returns 0 if the connection has ended. */
static int await(int epoll, struct connection *c, int result) {
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ: return 1;
    case SSL_ERROR_WANT_WRITE: watch(epoll, EPOLL_CTL_MOD, c, EPOLLOUT); return 1;
    default: close_connection(c); return 0;
    }
}

/* Sends the rest of an echo. Returns 0 if some of it remains. */
static int go_on_sending(int epoll, struct connection *c) {
    while (c->len) {
        int sent = SSL_write(c->ssl, c->unsent, c->len);
        if (sent <= 0) {
            await(epoll, c, sent);
            return 0;
        }
        c->len -= sent;
        memmove(c->unsent, c->unsent + sent, c->len);
    }
    watch(epoll, EPOLL_CTL_MOD, c, EPOLLIN);
    return 1;
}

static void echo(int epoll, struct connection *c) {
    do {
        int len = SSL_read(c->ssl, buffer, sizeof buffer);
        if (len <= 0) {
            await(epoll, c, len);
            return;
        }
        int sent = SSL_write(c->ssl, buffer, len);
        if (sent == len) continue;
        if (sent <= 0 && !await(epoll, c, sent)) return;
        if (sent < 0) sent = 0;
        if (!c->unsent && !(c->unsent = malloc(sizeof buffer))) fail("malloc");
        c->len = len - sent;
        memcpy(c->unsent, buffer + sent, c->len);
        watch(epoll, EPOLL_CTL_MOD, c, EPOLLOUT);
        return;
    } while (SSL_has_pending(c->ssl));
}

int main(int argc, char **argv) {
    if (argc != 4) return fprintf(stderr, "usage: openssl_tls CERT KEY PORT\n"), 2;

    signal(SIGPIPE, SIG_IGN); /* SSL_write does not use MSG_NOSIGNAL */
    tls = SSL_CTX_new(TLS_server_method());
    if (!tls || SSL_CTX_use_certificate_chain_file(tls, argv[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, argv[2], SSL_FILETYPE_PEM) != 1)
        return fprintf(stderr, "openssl_tls: cannot use %s and %s\n", argv[1], argv[2]), 1;
    /* Without buffers while idle, and with one recv(2) for a record. */
    SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(tls, 1);

    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3])),
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&addr, sizeof addr) < 0) fail("bind");
    if (listen(listener, 4096) < 0) fail("listen");
    int epoll = epoll_create1(0);
    struct connection l = {.fd = listener};
    watch(epoll, EPOLL_CTL_ADD, &l, EPOLLIN);
    printf("Listening on 127.0.0.1:%s\n", argv[3]);
    fflush(stdout);

    static struct epoll_event events[1024];
    for (;;) {
        int count = epoll_wait(epoll, events, 1024, -1);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == &l) accept_all(epoll, listener);
            else if (!c->len || go_on_sending(epoll, c)) echo(epoll, c);
        }
    }
}
