/* An echo server on libuv. It sends at once what the kernel takes, and only
 * what that leaves as a request, until whose end it does not read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct rest {
    uv_write_t request;
    char bytes[];
};

static char buffer[64 * 1024];

static void fail(const char *what, int error) {
    fprintf(stderr, "%s: %s\n", what, uv_strerror(error));
    exit(1);
}

static void on_closed(uv_handle_t *handle) { free(handle); }

static void on_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf) {
    (void)handle, (void)hint;
    *buf = uv_buf_init(buffer, sizeof buffer);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf);

static void on_written(uv_write_t *request, int error) {
    uv_stream_t *stream = request->handle;
    free(request);
    if (uv_is_closing((uv_handle_t *)stream)) return;
    if (error) uv_close((uv_handle_t *)stream, on_closed);
    else uv_read_start(stream, on_alloc, on_read);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buf) {
    if (len == 0) return;
    if (len < 0) {
        uv_close((uv_handle_t *)stream, on_closed);
        return;
    }
    uv_buf_t data = uv_buf_init(buf->base, len);
    int sent = uv_try_write(stream, &data, 1);
    if (sent == len) return;
    if (sent < 0 && sent != UV_EAGAIN) {
        uv_close((uv_handle_t *)stream, on_closed);
        return;
    }
    if (sent < 0) sent = 0;
    struct rest *rest = malloc(sizeof *rest + len - sent);
    if (!rest) fail("malloc", UV_ENOMEM);
    memcpy(rest->bytes, buf->base + sent, len - sent);
    data = uv_buf_init(rest->bytes, len - sent);
    uv_read_stop(stream);
    if (uv_write(&rest->request, stream, &data, 1, on_written)) {
        free(rest);
        uv_close((uv_handle_t *)stream, on_closed);
    }
}

static void on_connection(uv_stream_t *listener, int error) {
    if (error) return;
    uv_tcp_t *peer = malloc(sizeof *peer);
    if (!peer) fail("malloc", UV_ENOMEM);
    uv_tcp_init(listener->loop, peer);
    if (uv_accept(listener, (uv_stream_t *)peer)) {
        uv_close((uv_handle_t *)peer, on_closed);
        return;
    }
    uv_tcp_nodelay(peer, 1);
    uv_read_start((uv_stream_t *)peer, on_alloc, on_read);
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: uv PORT\n"), 2;

    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t listener;
    struct sockaddr_in addr;
    int error;
    uv_tcp_init(loop, &listener);
    uv_ip4_addr("127.0.0.1", atoi(argv[1]), &addr);
    if ((error = uv_tcp_bind(&listener, (struct sockaddr *)&addr, 0))) fail("bind", error);
    if ((error = uv_listen((uv_stream_t *)&listener, 4096, on_connection))) fail("listen", error);
    printf("Listening on 127.0.0.1:%s\n", argv[1]);
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
