// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/net/accept_queue.hpp"

#include <string>
#include <vector>

#include <signal.h>

#include "../process/directory.hpp"
#include "../cluster/running.hpp"

namespace cohort::test::accept_queue_test {
namespace {

using tcp = asio::ip::tcp;

PLAIN_TEST("a queue is what waits at a listening TCP socket, and what may") {
  asio::io_context context;
  tcp::acceptor first(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  tcp::acceptor second(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  first.listen(7);
  second.listen(5);
  std::vector<tcp::socket> clients;
  for (int i = 0; i < 3; ++i) clients.emplace_back(context).connect(first.local_endpoint());
  auto queue = queue_of(first.native_handle());
  REQUIRE(queue);
  CHECK(queue->waiting == 3);
  CHECK(queue->limit == 7);
  clients.emplace_back(context).connect(second.local_endpoint());
  const auto both = queue_of(second.native_handle(), queue);
  REQUIRE(both);
  CHECK(both->waiting == 4);
  CHECK(both->limit == 12);
  first.accept();
  queue = queue_of(first.native_handle());
  REQUIRE(queue);
  CHECK(queue->waiting == 2);
}

PLAIN_TEST("nothing is known of the queue of what is no listening TCP socket") {
  asio::io_context context;
  const directory here;
  asio::local::stream_protocol::acceptor local(context, asio::local::stream_protocol::endpoint(here / "s"));
  CHECK_FALSE(queue_of(local.native_handle()));
  CHECK_FALSE(queue_of(-1));
  CHECK_FALSE(queue_of(0));
  tcp::acceptor acceptor(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  tcp::socket client(context);
  client.connect(acceptor.local_endpoint());
  CHECK_FALSE(queue_of(client.native_handle()));
}

ASYNC_TEST("stats() has the queue of each address, whatever its distribution") {
  for (const auto how : distributions) {
    auto options = options_for(how, 2);
    options.backlog = 9;
    const auto c = co_await running::ready(options);
    // Nobody accepts while the workers stand still; the primary, which does for round_robin, has handed over what came.
    for (const unsigned slot : {1u, 2u}) ::kill(c->pid(slot), SIGSTOP);
    std::vector<tcp::socket> clients;
    const auto queue = [&c] { return c->primary.stats().listeners.at(0).queue.value(); };
    CHECK(queue().limit == (how == distribution::reuse_port ? 18 : 9));
    bool waits = how == distribution::round_robin;
    for (int i = 0; i < 4; ++i) clients.emplace_back(c->primary.get_executor()).connect(c->at());
    if (!waits) waits = co_await eventually([&] { return queue().waiting == 4; });
    CHECK(waits);
    for (const unsigned slot : {1u, 2u}) ::kill(c->pid(slot), SIGCONT);
    const bool empty = co_await eventually([&] { return queue().waiting == 0; });
    CHECK(empty);
    clients.clear();
    const int status = co_await c->stop();
    CHECK(status == 0);
    CHECK_FALSE(c->primary.stats().listeners.at(0).queue);
  }
}

}  // namespace
}  // namespace cohort::test::accept_queue_test
