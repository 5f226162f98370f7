// SPDX-License-Identifier: BSL-1.0
// What a cluster says over HTTP, and clients that do not behave.
#include "../../../include/cohort/cluster/control/health_server.hpp"

#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../../include/cohort/net/endpoint.hpp"
#include "../../worker/client.hpp"
#include "../running.hpp"
#include "../server.hpp"

namespace cohort::test::health_test {
namespace {

asio::awaitable<asio::ip::tcp::socket> connect_to(asio::ip::tcp::endpoint to) {
  asio::ip::tcp::socket socket(co_await asio::this_coro::executor);
  co_await socket.async_connect(to, detail::awaited);
  co_return socket;
}

/// All that comes until the other side ends the connection.
asio::awaitable<std::string> rest_of(asio::ip::tcp::socket& socket) {
  std::string result;
  for (;;) {
    char piece[4096];
    detail::asio_error error;
    const auto size =
        co_await socket.async_read_some(asio::buffer(piece), asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::connection_reset) co_return result + "(reset)";
    if (error) co_return result;
    result.append(piece, size);
  }
}

asio::awaitable<std::string> ask(asio::ip::tcp::endpoint to, std::string request) {
  auto socket = co_await connect_to(to);
  co_await socket.async_send(asio::buffer(request), detail::awaited);
  co_return co_await rest_of(socket);
}

asio::awaitable<std::string> get(asio::ip::tcp::endpoint to, std::string path) {
  std::string request = "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n";
  co_return co_await ask(to, std::move(request));
}

/// A health address of a cluster that the test runs, or does not run.
struct scene : std::enable_shared_from_this<scene> {
  explicit scene(std::shared_ptr<running> r) : of(std::move(r)), health(of->primary, "127.0.0.1:0") {}

  static std::shared_ptr<scene> start(std::shared_ptr<running> of) {
    auto self = std::make_shared<scene>(std::move(of));
    asio::co_spawn(self->of->primary.get_executor(), self->health.run(), [self](std::exception_ptr failure) {
      self->failure = failure;
      self->over = true;
    });
    return self;
  }

  asio::awaitable<void> end() {
    health.stop();
    const bool ended = co_await eventually([this] { return over; });
    CHECK(ended);
    CHECK_FALSE(failure);
  }

  std::shared_ptr<running> of;
  health_server health;
  std::exception_ptr failure;
  bool over = false;
};

ASYNC_TEST("a cluster says over HTTP whether it lives, whether clients should come, and its figures") {
  auto options = options_for(distribution::round_robin, 1);
  options.lame_duck = 1h;
  const auto s = scene::start(co_await running::ready(options));
  const auto at = s->health.endpoint();
  co_await s->of->primary.all_ready();
  auto found = co_await get(at, "/readyz");
  CHECK(found.starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(found.ends_with("\r\n\r\nready\n"));
  found = co_await get(at, "/metrics?x=1");
  CHECK(found.find("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n") != found.npos);
  CHECK(found.find("\ncohort_in_service 1\n") != found.npos);

  s->of->primary.stop("the test");
  found = co_await get(at, "/readyz");
  CHECK(found.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
  found = co_await get(at, "/healthz");
  CHECK(found.starts_with("HTTP/1.1 200 OK\r\n"));
  s->of->primary.stop("again");
  co_await s->of->ended();
  co_await s->end();
}

ASYNC_TEST("what is no request that it knows is answered so, and what is too large is not read") {
  const auto executor = co_await asio::this_coro::executor;
  const auto s = scene::start(std::make_shared<running>(executor, options_for(distribution::shared, 1)));
  const auto at = s->health.endpoint();
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"GET /nothing HTTP/1.1\r\n\r\n", "404 "},
      {"POST /metrics HTTP/1.1\r\n\r\nbody", "405 "},
      {"GET /metrics\r\n\r\n", "400 "},
      {"\r\n\r\n", "400 "},
      {std::string("\0 \xff /\r\n\r\n", 9), "400 "},
      {"GET /" + std::string(20'000, 'x'), "431 "},
      {"GET /readyz HTTP/1.1\r\n\r\n", "503 "},
  };
  for (const auto& [request, status] : cases) {
    const auto found = co_await ask(at, request);
    CHECK(found.starts_with("HTTP/1.1 " + status));
    CHECK_FALSE(found.ends_with("(reset)"));
  }
  const auto head = co_await ask(at, "HEAD /healthz HTTP/1.0\r\n\r\n");
  CHECK(head.find("Content-Length: 3\r\n") != head.npos);
  CHECK(head.ends_with("\r\n\r\n"));
  co_await s->end();
}

ASYNC_TEST("clients that say nothing make room for others, the first one first, and are gone at the end") {
  const auto executor = co_await asio::this_coro::executor;
  const auto s = scene::start(std::make_shared<running>(executor, options_for(distribution::shared, 1)));
  std::vector<asio::ip::tcp::socket> silent;
  for (std::size_t i = 0; i < health_server::max_clients; ++i) {
    auto one = co_await connect_to(s->health.endpoint());
    silent.push_back(std::move(one));
  }
  const auto found = co_await get(s->health.endpoint(), "/healthz");
  CHECK(found.starts_with("HTTP/1.1 200 OK\r\n"));
  auto said = co_await rest_of(silent.front());
  CHECK(said.empty());
  co_await s->end();
  said = co_await rest_of(silent.back());
  CHECK(said.empty());
}

ASYNC_TEST("serve() answers at its health address, and after an upgrade the new primary does") {
  const subreaper adopts;
  auto free = parse_endpoint("127.0.0.1:0");
  open_listener(free, listen_settings());  // a port that nobody has any more
  auto s = co_await server::ready("health=" + to_string(free), "workers=3");
  std::string found;
  while (found.find("\ncohort_workers_wanted 3\n") == found.npos) found = co_await get(free, "/metrics");
  s->primary.signal(SIGUSR2);
  co_await s->until(kind::upgraded);
  const pid_t next = s->last(kind::upgraded).pid;
  const auto status = co_await s->primary.wait();
  CHECK(status == exit_status::exited(0));
  for (found.clear(); !found.starts_with("HTTP/1.1 200 OK\r\n"); co_await yield(1)) {
    try {
      found = co_await get(free, "/readyz");
    } catch (const std::system_error&) {  // between the two
    }
  }
  ::kill(next, SIGTERM);
  const int last = co_await adopted(next);
  CHECK(last == 0);
}

}  // namespace
}  // namespace cohort::test::health_test
