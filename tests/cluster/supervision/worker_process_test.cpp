// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/cluster/supervision/worker_process.hpp"

#include <set>
#include <utility>

#include "../../process/children.hpp"

namespace cohort::test::worker_process_test {
namespace {

ASYNC_TEST("a slot's worker goes from state to state in these ways, and no other") {
  using enum worker_state;
  const worker_state all[] = {waiting, starting, ready, draining, stopping, dead};
  const std::set<std::pair<worker_state, worker_state>> allowed = {
      {waiting, starting}, {waiting, dead},  // put off, or given up
      {starting, ready},   {starting, draining}, {starting, stopping}, {starting, dead}, {ready, draining},
      {ready, stopping},   {ready, dead},        {draining, stopping}, {draining, dead}, {stopping, dead},
  };
  for (const auto from : all) {
    for (const auto to : all) {
      CAPTURE(static_cast<int>(from));
      CAPTURE(static_cast<int>(to));
      CHECK(may_follow(from, to) == allowed.contains({from, to}));
    }
  }
  co_return;
}

ASYNC_TEST("a worker that has not been started waits, and killing it is nothing") {
  const auto who = std::make_shared<worker_process>(co_await asio::this_coro::executor, 3);
  CHECK(who->number() == 3);
  CHECK(who->state() == worker_state::waiting);
  CHECK(who->pid() == 0);
  who->kill();
  CHECK(who->state() == worker_state::waiting);
}

ASYNC_TEST("a put-off start can be called in early") {
  const auto executor = co_await asio::this_coro::executor;
  const auto who = std::make_shared<worker_process>(executor, 1);
  co_await who->wait(1ms);
  asio::post(executor, [&] { who->cancel_wait(); });
  co_await who->wait(1h);
  CHECK(who->state() == worker_state::waiting);
}

ASYNC_TEST("a worker that stays too long in a state is killed, one that has left it is not") {
  const auto executor = co_await asio::this_coro::executor;
  const auto slow = std::make_shared<worker_process>(executor, 1);
  const auto quick = std::make_shared<worker_process>(executor, 2);
  for (const auto& each : {slow, quick}) {
    each->enter(worker_state::starting);
    each->peer = co_await spawn<worker_protocol>(helper("worker-mute"));
    each->limit_state(20ms);
  }
  quick->enter(worker_state::ready);
  const auto killed = co_await slow->peer.wait();
  CHECK(killed == exit_status::killed(SIGKILL));
  CHECK(slow->end.cause == end_cause::timed_out);
  CHECK(quick->peer.process().running());
  CHECK_FALSE(quick->end.cause.has_value());
  quick->kill();
  const auto ended = co_await quick->peer.wait();
  CHECK(ended == exit_status::killed(SIGKILL));
  quick->kill();
}

}  // namespace
}  // namespace cohort::test::worker_process_test
