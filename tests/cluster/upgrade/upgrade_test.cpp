// SPDX-License-Identifier: BSL-1.0
#include "../../../include/cohort/cluster/upgrade/protocol.hpp"

#include <filesystem>
#include <string>

#include <signal.h>
#include <unistd.h>

#include "../service/manager.hpp"
#include "../running.hpp"
#include "../server.hpp"
#include "../switch_file.hpp"

namespace cohort::test::upgrade_test {

ASYNC_TEST("a primary is replaced by a new one again and again, and no request fails") {
  for (const auto* how : {"distribution=round_robin", "distribution=shared", "distribution=reuse_port"}) {
    CAPTURE(how);
    const subreaper adopts;
    auto s = co_await server::ready(how);
    const auto loop = client_loop::start(co_await asio::this_coro::executor, s->at(), "slow 1", 4);
    pid_t present = s->primary.pid();
    for (std::size_t i = 1; i <= 3; ++i) {
      ::kill(present, SIGUSR2);
      co_await s->until(kind::upgraded, i);
      const pid_t next = s->pids(kind::upgraded).back();
      CHECK(next != present);
      if (i == 1) {
        const auto status = co_await s->primary.wait();
        CHECK(status == exit_status::exited(0));
      } else {
        const int status = co_await adopted(present);
        CHECK(status == 0);
      }
      co_await loop->more(20);
      present = next;
    }
    co_await loop->stop();
    CHECK(loop->failures() == 0);
    const auto at = s->at();
    for (const auto& each : s->events) {
      if (each.what == kind::listening) CHECK(each.text.ends_with(to_string(at)));
    }
    ::kill(present, SIGTERM);
    const int status = co_await adopted(present);
    CHECK(status == 0);
    const bool all = co_await eventually([&] { return s->end; });
    CHECK_MESSAGE(all, "somebody has outlived the last primary");
    auto free = at;
    open_listener(free, listen_settings());
  }
}

ASYNC_TEST("an upgrade whose workers do not get ready fails, the old primary goes on, and the next one succeeds") {
  const subreaper adopts;
  switch_file broken;
  auto s = co_await server::ready(broken.argument());
  const auto loop = client_loop::start(co_await asio::this_coro::executor, s->at(), "slow 1", 2);
  broken.on();
  s->primary.signal(SIGUSR2);
  co_await s->until(kind::upgrade_failed);
  broken.off();
  const auto& events = s->events;
  const auto failed =
      std::find_if(events.begin(), events.end(), [](const auto& e) { return e.what == kind::upgrade_failed; });
  CHECK(failed->text.find("did not get ready") != std::string::npos);
  CHECK_MESSAGE(failed->text.find("exited with 1") != std::string::npos, failed->text);
  co_await loop->more(20);
  s->primary.signal(SIGUSR2);
  co_await s->until(kind::upgraded);
  const auto status = co_await s->primary.wait();
  CHECK(status == exit_status::exited(0));
  co_await loop->more(20);
  co_await loop->stop();
  CHECK(loop->failures() == 0);
  ::kill(s->pids(kind::upgraded).back(), SIGTERM);
  const int last = co_await adopted(s->pids(kind::upgraded).back());
  CHECK(last == 0);
}

ASYNC_TEST("when the old primary is killed in the middle of an upgrade the new one takes over") {
  const subreaper adopts;
  switch_file hold;
  auto s = co_await server::ready("hold-by=" + hold.argument().substr(hold.argument().find('=') + 1), "drain=500");
  const auto old = s->pids(kind::ready);
  hold.on();
  s->primary.signal(SIGUSR2);
  co_await s->until(kind::upgrading);
  const pid_t next = s->pids(kind::upgrading).back();
  co_await s->until(kind::started, 4);
  s->primary.signal(SIGKILL);
  const auto status = co_await s->primary.wait();
  CHECK(status == exit_status::killed(SIGKILL));
  hold.off();
  co_await s->until(kind::ready, 4);
  for (const pid_t each : old) co_await adopted(each);
  const auto answer = co_await ask_once(s->at(), "echo on");
  CHECK(answer == "on");
  ::kill(next, SIGTERM);
  const int last = co_await adopted(next);
  CHECK(last == 0);
}

ASYNC_TEST("a scale in the middle of an upgrade is refused, and one before it outlives it") {
  const subreaper adopts;
  switch_file hold;
  auto program = helper("serve", "listen=127.0.0.1:0", "workers=2",
                        "hold-by=" + hold.argument().substr(hold.argument().find('=') + 1));
  auto s = co_await server::start(std::move(program));
  co_await s->until(kind::ready, 2);
  s->primary.signal(SIGTTIN);
  co_await s->until(kind::ready, 3);
  hold.on();
  s->primary.signal(SIGUSR2);
  co_await s->until(kind::started, 6);
  s->primary.signal(SIGTTIN);
  co_await s->until(kind::failed);
  CHECK(s->last(kind::failed).text.starts_with("primary failed: SIGTTIN: an upgrade is under way"));
  hold.off();
  co_await s->until(kind::upgraded);
  CHECK(s->count(kind::scaled) == 1);
  co_await s->until(kind::ready, 6);  // the new primary may say it after the old one has said that it goes
  const pid_t next = s->pids(kind::upgraded).back();
  const auto status = co_await s->primary.wait();
  CHECK(status == exit_status::exited(0));
  CHECK(s->count(kind::ready) == 6);
  ::kill(next, SIGTERM);
  const int last = co_await adopted(next);
  CHECK(last == 0);
}

ASYNC_TEST("a stop in the middle of an upgrade ends both primaries") {
  const subreaper adopts;
  switch_file hold;
  auto s = co_await server::ready("hold-by=" + hold.argument().substr(hold.argument().find('=') + 1));
  hold.on();
  s->primary.signal(SIGUSR2);
  co_await s->until(kind::started, 4);
  s->primary.signal(SIGTERM);
  co_await s->until(kind::stopping);
  hold.off();
  const auto status = co_await s->ended();
  CHECK(status == exit_status::exited(0));
}

ASYNC_TEST("a unix socket keeps its file through an upgrade, and loses it with the last primary") {
  const subreaper adopts;
  const auto path = std::filesystem::temp_directory_path() / ("cohort-upgrade-" + std::to_string(::getpid()));
  auto s = co_await server::start(helper("serve", "listen=unix:" + path.string(), "workers=2"));
  co_await s->until(kind::ready, 2);
  const auto ask = [&]() { return ask_once(asio::local::stream_protocol::endpoint(path.string()), "echo on"); };
  s->primary.signal(SIGUSR2);
  co_await s->until(kind::upgraded);
  const pid_t next = s->pids(kind::upgraded).back();
  const auto status = co_await s->primary.wait();
  CHECK(status == exit_status::exited(0));
  const auto answer = co_await ask();
  CHECK(answer == "on");
  CHECK(std::filesystem::exists(path));
  ::kill(next, SIGTERM);
  const int last = co_await adopted(next);
  CHECK(last == 0);
  CHECK_FALSE(std::filesystem::exists(path));
}

ASYNC_TEST("a service manager hears which process the service is after an upgrade, and goes on hearing from it") {
  const subreaper adopts;
  notify_socket manager;
  const variable where("NOTIFY_SOCKET", manager.name());
  auto s = co_await server::ready();
  co_await manager.until("READY=1");
  s->primary.signal(SIGUSR2);
  co_await s->until(kind::upgraded);
  const pid_t next = s->pids(kind::upgraded).back();
  co_await manager.until("MAINPID=" + std::to_string(next));
  const auto status = co_await s->primary.wait();
  CHECK(status == exit_status::exited(0));
  CHECK(manager.count("STOPPING=1") == 0);
  CHECK(manager.count("READY=1") == 2);
  ::kill(next, SIGTERM);
  const int last = co_await adopted(next);
  CHECK(last == 0);
  CHECK(manager.count("STOPPING=1") == 1);
}

}  // namespace cohort::test::upgrade_test
