// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/ipc/node/link.hpp"

#include <cerrno>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../include/cohort/core/error.hpp"
#include "../../include/cohort/core/task_group.hpp"
#include "../support/cancellation.hpp"
#include "../support/fault.hpp"
#include "raw_peer.hpp"

namespace cohort::test::node_handle_test {
namespace {

using asio::ip::tcp;

/// Starts sending a handle; `ended` is how it ended.
void start_sending(task_group& tasks, node_link& link, int fd, std::optional<std::error_code>& ended,
                   std::optional<node_handle_type> type = {}) {
  const auto sending = [](node_link& over, int handle, std::optional<std::error_code>& how,
                          std::optional<node_handle_type> as) -> asio::awaitable<void> {
    const json message = "with a handle";
    how = co_await error_of(over.send_handle(message, handle, as));
  };
  tasks.start(sending(link, fd, ended, type));
}

ASYNC_TEST("a handle is under way until it is acknowledged, and what comes behind waits") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw_peer both(executor);
  auto ends = make_channel_pair();
  task_group tasks(executor);
  std::optional<std::error_code> ended;
  start_sending(tasks, both.here, ends.first.get(), ended);
  const json behind = "behind";
  CHECK(both.here.post(behind));
  const auto line = co_await both.there.line();
  CHECK(parsed(line) == parsed(R"({"cmd":"NODE_HANDLE","type":"net.Socket","msg":"with a handle"})"));
  CHECK(both.there.handles.size() == 1);
  co_await yield(10);
  CHECK(both.there.rest().empty());
  CHECK_FALSE(ended);

  both.there.write(std::string(ack) + "\n");
  const auto after = co_await both.there.line();
  CHECK(after == "\"behind\"");
  co_await tasks.wait_empty();
  CHECK(ended == std::error_code());
  CHECK(::fcntl(ends.first.get(), F_GETFD) >= 0);  // still the caller's
  CHECK((::fcntl(both.there.handles.front().get(), F_GETFL) & O_NONBLOCK) != 0);
}

ASYNC_TEST(
    "a socket that is refused is sent again, as it was, three times; then it is the caller's, and the rest goes on") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw_peer both(executor);
  auto ends = make_channel_pair();
  task_group tasks(executor);
  std::optional<std::error_code> ended;
  start_sending(tasks, both.here, ends.first.get(), ended);
  const json behind = "behind";
  CHECK(both.here.post(behind));
  std::string first;
  for (int time = 0; time < 4; ++time) {
    const auto line = co_await both.there.line();
    if (time == 0) first = line;
    CHECK(line == first);
    CHECK(both.there.handles.size() == static_cast<std::size_t>(time) + 1);
    both.there.write(std::string(nack) + "\n");
  }
  const auto after = co_await both.there.line();
  CHECK(after == "\"behind\"");
  co_await tasks.wait_empty();
  CHECK(ended == errc::handle_lost);

  // what Node does not send again, this side does not either
  tcp::acceptor acceptor(executor, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  start_sending(tasks, both.here, acceptor.native_handle(), ended);
  const auto server = co_await both.there.line();
  CHECK(parsed(server)["type"] == "net.Server");
  both.there.write(std::string(nack) + "\n");
  co_await tasks.wait_empty();
  CHECK(ended == errc::handle_lost);
}

ASYNC_TEST("a peer that goes with a handle under way leaves it to the caller") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw_peer both(executor);
  auto ends = make_channel_pair();
  task_group tasks(executor);
  std::optional<std::error_code> first, second, plain;
  start_sending(tasks, both.here, ends.first.get(), first);
  start_sending(tasks, both.here, ends.second.get(), second);
  const auto sending = [](node_link& over, std::optional<std::error_code>& how) -> asio::awaitable<void> {
    const json message = "behind";
    how = co_await error_of(over.send(message));
  };
  tasks.start(sending(both.here, plain));
  co_await both.there.line();
  both.there.close();
  co_await tasks.wait_empty();
  CHECK(first == errc::peer_closed);
  CHECK(second == errc::peer_closed);
  CHECK(plain == errc::peer_closed);
}

ASYNC_TEST("disconnect waits for the acknowledgement, and what was held back goes out") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw_peer both(executor);
  auto ends = make_channel_pair();
  task_group tasks(executor);
  std::optional<std::error_code> ended;
  start_sending(tasks, both.here, ends.first.get(), ended);
  const json behind = "behind";
  CHECK(both.here.post(behind));
  tasks.start(both.here.disconnect());
  co_await both.there.line();
  both.there.write(std::string(ack) + "\n");
  const auto after = co_await both.there.line();
  CHECK(after == "\"behind\"");
  co_await tasks.wait_empty();
  CHECK(ended == std::error_code());
  CHECK(both.there.at_end());
}

ASYNC_TEST("handles that cross do not stop each other") {
  const auto executor = co_await asio::this_coro::executor;
  linked both(executor);
  task_group tasks(executor);
  const auto giving = [](node_link& over) -> asio::awaitable<void> {
    for (int index = 0; index < 50; ++index) {
      auto ends = make_channel_pair();
      const json message = index;
      co_await over.send_handle(message, ends.first.get());
    }
  };
  tasks.start(giving(both.here));
  tasks.start(giving(both.there));
  for (int index = 0; index < 50; ++index) {
    for (auto* link : {&both.here, &both.there}) {
      const auto next = co_await link->receive_handle();
      CHECK(next->value == json(index));
      CHECK(next->handle.object.kind() == handle_kind::local_socket);
    }
  }
  co_await tasks.wait_empty();
}

ASYNC_TEST("handles that nobody takes are acknowledged when there is room for them again") {
  const auto executor = co_await asio::this_coro::executor;
  node_options options;
  options.max_handles = 2;
  linked both(executor, options);
  task_group tasks(executor);
  std::size_t given = 0;
  const auto giving = [](node_link& over, std::size_t& count) -> asio::awaitable<void> {
    for (int index = 0; index < 10; ++index) {
      auto ends = make_channel_pair();
      const json message = index;
      co_await over.send_handle(message, ends.first.get());
      ++count;
    }
  };
  tasks.start(giving(both.here, given));
  const bool two = co_await eventually([&] { return given == 2; });
  CHECK(two);
  co_await yield(20);
  CHECK(given == 2);
  for (int index = 0; index < 10; ++index) {
    const auto next = co_await both.there.receive();
    CHECK(next->value == json(index));
    CHECK(next->handle);
  }
  co_await tasks.wait_empty();
}

ASYNC_TEST("what would end a Node peer is refused before anything is sent") {
  const auto executor = co_await asio::this_coro::executor;
  against_raw_peer both(executor);
  const json message = 1;
  const descriptor null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const descriptor counter(::eventfd(0, EFD_CLOEXEC));
  const descriptor unconnected(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const descriptor datagrams(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  auto ends = make_channel_pair();
  for (const int fd : {null.get(), counter.get(), unconnected.get(), datagrams.get()}) {
    const auto error = co_await error_of(both.here.send_handle(message, fd));
    CHECK(error == errc::wrong_handle_kind);
  }
  for (const auto type : {node_handle_type::server, node_handle_type::datagram, node_handle_type::native_datagram}) {
    const auto error = co_await error_of(both.here.send_handle(message, ends.first.get(), type));
    CHECK(error == errc::wrong_handle_kind);
  }
  const auto text = co_await text_of(both.here.send_handle(message, null.get(), node_handle_type::native));
  CHECK(text == "node handle: a descriptor is no net.Native: the handle is of another kind");
  auto error = co_await error_of(both.here.send_handle(message, -1));
  CHECK(error == std::error_code(EBADF, std::system_category()));

  const std::error_code invalid(EINVAL, std::system_category());
  const json internal = parsed(R"({"cmd":"NODE_CLUSTER"})");
  error = co_await error_of(both.here.send(internal));
  CHECK(error == invalid);
  for (const char* each : {R"({"cmd":"NODE_HANDLE_ACK"})", R"({"cmd":"NODE_HANDLE"})", "{}",
                           R"({"cmd":"NODE_SOCKET_COUNT"})"}) {
    const json own = parsed(each);
    error = co_await error_of(both.here.send_internal(own));
    CHECK(error == invalid);
  }
  const json discarded(json::value_t::discarded);
  error = co_await error_of(both.here.send(discarded));
  CHECK(error == invalid);
  CHECK(both.there.rest().empty());
  co_await both.here.send_internal(internal);
  const auto line = co_await both.there.line();
  CHECK(parsed(line) == internal);
}

ASYNC_TEST("a bound socket that is sent as a server arrives as one that listens") {
  const auto executor = co_await asio::this_coro::executor;
  linked both(executor);
  tcp::acceptor bound(executor, tcp::v4());
  bound.bind(tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const json message = 1;
  co_await both.here.send_handle(message, bound.native_handle(), node_handle_type::server);
  auto next = co_await both.there.receive();
  CHECK(next->handle.object.kind() == handle_kind::tcp_acceptor);
  auto acceptor = std::move(next->handle.object).as<tcp::acceptor>(executor);
  CHECK(acceptor.local_endpoint() == bound.local_endpoint());
}

PLAIN_TEST("a handle whose sending is cancelled is either taken back or with the peer") {
  const unsigned cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    linked both(executor);
    auto ends = make_channel_pair();
    const json message = 1;
    const bool sent = co_await cancelled(both.here.send_handle(message, ends.first.get()));
    const json after = 2;
    co_await both.here.send(after);
    auto next = co_await both.there.receive();
    if (sent || next->handle) {
      CHECK(next->value == message);
      next = co_await both.there.receive();
    }
    CHECK(next->value == after);
  });
  CHECK(cancelled_runs > 0);
}

ASYNC_TEST("the kernel's shortages are waited for, and a descriptor that it does not pass fails alone") {
  const auto executor = co_await asio::this_coro::executor;
  linked both(executor);
  auto ends = make_channel_pair();
  const json message = 1;
  {
    const fault<&system::calls::sendmsg> full(ETOOMANYREFS, 1, 3);
    co_await both.here.send_handle(message, ends.first.get());
    CHECK(full.failed() == 3);
  }
  {
    const fault<&system::calls::sendmsg> bad(EINVAL);
    const auto error = co_await error_of(both.here.send_handle(message, ends.first.get()));
    CHECK(error == std::error_code(EINVAL, std::system_category()));
  }
  co_await both.here.send(message);
  auto next = co_await both.there.receive();
  CHECK(next->handle);
  next = co_await both.there.receive();
  CHECK_FALSE(next->handle);
}

}  // namespace
}  // namespace cohort::test::node_handle_test
