// SPDX-License-Identifier: BSL-1.0
#include "../../include/cohort/cluster/cluster.hpp"
#include "../../include/cohort/net/endpoint.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <signal.h>

#include "../support/at_the_limit.hpp"
#include "../support/fault.hpp"
#include "running.hpp"

namespace cohort::test::cluster_test {
namespace {

bool cut(const std::string& answer) { return answer == client::closed || answer == client::reset; }

std::ptrdiff_t count_in_state(const cluster_stats& stats, worker_state state) {
  return std::count_if(stats.workers.begin(), stats.workers.end(),
                       [&](const auto& each) { return each.state == state; });
}

ASYNC_TEST("a cluster listens, starts its workers, serves with all of them, and stops") {
  for (const auto how : distributions) {
    auto c = co_await running::ready(options_for(how, 3));
    CHECK(c->events.at(0).what == event_kind::listening);
    CHECK(c->count(event_kind::started) == 3);
    std::set<pid_t> pids;
    for (unsigned slot = 1; slot <= 3; ++slot) {
      pids.insert(c->pid(slot));
      CHECK(c->place(event_kind::started, c->pid(slot)) < c->place(event_kind::ready, c->pid(slot)));
      CHECK(c->last(event_kind::ready, slot).after > 0us);
    }
    CHECK(pids.size() == 3);
    std::set<std::string> answers;
    for (int tries = 0; tries < 1000 && answers.size() < 3; ++tries) {
      // busy for a moment, so that with a shared listener others get their turn
      std::vector<client> together;
      for (int i = 0; i < 8; ++i) together.push_back(co_await client::connect(c->at()));
      for (auto& each : together) each.say("busy 1");
      for (auto& each : together) {
        const auto done = co_await each.line();
        CHECK(done == "busy done");
        answers.insert(co_await each.ask("pid"));
      }
    }
    std::set<std::string> expected;
    for (unsigned slot = 1; slot <= 3; ++slot) {
      expected.insert(std::to_string(c->pid(slot)) + " " + std::to_string(slot));
    }
    CHECK(answers == expected);
    const auto at = c->at();
    const int status = co_await c->stop();
    CHECK(status == 0);
    CHECK(c->last(event_kind::stopping).text == "the test ends");
    CHECK(c->count(event_kind::draining) == 3);
    CHECK(c->count(event_kind::exited) == 3);
    for (const auto pid : pids) {
      const auto& exited = c->events.at(c->place(event_kind::exited, pid));
      CHECK(exited.status == exit_status::exited(0));
    }
    CHECK(c->count(event_kind::failed) == 0);
    const auto refused = co_await ask_once(at, "pid");
    CHECK(refused == "(refused)");
  }
}

ASYNC_TEST("a fatal error costs its own connection: others are answered, and a replacement is ready meanwhile") {
  for (const auto how : distributions) {
    auto c = co_await running::ready(options_for(how, 1));
    const auto old = c->pid(1);
    auto slow = co_await client::connect(c->at());
    const auto begun = co_await slow.ask("hold");
    CHECK(begun == "holding");
    const auto loop = client_loop::start(co_await asio::this_coro::executor, c->at(), "slow 1", 2);
    co_await loop->more(5);
    const auto end = co_await ask_once(c->at(), "fatal");
    CHECK(cut(end));
    co_await c->until(event_kind::ready, 2);
    const auto answer = co_await slow.ask("go on");
    CHECK(answer == "hold done");
    co_await c->until(event_kind::exited);
    co_await loop->more(5);
    co_await loop->stop();
    CHECK(loop->failures() == 0);
    const auto fresh = c->pid(1);
    CHECK(fresh != old);
    CHECK(c->place(event_kind::draining, old) < c->place(event_kind::started, fresh));
    CHECK(c->place(event_kind::ready, fresh) < c->place(event_kind::exited, old));
    CHECK(c->last(event_kind::draining).text == "a fatal request");
    CHECK(c->last(event_kind::exited).status == exit_status::exited(1));
    const int status = co_await c->stop();
    CHECK(status == 0);
  }
}

ASYNC_TEST("a worker that is killed is replaced, and only what it was serving fails") {
  for (const auto how : distributions) {
    auto c = co_await running::ready(options_for(how, 2));
    const auto loop = client_loop::start(co_await asio::this_coro::executor, c->at(), "slow 1", 4);
    for (int round = 1; round <= 3; ++round) {
      co_await loop->more(10);
      const auto before = loop->failures();
      const auto victim = c->pid(1);
      ::kill(victim, SIGKILL);
      co_await c->until(event_kind::ready, 2 + static_cast<std::size_t>(round));
      co_await loop->more(10);
      CHECK(loop->failures() - before <= 4);
      CHECK(c->last(event_kind::exited, 1).pid == victim);
      CHECK(c->last(event_kind::exited, 1).status == exit_status::killed(SIGKILL));
    }
    co_await loop->stop();
    const int status = co_await c->stop();
    CHECK(status == 0);
  }
}

ASYNC_TEST("a worker that is asked to end is replaced, and nothing fails") {
  for (const auto how : distributions) {
    auto c = co_await running::ready(options_for(how, 2));
    const auto loop = client_loop::start(co_await asio::this_coro::executor, c->at(), "slow 1", 4);
    for (unsigned round = 0; round < 4; ++round) {
      co_await loop->more(10);
      const auto slot = 1 + round % 2;
      ::kill(c->pid(slot), SIGTERM);
      co_await c->until(event_kind::ready, 3 + round);
      co_await c->until(event_kind::exited, 1 + round);
      CHECK(c->last(event_kind::exited, slot).status == exit_status::exited(0));
    }
    co_await loop->stop();
    CHECK(loop->failures() == 0);
    const int status = co_await c->stop();
    CHECK(status == 0);
  }
}

ASYNC_TEST("a worker that crashes is replaced") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 2));
  const auto end = co_await ask_once(c->at(), "abort");
  CHECK(cut(end));
  co_await c->until(event_kind::ready, 3);
  CHECK(c->last(event_kind::exited).status.signal() == SIGABRT);
  const auto gone = co_await ask_once(c->at(), "exit 9");
  CHECK(cut(gone));
  co_await c->until(event_kind::ready, 4);
  CHECK(c->last(event_kind::exited).status == exit_status::exited(9));
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("a worker that exits with 78 is not replaced, and the cluster ends with 1 when none is left") {
  for (const auto how : distributions) {
    auto c = co_await running::ready(options_for(how, 2));
    const auto first = co_await ask_once(c->at(), "leave");
    CHECK(first == "leave done");
    co_await c->until(event_kind::not_restarted);
    CHECK(c->last(event_kind::exited).status == exit_status::exited(78));
    for (int i = 0; i < 20; ++i) {
      const auto answer = co_await ask_once(c->at(), "echo the other one");
      CHECK(answer == "the other one");
    }
    CHECK(c->count(event_kind::started) == 2);
    const auto second = co_await ask_once(c->at(), "leave");
    CHECK(second == "leave done");
    const int status = co_await c->ended();
    CHECK(status == 1);
    CHECK(c->last(event_kind::gave_up).text == "no worker is left");
    CHECK(c->count(event_kind::started) == 2);
    CHECK(c->count(event_kind::not_restarted) == 2);
  }
}

ASYNC_TEST("a worker program that is not there makes the cluster give up") {
  for (const unsigned workers : {1u, 4u}) {
    auto options = options_for(distribution::round_robin, workers);
    options.program = command("/nope/worker");
    auto c = running::start(co_await asio::this_coro::executor, options);
    const int status = co_await c->ended();
    CHECK(status == 1);
    CHECK(c->last(event_kind::failed).text.starts_with("spawn: "));
    CHECK(c->last(event_kind::failed).text.ends_with(" \"/nope/worker\": No such file or directory"));
    CHECK(c->count(event_kind::failed) == 10 + workers);
    CHECK(c->count(event_kind::gave_up) == 1);
    CHECK(c->last(event_kind::gave_up).text.ends_with("did not get ready"));
    CHECK(c->count(event_kind::started) == 0);
  }
}

ASYNC_TEST("a worker program that dies at its start is started a limited number of times") {
  for (const auto how : distributions) {
    restart_policy policy;
    policy.max_restarts = 4;
    auto options = options_for(how, 2);
    options.program = helper("exit-code", "3");
    options.restart = policy;
    auto c = running::start(co_await asio::this_coro::executor, options);
    const int status = co_await c->ended();
    CHECK(status == 1);
    CHECK(c->count(event_kind::started) == 6);
    CHECK(c->count(event_kind::exited) == 6);
    CHECK(c->last(event_kind::exited).status == exit_status::exited(3));
    CHECK(c->count(event_kind::ready) == 0);
    CHECK(c->count(event_kind::gave_up) == 1);
  }
}

ASYNC_TEST("boots that fail in a row make the cluster give up, although it was ready once") {
  restart_policy policy;
  policy.max_failed_boots = 3;
  auto options = options_for(distribution::shared, 1);
  options.restart = policy;
  auto c = co_await running::ready(options);
  const fault<&system::calls::socketpair> none(EMFILE, 1, every_time);
  ::kill(c->pid(1), SIGKILL);
  const int status = co_await c->ended();
  CHECK(status == 1);
  CHECK(c->count(event_kind::failed) == 3);
  CHECK(c->last(event_kind::failed).text == "channel: socketpair: Too many open files");
}

ASYNC_TEST("a shortage in the primary is survived") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 1));
  {
    const fault<&system::calls::socketpair> none(EMFILE, 1, 2);
    ::kill(c->pid(1), SIGKILL);
    co_await c->until(event_kind::ready, 2);
    CHECK(c->count(event_kind::failed) == 2);
  }
  const fault<&system::calls::accept4> full(EMFILE, 1, 3);
  const auto answer = co_await ask_once(c->at(), "echo late");
  CHECK(answer == "late");
  CHECK(full.failed() == 3);
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("a worker that could not be started is counted in its slot") {
  const fault<&system::calls::socketpair> none(EMFILE);
  auto c = co_await running::ready(options_for(distribution::round_robin, 1));
  CHECK(none.failed() == 1);
  const auto stats = c->primary.stats();
  REQUIRE(stats.slots.size() == 1);
  CHECK(stats.slots[0].slot == 1);
  CHECK(stats.slots[0].restarts == 1);
  CHECK_FALSE(stats.slots[0].last_exit);
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("a primary whose descriptors do not come back gives its workers one connection after the other") {
  if (sanitized) co_return;  // UBSan's check of virtual calls needs descriptors itself
  auto c = co_await running::ready(options_for(distribution::round_robin, 2));
  std::vector<client> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back(co_await asio::this_coro::executor);
    clients.back().socket().open(asio::ip::tcp::v4());
  }
  {
    const at_the_limit full;
    for (auto& each : clients) co_await each.socket().async_connect(c->at(), asio::use_awaitable);
    for (auto& each : clients) {
      const auto answer = co_await each.ask("echo on");
      CHECK(answer == "on");
    }
  }
  clients.clear();
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("a listener that breaks makes the cluster give up, and what is being served is finished") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 1));
  auto slow = co_await client::connect(c->at());
  const auto begun = co_await slow.ask("hold");
  CHECK(begun == "holding");
  const fault<&system::calls::accept4> broken(EINVAL, 1, every_time);
  auto one = co_await client::connect(c->at());
  co_await c->until(event_kind::gave_up);
  const auto answer = co_await slow.ask("go on");
  CHECK(answer == "hold done");
  const int status = co_await c->ended();
  CHECK(status == 1);
  CHECK(c->last(event_kind::gave_up).text == to_string(c->at()) + ": accept: Invalid argument");
}

ASYNC_TEST("a worker that does not get ready in time is killed, and that counts") {
  restart_policy policy;
  policy.max_restarts = 1;
  auto options = options_for(distribution::shared, 1);
  options.program = helper("worker-mute");
  options.restart = policy;
  options.start_timeout = 150ms;
  auto c = running::start(co_await asio::this_coro::executor, options);
  const int status = co_await c->ended();
  CHECK(status == 1);
  CHECK(c->count(event_kind::started) == 2);
  CHECK(c->count(event_kind::failed) == 4);
  CHECK(c->first(event_kind::failed).text == "no word for 0.075 s: does its program call run_worker()?");
  CHECK(c->last(event_kind::failed).text == "not ready after 0.15 s");
  CHECK(c->last(event_kind::exited).status == exit_status::killed(SIGKILL));
  CHECK(c->last(event_kind::gave_up).text == "worker 1 did not get ready");
}

ASYNC_TEST("workers that end too often are replaced after a pause, and the others serve meanwhile") {
  restart_policy policy;
  policy.max_restarts = 2;
  policy.min_backoff = 100ms;
  policy.jitter = 0;
  auto options = options_for(distribution::round_robin, 2);
  options.restart = policy;
  auto c = co_await running::ready(options);
  for (std::size_t killed = 0; killed < 4; ++killed) {
    ::kill(c->pid(1), SIGKILL);
    co_await c->until(event_kind::exited, killed + 1);
    for (int i = 0; i < 5; ++i) {
      const auto answer = co_await ask_once(c->at(), "echo served");
      CHECK(answer == "served");
    }
    co_await c->until(event_kind::ready, 2 + killed + 1);
  }
  REQUIRE(c->count(event_kind::restarting) == 2);
  const auto first = std::find_if(c->events.begin(), c->events.end(),
                                  [](const auto& each) { return each.what == event_kind::restarting; });
  CHECK(first->after == 100ms);
  CHECK(first->slot == 1);
  CHECK(c->last(event_kind::restarting).after == 200ms);
  CHECK(c->count(event_kind::gave_up) == 0);
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("a program that gets ready and dies, again and again, is no storm") {
  restart_policy policy;
  policy.max_restarts = 3;
  policy.min_backoff = 60s;
  auto options = options_for(distribution::round_robin, 2);
  options.program = helper("worker-short-lived");
  options.restart = policy;
  auto c = running::start(co_await asio::this_coro::executor, options);
  co_await c->until(event_kind::restarting, 2);
  co_await c->until(event_kind::exited, 5);
  const bool all_wait = co_await eventually([&] {
    const auto stats = c->primary.stats();
    return count_in_state(stats, worker_state::waiting) == 2 && stats.workers.size() == 2;
  });
  CHECK(all_wait);
  CHECK(c->count(event_kind::started) == 5);
  CHECK(c->last(event_kind::exited).status == exit_status::exited(5));
  CHECK(c->count(event_kind::gave_up) == 0);
  const int status = co_await c->stop();  // though they would wait for a minute
  CHECK(status == 0);
  CHECK(c->count(event_kind::started) == 5);
}

ASYNC_TEST("a stop lets busy connections finish") {
  for (const auto how : distributions) {
    auto c = co_await running::ready(options_for(how, 2));
    std::vector<client> slow;
    for (int i = 0; i < 10; ++i) {
      slow.push_back(co_await client::connect(c->at()));
      const auto begun = co_await slow.back().ask("hold");
      CHECK(begun == "holding");
    }
    c->primary.stop("now");
    c->primary.stop("and again");
    co_await c->until(event_kind::draining, 2);
    for (auto& each : slow) {
      const auto answer = co_await each.ask("go on");
      CHECK(answer == "hold done");
    }
    const int status = co_await c->ended();
    CHECK(status == 0);
    CHECK(c->count(event_kind::stopping) == 1);
    CHECK(c->count(event_kind::exited) == 2);
    CHECK(c->count(event_kind::started) == 2);
  }
}

ASYNC_TEST("a stop under load answers or refuses, and cuts nobody off") {
  std::vector<std::shared_ptr<running>> clusters;
  std::vector<std::shared_ptr<client_loop>> loops;
  for (const auto how : distributions) {
    clusters.push_back(co_await running::ready(options_for(how, 2)));
    const auto executor = co_await asio::this_coro::executor;
    loops.push_back(client_loop::start(executor, clusters.back()->at(), "slow 1", 4));
    co_await loops.back()->more(20);
  }
  for (const auto& each : clusters) each->primary.stop("now");
  for (const auto& each : clusters) {
    const int status = co_await each->ended();
    CHECK(status == 0);
  }
  for (const auto& each : loops) {
    co_await each->stop();
    for (const auto& answer : each->answers) {
      if (answer != "slow done") CHECK(answer == "(refused)");
    }
  }
}

ASYNC_TEST("times may be as long as they can be") {
  auto options = options_for(distribution::round_robin, 1);
  options.worker.drain_timeout = std::chrono::milliseconds::max();
  options.start_timeout = std::chrono::milliseconds::max();
  auto c = co_await running::ready(options);
  auto slow = co_await client::connect(c->at());
  const auto begun = co_await slow.ask("hold");
  CHECK(begun == "holding");
  c->primary.stop("now");
  co_await c->until(event_kind::draining);
  const auto answer = co_await slow.ask("go on");
  CHECK(answer == "hold done");
  const int status = co_await c->ended();
  CHECK(status == 0);
  CHECK(c->last(event_kind::exited).status == exit_status::exited(0));
}

ASYNC_TEST("a stop answers the connections that wait in the kernel's queue") {
  for (const auto how : distributions) {
    auto c = co_await running::ready(options_for(how, 1));
    const auto pid = c->pid(1);
    ::kill(pid, SIGSTOP);
    std::vector<client> waiting;
    for (int i = 0; i < 60; ++i) {
      waiting.push_back(co_await client::connect(c->at()));
      waiting.back().say("echo served");
    }
    c->primary.stop("now");
    co_await c->until(event_kind::stopping);
    ::kill(pid, SIGCONT);
    for (auto& each : waiting) {
      const auto answer = co_await each.line();
      CHECK(answer == "served");
    }
    const int status = co_await c->ended();
    CHECK(status == 0);
  }
}

ASYNC_TEST("a stop while the workers start waits for them to end") {
  for (const auto how : distributions) {
    auto c = running::start(co_await asio::this_coro::executor, options_for(how, 2));
    co_await c->until(event_kind::started, 2);
    const int status = co_await c->stop();
    CHECK(status == 0);
    CHECK(c->count(event_kind::exited) == 2);
    CHECK(c->count(event_kind::started) == 2);
  }
}

ASYNC_TEST("a stop before the start starts nothing") {
  const auto executor = co_await asio::this_coro::executor;
  for (const auto how : distributions) {
    auto c = std::make_shared<cluster>(executor, options_for(how, 2));
    c->stop("too early");
    const int status = co_await c->run();
    CHECK(status == 0);
    while (auto event = co_await c->next_event()) {
      CHECK((event->what == event_kind::stopping || event->what == event_kind::listening));
    }
  }
}

ASYNC_TEST("a stop does not wait for a worker that nobody will start any more") {
  restart_policy policy;
  policy.max_restarts = 0;
  policy.min_backoff = 60s;
  for (const auto how : distributions) {
    auto options = options_for(how, 1);
    options.restart = policy;
    auto c = co_await running::ready(options);
    ::kill(c->pid(1), SIGKILL);
    co_await c->until(event_kind::restarting);
    std::vector<client> waiting;
    for (int i = 0; i < 3; ++i) waiting.push_back(co_await client::connect(c->at()));
    const int status = co_await c->stop();  // the drain timeout is 30 s
    CHECK(status == 0);
    for (auto& each : waiting) {
      const auto end = co_await each.line();
      CHECK(cut(end));
    }
  }
}

ASYNC_TEST("a stop does not wait for connections when the last worker dies meanwhile") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 1));
  const auto pid = c->pid(1);
  ::kill(pid, SIGSTOP);
  std::vector<client> waiting;
  for (int i = 0; i < 50; ++i) waiting.push_back(co_await client::connect(c->at()));
  c->primary.stop("now");
  co_await c->until(event_kind::stopping);
  CHECK_FALSE(c->status);
  ::kill(pid, SIGKILL);
  const int status = co_await c->ended();
  CHECK(status == 0);
  CHECK(c->last(event_kind::exited).status == exit_status::killed(SIGKILL));
}

ASYNC_TEST("a kill ends everything at once, whatever is busy, waits or hangs") {
  for (const auto how : distributions) {
    auto c = co_await running::ready(options_for(how, 2));
    auto slow = co_await client::connect(c->at());
    slow.say("slow 60000");
    const auto first = co_await ask_once(c->at(), "echo x");
    CHECK(first == "x");
    ::kill(c->pid(2), SIGSTOP);
    std::vector<client> waiting;
    for (int i = 0; i < 50; ++i) waiting.push_back(co_await client::connect(c->at()));
    co_await yield(50);
    if (how == distribution::shared) c->primary.stop("first this");
    c->primary.kill("at once");
    const int status = co_await c->ended();
    CHECK(status == 1);
    const auto end = co_await slow.line();
    CHECK(cut(end));
    for (const auto slot : {1u, 2u}) CHECK(c->last(event_kind::exited, slot).status == exit_status::killed(SIGKILL));
  }
}

ASYNC_TEST("workers that do not end when they should are killed, 5 s after their time is up") {
  auto options = options_for(distribution::shared, 2);
  options.worker.drain_timeout = 50ms;
  auto hung = co_await running::ready(options);
  options.workers = 1;
  options.program = helper("worker-undying");
  auto undying = co_await running::ready(options);
  options.restart.max_restarts = 0;
  options.restart.min_backoff = 60s;
  options.program = helper("worker");
  auto drained = co_await running::ready(options);
  options.program = helper("worker-silent");
  auto silent = co_await running::ready(options);

  // One hangs, and one does not listen, when the cluster stops.
  ::kill(hung->pid(1), SIGSTOP);
  hung->primary.stop("now");
  undying->primary.stop("now");
  // One hangs when it drains by itself; and one has closed its channel.
  ::kill(drained->pid(1), SIGTERM);
  co_await drained->until(event_kind::draining);
  ::kill(drained->pid(1), SIGSTOP);

  const int first = co_await hung->ended();
  CHECK(first == 1);
  CHECK(hung->last(event_kind::exited, 1).status == exit_status::killed(SIGKILL));
  CHECK(hung->last(event_kind::exited, 2).status == exit_status::exited(0));
  CHECK(hung->last(event_kind::failed, 1).text == "not done 5 s after the drain timeout");
  const int second = co_await undying->ended();
  CHECK(second == 1);
  CHECK(undying->last(event_kind::exited).status == exit_status::killed(SIGKILL));
  co_await silent->until(event_kind::exited);
  CHECK(silent->last(event_kind::exited).status == exit_status::killed(SIGKILL));
  const int third = co_await silent->stop();
  CHECK(third == 0);
  const int fourth = co_await drained->stop();
  CHECK(fourth == 0);
  const auto status = drained->last(event_kind::exited).status;  // or it had ended before it was stopped
  CHECK((status == exit_status::killed(SIGKILL) || status == exit_status::exited(0)));
}

ASYNC_TEST("a worker that is killed is noticed although a process that it has forked lives on") {
  auto c = co_await running::ready(options_for(distribution::round_robin, 1));
  const auto forked = co_await ask_once(c->at(), "fork " + std::to_string(2 * patience / 1ms));
  const pid_t left = std::stoi(forked);
  ::kill(c->pid(1), SIGKILL);
  co_await c->until(event_kind::ready, 2);
  CHECK(::kill(left, SIGKILL) == 0);
  const auto answer = co_await ask_once(c->at(), "echo x");
  CHECK(answer == "x");
  CHECK(c->count(event_kind::failed) == 0);
  const int status = co_await c->stop();
  CHECK(status == 0);
}

ASYNC_TEST("a worker that talks nonsense is killed and replaced") {
  restart_policy policy;
  policy.max_restarts = 1;
  // a program that knows no protocol, and writes to every descriptor that it has
  auto options = options_for(distribution::shared, 1);
  options.program = helper("write-fd", "3", "HTTP/1.1 400 Bad Request\r\n\r\n");
  options.restart = policy;
  auto c = running::start(co_await asio::this_coro::executor, options);
  const int status = co_await c->ended();
  CHECK(status == 1);
  CHECK(c->last(event_kind::failed).text.ends_with("malformed data from the peer"));
}

ASYNC_TEST("of events that nobody reads the newest are kept") {
  restart_policy policy;
  policy.max_restarts = 5000;
  policy.max_failed_boots = 1100;
  auto options = options_for(distribution::shared, 1);
  options.program = command("/nope/worker");
  options.restart = policy;
  auto c = std::make_shared<cluster>(co_await asio::this_coro::executor, options);
  const int status = co_await c->run();
  CHECK(status == 1);
  std::vector<cluster_event> events;
  while (auto event = co_await c->next_event()) events.push_back(*event);
  REQUIRE(events.size() == 1024);
  CHECK(events.front().what == event_kind::failed);
  CHECK(events[1022].what == event_kind::gave_up);
  CHECK(events[1023].what == event_kind::stopping);
  const auto after = co_await c->next_event();
  CHECK_FALSE(after);
}

ASYNC_TEST("a cluster serves several addresses") {
  for (const auto how : distributions) {
    auto options = options_for(how, 2);
    options.listen.push_back("127.0.0.1:0");
    options.listen.push_back("127.0.0.2:0");
    auto c = co_await running::ready(std::move(options));
    REQUIRE(c->count(event_kind::listening) == 3);
    for (std::size_t i = 0; i < 3; ++i) {
      for (int n = 0; n < 6; ++n) {
        const auto answer = co_await ask_once(c->at(i), "echo here");
        CHECK(answer == "here");
      }
    }
    ::kill(c->pid(2), SIGKILL);
    co_await c->until(event_kind::ready, 3);
    for (std::size_t i = 0; i < 3; ++i) {
      const auto answer = co_await ask_once(c->at(i), "echo still");
      CHECK(answer == "still");
    }
    const int status = co_await c->stop();
    CHECK(status == 0);
  }
}

ASYNC_TEST("a cluster serves IPv6") {
  auto at = parse_endpoint("[::1]:0");
  try {
    open_listener(at, listen_settings());
  } catch (const std::system_error&) {
    co_return;  // a machine without it
  }
  for (const auto how : distributions) {
    cluster_options options;
    options.listen = {"[::1]:0"};
    options.workers = 2;
    options.distribution = how;
    options.program = helper("worker");
    auto c = co_await running::ready(std::move(options));
    CHECK(c->at().address().is_v6());
    for (int n = 0; n < 4; ++n) {
      const auto answer = co_await ask_once(c->at(), "echo six");
      CHECK(answer == "six");
    }
    const int status = co_await c->stop();
    CHECK(status == 0);
  }
}

ASYNC_TEST("an address that is taken, or is none, fails before any worker is started, and leaves nothing") {
  const auto executor = co_await asio::this_coro::executor;
  auto at = parse_endpoint("127.0.0.1:0");
  const descriptor taken = open_listener(at, listen_settings());
  for (const auto how : distributions) {
    for (const auto& bad :
         {to_string(at), std::string("127.0.0.1"), std::string("localhost:http"), std::string("127.0.0.1:70000")}) {
      auto options = options_for(how, 2);
      options.listen.push_back(bad);
      auto c = std::make_shared<cluster>(executor, options);
      const auto text = co_await text_of(c->run());
      if (bad == to_string(at)) {
        CHECK(text == "listen " + bad + ": Address already in use");
      } else {
        CHECK(text.starts_with("listen " + bad + ": want ADDRESS:PORT, "));
      }
      const auto event = co_await c->next_event();
      CHECK_FALSE(event);
    }
    cluster_options nowhere;
    nowhere.distribution = how;
    auto c = std::make_shared<cluster>(executor, nowhere);
    const auto text = co_await text_of(c->run());
    CHECK(text == "cluster: no address to listen on: invalid option");
  }
}

ASYNC_TEST("a server that is started twice is told so, whatever its distribution") {
  for (const auto how : distributions) {
    auto c = co_await running::ready(options_for(how, 1));
    cluster_options options;
    options.listen = {to_string(c->at())};
    options.workers = 1;
    options.distribution = how;
    options.program = helper("worker");
    auto second = std::make_shared<cluster>(co_await asio::this_coro::executor, options);
    const auto text = co_await text_of(second->run());
    CHECK(text == "listen " + to_string(c->at()) + ": Address already in use");
    const auto at = c->at();
    const int status = co_await c->stop();
    CHECK(status == 0);
    auto third = co_await running::ready(options);
    CHECK(third->at() == at);
    const int last = co_await third->stop();
    CHECK(last == 0);
  }
}

}  // namespace
}  // namespace cohort::test::cluster_test
