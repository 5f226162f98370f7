// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/ipc/node/link.hpp"

#include <string>

#include "../../include/cohort/core/error.hpp"
#include "../../include/cohort/core/task_group.hpp"
#include "../support/cancellation.hpp"
#include "raw_peer.hpp"

namespace cohort::test::node_link_test {
namespace {

asio::awaitable<void> send_text(node_link& link, std::string text) {
  const json message = text;
  co_await link.send(message);
}

asio::awaitable<std::string> next_text(node_link& link) {
  const auto next = co_await link.receive();
  co_return next ? next->value.dump() : "end";
}

ASYNC_TEST("messages of both serializations arrive in order, and then the end") {
  for (const auto mode : {node_serialization::json_lines, node_serialization::advanced}) {
    node_options options;
    options.serialization = mode;
    linked both(co_await asio::this_coro::executor, options);
    for (int index = 0; index < 100; ++index) co_await send_text(both.here, std::to_string(index));
    const json last = "last";
    CHECK(both.here.post(last));
    co_await both.here.disconnect();
    CHECK_FALSE(both.here.is_connected());
    for (int index = 0; index < 100; ++index) {
      const auto text = co_await next_text(both.there);
      CHECK(text == '"' + std::to_string(index) + '"');
    }
    auto text = co_await next_text(both.there);
    CHECK(text == "\"last\"");
    text = co_await next_text(both.there);
    CHECK(text == "end");
    const auto error = co_await error_of(both.here.send(last));
    CHECK(error == errc::closed);
    const auto gone = co_await error_of(both.there.send(last));
    CHECK(gone == errc::peer_closed);
  }
}

ASYNC_TEST("two that write large messages and do not read yet do not stop each other") {
  const auto executor = co_await asio::this_coro::executor;
  linked both(executor);
  task_group tasks(executor);
  const auto sending = [](node_link& over) -> asio::awaitable<void> {
    const json large = std::string(1024 * 1024, 'x');
    for (int index = 0; index < 3; ++index) co_await over.send(large);
  };
  tasks.start(sending(both.here));
  tasks.start(sending(both.there));
  co_await tasks.wait_empty();
  for (int index = 0; index < 3; ++index) {
    const auto one = co_await both.here.receive();
    const auto other = co_await both.there.receive();
    CHECK(one->value.get_ref<const std::string&>().size() == 1024 * 1024);
    CHECK(other->value.get_ref<const std::string&>().size() == 1024 * 1024);
  }
}

ASYNC_TEST("a link that nobody receives from stops reading, and goes on when somebody does") {
  const auto executor = co_await asio::this_coro::executor;
  node_options options;
  options.high_water = 64 * 1024;
  against_raw_peer both(executor, options);
  const std::string line = "\"" + std::string(1000, 'x') + "\"\n";
  std::string all;
  for (int index = 0; index < 4000; ++index) all += line;
  std::size_t written = 0;
  for (int idle = 0; idle < 50; ++idle) {
    const auto some = both.there.write_some(std::string_view(all).substr(written));
    if (some != 0) idle = 0;
    written += some;
    co_await yield();
  }
  CHECK(written < all.size());
  all.resize(written - written % line.size());
  const std::size_t count = written / line.size();
  for (std::size_t index = 0; index < count; ++index) {
    const auto next = co_await both.here.receive();
    REQUIRE(next.has_value());
  }
  CHECK(both.there.write_some(std::string(100'000, ' ')) != 0);
}

ASYNC_TEST("messages of the cluster module have a way of their own, with handles too") {
  node_options options;
  options.cluster = true;
  const auto executor = co_await asio::this_coro::executor;
  linked both(executor, options);
  const json online = parsed(R"({"cmd":"NODE_CLUSTER","act":"online","seq":0})");
  const json connection = parsed(R"({"cmd":"NODE_CLUSTER","act":"newconn","seq":1})");
  co_await send_text(both.here, "user");
  co_await both.here.send_internal(online);
  auto ends = make_channel_pair();
  co_await both.here.send_internal_handle(connection, ends.first.get(), node_handle_type::native);
  auto next = co_await both.there.receive_internal();
  CHECK(next->value == online);
  next = co_await both.there.receive_internal();
  CHECK(next->value == connection);
  CHECK(next->handle.type == node_handle_type::native);
  CHECK(next->handle.object.kind() == handle_kind::local_socket);
  const auto user = co_await next_text(both.there);
  CHECK(user == "\"user\"");
}

PLAIN_TEST("a cancelled receive leaves the message for the next") {
  const unsigned cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    linked both(executor);
    const auto later = [](node_link& over) -> asio::awaitable<void> {
      co_await yield(3);
      co_await send_text(over, "later");
    };
    task_group tasks(executor);
    tasks.start(later(both.here));
    auto next = co_await cancelled(both.there.receive());
    if (!next) next = co_await both.there.receive();
    CHECK((*next)->value == json("later"));
    co_await tasks.wait_empty();
  });
  CHECK(cancelled_runs > 0);
}

PLAIN_TEST("a message whose sending is cancelled is sent whole or not at all") {
  const unsigned cancelled_runs = cancel_at_every_turn([](cancellation& cancelled) -> asio::awaitable<void> {
    const auto executor = co_await asio::this_coro::executor;
    against_raw_peer both(executor);
    const json large = std::string(700'000, 'x');
    const auto reading = [](raw_peer& peer) -> asio::awaitable<void> {
      for (;;) {
        co_await yield(3);
        peer.rest();
      }
    };
    task_group tasks(executor);
    tasks.start(reading(both.there));
    const bool sent = co_await cancelled(both.here.send(large));
    const json after = 2;
    co_await both.here.send(after);
    co_await tasks.cancel_and_wait();
    std::string line = co_await both.there.line();
    if (sent || line.size() > 1) {
      CHECK(line.size() == 700'002);
      line = co_await both.there.line();
    }
    CHECK(line == "2");
  });
  CHECK(cancelled_runs > 0);
}

}  // namespace
}  // namespace cohort::test::node_link_test
